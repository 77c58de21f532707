//! Scaling of planes, with SIMD.
//!
//! Typed calls only: the untyped one is compiled for every pixel type there is, which costs minutes.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U16};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use crate::error::EngineError;
use crate::frame::Size;

/// Scales planes; keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Scaler(Resizer);

impl Scaler {
    /// Scales an 8-bit plane: area average when it shrinks, straight lines when it grows. One of the right size is
    /// copied.
    pub(crate) fn plane(
        &mut self,
        from: &[u8],
        from_size: Size,
        to: &mut [u8],
        to_size: Size,
    ) -> Result<(), EngineError> {
        if from_size == to_size {
            to.copy_from_slice(from);
            return Ok(());
        }
        let source = TypedImageRef::<U8>::from_buffer(side(from_size.width), side(from_size.height), from);
        let target = TypedImage::<U8>::from_buffer(side(to_size.width), side(to_size.height), to);
        let (source, mut target) = (source.map_err(failed)?, target.map_err(failed)?);
        self.scale(&source, &mut target, FilterType::Bilinear)
    }

    /// Scales a 16-bit plane with a cubic, for mattes: soft edges stay smooth.
    pub(crate) fn deep_plane(
        &mut self,
        from: &[U16],
        from_size: Size,
        to: &mut [U16],
        to_size: Size,
    ) -> Result<(), EngineError> {
        let source = TypedImageRef::<U16>::new(side(from_size.width), side(from_size.height), from);
        let target = TypedImage::<U16>::from_pixels_slice(side(to_size.width), side(to_size.height), to);
        let (source, mut target) = (source.map_err(failed)?, target.map_err(failed)?);
        self.scale(&source, &mut target, FilterType::CatmullRom)
    }

    fn scale<P: PixelTrait + InnerPixel>(
        &mut self,
        source: &TypedImageRef<'_, P>,
        target: &mut TypedImage<'_, P>,
        filter: FilterType,
    ) -> Result<(), EngineError> {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
        self.0.resize_typed(source, target, &options).map_err(failed)
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::io("cannot scale a plane")(std::io::Error::other(error))
}

/// Sides are bounded by the limits, far below `u32::MAX`.
fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}

//! Scaling of planes, with SIMD.
//!
//! Typed calls only: the untyped one is compiled for every pixel type there is, which costs minutes.

mod enlarge;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U16};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use self::enlarge::Enlarger;
use crate::error::EngineError;
use crate::frame::Size;

/// A part of a plane, in px of it; borders may lie between pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    /// The largest part of a plane, around its middle, that has the shape of `target` when the whole plane is shown
    /// in the shape of `shown`.
    pub(crate) fn covering(plane: Size, shown: Size, target: Size) -> Self {
        let ratio = |size: Size| size.width as f64 / size.height as f64;
        let (plane_width, plane_height) = (plane.width as f64, plane.height as f64);
        let width = plane_width * (ratio(target) / ratio(shown)).min(1.0);
        let height = plane_height * (ratio(shown) / ratio(target)).min(1.0);
        Self { left: (plane_width - width) / 2.0, top: (plane_height - height) / 2.0, width, height }
    }
}

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
        self.scale(&source, &mut target, FilterType::Bilinear, None)
    }

    /// Scales a part of an 8-bit plane with a cubic.
    pub(crate) fn area(
        &mut self,
        from: &[u8],
        from_size: Size,
        area: Area,
        to: &mut [u8],
        to_size: Size,
    ) -> Result<(), EngineError> {
        let source = TypedImageRef::<U8>::from_buffer(side(from_size.width), side(from_size.height), from);
        let target = TypedImage::<U8>::from_buffer(side(to_size.width), side(to_size.height), to);
        let (source, mut target) = (source.map_err(failed)?, target.map_err(failed)?);
        self.scale(&source, &mut target, FilterType::CatmullRom, Some(area))
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
        self.scale(&source, &mut target, FilterType::CatmullRom, None)
    }

    fn scale<P: PixelTrait + InnerPixel>(
        &mut self,
        source: &TypedImageRef<'_, P>,
        target: &mut TypedImage<'_, P>,
        filter: FilterType,
        area: Option<Area>,
    ) -> Result<(), EngineError> {
        let mut options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
        if let Some(Area { left, top, width, height }) = area {
            options = options.crop(left, top, width, height);
        }
        self.0.resize_typed(source, target, &options).map_err(failed)
    }
}

/// Scales mattes of one size to another.
#[derive(Debug)]
pub(crate) struct MatteScaler {
    convolution: Convolution,
    /// Unless the matte shrinks.
    enlarger: Option<Enlarger>,
}

/// With 16 bits on the way: an 8-bit matte scaled up would show its steps.
#[derive(Debug)]
struct Convolution {
    from: Size,
    to: Size,
    scaler: Scaler,
    before: Vec<U16>,
    after: Vec<U16>,
}

impl MatteScaler {
    pub(crate) fn new(from: Size, to: Size) -> Self {
        Self { convolution: Convolution::new(from, to), enlarger: Enlarger::new(from, to) }
    }

    /// From 0..1 to 0..1.
    pub(crate) fn scale(&mut self, matte: &[f32], scaled: &mut Vec<f32>) -> Result<(), EngineError> {
        self.convolution.scale(matte, scaled)
    }

    /// From 0..1 to 0..=255.
    pub(crate) fn scale_to_bytes(&mut self, matte: &[f32], alpha: &mut [u8]) -> Result<(), EngineError> {
        let Convolution { from, to, .. } = self.convolution;
        if from == to {
            for (alpha, &value) in alpha.iter_mut().zip(matte) {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..1 times 255, rounded")]
                let rounded = (value * 255.0 + 0.5) as u8;
                *alpha = rounded;
            }
            return Ok(());
        }
        match &mut self.enlarger {
            Some(enlarger) => {
                enlarger.enlarge(matte, alpha);
                Ok(())
            }
            None => self.convolution.scale_to_bytes(matte, alpha),
        }
    }
}

impl Convolution {
    fn new(from: Size, to: Size) -> Self {
        Self { from, to, scaler: Scaler::default(), before: Vec::new(), after: Vec::new() }
    }

    fn scale(&mut self, matte: &[f32], scaled: &mut Vec<f32>) -> Result<(), EngineError> {
        scaled.clear();
        if self.from == self.to {
            scaled.extend_from_slice(matte);
            return Ok(());
        }
        self.run(matte)?;
        scaled.extend(self.after.iter().map(|deep| f32::from(deep.0) / 65535.0));
        Ok(())
    }

    fn scale_to_bytes(&mut self, matte: &[f32], alpha: &mut [u8]) -> Result<(), EngineError> {
        self.run(matte)?;
        for (alpha, deep) in alpha.iter_mut().zip(&self.after) {
            // Rounded division by 257, without a division.
            *alpha = ((u32::from(deep.0) * 255 + 32_895) >> 16) as u8;
        }
        Ok(())
    }

    fn run(&mut self, matte: &[f32]) -> Result<(), EngineError> {
        self.before.clear();
        self.before.extend(matte.iter().map(|&value| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..1 times 65535, rounded")]
            let rounded = (value * 65535.0 + 0.5) as u16;
            U16::new(rounded)
        }));
        self.after.resize(self.to.pixels(), U16::default());
        self.scaler.deep_plane(&self.before, self.from, &mut self.after, self.to)
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::io("cannot scale a plane")(std::io::Error::other(error))
}

/// Sides are bounded by the limits, far below `u32::MAX`.
fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}

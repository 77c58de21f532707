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
use crate::lanes::widest;

/// From here on a frame is so much larger than a grid that halves do.
const MUCH_LARGER: usize = 4;

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
pub(crate) struct Scaler {
    resizer: Resizer,
    halves: [Vec<u8>; 2],
}

impl Scaler {
    /// Scales an 8-bit plane down to a small one: by halves as far as they go, each the mean of four pixels, then as
    /// [`Self::plane`]. Of a large plane it costs a fifth; for what is looked at coarsely.
    pub(crate) fn shrink(
        &mut self,
        from: &[u8],
        from_size: Size,
        to: &mut [u8],
        to_size: Size,
    ) -> Result<(), EngineError> {
        let mut size = from_size;
        let [mut half, mut before] = std::mem::take(&mut self.halves);
        while size.width >= 2 * to_size.width
            && size.height >= 2 * to_size.height
            && size.width.is_multiple_of(2)
            && size.height.is_multiple_of(2)
        {
            std::mem::swap(&mut half, &mut before);
            half.resize(size.chroma().pixels(), 0);
            halve(if size == from_size { from } else { &before }, size, &mut half);
            size = size.chroma();
        }
        let result = self.plane(if size == from_size { from } else { &half }, size, to, to_size);
        self.halves = [half, before];
        result
    }

    /// [`Self::shrink`] of what belongs to a frame, where frames are several times as large as a grid, otherwise
    /// [`Self::plane`].
    pub(crate) fn on_grid(
        &mut self,
        frame: Size,
        (from, from_size): (&[u8], Size),
        to: &mut [u8],
        grid: Size,
    ) -> Result<(), EngineError> {
        if frame.width >= MUCH_LARGER * grid.width && frame.height >= MUCH_LARGER * grid.height {
            self.shrink(from, from_size, to, grid)
        } else {
            self.plane(from, from_size, to, grid)
        }
    }

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
        self.resizer.resize_typed(source, target, &options).map_err(failed)
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

/// Each pixel of the target is the mean of four of the source, as chroma lies to luma.
pub(crate) fn halve(plane: &[u8], size: Size, target: &mut [u8]) {
    widest(
        #[inline(always)]
        || {
            let rows = plane.chunks_exact(2 * size.width).zip(target.chunks_exact_mut(size.width / 2));
            for (pair, out) in rows {
                let (upper, lower) = pair.split_at(size.width);
                for ((upper, lower), out) in upper.chunks_exact(2).zip(lower.chunks_exact(2)).zip(out) {
                    let sum = u16::from(upper[0]) + u16::from(upper[1]) + u16::from(lower[0]) + u16::from(lower[1]);
                    *out = ((sum + 2) / 4) as u8;
                }
            }
        },
    );
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> EngineError {
    EngineError::io("cannot scale a plane")(std::io::Error::other(error))
}

/// Sides are bounded by the limits, far below `u32::MAX`.
fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_shrunk_by_halves_is_the_plane_scaled() {
        // Slopes, which every filter leaves as they are.
        let plane = |size: Size| -> Vec<u8> {
            let value = |x: usize, y: usize| {
                20.0 + 150.0 * (x as f32 + 0.5) / size.width as f32 + 80.0 * (y as f32 + 0.5) / size.height as f32
            };
            (0..size.pixels()).map(|n| value(n % size.width, n / size.width) as u8).collect()
        };
        let size = |width, height| Size { width, height };
        for (from, to) in [
            (size(1920, 1080), size(320, 180)),
            (size(640, 360), size(160, 90)),
            (size(1280, 714), size(32, 18)),
            (size(640, 360), size(640, 360)),
            (size(62, 2), size(3, 1)),
        ] {
            let mut shrunk = vec![0; to.pixels()];
            Scaler::default().shrink(&plane(from), from, &mut shrunk, to).unwrap();
            let inner = |n: usize| (1..to.width - 1).contains(&(n % to.width));
            let places = shrunk.iter().zip(plane(to)).enumerate().filter(|(n, _)| inner(*n));
            let furthest = places.map(|(_, (one, other))| one.abs_diff(other)).max();
            assert!(furthest.unwrap() <= 2 || to.height == 1, "{furthest:?} from {from:?} to {to:?}");
        }
    }
}

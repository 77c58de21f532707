//! The last touch on a frame before it is encoded: alpha at full size, and what stands where the subject is not.
//!
//! Owns: scaling the matte, choosing between a transparent and a composited frame.
//! Invariants: the colour of opaque pixels is not changed by a bit; under alpha 0 nothing of the source is left.

mod fill;
mod over;

use fast_image_resize::pixels::U16;
use rotoless_contract::Background;

use self::fill::Fill;
use self::over::SolidColour;
use crate::error::{EngineError, Unsupported};
use crate::frame::{Frame, Planes, Size};
use crate::scaling::Scaler;

/// Finishes frames of one size.
#[derive(Debug)]
pub(crate) struct Finisher {
    frame: Size,
    picture: Size,
    backdrop: Backdrop,
    scaler: Scaler,
    /// The matte in 16 bits: at the model's size, at the frame's size.
    small: Vec<U16>,
    large: Vec<U16>,
    /// Alpha of each pixel of the U and V planes.
    chroma_alpha: Vec<u8>,
}

#[derive(Debug)]
enum Backdrop {
    Nothing(Box<Fill>),
    Solid(SolidColour),
}

impl Finisher {
    pub(crate) fn new(frame: Size, picture: Size, background: &Background) -> Result<Self, EngineError> {
        let backdrop = match background {
            Background::Transparent => Backdrop::Nothing(Box::new(Fill::new(frame))),
            Background::Color { color } => Backdrop::Solid(SolidColour::of(*color)),
            Background::Image { .. } => return Err(Unsupported::Background("image").into()),
            Background::Video { .. } => return Err(Unsupported::Background("video").into()),
            Background::Blur => return Err(Unsupported::Background("blur").into()),
        };
        Ok(Self {
            frame,
            picture,
            backdrop,
            scaler: Scaler::default(),
            small: vec![U16::default(); picture.pixels()],
            large: vec![U16::default(); frame.pixels()],
            chroma_alpha: vec![0; frame.chroma().pixels()],
        })
    }

    /// Makes alpha of the frame's matte and puts the backdrop in place. Returns the frame's mean alpha, 0..1.
    pub(crate) fn finish(&mut self, frame: &mut Frame) -> Result<f64, EngineError> {
        let (mut planes, matte) = frame.planes_and_matte();
        self.scale_matte(matte, planes.alpha)?;
        average_by_four(planes.alpha, self.frame, &mut self.chroma_alpha);
        match &mut self.backdrop {
            Backdrop::Nothing(fill) => fill.paint(&mut planes, &self.chroma_alpha)?,
            Backdrop::Solid(colour) => colour.under(&mut planes, &self.chroma_alpha),
        }
        Ok(mean(&planes))
    }

    /// 16 bits on the way: an 8-bit matte scaled up would show its steps.
    fn scale_matte(&mut self, matte: &[f32], alpha: &mut [u8]) -> Result<(), EngineError> {
        if self.picture == self.frame {
            for (alpha, &value) in alpha.iter_mut().zip(matte) {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..1 times 255, rounded")]
                let rounded = (value * 255.0 + 0.5) as u8;
                *alpha = rounded;
            }
            return Ok(());
        }
        for (deep, &value) in self.small.iter_mut().zip(matte) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..1 times 65535, rounded")]
            let rounded = (value * 65535.0 + 0.5) as u16;
            *deep = U16::new(rounded);
        }
        self.scaler.deep_plane(&self.small, self.picture, &mut self.large, self.frame)?;
        for (alpha, deep) in alpha.iter_mut().zip(&self.large) {
            // Rounded division by 257, without a division.
            *alpha = ((u32::from(deep.0) * 255 + 32_895) >> 16) as u8;
        }
        Ok(())
    }
}

fn mean(planes: &Planes<'_>) -> f64 {
    let sum: u64 = planes.alpha.iter().map(|&alpha| u64::from(alpha)).sum();
    #[expect(clippy::cast_precision_loss, reason = "at most 255 times the pixels of a frame")]
    let mean = sum as f64 / (planes.alpha.len().max(1) as f64 * 255.0);
    mean
}

/// Each pixel of the target is the mean of four of the source, as chroma lies to luma.
fn average_by_four(plane: &[u8], size: Size, target: &mut [u8]) {
    let rows = plane.chunks_exact(2 * size.width).zip(target.chunks_exact_mut(size.width / 2));
    for (pair, out) in rows {
        let (upper, lower) = pair.split_at(size.width);
        for ((upper, lower), out) in upper.chunks_exact(2).zip(lower.chunks_exact(2)).zip(out) {
            let sum = u16::from(upper[0]) + u16::from(upper[1]) + u16::from(lower[0]) + u16::from(lower[1]);
            *out = ((sum + 2) / 4) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rotoless_contract::spec::Rgb;

    const SIZE: Size = Size { width: 64, height: 32 };

    /// A busy picture; the left half is the subject.
    fn frame(picture: Size) -> Frame {
        let mut frame = Frame::new(SIZE);
        for (place, byte) in frame.yuv_mut().iter_mut().enumerate() {
            *byte = (16 + (place * 37) % 200) as u8;
        }
        frame.matte = (0..picture.pixels()).map(|n| f32::from(n % picture.width < picture.width / 2)).collect();
        frame
    }

    #[test]
    fn under_alpha_zero_nothing_of_the_background_is_left() {
        let mut finisher = Finisher::new(SIZE, SIZE, &Background::Transparent).unwrap();
        let mut one = frame(SIZE);
        finisher.finish(&mut one).unwrap();
        // Another background behind the same subject must give the same bytes.
        let mut other = frame(SIZE);
        let (planes, _) = other.planes_and_matte();
        for (n, luma) in planes.y.iter_mut().enumerate().filter(|(n, _)| n % SIZE.width >= SIZE.width / 2) {
            *luma = (n % 251) as u8;
        }
        for chroma in [planes.u, planes.v] {
            for (n, value) in chroma.iter_mut().enumerate().filter(|(n, _)| n % 32 >= 16) {
                *value = (n % 241) as u8;
            }
        }
        finisher.finish(&mut other).unwrap();
        assert!(one.yuva() == other.yuva());
    }

    #[test]
    fn opaque_pixels_keep_their_colour() {
        for background in [Background::Transparent, Background::Color { color: Rgb([0, 255, 0]) }] {
            let before = frame(SIZE);
            let mut after = frame(SIZE);
            Finisher::new(SIZE, SIZE, &background).unwrap().finish(&mut after).unwrap();
            for place in (0..SIZE.pixels()).filter(|n| n % SIZE.width < SIZE.width / 2) {
                assert_eq!(before.yuv()[place], after.yuv()[place]);
            }
        }
    }

    #[test]
    fn an_empty_matte_leaves_a_plain_frame() {
        let mut empty = frame(SIZE);
        empty.matte.fill(0.0);
        let mean = Finisher::new(SIZE, SIZE, &Background::Transparent).unwrap().finish(&mut empty).unwrap();
        assert_eq!(mean, 0.0);
        let (planes, _) = empty.planes_and_matte();
        for plane in [&*planes.y, planes.u, planes.v] {
            assert!(plane.iter().all(|&value| value == plane[0]));
        }
    }

    #[test]
    fn a_solid_background_takes_the_place_of_what_was_removed() {
        let mut green = frame(SIZE);
        let background = Background::Color { color: Rgb([0, 255, 0]) };
        Finisher::new(SIZE, SIZE, &background).unwrap().finish(&mut green).unwrap();
        let (planes, _) = green.planes_and_matte();
        // BT.709 green, limited range: Y 173, U 42, V 26.
        assert_eq!((planes.y[SIZE.width - 1], planes.u[31], planes.v[31]), (173, 42, 26));
    }

    #[test]
    fn a_small_matte_is_scaled_to_the_frame() {
        let picture = Size { width: 16, height: 8 };
        let mut scaled = frame(picture);
        let mean = Finisher::new(SIZE, picture, &Background::Transparent).unwrap().finish(&mut scaled).unwrap();
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let (planes, _) = scaled.planes_and_matte();
        assert_eq!((planes.alpha[0], planes.alpha[SIZE.width - 1]), (255, 0));
    }
}

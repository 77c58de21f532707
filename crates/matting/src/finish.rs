//! The last touch on a frame before it is encoded: alpha at full size, and what stands where the subject is not.
//!
//! Owns: scaling the matte, the foreground's place on the canvas, choosing between a transparent and a composited
//! frame. Does not own: where a background's frames come from (`backdrop`).
//! Invariants: the colour of opaque pixels is not changed by a bit unless they are scaled; under alpha 0 nothing of
//! the source is left.

mod blur;
mod fill;
mod foreground;
mod over;
mod place;

use self::blur::Blur;
use self::fill::Fill;
use self::foreground::Foreground;
use self::over::{SolidColour, picture_under};
pub(crate) use self::place::Placement;
use self::place::Placer;
use crate::backdrop::{Backdrop, Moving};
use crate::error::EngineError;
use crate::frame::{Frame, Planes, Size};
use crate::lanes::widest;
use crate::scaling::{MatteScaler, halve};

/// What finished frames shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Canvas {
    /// Of the source's frames.
    pub frame: Size,
    /// Of the model's mattes.
    pub matte: Size,
    /// The foreground's place, unless it fills a canvas of its own size.
    pub placement: Option<Placement>,
    /// Pixels are there or not, and nothing between.
    pub has_hard_alpha: bool,
    /// Whether the old background is taken out of the colour of soft edges.
    pub clean_colour: bool,
}

/// Finishes frames of one size.
#[derive(Debug)]
pub(crate) struct Finisher {
    frame: Size,
    has_hard_alpha: bool,
    ground: Ground,
    placing: Option<Placing>,
    to_frame: MatteScaler,
    /// Takes the old background out of soft edges.
    foreground: Option<Foreground>,
    /// Alpha of each pixel of U and V, of the frame and, where that is not the same, of the canvas.
    chroma_alpha: Vec<u8>,
    canvas_alpha: Vec<u8>,
}

#[derive(Debug)]
enum Ground {
    Nothing(Box<Fill>),
    Solid(SolidColour),
    Still(Vec<u8>),
    Moving { video: Box<Moving>, planes: Vec<u8> },
    Blur(Box<Blur>),
}

/// A canvas that is not the source's frame.
#[derive(Debug)]
struct Placing {
    placer: Placer,
    /// The old background would come into the edges where pixels are joined.
    fill: Fill,
}

/// A frame to be encoded.
#[derive(Debug)]
pub(crate) struct Done<'f> {
    pub frame: &'f Frame,
    /// Mean alpha, 0..1.
    pub mean: f64,
}

impl Finisher {
    pub(crate) fn new(canvas: Canvas, backdrop: Backdrop) -> Self {
        let Canvas { frame, matte, placement, has_hard_alpha, clean_colour } = canvas;
        let size = canvas.size();
        let ground = match backdrop {
            Backdrop::Nothing => Ground::Nothing(Box::new(Fill::new(size))),
            Backdrop::Colour(colour) => Ground::Solid(SolidColour::of(colour)),
            Backdrop::Still(planes) => Ground::Still(planes),
            Backdrop::Moving(video) => Ground::Moving { video, planes: vec![0; size.yuv_bytes()] },
            Backdrop::Blur => Ground::Blur(Box::new(Blur::new(frame, size))),
        };
        let placing =
            placement.map(|placement| Placing { placer: Placer::new(frame, placement), fill: Fill::new(frame) });
        Self {
            frame,
            has_hard_alpha,
            ground,
            placing,
            to_frame: MatteScaler::new(matte, frame),
            foreground: clean_colour.then(|| Foreground::new(frame)),
            chroma_alpha: vec![0; frame.chroma().pixels()],
            canvas_alpha: vec![0; size.chroma().pixels()],
        }
    }

    /// Makes alpha of the frame's matte, at the frame's size.
    pub(crate) fn make_alpha(&mut self, frame: &mut Frame) -> Result<(), EngineError> {
        let (planes, matte) = frame.planes_and_matte();
        self.to_frame.scale_to_bytes(matte, planes.alpha)
    }

    /// Puts what stands behind the subject in place. Alpha has been made.
    pub(crate) fn finish<'f>(&'f mut self, frame: &'f mut Frame) -> Result<Done<'f>, EngineError> {
        let (mut planes, _) = frame.planes_and_matte();
        halve(planes.alpha, self.frame, &mut self.chroma_alpha);
        if let Ground::Blur(blur) = &mut self.ground {
            blur.make(&planes, &self.chroma_alpha)?;
        }
        if let Some(foreground) = &mut self.foreground {
            foreground.clean(&mut planes, &self.chroma_alpha);
        }
        let is_new_alpha = self.placing.is_some() || self.has_hard_alpha;
        let (canvas, size) = match &mut self.placing {
            None => (frame, self.frame),
            Some(placing) => {
                placing.fill.paint(&mut planes, &self.chroma_alpha);
                let canvas = placing.placer.place(&planes)?;
                let size = canvas.size();
                (canvas, size)
            }
        };
        let (mut planes, _) = canvas.planes_and_matte();
        if self.has_hard_alpha {
            for alpha in planes.alpha.iter_mut() {
                *alpha = if *alpha < 128 { 0 } else { 255 };
            }
        }
        if is_new_alpha {
            halve(planes.alpha, size, &mut self.canvas_alpha);
        }
        let chroma_alpha = if is_new_alpha { &self.canvas_alpha } else { &self.chroma_alpha };
        self.ground.lie_under(&mut planes, chroma_alpha)?;
        let mean = mean(&planes);
        Ok(Done { frame: canvas, mean })
    }
}

impl Ground {
    fn lie_under(&mut self, planes: &mut Planes<'_>, chroma_alpha: &[u8]) -> Result<(), EngineError> {
        match self {
            Self::Nothing(fill) => fill.paint(planes, chroma_alpha),
            Self::Solid(colour) => colour.under(planes, chroma_alpha),
            Self::Still(picture) => picture_under(picture, planes, chroma_alpha),
            Self::Moving { video, planes: picture } => {
                video.next(picture)?;
                picture_under(picture, planes, chroma_alpha);
            }
            Self::Blur(blur) => picture_under(blur.planes(), planes, chroma_alpha),
        }
        Ok(())
    }
}

impl Canvas {
    /// Of finished frames.
    pub(crate) fn size(&self) -> Size {
        self.placement.map_or(self.frame, |placement| placement.canvas)
    }
}

fn mean(planes: &Planes<'_>) -> f64 {
    let sum = widest(
        #[inline(always)]
        || planes.alpha.chunks(1 << 16).map(sum).sum::<u64>(),
    );
    #[expect(clippy::cast_precision_loss, reason = "at most 255 times the pixels of a frame")]
    let mean = sum as f64 / (planes.alpha.len().max(1) as f64 * 255.0);
    mean
}

/// Of less than 2^24 bytes: in 32 bits nothing wraps.
#[inline(always)]
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_add(byte.into())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rotoless_contract::spec::Rgb;

    const SIZE: Size = Size { width: 64, height: 32 };

    impl Finisher {
        /// Both steps.
        fn all_of<'f>(&'f mut self, frame: &'f mut Frame) -> Result<Done<'f>, EngineError> {
            self.make_alpha(frame)?;
            self.finish(frame)
        }
    }

    fn finisher(picture: Size, backdrop: Backdrop) -> Finisher {
        let canvas = Canvas { frame: SIZE, matte: picture, placement: None, has_hard_alpha: false, clean_colour: true };
        Finisher::new(canvas, backdrop)
    }

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
        let mut finisher = finisher(SIZE, Backdrop::Nothing);
        let mut one = frame(SIZE);
        finisher.all_of(&mut one).unwrap();
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
        finisher.all_of(&mut other).unwrap();
        assert!(one.yuva() == other.yuva());
    }

    #[test]
    fn opaque_pixels_keep_their_colour() {
        for backdrop in [Backdrop::Nothing, Backdrop::Colour(Rgb([0, 255, 0])), Backdrop::Blur] {
            let before = frame(SIZE);
            let mut after = frame(SIZE);
            finisher(SIZE, backdrop).all_of(&mut after).unwrap();
            for place in (0..SIZE.pixels()).filter(|n| n % SIZE.width < SIZE.width / 2) {
                assert_eq!(before.yuv()[place], after.yuv()[place]);
            }
        }
    }

    #[test]
    fn an_empty_matte_leaves_a_plain_frame() {
        let mut empty = frame(SIZE);
        empty.matte.fill(0.0);
        let mean = finisher(SIZE, Backdrop::Nothing).all_of(&mut empty).unwrap().mean;
        assert_eq!(mean, 0.0);
        let (planes, _) = empty.planes_and_matte();
        for plane in [&*planes.y, planes.u, planes.v] {
            assert!(plane.iter().all(|&value| value == plane[0]));
        }
    }

    #[test]
    fn a_solid_background_takes_the_place_of_what_was_removed() {
        let mut green = frame(SIZE);
        finisher(SIZE, Backdrop::Colour(Rgb([0, 255, 0]))).all_of(&mut green).unwrap();
        let (planes, _) = green.planes_and_matte();
        // BT.709 green, limited range: Y 173, U 42, V 26.
        assert_eq!((planes.y[SIZE.width - 1], planes.u[31], planes.v[31]), (173, 42, 26));
    }

    #[test]
    fn a_small_matte_is_scaled_to_the_frame() {
        let picture = Size { width: 16, height: 8 };
        let mut scaled = frame(picture);
        let mean = finisher(picture, Backdrop::Nothing).all_of(&mut scaled).unwrap().mean;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let (planes, _) = scaled.planes_and_matte();
        assert_eq!((planes.alpha[0], planes.alpha[SIZE.width - 1]), (255, 0));
    }

    #[test]
    fn every_processor_finishes_the_same_bits() {
        let size = Size { width: 360, height: 202 };
        let soft = || {
            let mut frame = Frame::new(size);
            for (place, byte) in frame.yuv_mut().iter_mut().enumerate() {
                *byte = (16 + (place * 37 + place / 91) % 220) as u8;
            }
            let alpha = |n: usize| (n % size.width).abs_diff(120 + n / size.width) as f32 / 90.0 - 0.3;
            frame.matte = (0..size.pixels()).map(|n| alpha(n).clamp(0.0, 1.0)).collect();
            frame
        };
        for backdrop in [|| Backdrop::Nothing, || Backdrop::Colour(Rgb([9, 255, 80]))] {
            let canvas =
                Canvas { frame: size, matte: size, placement: None, has_hard_alpha: false, clean_colour: true };
            let finished = || {
                let mut frame = soft();
                let mean = Finisher::new(canvas, backdrop()).all_of(&mut frame).unwrap().mean;
                (frame.yuva().to_vec(), mean.to_bits())
            };
            assert!(finished() == crate::lanes::tests::plain(finished));
        }
    }

    #[test]
    fn hard_alpha_knows_nothing_between() {
        let canvas = Canvas { frame: SIZE, matte: SIZE, placement: None, has_hard_alpha: true, clean_colour: true };
        let mut soft = frame(SIZE);
        soft.matte = (0..SIZE.pixels()).map(|n| (n % SIZE.width) as f32 / 63.0).collect();
        let mean = Finisher::new(canvas, Backdrop::Nothing).all_of(&mut soft).unwrap().mean;
        assert_eq!(mean, 0.5);
        let (planes, _) = soft.planes_and_matte();
        assert!(planes.alpha.iter().enumerate().all(|(n, &alpha)| alpha == if n % 64 < 32 { 0 } else { 255 }));
    }

    #[test]
    fn what_lies_outside_of_the_foreground_is_all_background() {
        use rotoless_contract::spec::{Anchor, Composition};
        let composition = Composition { width: 64, height: 64, anchor: Anchor::TopLeft, scale: 0.5, offset: [0, 0] };
        let placement = Some(Placement::of(&composition, SIZE));
        let canvas = Canvas { frame: SIZE, matte: SIZE, placement, has_hard_alpha: false, clean_colour: true };
        let red = vec![100; canvas.size().yuv_bytes()];
        for backdrop in [Backdrop::Still(red), Backdrop::Nothing] {
            let is_transparent = matches!(backdrop, Backdrop::Nothing);
            let mut finisher = Finisher::new(canvas, backdrop);
            // Twice: what the first frame left must not show in the second.
            for _ in 0..2 {
                let mut source = frame(SIZE);
                let done = finisher.all_of(&mut source).unwrap();
                assert_eq!(done.frame.size(), canvas.size());
                // A quarter of the canvas's height and a half of its width hold the frame, half of which is subject.
                assert!((done.mean - 1.0 / 16.0).abs() < 0.01, "{}", done.mean);
                let (luma, alpha) = (done.frame.yuv(), &done.frame.yuva()[canvas.size().yuv_bytes()..]);
                assert_eq!((alpha[64 * 40], alpha[0]), (0, 255));
                assert!(is_transparent || luma[64 * 17..64 * 64].iter().all(|&value| value == 100));
            }
        }
    }
}

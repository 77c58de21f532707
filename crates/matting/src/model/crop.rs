//! The matte of a region: its crop at the model's full resolution, and the way back into the frame's matte.

use fast_image_resize::pixels::U16;

use super::NetworkMatter;
use super::found::Region;
use crate::error::EngineError;
use crate::frame::{Sight, Size};
use crate::model::Matter as _;
use crate::model_picture::PictureMaker;
use crate::scaling::{Area, Scaler};

/// Of a box, what is seen around it: a model that knows only the subject does not know what is behind it.
const MARGIN: f32 = 0.12;
/// Of the crop, the border in which the matte fades, unless it is the frame's own border: what is cut there is not the
/// subject, and must not look as if cut with scissors.
const FADE: f32 = 0.04;

/// Makes mattes of regions and puts them together. The buffers are kept.
#[derive(Debug, Default)]
pub(super) struct Cropper {
    maker: Option<(Size, PictureMaker)>,
    picture: Vec<f32>,
    matte: Vec<f32>,
    small: Vec<U16>,
    large: Vec<U16>,
    scaler: Scaler,
}

/// A region in whole pixels of the frame's matte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    left: usize,
    top: usize,
    size: Size,
}

impl Cropper {
    /// The matte of the whole frame, of the model's own size.
    pub(super) fn whole(
        &mut self,
        sight: Sight<'_>,
        model: &mut NetworkMatter,
        matte: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let size = model.picture_size(sight.size);
        maker(&mut self.maker, sight.size, size, model).make(sight.colour, &mut self.picture)?;
        model.infer(&self.picture, size, matte)
    }

    /// Adds the matte of a region; `merge` makes one value of what is there, what the region says, and how far it is to
    /// be trusted there: 1, less at a border that is not the frame's.
    ///
    /// `matte` has the size `whole`, which has the frame's shape.
    pub(super) fn add<T: Copy>(
        &mut self,
        region: &Region,
        sight: Sight<'_>,
        model: &mut NetworkMatter,
        whole: Size,
        matte: &mut [T],
        merge: impl Fn(T, f32, f32) -> T,
    ) -> Result<(), EngineError> {
        let Some(cut) = Cut::of(region, sight.size, whole) else { return Ok(()) };
        let size = model.picture_size(sight.size);
        let maker = maker(&mut self.maker, sight.size, size, model);
        maker.make_of(sight.colour, cut.area(sight.size, whole), &mut self.picture)?;
        model.infer(&self.picture, size, &mut self.matte)?;
        self.enlarge(size, cut.size)?;
        self.merge(cut, whole, matte, merge);
        Ok(())
    }

    fn enlarge(&mut self, from: Size, to: Size) -> Result<(), EngineError> {
        self.small.clear();
        self.small.extend(self.matte.iter().map(|value| U16::new((value * 65535.0) as u16)));
        self.large.resize(to.pixels(), U16::default());
        self.scaler.deep_plane(&self.small, from, &mut self.large, to)
    }

    fn merge<T: Copy>(&self, cut: Cut, whole: Size, matte: &mut [T], merge: impl Fn(T, f32, f32) -> T) {
        let rows = self.large.chunks_exact(cut.size.width).enumerate();
        let targets = matte.chunks_exact_mut(whole.width).skip(cut.top);
        for ((row, from), to) in rows.zip(targets) {
            let fade_y = fade(row, cut.size.height, cut.top > 0, cut.top + cut.size.height < whole.height);
            let to = to.iter_mut().skip(cut.left);
            for ((column, value), to) in from.iter().enumerate().zip(to) {
                let fade_x = fade(column, cut.size.width, cut.left > 0, cut.left + cut.size.width < whole.width);
                *to = merge(*to, f32::from(value.0) / 65535.0, fade_x * fade_y);
            }
        }
    }
}

/// The kept maker of pictures, unless it is for frames of another size.
fn maker<'m>(
    kept: &'m mut Option<(Size, PictureMaker)>,
    frame: Size,
    picture: Size,
    model: &NetworkMatter,
) -> &'m mut PictureMaker {
    let fitting = kept.take().filter(|(size, _)| *size == frame);
    &mut kept.insert(fitting.unwrap_or_else(|| (frame, PictureMaker::new(frame, picture, &model.input)))).1
}

impl Cut {
    fn of(region: &Region, frame: Size, whole: Size) -> Option<Self> {
        let region = region.widened(MARGIN).within(frame)?;
        let (x, y) = (whole.width as f32 / frame.width as f32, whole.height as f32 / frame.height as f32);
        let (left, top) = ((region.left * x).floor() as usize, (region.top * y).floor() as usize);
        let right = ((region.right * x).ceil() as usize).min(whole.width);
        let bottom = ((region.bottom * y).ceil() as usize).min(whole.height);
        let size = Size { width: right.checked_sub(left)?, height: bottom.checked_sub(top)? };
        (size.pixels() > 0).then_some(Self { left, top, size })
    }

    /// The same part of the frame.
    fn area(self, frame: Size, whole: Size) -> Area {
        let (x, y) = (frame.width as f64 / whole.width as f64, frame.height as f64 / whole.height as f64);
        Area {
            left: self.left as f64 * x,
            top: self.top as f64 * y,
            width: self.size.width as f64 * x,
            height: self.size.height as f64 * y,
        }
    }
}

/// Of regions that overlap the greater value holds.
pub(super) fn greatest(there: f32, seen: f32, trust: f32) -> f32 {
    there.max(seen * trust)
}

/// What is left of a value at this place of a line.
fn fade(place: usize, length: usize, at_start: bool, at_end: bool) -> f32 {
    let border = (length as f32 * FADE).max(1.0);
    let from_start = if at_start { (place as f32 + 0.5) / border } else { 1.0 };
    let from_end = if at_end { ((length - place) as f32 - 0.5) / border } else { 1.0 };
    from_start.min(from_end).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Size = Size { width: 640, height: 360 };

    #[test]
    fn a_crop_has_a_margin_and_stays_in_the_frame() {
        let region = Region { left: 500.0, top: 100.0, right: 640.0, bottom: 200.0 };
        let cut = Cut::of(&region, FRAME, FRAME).unwrap();
        assert_eq!(cut, Cut { left: 483, top: 88, size: Size { width: 157, height: 124 } });
        assert_eq!(Cut::of(&Region { left: 700.0, right: 720.0, ..region }, FRAME, FRAME), None);
        let half = Size { width: 320, height: 180 };
        let cut = Cut::of(&region, FRAME, half).unwrap();
        let area = cut.area(FRAME, half);
        assert_eq!((area.left, area.width), (cut.left as f64 * 2.0, cut.size.width as f64 * 2.0));
    }

    #[test]
    fn a_matte_fades_at_a_border_that_is_not_the_frames() {
        assert!(fade(0, 100, true, true) < 0.2);
        assert_eq!(fade(50, 100, true, true), 1.0);
        assert_eq!(fade(0, 100, false, true), 1.0);
        assert!(fade(99, 100, false, true) < 0.2);
    }
}

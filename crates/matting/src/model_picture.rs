//! The small picture that a model sees.
//!
//! Owns: scaling the planes and turning them into the tensor that the registry describes. The frame itself stays in
//! its planes; RGB exists only here, at the model's size.

use crate::error::EngineError;
use crate::frame::{Colour, Size};
use crate::model::Region;
use crate::registry::{ChannelOrder, InputSize, InputSpec, Layout, PictureFit};
use crate::scaling::{Area, Scaler};

/// Turns frames of one size into pictures of one size.
#[derive(Debug)]
pub(crate) struct PictureMaker {
    frame: Size,
    picture: Size,
    layout: Layout,
    /// Red, green, blue: the place of each in a pixel, and `value · factor + offset`.
    channels: [Channel; 3],
    inset: Inset,
    scaler: Scaler,
    /// Y, U, V at the picture's size.
    planes: [Vec<u8>; 3],
    /// One plane at the inset's size, where that is not the picture's.
    scaled: Vec<u8>,
}

/// Where in a picture the frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inset {
    frame: Size,
    pub picture: Size,
    left: usize,
    top: usize,
    size: Size,
}

impl Inset {
    pub(crate) fn of(frame: Size, picture: Size, fit: PictureFit) -> Self {
        let size = match fit {
            PictureFit::Stretch => picture,
            PictureFit::Contain => {
                let factor =
                    (picture.width as f64 / frame.width as f64).min(picture.height as f64 / frame.height as f64);
                let side = |frame: usize, picture: usize| ((frame as f64 * factor).round() as usize).clamp(1, picture);
                Size { width: side(frame.width, picture.width), height: side(frame.height, picture.height) }
            }
        };
        let (left, top) = ((picture.width - size.width) / 2, (picture.height - size.height) / 2);
        Self { frame, picture, left, top, size }
    }

    /// A box of the picture, in the frame.
    pub(crate) fn in_frame(&self, region: Region) -> Region {
        let x = self.frame.width as f32 / self.size.width as f32;
        let y = self.frame.height as f32 / self.size.height as f32;
        let (left, top) = (self.left as f32, self.top as f32);
        Region {
            left: (region.left - left) * x,
            top: (region.top - top) * y,
            right: (region.right - left) * x,
            bottom: (region.bottom - top) * y,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    place: usize,
    /// From RGB in 0..255.
    factor: f32,
    offset: f32,
}

impl PictureMaker {
    pub(crate) fn new(frame: Size, picture: Size, input: &InputSpec) -> Self {
        let mut channels = [Channel::default(); 3];
        for (colour, channel) in channels.iter_mut().enumerate() {
            let place = match input.channels {
                ChannelOrder::Rgb => colour,
                ChannelOrder::Bgr => 2 - colour,
            };
            let (mean, std) = (input.mean[place], input.std[place]);
            *channel = Channel { place, factor: input.scale / std, offset: -mean / std };
        }
        let fit = match input.size {
            InputSize::Fixed { fit, .. } => fit,
            InputSize::Free { .. } => PictureFit::Stretch,
        };
        let inset = Inset::of(frame, picture, fit);
        // Around an inset it stays black.
        let planes = [16, 128, 128].map(|black| vec![black; picture.pixels()]);
        let scaler = Scaler::default();
        Self { frame, picture, layout: input.layout, channels, inset, scaler, planes, scaled: Vec::new() }
    }

    /// Makes the picture of a frame's Y, U and V.
    pub(crate) fn make(&mut self, colour: Colour<'_>, tensor: &mut Vec<f32>) -> Result<(), EngineError> {
        let sizes = [self.frame, self.frame.chroma(), self.frame.chroma()];
        let Inset { left, top, size: inner, .. } = self.inset;
        for ((from, size), to) in colour.into_iter().zip(sizes).zip(&mut self.planes) {
            if inner == self.picture {
                self.scaler.plane(from, size, to, self.picture)?;
                continue;
            }
            self.scaled.resize(inner.pixels(), 0);
            self.scaler.plane(from, size, &mut self.scaled, inner)?;
            let rows = to.chunks_exact_mut(self.picture.width).skip(top);
            for (to, from) in rows.zip(self.scaled.chunks_exact(inner.width)) {
                to.iter_mut().skip(left).zip(from).for_each(|(to, from)| *to = *from);
            }
        }
        self.fill(tensor);
        Ok(())
    }

    /// Makes the picture of a part of the frame, stretched.
    pub(crate) fn make_of(&mut self, colour: Colour<'_>, area: Area, tensor: &mut Vec<f32>) -> Result<(), EngineError> {
        let [y, u, v] = colour;
        let half =
            Area { left: area.left / 2.0, top: area.top / 2.0, width: area.width / 2.0, height: area.height / 2.0 };
        let (luma, chroma) = (self.frame, self.frame.chroma());
        let parts = [(y, luma, area), (u, chroma, half), (v, chroma, half)];
        for ((from, size, area), to) in parts.into_iter().zip(&mut self.planes) {
            self.scaler.area(from, size, area, to, self.picture)?;
        }
        self.fill(tensor);
        Ok(())
    }

    fn fill(&self, tensor: &mut Vec<f32>) {
        tensor.resize(3 * self.picture.pixels(), 0.0);
        match self.layout {
            Layout::Nchw => self.fill_planar(tensor),
            Layout::Nhwc => self.fill_interleaved(tensor),
        }
    }

    fn fill_planar(&self, tensor: &mut [f32]) {
        let [y, u, v] = &self.planes;
        let (first, rest) = tensor.split_at_mut(self.picture.pixels());
        let (second, third) = rest.split_at_mut(self.picture.pixels());
        let mut outputs = [first, second, third].map(Some);
        let [red, green, blue] =
            self.channels.map(|channel| (channel, outputs[channel.place].take().unwrap_or_default()));
        // One loop a colour: each vectorises on its own.
        for (((y, v), _), out) in y.iter().zip(v).zip(u).zip(red.1) {
            *out = (luma(*y) + RED_V * centred(*v)).clamp(0.0, 255.0) * red.0.factor + red.0.offset;
        }
        for (((y, v), u), out) in y.iter().zip(v).zip(u).zip(green.1) {
            let value = luma(*y) - GREEN_U * centred(*u) - GREEN_V * centred(*v);
            *out = value.clamp(0.0, 255.0) * green.0.factor + green.0.offset;
        }
        for (((y, _), u), out) in y.iter().zip(v).zip(u).zip(blue.1) {
            *out = (luma(*y) + BLUE_U * centred(*u)).clamp(0.0, 255.0) * blue.0.factor + blue.0.offset;
        }
    }

    fn fill_interleaved(&self, tensor: &mut [f32]) {
        let [y, u, v] = &self.planes;
        for (((y, u), v), pixel) in y.iter().zip(u).zip(v).zip(tensor.chunks_exact_mut(3)) {
            for (channel, value) in self.channels.iter().zip(rgb(*y, *u, *v)) {
                pixel[channel.place] = value * channel.factor + channel.offset;
            }
        }
    }
}

// BT.709, limited range to RGB in 0..255.
const LUMA_GAIN: f32 = 255.0 / 219.0;
const CHROMA_GAIN: f32 = 255.0 / 224.0;
const RED_V: f32 = 1.5748 * CHROMA_GAIN;
const GREEN_U: f32 = 0.187_324 * CHROMA_GAIN;
const GREEN_V: f32 = 0.468_124 * CHROMA_GAIN;
const BLUE_U: f32 = 1.8556 * CHROMA_GAIN;

/// Red, green and blue of one pixel, 0..255.
#[inline(always)]
pub(crate) fn rgb(y: u8, u: u8, v: u8) -> [f32; 3] {
    let (y, u, v) = (luma(y), centred(u), centred(v));
    [y + RED_V * v, y - GREEN_U * u - GREEN_V * v, y + BLUE_U * u].map(|value| value.clamp(0.0, 255.0))
}

#[inline(always)]
fn luma(y: u8) -> f32 {
    (f32::from(y) - 16.0) * LUMA_GAIN
}

#[inline(always)]
fn centred(chroma: u8) -> f32 {
    f32::from(chroma) - 128.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::InputSize;

    fn spec(layout: Layout, channels: ChannelOrder) -> InputSpec {
        InputSpec {
            name: "x".into(),
            size: InputSize::Fixed { width: 2, height: 2, fit: PictureFit::Stretch },
            layout,
            channels,
            scale: 1.0 / 255.0,
            mean: [0.0, 0.25, 0.5],
            std: [1.0, 0.5, 0.25],
        }
    }

    fn tensor(layout: Layout, channels: ChannelOrder) -> Vec<f32> {
        let size = Size { width: 2, height: 2 };
        let mut tensor = Vec::new();
        // BT.709 red: Y 63, U 102, V 240.
        PictureMaker::new(size, size, &spec(layout, channels)).make([&[63; 4], &[102], &[240]], &mut tensor).unwrap();
        tensor
    }

    #[test]
    fn a_contained_picture_lies_in_the_middle_of_black_and_boxes_find_back() {
        let (frame, picture) = (Size { width: 4, height: 2 }, Size { width: 4, height: 4 });
        let mut spec = spec(Layout::Nchw, ChannelOrder::Rgb);
        spec.size = InputSize::Fixed { width: 4, height: 4, fit: PictureFit::Contain };
        (spec.mean, spec.std) = ([0.0; 3], [1.0; 3]);
        let mut tensor = Vec::new();
        let mut maker = PictureMaker::new(frame, picture, &spec);
        for _ in 0..2 {
            maker.make([&[235; 8], &[128; 2], &[128; 2]], &mut tensor).unwrap();
        }
        let rows: Vec<f32> = tensor[..16].chunks_exact(4).map(|row| row.iter().sum::<f32>() / 4.0).collect();
        assert_eq!(rows, [0.0, 1.0, 1.0, 0.0]);
        let region = Region { left: 1.0, top: 1.0, right: 4.0, bottom: 2.0 };
        let inset = Inset::of(Size { width: 40, height: 20 }, picture, PictureFit::Contain);
        assert_eq!(inset.in_frame(region), Region { left: 10.0, top: 0.0, right: 40.0, bottom: 10.0 });
    }

    #[track_caller]
    fn assert_near(found: f32, expected: f32) {
        assert!((found - expected).abs() < 0.02, "{found} is not {expected}");
    }

    #[test]
    fn layout_order_mean_and_std_follow_the_registry() {
        let planar = tensor(Layout::Nchw, ChannelOrder::Rgb);
        assert_near(planar[0], 1.0);
        assert_near(planar[4], -0.5);
        assert_near(planar[8], -2.0);
        let swapped = tensor(Layout::Nchw, ChannelOrder::Bgr);
        assert_near(swapped[0], 0.0);
        assert_near(swapped[8], (1.0 - 0.5) / 0.25);
        let interleaved = tensor(Layout::Nhwc, ChannelOrder::Rgb);
        assert_near(interleaved[0], 1.0);
        assert_near(interleaved[1], -0.5);
        assert_near(interleaved[5], -2.0);
    }
}

//! The small picture that a model sees.
//!
//! Owns: scaling the planes and turning them into the tensor that the registry describes. The frame itself stays in
//! its planes; RGB exists only here, at the model's size.

use crate::error::EngineError;
use crate::frame::Size;
use crate::registry::{ChannelOrder, InputSpec, Layout};
use crate::scaling::Scaler;

/// Turns frames of one size into pictures of one size.
#[derive(Debug)]
pub(crate) struct PictureMaker {
    frame: Size,
    picture: Size,
    layout: Layout,
    /// Red, green, blue: the place of each in a pixel, and `value · factor + offset`.
    channels: [Channel; 3],
    scaler: Scaler,
    /// Y, U, V at the picture's size.
    planes: [Vec<u8>; 3],
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
        let planes = [(); 3].map(|()| vec![0; picture.pixels()]);
        Self { frame, picture, layout: input.layout, channels, scaler: Scaler::default(), planes }
    }

    /// Makes the picture of a frame's Y, U and V.
    pub(crate) fn make(&mut self, colour: [&[u8]; 3], tensor: &mut Vec<f32>) -> Result<(), EngineError> {
        let sizes = [self.frame, self.frame.chroma(), self.frame.chroma()];
        for ((from, size), to) in colour.into_iter().zip(sizes).zip(&mut self.planes) {
            self.scaler.plane(from, size, to, self.picture)?;
        }
        tensor.resize(3 * self.picture.pixels(), 0.0);
        match self.layout {
            Layout::Nchw => self.fill_planar(tensor),
            Layout::Nhwc => self.fill_interleaved(tensor),
        }
        Ok(())
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
            let (u, v) = (centred(*u), centred(*v));
            let rgb = [luma(*y) + RED_V * v, luma(*y) - GREEN_U * u - GREEN_V * v, luma(*y) + BLUE_U * u];
            for (channel, value) in self.channels.iter().zip(rgb) {
                pixel[channel.place] = value.clamp(0.0, 255.0) * channel.factor + channel.offset;
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
            size: InputSize::Fixed { width: 2, height: 2 },
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

//! TensorFlow's operators as their documentation defines them, one number at a time, pictures in NHWC.

use crate::test_runtime::Array;

#[derive(Debug)]
pub(super) struct Picture {
    pub(super) shape: [usize; 4],
    pub(super) values: Vec<f32>,
}

/// A window sliding over a picture; what lies outside the picture is zero.
pub(super) struct Window {
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Pixels outside, at the top and at the left.
    pub(super) before: [usize; 2],
    /// Height and width of the result.
    pub(super) size: [usize; 2],
}

impl Picture {
    fn build(size: [usize; 2], channels: usize, mut value: impl FnMut(usize, usize, usize) -> f32) -> Self {
        let mut values = Vec::new();
        for y in 0..size[0] {
            for x in 0..size[1] {
                values.extend((0..channels).map(|channel| value(y, x, channel)));
            }
        }
        Self { shape: [1, size[0], size[1], channels], values }
    }

    /// From `[1, channels, height, width]`.
    pub(super) fn from_planes(array: &Array) -> Self {
        let [1, channels, height, width] = *array.shape else { panic!("no picture: {:?}", array.shape) };
        Self::build([height, width], channels, |y, x, channel| array.values[(channel * height + y) * width + x])
    }

    fn at(&self, y: usize, x: usize, channel: usize) -> f32 {
        self.values[(y * self.shape[2] + x) * self.shape[3] + channel]
    }

    pub(super) fn max_difference(&self, other: &Self) -> f32 {
        assert_eq!(self.shape, other.shape);
        self.values.iter().zip(&other.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    /// Every value by itself; the function is told the channel.
    pub(super) fn map(self, function: impl Fn(f32, usize) -> f32) -> Self {
        let channels = self.shape[3];
        let values = self.values.iter().enumerate().map(|(index, value)| function(*value, index % channels)).collect();
        Self { values, ..self }
    }

    /// Weights `[height, width, from, to]`.
    pub(super) fn convolved(&self, weights: &Array, window: &Window) -> Self {
        let [height, width, from, to] = *weights.shape else { panic!("no weights") };
        Self::build(window.size, to, |y, x, channel| {
            self.slide([height, width], window, y, x, |picture, (i, j), (y, x)| {
                let weight = |c| weights.values[((i * width + j) * from + c) * to + channel];
                (0..from).map(|c| picture.at(y, x, c) * weight(c)).sum()
            })
        })
    }

    /// Weights `[height, width, channels, 1]`.
    pub(super) fn convolved_by_channel(&self, weights: &Array, window: &Window) -> Self {
        let [height, width, channels, 1] = *weights.shape else { panic!("no weights") };
        Self::build(window.size, channels, |y, x, channel| {
            self.slide([height, width], window, y, x, |picture, (i, j), (y, x)| {
                picture.at(y, x, channel) * weights.values[(i * width + j) * channels + channel]
            })
        })
    }

    /// The sum of `term` over the window's entries that lie on the picture.
    fn slide(
        &self,
        kernel: [usize; 2],
        window: &Window,
        y: usize,
        x: usize,
        term: impl Fn(&Self, (usize, usize), (usize, usize)) -> f32,
    ) -> f32 {
        let mut sum = 0.0;
        for i in 0..kernel[0] {
            for j in 0..kernel[1] {
                let y = (y * window.stride[0] + i * window.dilation[0]).checked_sub(window.before[0]);
                let x = (x * window.stride[1] + j * window.dilation[1]).checked_sub(window.before[1]);
                if let (Some(y), Some(x)) = (y, x)
                    && y < self.shape[1]
                    && x < self.shape[2]
                {
                    sum += term(self, (i, j), (y, x));
                }
            }
        }
        sum
    }

    /// Means of 2×2 pixels; at an odd edge, of those that are there.
    pub(super) fn halved(&self) -> Self {
        let [_, height, width, channels] = self.shape;
        Self::build([height.div_ceil(2), width.div_ceil(2)], channels, |y, x, channel| {
            let rows = 2 * y..(2 * y + 2).min(height);
            let pixels = rows.flat_map(|y| (2 * x..(2 * x + 2).min(width)).map(move |x| (y, x)));
            let values: Vec<_> = pixels.map(|(y, x)| self.at(y, x, channel)).collect();
            values.iter().sum::<f32>() / values.len() as f32
        })
    }

    /// Bilinear, pixels' centres at halves.
    pub(super) fn resized(&self, size: [usize; 2]) -> Self {
        let [_, height, width, channels] = self.shape;
        let place = |index: usize, new: usize, old: usize| {
            let at = ((index as f32 + 0.5) * old as f32 / new as f32 - 0.5).clamp(0.0, (old - 1) as f32);
            let low = at.floor() as usize;
            (low, (low + 1).min(old - 1), at - at.floor())
        };
        Self::build(size, channels, |y, x, channel| {
            let ((top, bottom, v), (left, right, h)) = (place(y, size[0], height), place(x, size[1], width));
            let row = |y| self.at(y, left, channel) * (1.0 - h) + self.at(y, right, channel) * h;
            row(top) * (1.0 - v) + row(bottom) * v
        })
    }

    pub(super) fn cropped(&self, size: [usize; 2]) -> Self {
        Self::build(size, self.shape[3], |y, x, channel| self.at(y, x, channel))
    }
}

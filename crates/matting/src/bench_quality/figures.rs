//! The figures of the literature on video matting (Lin et al., "Robust High-Resolution Video Matting with Temporal
//! Guidance", 2021, §5): lower is better but for the last.

use serde::{Deserialize, Serialize};

use crate::frame::Size;

/// Of the Gaussian whose derivative makes the gradient, px.
const SIGMA: f32 = 1.4;

/// The derivative's kernel reaches so far each way: where the Gaussian falls below a hundredth.
const REACH: usize = 4;

/// Means over frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean absolute difference, ×10³.
    pub mad: f64,
    /// Mean squared error, ×10³.
    pub mse: f64,
    /// Sum of the squared differences of gradients' lengths, /10³.
    pub gradient: f64,
    /// Root of the mean squared difference of the changes from frame to frame, ×10².
    pub dtssd: f64,
    /// Intersection over union of what is more than half opaque.
    pub iou: f64,
}

/// Counts the frames of a clip.
#[derive(Debug)]
pub(super) struct Tally {
    size: Size,
    sums: Figures,
    frames: usize,
    pairs: usize,
    /// What was found in the frame before, and the truth.
    before: Option<[Vec<u8>; 2]>,
    gradients: [Vec<f32>; 2],
    rows: [Vec<f32>; 2],
}

impl Tally {
    pub(super) fn new(size: Size) -> Self {
        Self {
            size,
            sums: Figures::default(),
            frames: 0,
            pairs: 0,
            before: None,
            gradients: Default::default(),
            rows: Default::default(),
        }
    }

    pub(super) const fn frames(&self) -> usize {
        self.frames
    }

    pub(super) fn count(&mut self, alpha: &[u8], truth: &[u8]) {
        let pixels = self.size.pixels() as f64;
        let (mut absolute, mut squared, mut both, mut either) = (0_u64, 0_u64, 0_u64, 0_u64);
        for (&alpha, &truth) in alpha.iter().zip(truth) {
            let difference = u64::from(alpha.abs_diff(truth));
            absolute += difference;
            squared += difference * difference;
            both += u64::from(alpha > 127 && truth > 127);
            either += u64::from(alpha > 127 || truth > 127);
        }
        self.sums.mad += absolute as f64 / (pixels * 255.0) * 1e3;
        self.sums.mse += squared as f64 / (pixels * 255.0 * 255.0) * 1e3;
        self.sums.iou += if either == 0 { 1.0 } else { both as f64 / either as f64 };
        let [ours, true_ones] = &mut self.gradients;
        gradient(alpha, self.size, &mut self.rows, ours);
        gradient(truth, self.size, &mut self.rows, true_ones);
        let error = ours.iter().zip(&*true_ones).map(|(ours, truth)| f64::from((ours - truth) * (ours - truth)));
        self.sums.gradient += error.sum::<f64>() / 1e3;
        if let Some([alpha_before, truth_before]) = &self.before {
            let changes = alpha.iter().zip(alpha_before).zip(truth.iter().zip(truth_before));
            let squares = changes.map(|((now, then), (truth, truth_then))| {
                let difference = (i32::from(*now) - i32::from(*then)) - (i32::from(*truth) - i32::from(*truth_then));
                u64::from((difference * difference).unsigned_abs())
            });
            self.sums.dtssd += (squares.sum::<u64>() as f64 / (pixels * 255.0 * 255.0)).sqrt() * 1e2;
            self.pairs += 1;
        }
        self.before = Some([alpha.to_vec(), truth.to_vec()]);
        self.frames += 1;
    }

    pub(super) fn figures(&self) -> Figures {
        let (frames, pairs) = (self.frames.max(1) as f64, self.pairs.max(1) as f64);
        Figures {
            mad: self.sums.mad / frames,
            mse: self.sums.mse / frames,
            gradient: self.sums.gradient / frames,
            dtssd: self.sums.dtssd / pairs,
            iou: self.sums.iou / frames,
        }
    }
}

/// Lengths of the Gaussian gradient of alpha in 0..1.
fn gradient(alpha: &[u8], size: Size, [smooth, steep]: &mut [Vec<f32>; 2], out: &mut Vec<f32>) {
    let (gaussian, derivative) = kernels();
    let Size { width, height } = size;
    let clamped = |place: usize, shift: usize, count: usize| (place + shift).saturating_sub(REACH).min(count - 1);
    for (kernel, plane) in [(&gaussian, &mut *smooth), (&derivative, &mut *steep)] {
        plane.clear();
        for row in alpha.chunks_exact(width) {
            let value = |x: usize| {
                let taps = kernel.iter().enumerate();
                taps.map(|(shift, tap)| tap * f32::from(row[clamped(x, shift, width)])).sum::<f32>() / 255.0
            };
            plane.extend((0..width).map(value));
        }
    }
    out.clear();
    for y in 0..height {
        for x in 0..width {
            let (mut along_x, mut along_y) = (0.0, 0.0);
            for shift in 0..=2 * REACH {
                let place = clamped(y, shift, height) * width + x;
                along_x += gaussian[shift] * steep[place];
                along_y += derivative[shift] * smooth[place];
            }
            out.push((along_x * along_x + along_y * along_y).sqrt());
        }
    }
}

/// The Gaussian and its derivative; their product in two dimensions has length 1.
fn kernels() -> ([f32; 2 * REACH + 1], [f32; 2 * REACH + 1]) {
    let at = |place: usize| place as f32 - REACH as f32;
    let gaussian: [f32; 2 * REACH + 1] =
        std::array::from_fn(|place| (-at(place) * at(place) / (2.0 * SIGMA * SIGMA)).exp());
    let derivative: [f32; 2 * REACH + 1] = std::array::from_fn(|place| -at(place) * gaussian[place]);
    let length = |kernel: &[f32]| kernel.iter().map(|tap| tap * tap).sum::<f32>().sqrt();
    let (one, other) = (length(&gaussian), length(&derivative));
    (gaussian.map(|tap| tap / one), derivative.map(|tap| tap / other))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 32, height: 16 };

    fn halves(left: u8, right: u8) -> Vec<u8> {
        (0..SIZE.pixels()).map(|place| if place % SIZE.width < SIZE.width / 2 { left } else { right }).collect()
    }

    #[test]
    fn the_truth_itself_has_no_error() {
        let mut tally = Tally::new(SIZE);
        for frame in [halves(255, 0), halves(0, 255)] {
            tally.count(&frame, &frame);
        }
        assert_eq!(tally.figures(), Figures { iou: 1.0, ..Figures::default() });
    }

    #[test]
    fn figures_are_those_computed_by_hand() {
        let mut tally = Tally::new(SIZE);
        // The right half is wrong by 51 of 255, then right.
        tally.count(&halves(255, 51), &halves(255, 0));
        tally.count(&halves(255, 0), &halves(255, 0));
        let figures = tally.figures();
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        near(figures.mad, 0.2 / 2.0 * 1e3 / 2.0);
        near(figures.mse, 0.04 / 2.0 * 1e3 / 2.0);
        near(figures.dtssd, (0.04_f64 / 2.0).sqrt() * 1e2);
        near(figures.iou, 1.0);
        // A step's gradient is in proportion to its height: with a fifth less of it the error is (1/5)² of the step's
        // own sum of squares, in the mean of two frames.
        let mut step = Tally::new(SIZE);
        step.count(&halves(0, 0), &halves(255, 0));
        let ratio = figures.gradient / step.figures().gradient;
        assert!((ratio - 0.04 / 2.0).abs() < 1e-4, "{ratio}");
        // Along a row: the sum of (Σ derivative up to there)² times (Σ Gaussian)², in each of 16 rows.
        let (gaussian, derivative) = kernels();
        let height: f32 = gaussian.iter().sum();
        let mut sum = 0.0;
        for place in 0..=2 * REACH {
            let partial: f32 = derivative.iter().take(place).sum();
            sum += f64::from(partial * height).powi(2);
        }
        let expected = sum * 16.0 / 1e3;
        assert!((step.figures().gradient / expected - 1.0).abs() < 1e-4, "{expected}");
    }
}

//! The source itself as a background, so blurred that nothing in it can be recognised.
//!
//! The picture is averaged down to a coarse grid, blurred there and drawn as large as the canvas. Pixels count by how
//! little of the subject is in them: otherwise its colours would shine around it.
//! Invariant: the blur follows the size of the picture, so the same film looks the same in any resolution.

use crate::error::EngineError;
use crate::frame::{Planes, Size};
use crate::scaling::{Area, Scaler};

/// Cells along the longer side.
const CELLS: usize = 96;

/// Cells to each side of a box. Three boxes are a Gaussian of σ = 3.5 cells: 1/27 of the longer side.
const RADIUS: usize = 3;
const PASSES: usize = 3;

/// What the subject counts where nothing else is near.
const LEAST_WEIGHT: f32 = 0.01;

/// Blurs frames of one size for a canvas of one size.
#[derive(Debug)]
pub(super) struct Blur {
    frame: Size,
    canvas: Size,
    grid: Size,
    /// The part of the grid that fills the canvas.
    shown: Area,
    scaler: Scaler,
    cells: Vec<u8>,
    /// What of a plane is not the subject.
    rest: Vec<u8>,
    /// Weights, then Y, U and V times the weights.
    weights: Vec<f32>,
    channels: [Vec<f32>; 3],
    scratch: Vec<f32>,
    planes: Vec<u8>,
}

impl Blur {
    pub(super) fn new(frame: Size, canvas: Size) -> Self {
        let longer = frame.width.max(frame.height).max(1);
        let cells = |side: usize| (side * CELLS / longer).clamp(1, side);
        let grid = Size { width: cells(frame.width), height: cells(frame.height) };
        Self {
            frame,
            canvas,
            grid,
            shown: Area::covering(grid, frame, canvas),
            scaler: Scaler::default(),
            cells: vec![0; grid.pixels()],
            rest: Vec::new(),
            weights: Vec::new(),
            channels: Default::default(),
            scratch: vec![0.0; grid.pixels()],
            planes: vec![0; canvas.yuv_bytes()],
        }
    }

    /// Y, U and V of the canvas as last made.
    pub(super) fn planes(&self) -> &[u8] {
        &self.planes
    }

    /// Blurs a frame that still has its background. `chroma_alpha` is alpha of the pixels of U and V.
    pub(super) fn make(&mut self, planes: &Planes<'_>, chroma_alpha: &[u8]) -> Result<(), EngineError> {
        self.scaler.plane(planes.alpha, self.frame, &mut self.cells, self.grid)?;
        self.weights.clear();
        self.weights.extend(self.cells.iter().map(|&alpha| 1.0 - f32::from(alpha) / 255.0 + LEAST_WEIGHT));
        let chroma = self.frame.chroma();
        let sources = [
            (&*planes.y, &*planes.alpha, self.frame),
            (&*planes.u, chroma_alpha, chroma),
            (&*planes.v, chroma_alpha, chroma),
        ];
        for ((plane, alpha, size), channel) in sources.into_iter().zip(&mut self.channels) {
            self.scaler.plane(plane, size, &mut self.cells, self.grid)?;
            channel.clear();
            channel.extend(self.cells.iter().map(|&value| f32::from(value) * LEAST_WEIGHT));
            self.rest.clear();
            self.rest.extend(plane.iter().zip(alpha).map(|(&value, &alpha)| without(value, alpha)));
            self.scaler.plane(&self.rest, size, &mut self.cells, self.grid)?;
            for (sum, &value) in channel.iter_mut().zip(&self.cells) {
                *sum += f32::from(value);
            }
        }
        for channel in self.channels.iter_mut().chain([&mut self.weights]) {
            for _ in 0..PASSES {
                blur_rows(channel, self.grid.width, &mut self.scratch);
                blur_columns(channel, self.grid.width, &mut self.scratch);
            }
        }
        let (y, chroma) = self.planes.split_at_mut(self.canvas.pixels());
        let (u, v) = chroma.split_at_mut(self.canvas.chroma().pixels());
        let targets = [(y, self.canvas), (u, self.canvas.chroma()), (v, self.canvas.chroma())];
        for ((plane, size), channel) in targets.into_iter().zip(&self.channels) {
            self.cells.clear();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of bytes; saturates")]
            self.cells.extend(channel.iter().zip(&self.weights).map(|(sum, weight)| (sum / weight + 0.5) as u8));
            self.scaler.area(&self.cells, self.grid, self.shown, plane, size)?;
        }
        Ok(())
    }
}

#[inline(always)]
fn without(value: u8, alpha: u8) -> u8 {
    let sum = u32::from(value) * u32::from(255 - alpha) + 128;
    // Rounded division by 255, without a division.
    ((sum + (sum >> 8)) >> 8) as u8
}

/// The mean of each value and its neighbours in its row; fewer of them at the borders.
fn blur_rows(values: &mut [f32], width: usize, scratch: &mut [f32]) {
    for (row, out) in values.chunks_exact(width).zip(scratch.chunks_exact_mut(width)) {
        for (place, out) in out.iter_mut().enumerate() {
            let near = &row[place.saturating_sub(RADIUS)..(place + RADIUS + 1).min(width)];
            *out = near.iter().sum::<f32>() / near.len() as f32;
        }
    }
    values.copy_from_slice(scratch);
}

/// The same along the columns, a row at a time.
fn blur_columns(values: &mut [f32], width: usize, scratch: &mut [f32]) {
    let height = values.len() / width;
    for (place, out) in scratch.chunks_exact_mut(width).enumerate() {
        let near = place.saturating_sub(RADIUS)..(place + RADIUS + 1).min(height);
        let share = 1.0 / near.len() as f32;
        out.fill(0.0);
        for row in values[near.start * width..near.end * width].chunks_exact(width) {
            for (out, value) in out.iter_mut().zip(row) {
                *out += value * share;
            }
        }
    }
    values.copy_from_slice(scratch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::scaling::halve;

    /// Dark stripes on grey; a white subject in the middle.
    fn frame(size: Size) -> Frame {
        let mut frame = Frame::new(size);
        let (planes, _) = frame.planes_and_matte();
        for place in 0..size.pixels() {
            let (x, y) = (place % size.width, place / size.width);
            let is_subject =
                x.abs_diff(size.width / 2) < size.width / 8 && y.abs_diff(size.height / 2) < size.height / 4;
            planes.y[place] = if is_subject { 235 } else { 60 + (x / 2 % 2 * 40) as u8 };
            planes.alpha[place] = if is_subject { 255 } else { 0 };
        }
        planes.u.fill(100);
        planes.v.fill(150);
        frame
    }

    fn chroma_alpha(planes: &Planes<'_>, size: Size) -> Vec<u8> {
        let mut chroma_alpha = vec![0; size.chroma().pixels()];
        halve(planes.alpha, size, &mut chroma_alpha);
        chroma_alpha
    }

    #[test]
    fn nothing_of_the_detail_is_left_and_the_subject_does_not_shine_around_itself() {
        for (size, canvas) in [
            (Size { width: 320, height: 180 }, Size { width: 320, height: 180 }),
            (Size { width: 320, height: 180 }, Size { width: 90, height: 160 }),
            (Size { width: 16, height: 2000 }, Size { width: 64, height: 16 }),
        ] {
            let mut frame = frame(size);
            let (planes, _) = frame.planes_and_matte();
            let mut blur = Blur::new(size, canvas);
            blur.make(&planes, &chroma_alpha(&planes, size)).unwrap();
            let (luma, chroma) = blur.planes().split_at(canvas.pixels());
            let (u, v) = chroma.split_at(canvas.chroma().pixels());
            // What the subject hides may be anything.
            let [canvas_width, canvas_height, width, height] =
                [canvas.width, canvas.height, size.width, size.height].map(|side| side as f64);
            let scale = (canvas_width / width).max(canvas_height / height);
            for (place, luma) in luma.iter().enumerate() {
                let (column, row) = (place % canvas.width, place / canvas.width);
                let x = (column as f64 - canvas_width / 2.0) / scale;
                let y = (row as f64 - canvas_height / 2.0) / scale;
                if x.abs() <= width / 8.0 && y.abs() <= height / 4.0 {
                    continue;
                }
                let chroma = row / 2 * (canvas.width / 2) + column / 2;
                assert!((70..=90).contains(luma), "{size:?} {canvas:?} {x} {y} {luma}");
                assert!(
                    u[chroma].abs_diff(100) <= 2 && v[chroma].abs_diff(150) <= 2,
                    "{x} {y} {} {}",
                    u[chroma],
                    v[chroma]
                );
            }
        }
    }

    #[test]
    fn a_frame_full_of_subject_is_blurred_all_the_same() {
        let size = Size { width: 64, height: 64 };
        let mut frame = frame(size);
        let (planes, _) = frame.planes_and_matte();
        planes.alpha.fill(255);
        let mut blur = Blur::new(size, size);
        blur.make(&planes, &chroma_alpha(&planes, size)).unwrap();
        assert!(blur.planes()[..size.pixels()].iter().all(|&luma| luma > 60));
    }
}

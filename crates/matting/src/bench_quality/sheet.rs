//! Contact sheets: of some frames the input, the truth, the raw matte, ours, and ours on green and on a checkerboard.

use std::ops::Range;
use std::path::Path;

use super::png::write_png;
use crate::error::EngineError;
use crate::frame::{Frame, Size};
use crate::model_picture::rgb;

/// Rows of a sheet.
const ROWS: usize = 4;
/// Pictures in a row.
const COLUMNS: usize = 6;
/// Width of a picture, px, at most.
const WIDTH: usize = 480;
/// Side of the checkerboard's fields, px of the frame.
const FIELD: usize = 16;

/// The sheet of one clip and model.
pub(super) struct Sheet {
    frame: Size,
    /// px of the frame for one of the sheet.
    shrink: usize,
    numbers: Vec<usize>,
    rgb: Vec<u8>,
}

impl Sheet {
    pub(super) fn new(frame: Size, range: &Range<usize>) -> Self {
        let numbers = (0..ROWS).map(|row| range.start + (2 * row + 1) * range.len() / (2 * ROWS)).collect();
        Self { frame, shrink: frame.width.div_ceil(WIDTH), numbers, rgb: Vec::new() }
    }

    pub(super) fn wants(&self, number: usize) -> bool {
        self.numbers.contains(&number)
    }

    fn tile(&self) -> Size {
        Size { width: self.frame.width / self.shrink, height: self.frame.height / self.shrink }
    }

    /// Adds a row. `source` is Y, U and V of the input; alphas are of the frame's size.
    pub(super) fn add(&mut self, source: &[u8], raw: &[u8], ours: &Frame, truth: &[u8]) {
        let tile = self.tile();
        let gray = |plane: &[u8], place: usize| [f32::from(plane[place]); 3];
        let over = |place: usize, ground: [f32; 3]| {
            let alpha = f32::from(ours.alpha()[place]) / 255.0;
            let own = self.colour(ours.yuv(), place);
            std::array::from_fn(|n| own[n] * alpha + ground[n] * (1.0 - alpha))
        };
        let checker = |place: usize| {
            let (x, y) = (place % self.frame.width / FIELD, place / self.frame.width / FIELD);
            [if (x + y).is_multiple_of(2) { 204.0 } else { 102.0 }; 3]
        };
        let mut rows = Vec::with_capacity(tile.pixels() * COLUMNS * 3);
        for y in 0..tile.height {
            for column in 0..COLUMNS {
                for x in 0..tile.width {
                    let pixel = self.mean(x, y, |place| match column {
                        0 => self.colour(source, place),
                        1 => gray(truth, place),
                        2 => gray(raw, place),
                        3 => gray(ours.alpha(), place),
                        4 => over(place, [0.0, 200.0, 0.0]),
                        _ => over(place, checker(place)),
                    });
                    rows.extend(pixel);
                }
            }
        }
        self.rgb.extend(rows);
    }

    /// Of the frame's pixels under one of the sheet's.
    fn mean(&self, x: usize, y: usize, pixel: impl Fn(usize) -> [f32; 3]) -> [u8; 3] {
        let mut sum = [0.0; 3];
        for dy in 0..self.shrink {
            for dx in 0..self.shrink {
                let place = (y * self.shrink + dy) * self.frame.width + x * self.shrink + dx;
                sum.iter_mut().zip(pixel(place)).for_each(|(sum, value)| *sum += value);
            }
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of 0..=255")]
        let byte = |sum: f32| (sum / (self.shrink * self.shrink) as f32 + 0.5) as u8;
        sum.map(byte)
    }

    fn colour(&self, yuv: &[u8], place: usize) -> [f32; 3] {
        let (luma, chroma) = (self.frame.pixels(), self.frame.chroma());
        let half = place / self.frame.width / 2 * chroma.width + place % self.frame.width / 2;
        rgb(yuv[place], yuv[luma + half], yuv[luma + chroma.pixels() + half])
    }

    pub(super) fn write(&self, file: &Path) -> Result<(), EngineError> {
        let width = self.tile().width * COLUMNS;
        write_png(file, Size { width, height: self.rgb.len() / (width * 3) }, &self.rgb)
    }
}

//! Planes on a small grid, moved along the picture's motion, and how alike the picture is there.

use crate::frame::Size;
use crate::lanes::widest;
use crate::motion::{Field, STEP};

/// Longer side of the grid, px: large enough for a limb, small enough to cost a few ms.
const LONG_SIDE: usize = 320;

/// Difference of luma, of 255, at which a likeness is a quarter.
const TOLERANCE: f32 = 10.0;

/// Differences are summed over so many px each way: one pixel's is noise.
const WINDOW: usize = 2;

/// Size of the grid for frames of a size.
pub(crate) fn grid_of(frame: Size) -> Size {
    let long = frame.width.max(frame.height);
    if long <= LONG_SIDE {
        return frame;
    }
    let side = |side: usize| ((side * LONG_SIDE + long / 2) / long).max(1);
    Size { width: side(frame.width), height: side(frame.height) }
}

/// Moves a plane of another frame to where its places are now; `field` says where they are in the other frame.
pub(crate) fn move_along<T: Copy + Default>(field: &Field, grid: Size, from: &[T], to: &mut Vec<T>) {
    let Size { width, height } = grid;
    to.resize(width * height, T::default());
    let columns = field.size().width;
    for (place, found) in field.blocks().enumerate() {
        let (x, y) = (place % columns * STEP, place / columns * STEP);
        let length = STEP.min(width.saturating_sub(x));
        let from_x = x.saturating_add_signed(found.x.into()).min(width - length);
        for y in y..(y + STEP).min(height) {
            let from_y = y.saturating_add_signed(found.y.into()).min(height - 1);
            let (start, place) = (from_y * width + from_x, y * width + x);
            let (Some(from), Some(to)) = (from.get(start..start + length), to.get_mut(place..place + length)) else {
                continue;
            };
            match (<&[T; STEP]>::try_from(from), <&mut [T; STEP]>::try_from(&mut *to)) {
                // Most are as long: a move and not a call.
                (Ok(from), Ok(to)) => *to = *from,
                _ => to.copy_from_slice(from),
            }
        }
    }
}

/// How unlike two luma planes are around each place, at most 255 times the window. The buffers are kept.
#[derive(Debug, Default)]
pub(crate) struct Unlike {
    /// Of a row, and beyond its ends.
    padded: Vec<u16>,
    /// Summed along rows; down columns as well.
    rows: Vec<u16>,
    sums: Vec<u16>,
}

impl Unlike {
    /// Sums of absolute differences; see [`likeness`].
    pub(crate) fn measure(&mut self, grid: Size, now: &[u8], then: &[u8]) -> &[u16] {
        widest(
            #[inline(always)]
            || self.sum_up(grid, now, then),
        );
        &self.sums
    }

    #[inline(always)]
    fn sum_up(&mut self, grid: Size, now: &[u8], then: &[u8]) {
        let Size { width, height } = grid;
        self.rows.resize(width * height, 0);
        let rows = self.rows.chunks_exact_mut(width);
        for ((now, then), sums) in now.chunks_exact(width).zip(then.chunks_exact(width)).zip(rows) {
            // Outside of the frame it is as at its border.
            let border = |place: usize| u16::from(now[place].abs_diff(then[place]));
            self.padded.clear();
            self.padded.resize(width + WINDOW, border(0));
            self.padded.resize(width + 2 * WINDOW, border(width - 1));
            for ((out, now), then) in self.padded[WINDOW..].iter_mut().zip(now).zip(then) {
                *out = u16::from(now.abs_diff(*then));
            }
            sums.copy_from_slice(&self.padded[..width]);
            for shift in 1..=2 * WINDOW {
                sums.iter_mut().zip(&self.padded[shift..]).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
            }
        }
        self.sums.resize(width * height, 0);
        for (y, out) in self.sums.chunks_exact_mut(width).enumerate() {
            out.fill(0);
            for dy in 0..=2 * WINDOW {
                let from = (y + dy).saturating_sub(WINDOW).min(height - 1) * width;
                out.iter_mut()
                    .zip(&self.rows[from..from + width])
                    .for_each(|(out, value)| *out = out.wrapping_add(*value));
            }
        }
    }
}

/// 1 where the picture is the same, towards 0 where it is another one.
#[inline(always)]
pub(crate) fn likeness(unlike: u16) -> f32 {
    const SIDE: f32 = (2 * WINDOW + 1) as f32;
    let distance = f32::from(unlike) / (SIDE * SIDE * TOLERANCE);
    let near = 1.0 / (1.0 + distance * distance);
    near * near
}

//! The subject's own colour at its soft edges.
//!
//! A pixel of alpha a shows a·F + (1 − a)·B: over another background the old one, B, would shine through. F is
//! estimated by blur-fusion (Forte, "Approximate Fast Foreground Colour Estimation", 2021): what the subject and the
//! background look like nearby, each averaged with weights that fall steeply with alpha, and then as much of the pixel
//! itself as alpha says. The averages are of cells, so the cost hardly depends on how far is looked.
//! Invariants: pixels of alpha 0 and 255 are not touched; where nothing of the subject or of the background is near,
//! a pixel keeps its colour.

use super::average_by_four;
use crate::frame::{Planes, Size, has_soft};

/// Side of a cell, luma px, in frames up to [`FINE`] px; more in larger ones, so that as much of the picture is seen.
const LEAST_CELL: usize = 8;
const FINE: usize = 640;

/// Cells each way whose colours count, with falling weight.
const REACH: usize = 2;
const TAPS: [f32; 2 * REACH + 1] = [1.0, 2.0, 3.0, 2.0, 1.0];

/// Weight of all pixels near by, below which nothing is known: a quarter of a sure pixel.
const LEAST_WEIGHT: f32 = 0.25;

/// How much more opaque what stands for the subject must be than what stands for the background, to tell both.
const LEAST_CONTRAST: f32 = 0.25;

/// Sums of weights, of weighted values and of weighted alphas, of the subject and of the background.
type Sums = [f32; 6];

/// Cleans frames of one size.
#[derive(Debug)]
pub(super) struct Foreground {
    frame: Size,
    cell: usize,
    chroma_alpha: Vec<u8>,
    /// The greatest alpha of the luma pixels that share a pixel of chroma.
    greatest: Vec<u8>,
    /// α of each alpha, 0..1, and α⁴.
    opacity: [f32; 256],
    weights: [f32; 256],
    soft: Vec<bool>,
    cells: Vec<Sums>,
    blurred: Vec<Sums>,
    row: Vec<Sums>,
}

impl Foreground {
    pub(super) fn new(frame: Size) -> Self {
        let long = frame.width.max(frame.height);
        #[expect(clippy::cast_precision_loss, reason = "0..=255")]
        let opacity: [f32; 256] = std::array::from_fn(|alpha| alpha as f32 / 255.0);
        Self {
            frame,
            // Even, so that it is whole cells of chroma too.
            cell: LEAST_CELL.max(long * LEAST_CELL / FINE / 2 * 2),
            chroma_alpha: vec![0; frame.chroma().pixels()],
            greatest: vec![0; frame.chroma().pixels()],
            weights: opacity.map(|opacity| opacity.powi(4)),
            opacity,
            soft: Vec::new(),
            cells: Vec::new(),
            blurred: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Takes the old background out of the colour of soft pixels.
    pub(super) fn clean(&mut self, planes: &mut Planes<'_>) {
        let mut chroma_alpha = std::mem::take(&mut self.chroma_alpha);
        let mut greatest = std::mem::take(&mut self.greatest);
        average_by_four(planes.alpha, self.frame, &mut chroma_alpha);
        greatest_of_four(planes.alpha, self.frame, &mut greatest);
        let (frame, cell) = (self.frame, self.cell);
        self.clean_plane(planes.y, [planes.alpha, planes.alpha], frame, cell);
        // A pixel that is all subject shares its chroma with its neighbours.
        self.clean_plane(planes.u, [&chroma_alpha, &greatest], frame.chroma(), cell / 2);
        self.clean_plane(planes.v, [&chroma_alpha, &greatest], frame.chroma(), cell / 2);
        (self.chroma_alpha, self.greatest) = (chroma_alpha, greatest);
    }

    /// Pixels whose `greatest` alpha is 255 are not touched.
    fn clean_plane(&mut self, plane: &mut [u8], [alpha, greatest]: [&[u8]; 2], size: Size, cell: usize) {
        let grid = Size { width: size.width.div_ceil(cell), height: size.height.div_ceil(cell) };
        if !self.find_soft(alpha, size, cell, grid) {
            return;
        }
        self.gather(plane, alpha, size, cell, grid);
        self.blur(grid);
        self.apply(plane, [alpha, greatest], size, cell, grid);
    }

    /// Which cells hold soft pixels, or are near enough to lend them their colours. Whether there are any.
    fn find_soft(&mut self, alpha: &[u8], size: Size, cell: usize, grid: Size) -> bool {
        let mut found = false;
        self.soft.clear();
        self.soft.resize(grid.pixels(), false);
        for (y, row) in alpha.chunks_exact(size.width).enumerate() {
            for (x, part) in row.chunks(cell).enumerate() {
                if has_soft(part) {
                    found = true;
                    let row = y / cell;
                    for row in row.saturating_sub(REACH + 1)..(row + REACH + 2).min(grid.height) {
                        let columns = x.saturating_sub(REACH + 1)..(x + REACH + 2).min(grid.width);
                        self.soft[row * grid.width..][columns].fill(true);
                    }
                }
            }
        }
        found
    }

    fn gather(&mut self, plane: &[u8], alpha: &[u8], size: Size, cell: usize, grid: Size) {
        self.cells.clear();
        self.cells.resize(grid.pixels(), [0.0; 6]);
        let rows = plane.chunks_exact(size.width).zip(alpha.chunks_exact(size.width));
        for (y, (values, alpha)) in rows.enumerate() {
            let start = y / cell * grid.width;
            let cells = self.cells[start..].iter_mut().zip(&self.soft[start..]);
            for ((values, alpha), (sums, _)) in
                values.chunks(cell).zip(alpha.chunks(cell)).zip(cells).filter(|(_, (_, near))| **near)
            {
                for (&value, &alpha) in values.iter().zip(alpha) {
                    let (subject, background) =
                        (self.weights[usize::from(alpha)], self.weights[usize::from(255 - alpha)]);
                    let (value, alpha) = (f32::from(value), self.opacity[usize::from(alpha)]);
                    for (sum, term) in sums.iter_mut().zip([
                        subject,
                        subject * value,
                        subject * alpha,
                        background,
                        background * value,
                        background * alpha,
                    ]) {
                        *sum += term;
                    }
                }
            }
        }
    }

    /// Each cell becomes the weighted sum of those around it.
    fn blur(&mut self, grid: Size) {
        let Size { width, height } = grid;
        self.blurred.clear();
        self.blurred.resize(grid.pixels(), [0.0; 6]);
        for place in (0..grid.pixels()).filter(|&place| self.soft[place]) {
            let (x, y) = (place % width, place / width);
            let mut sums = [0.0; 6];
            for row in y.saturating_sub(REACH)..(y + REACH + 1).min(height) {
                for column in x.saturating_sub(REACH)..(x + REACH + 1).min(width) {
                    let tap = TAPS[row + REACH - y] * TAPS[column + REACH - x];
                    add(&mut sums, &self.cells[row * width + column], tap);
                }
            }
            self.blurred[place] = sums;
        }
    }

    fn apply(&mut self, plane: &mut [u8], [alpha, greatest]: [&[u8]; 2], size: Size, cell: usize, grid: Size) {
        let between = |place: usize, count: usize| {
            let place = ((place as f32 + 0.5) / cell as f32 - 0.5).clamp(0.0, (count - 1) as f32);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the grid")]
            let first = place as usize;
            (first, (first + 1).min(count - 1), place - first as f32)
        };
        let columns: Vec<_> = (0..size.width).map(|x| between(x, grid.width)).collect();
        let alpha = alpha.chunks_exact(size.width).zip(greatest.chunks_exact(size.width));
        let rows = plane.chunks_exact_mut(size.width).zip(alpha);
        for (y, (values, (alpha, greatest))) in rows.enumerate() {
            let near = &self.soft[y / cell * grid.width..][..grid.width];
            let mut is_ready = false;
            for part in near.iter().enumerate().filter(|(_, near)| **near).map(|(x, _)| x * cell) {
                for x in part..(part + cell).min(size.width) {
                    if alpha[x] == 0 || greatest[x] == 255 {
                        continue;
                    }
                    if !is_ready {
                        let (upper, lower, part) = between(y, grid.height);
                        let row = |row: usize| &self.blurred[row * grid.width..][..grid.width];
                        self.row.clear();
                        let pairs = row(upper).iter().zip(row(lower));
                        self.row.extend(pairs.map(|(upper, lower)| mix(upper, lower, part)));
                        is_ready = true;
                    }
                    let (left, right, part) = columns[x];
                    values[x] = fused(values[x], alpha[x], &mix(&self.row[left], &self.row[right], part));
                }
            }
        }
    }
}

/// As [`average_by_four`], the greatest of each four.
fn greatest_of_four(plane: &[u8], size: Size, target: &mut [u8]) {
    let rows = plane.chunks_exact(2 * size.width).zip(target.chunks_exact_mut(size.width / 2));
    for (pair, out) in rows {
        let (upper, lower) = pair.split_at(size.width);
        for ((upper, lower), out) in upper.chunks_exact(2).zip(lower.chunks_exact(2)).zip(out) {
            *out = upper[0].max(upper[1]).max(lower[0]).max(lower[1]);
        }
    }
}

/// The subject's part of a pixel.
#[inline(always)]
fn fused(value: u8, alpha: u8, sums: &Sums) -> u8 {
    let [subject_weight, subject, subject_alpha, background_weight, background, background_alpha] = *sums;
    if subject_weight < LEAST_WEIGHT || background_weight < LEAST_WEIGHT {
        return value;
    }
    let (bright, opaque) = (subject / subject_weight, subject_alpha / subject_weight);
    let (dim, clear) = (background / background_weight, background_alpha / background_weight);
    if opaque - clear < LEAST_CONTRAST {
        return value;
    }
    // Where an edge is wide both means are mixtures of both colours, by known parts: they are told apart.
    let slope = (bright - dim) / (opaque - clear);
    let subject = (bright + slope * (1.0 - opaque)).clamp(0.0, 255.0);
    let background = (dim - slope * clear).clamp(0.0, 255.0);
    let alpha = f32::from(alpha) / 255.0;
    let own = subject + alpha * (f32::from(value) - alpha * subject - (1.0 - alpha) * background);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let rounded = (own + 0.5) as u8;
    rounded
}

fn add(sums: &mut Sums, other: &Sums, weight: f32) {
    sums.iter_mut().zip(other).for_each(|(sum, other)| *sum += weight * other);
}

#[inline(always)]
fn mix(one: &Sums, other: &Sums, part: f32) -> Sums {
    std::array::from_fn(|n| one[n] + (other[n] - one[n]) * part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    const SIZE: Size = Size { width: 128, height: 64 };

    /// Subject left, background right, 32 px of soft edge between; `own` and `old` are their Y, U and V.
    fn blended(own: [u8; 3], old: [u8; 3]) -> Frame {
        let mut frame = Frame::new(SIZE);
        let (planes, _) = frame.planes_and_matte();
        for (place, alpha) in planes.alpha.iter_mut().enumerate() {
            *alpha = ((80.0 - (place % SIZE.width) as f32) / 32.0 * 255.0).clamp(0.0, 255.0) as u8;
        }
        let mut chroma_alpha = vec![0; SIZE.chroma().pixels()];
        average_by_four(planes.alpha, SIZE, &mut chroma_alpha);
        let paint = |plane: &mut [u8], alpha: &[u8], own: u8, old: u8| {
            for (value, &alpha) in plane.iter_mut().zip(alpha) {
                let alpha = f32::from(alpha) / 255.0;
                *value = (alpha * f32::from(own) + (1.0 - alpha) * f32::from(old)).round() as u8;
            }
        };
        paint(planes.y, planes.alpha, own[0], old[0]);
        paint(planes.u, &chroma_alpha, own[1], old[1]);
        paint(planes.v, &chroma_alpha, own[2], old[2]);
        frame
    }

    #[test]
    fn the_old_background_does_not_shine_through_soft_edges() {
        let (own, old) = ([180, 90, 160], [40, 200, 60]);
        let mut frame = blended(own, old);
        let (mut planes, _) = frame.planes_and_matte();
        Foreground::new(SIZE).clean(&mut planes);
        for (value, &alpha) in planes.y.iter().zip(&*planes.alpha).filter(|(_, alpha)| **alpha > 16) {
            // As much as is seen of it. Untouched it would be off by 35 in the middle of the edge.
            let seen = f32::from(value.abs_diff(own[0])) * f32::from(alpha) / 255.0;
            assert!(seen <= 6.0, "{value} at alpha {alpha}");
        }
        for (plane, own) in [(planes.u, own[1]), (planes.v, own[2])] {
            // The subject, and most of the edge.
            for value in plane.chunks_exact(64).flat_map(|row| &row[..36]) {
                // 110 lie between the two.
                assert!(value.abs_diff(own) <= 10, "{value} is not {own}");
            }
        }
    }

    #[test]
    fn sure_pixels_keep_their_colour_bit_by_bit() {
        let mut frame = blended([180, 90, 160], [40, 200, 60]);
        for (place, byte) in frame.yuv_mut().iter_mut().enumerate() {
            *byte = byte.wrapping_add((place * 31 % 7) as u8);
        }
        let before = frame.yuv().to_vec();
        let (mut planes, _) = frame.planes_and_matte();
        Foreground::new(SIZE).clean(&mut planes);
        let sure = planes.alpha.iter().map(|&alpha| alpha == 0 || alpha == 255).collect::<Vec<_>>();
        assert!(frame.yuv().iter().zip(&before).zip(sure).all(|((now, then), sure)| !sure || now == then));
    }
}

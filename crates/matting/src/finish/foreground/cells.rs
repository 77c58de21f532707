//! Cells of a plane, and what is summed over them.

use std::ops::Range;

use crate::frame::Size;

/// Sums of weights, of weighted values and of weighted alphas, of the subject and of the background.
pub(super) type Sums = [f32; 6];

/// A plane and its cells.
#[derive(Debug, Clone)]
pub(super) struct Raster {
    pub(super) size: Size,
    pub(super) cell: usize,
    pub(super) grid: Size,
    /// For each column of pixels: the cells between whose middles it lies.
    pub(super) between: Vec<(usize, usize)>,
    /// How far it is from the first of them.
    pub(super) parts: Vec<f32>,
}

/// Sums down the columns of a row of cells.
#[derive(Debug, Default)]
pub(super) struct Columns {
    softest: Vec<u8>,
    opaque: Vec<u16>,
    values: Vec<u16>,
    opaque_values: Vec<u16>,
}

impl Raster {
    pub(super) fn new(size: Size, cell: usize) -> Self {
        let grid = Size { width: size.width.div_ceil(cell), height: size.height.div_ceil(cell) };
        let places = (0..size.width).map(|x| between_cells(x, cell, grid.width));
        let (between, parts) = places.map(|(left, right, part)| ((left, right), part)).unzip();
        Self { size, cell, grid, between, parts }
    }
}

/// The two cells between whose middles a pixel lies, and how far it is from the first.
pub(super) fn between_cells(place: usize, cell: usize, count: usize) -> (usize, usize, f32) {
    let place = ((place as f32 + 0.5) / cell as f32 - 0.5).clamp(0.0, (count - 1) as f32);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the grid")]
    let first = place as usize;
    (first, (first + 1).min(count - 1), place - first as f32)
}

impl Columns {
    /// Which cells hold soft pixels.
    #[inline(always)]
    pub(super) fn find_soft(&mut self, alpha: &[u8], raster: &Raster, soft: &mut Vec<bool>) {
        let Raster { size, cell, grid, .. } = *raster;
        soft.clear();
        soft.resize(grid.pixels(), false);
        let softest = &mut self.softest;
        for (band, soft) in alpha.chunks(size.width * cell).zip(soft.chunks_exact_mut(grid.width)) {
            softest.clear();
            softest.resize(size.width, 0);
            for row in band.chunks_exact(size.width) {
                softest.iter_mut().zip(row).for_each(|(most, &alpha)| *most = (*most).max(alpha.min(255 - alpha)));
            }
            for (soft, part) in soft.iter_mut().zip(softest.chunks(cell)) {
                *soft = part.iter().any(|&most| most > 0);
            }
        }
    }

    /// Adds up a part of the rows of a band, as if none of its pixels were soft. Nothing wraps below 257 rows.
    #[inline(always)]
    pub(super) fn add_up(&mut self, values: &[u8], alpha: &[u8], width: usize, part: Range<usize>) {
        for sums in [&mut self.opaque, &mut self.values, &mut self.opaque_values] {
            sums.clear();
            sums.resize(part.len(), 0);
        }
        for (values, alpha) in values.chunks_exact(width).zip(alpha.chunks_exact(width)) {
            let sums = self.opaque.iter_mut().zip(&mut self.values).zip(&mut self.opaque_values);
            let pixels = values[part.clone()].iter().zip(&alpha[part.clone()]);
            for (((opaque, all), of_opaque), (&value, &alpha)) in sums.zip(pixels) {
                *opaque = opaque.wrapping_add(u16::from(alpha >> 7));
                *all = all.wrapping_add(u16::from(value));
                *of_opaque = of_opaque.wrapping_add(u16::from(value & alpha));
            }
        }
    }

    /// What [`sums_of`] makes of a cell without soft pixels: whole numbers, exact in f32 in any order.
    #[inline(always)]
    pub(super) fn sums(&self, part: Range<usize>, rows: usize) -> Sums {
        let sum = |sums: &[u16]| sums[part.clone()].iter().fold(0_u32, |sum, &value| sum.wrapping_add(value.into()));
        let (opaque, values, subject) = (sum(&self.opaque), sum(&self.values), sum(&self.opaque_values));
        let clear = (part.len() * rows) as f32 - opaque as f32;
        [opaque as f32, subject as f32, opaque as f32, clear, values.wrapping_sub(subject) as f32, 0.0]
    }
}

/// Sums over the pixels of a cell, row by row.
#[inline(always)]
pub(super) fn sums_of<'a>(
    rows: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    weights: &[f32; 256],
    opacity: &[f32; 256],
) -> Sums {
    let mut sums = [0.0; 6];
    for (values, alpha) in rows {
        for (&value, &alpha) in values.iter().zip(alpha) {
            let (subject, background) = (weights[usize::from(alpha)], weights[usize::from(255 - alpha)]);
            let (value, alpha) = (f32::from(value), opacity[usize::from(alpha)]);
            let terms = [subject, subject * value, subject * alpha, background, background * value, background * alpha];
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
    }
    sums
}

/// Marks what is at most so many cells from a mark.
pub(super) fn spread(marks: &[bool], grid: Size, reach: usize, to: &mut Vec<bool>) {
    to.clear();
    to.resize(grid.pixels(), false);
    for (y, row) in marks.chunks_exact(grid.width).enumerate() {
        for run in runs(row) {
            let columns = run.start.saturating_sub(reach)..(run.end + reach).min(grid.width);
            for row in y.saturating_sub(reach)..(y + reach + 1).min(grid.height) {
                to[row * grid.width..][columns.clone()].fill(true);
            }
        }
    }
}

/// Runs of marks.
pub(super) fn runs(marks: &[bool]) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = next + marks[next..].iter().position(|mark| *mark)?;
        next = marks[first..].iter().position(|mark| !mark).map_or(marks.len(), |length| first + length);
        Some(first..next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sure_cell_has_the_same_sums_by_either_way() {
        let opacity: [f32; 256] = std::array::from_fn(|alpha| alpha as f32 / 255.0);
        let weights = opacity.map(|opacity| opacity.powi(4));
        // As large as cells of the largest frames are.
        let (width, height) = (150, 102);
        let values: Vec<u8> = (0..width * height).map(|n| (n * 7919 % 256) as u8).collect();
        let alpha: Vec<u8> = (0..width * height).map(|n| if n * 31 % 17 < 9 { 255 } else { 0 }).collect();
        let mut columns = Columns::default();
        columns.add_up(&values, &alpha, width, 20..140);
        for part in [20..122, 130..140] {
            let rows = values.chunks_exact(width).zip(alpha.chunks_exact(width));
            let rows = rows.map(|(values, alpha)| (&values[part.clone()], &alpha[part.clone()]));
            assert_eq!(columns.sums(part.start - 20..part.end - 20, height), sums_of(rows, &weights, &opacity));
        }
    }

    #[test]
    fn marks_spread_each_way_and_not_around_the_border() {
        let grid = Size { width: 5, height: 4 };
        let mut marks = vec![false; grid.pixels()];
        (marks[4], marks[16]) = (true, true);
        let mut to = Vec::new();
        spread(&marks, grid, 1, &mut to);
        let rows: Vec<(usize, usize)> = to.chunks(5).flat_map(runs).map(|run| (run.start, run.end)).collect();
        assert_eq!(rows, [(3, 5), (3, 5), (0, 3), (0, 3)]);
    }
}

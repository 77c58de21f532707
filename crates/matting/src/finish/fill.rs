//! What stands under alpha 0: the subject's own colours, spread smoothly.
//!
//! A transparent file must not carry the removed background in its colour planes (privacy; and smooth planes compress
//! to nothing). The subject's colours are averaged on a coarse grid, weighted by alpha; empty cells take the colour of
//! ever coarser grids (push-pull); the grid is then drawn as large as the frame.
//! Invariants: pixels below [`HAZE`] give no colour and keep none; from [`SOLID`] on a pixel keeps its own.

use crate::frame::{Planes, Size};
use crate::lanes::widest;

/// Side of a cell in luma px, and in chroma px.
const CELL: usize = 16;
const CHROMA_CELL: usize = CELL / 2;

/// Up to this alpha a pixel is fill alone.
const HAZE: u8 = 8;

/// From this alpha on it is source alone; in between both are mixed. At 40 of 255 the difference can hardly be seen.
const SOLID: u8 = 40;

/// Below this alpha a pixel is too much background to lend its colour.
const LENDS_COLOUR: u8 = 64;

/// A coarser grid counts as much as this share of a full cell.
const COARSE_WEIGHT: f32 = 0.02;

/// Black to white in the middle, no hue: a frame without a subject.
const NEUTRAL: [f32; 3] = [126.0, 128.0, 128.0];

/// Fills frames of one size.
#[derive(Debug)]
pub(super) struct Fill {
    frame: Size,
    /// From the finest to a single cell.
    levels: Vec<Grid>,
    /// The finest grid's colours of the plane at hand, and a row between two of its rows, in 1/128.
    cells: Vec<i16>,
    row: Vec<i16>,
}

#[derive(Debug)]
struct Grid {
    size: Size,
    cells: Vec<Cell>,
}

/// Y, U and V each on their own: the threshold for lending colour falls differently on luma and chroma.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    weight: [f32; 3],
    /// Weighted sums; after `pull` the colour itself.
    colour: [f32; 3],
}

impl Fill {
    pub(super) fn new(frame: Size) -> Self {
        let mut size = Size { width: frame.width.div_ceil(CELL), height: frame.height.div_ceil(CELL) };
        let mut levels = Vec::new();
        loop {
            levels.push(Grid { size, cells: vec![Cell::default(); size.pixels()] });
            if size.pixels() <= 1 {
                break;
            }
            size = Size { width: size.width.div_ceil(2), height: size.height.div_ceil(2) };
        }
        Self { frame, levels, cells: Vec::new(), row: Vec::new() }
    }

    pub(super) fn paint(&mut self, planes: &mut Planes<'_>, chroma_alpha: &[u8]) {
        widest(
            #[inline(always)]
            || self.gather(planes, chroma_alpha),
        );
        self.push();
        self.pull();
        widest(
            #[inline(always)]
            || {
                let (frame, chroma) = (self.frame.width, self.frame.chroma().width);
                self.lay_under::<CELL>(planes.y, frame, planes.alpha, 0);
                self.lay_under::<CHROMA_CELL>(planes.u, chroma, chroma_alpha, 1);
                self.lay_under::<CHROMA_CELL>(planes.v, chroma, chroma_alpha, 2);
            },
        );
    }

    /// Sums the subject's colours into the finest grid.
    #[inline(always)]
    fn gather(&mut self, planes: &Planes<'_>, chroma_alpha: &[u8]) {
        let Some(grid) = self.levels.first_mut() else { return };
        grid.cells.fill(Cell::default());
        let chroma = self.frame.chroma();
        let columns = grid.size.width;
        for (row, (luma, alpha)) in rows(planes.y, self.frame).zip(rows(planes.alpha, self.frame)).enumerate() {
            let cells = grid.cells.iter_mut().skip(row / CELL * columns);
            for ((luma, alpha), cell) in luma.chunks(CELL).zip(alpha.chunks(CELL)).zip(cells) {
                cell.add(0, weighted::<CELL>(luma, alpha));
            }
        }
        let planes = rows(planes.u, chroma).zip(rows(planes.v, chroma)).zip(rows(chroma_alpha, chroma));
        for (row, ((u, v), alpha)) in planes.enumerate() {
            let cells = grid.cells.iter_mut().skip(row / CHROMA_CELL * columns);
            let parts = u.chunks(CHROMA_CELL).zip(v.chunks(CHROMA_CELL)).zip(alpha.chunks(CHROMA_CELL));
            for (((u, v), alpha), cell) in parts.zip(cells) {
                cell.add(1, weighted::<CHROMA_CELL>(u, alpha));
                cell.add(2, weighted::<CHROMA_CELL>(v, alpha));
            }
        }
    }

    /// Each coarser cell is the sum of four.
    fn push(&mut self) {
        for level in 1..self.levels.len() {
            let (finer, coarser) = self.levels.split_at_mut(level);
            let (Some(finer), Some(coarser)) = (finer.last(), coarser.first_mut()) else { return };
            coarser.cells.fill(Cell::default());
            for (place, cell) in finer.cells.iter().enumerate() {
                let (row, column) = (place / finer.size.width, place % finer.size.width);
                let target = &mut coarser.cells[row / 2 * coarser.size.width + column / 2];
                for channel in 0..3 {
                    target.add(channel, (cell.weight[channel], cell.colour[channel]));
                }
            }
        }
    }

    /// From sums to colours, from the coarsest grid down: what a cell lacks comes from the one above it.
    fn pull(&mut self) {
        let luma = (CELL * CELL) as f32 * 255.0 * COARSE_WEIGHT;
        let full = [luma, luma / 4.0, luma / 4.0];
        for level in (0..self.levels.len()).rev() {
            let (finer, coarser) = self.levels.split_at_mut(level + 1);
            let Some(grid) = finer.last_mut() else { return };
            let above = coarser.first();
            for place in 0..grid.cells.len() {
                let (row, column) = (place / grid.size.width, place % grid.size.width);
                let inherited = above.map_or(NEUTRAL, |above| above.between(row, column));
                let cell = &mut grid.cells[place];
                for channel in 0..3 {
                    // A subject anywhere outweighs the neutral colour above the coarsest grid.
                    let lent = if above.is_some() { full[channel] } else { f32::MIN_POSITIVE };
                    let sum = cell.colour[channel] + lent * inherited[channel];
                    cell.colour[channel] = sum / (cell.weight[channel] + lent);
                }
            }
        }
    }

    /// Draws the grid's colours under a plane whose cells have sides of so many px.
    #[inline(always)]
    fn lay_under<const CELL: usize>(&mut self, plane: &mut [u8], width: usize, alpha: &[u8], channel: usize) {
        let Some(grid) = self.levels.first() else { return };
        let columns = grid.size.width;
        #[expect(clippy::cast_possible_truncation, reason = "a mean of bytes, times 128")]
        let fixed = |cell: &Cell| (cell.colour[channel].clamp(0.0, 255.0) * 128.0 + 0.5) as i16;
        self.cells.clear();
        self.cells.extend(grid.cells.iter().map(fixed));
        self.row.resize(columns, 0);
        let rows = plane.chunks_exact_mut(width).zip(alpha.chunks_exact(width));
        for (y, (row, alpha)) in rows.enumerate() {
            let (upper, lower, part) = neighbours(y, CELL, grid.size.height);
            let of_row = |row: usize| self.cells.get(row * columns..).unwrap_or_default().iter().take(columns);
            for (colour, (upper, lower)) in self.row.iter_mut().zip(of_row(upper).zip(of_row(lower))) {
                let (upper, lower, part) = (i32::from(*upper), i32::from(*lower), part as i32);
                // At most 255 · 128 · 2 · 16, and then between the two.
                let change = lower.wrapping_sub(upper).wrapping_mul(part) / (2 * CELL as i32);
                *colour = upper.wrapping_add(change) as i16;
            }
            lay_row::<CELL>(row, alpha, &self.row);
        }
    }
}

/// The two cells between whose middles a pixel lies, and how far it is from the first, in half px.
fn neighbours(place: usize, cell: usize, count: usize) -> (usize, usize, usize) {
    // From the middle of a pixel to the middle of the cell before it.
    let Some(halves) = (2 * place + 1).checked_sub(cell) else { return (0, 0, 0) };
    let first = (halves / (2 * cell)).min(count - 1);
    (first, (first + 1).min(count - 1), halves % (2 * cell))
}

/// One row of a plane over one row of cells, whose colours are in 1/128.
#[inline(always)]
fn lay_row<const CELL: usize>(row: &mut [u8], alpha: &[u8], cells: &[i16]) {
    let (Some(&first), Some(&last)) = (cells.first(), cells.last()) else { return };
    // From the left border to the first middle, then from middle to middle, then to the right border.
    let (left, row) = row.split_at_mut(row.len().min(CELL / 2));
    let (left_alpha, alpha) = alpha.split_at(left.len());
    mix(left, left_alpha, first, 0);
    let ends = cells.iter().zip(cells.iter().skip(1).chain(std::iter::once(&last)));
    for ((here, alpha), (&left, &right)) in row.chunks_mut(CELL).zip(alpha.chunks(CELL)).zip(ends) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "16 or 8")]
        let step = right.wrapping_sub(left) / CELL as i16;
        match (<&mut [u8; CELL]>::try_from(&mut *here), <&[u8; CELL]>::try_from(alpha)) {
            // Most of a picture is one or the other.
            (Ok(_), Ok(alpha)) if *alpha == [u8::MAX; CELL] => {}
            (Ok(here), Ok(alpha)) if *alpha == [0; CELL] => ramp(here, left.wrapping_add(step / 2), step),
            // The same with a length that is known: it becomes a few vector instructions.
            (Ok(here), Ok(alpha)) => mix(here, alpha, left.wrapping_add(step / 2), step),
            _ => mix(here, alpha, left.wrapping_add(step / 2), step),
        }
    }
}

/// A ramp that begins with `colour`, in 1/128.
#[inline(always)]
fn ramp(pixels: &mut [u8], colour: i16, step: i16) {
    (0_i16..).zip(pixels).for_each(|(place, value)| *value = on_ramp(place, colour, step) as u8);
}

/// Nothing here can overflow: colours are at most 255 · 128, steps at most 255 · 128 / [`CHROMA_CELL`], and a ramp stays
/// between its ends. To say so lets the loops become vector instructions where overflow is looked for, too.
#[inline(always)]
fn on_ramp(place: i16, colour: i16, step: i16) -> i16 {
    colour.wrapping_add(place.wrapping_mul(step)).wrapping_add(64) >> 7
}

/// Pixels over a ramp.
#[inline(always)]
fn mix(pixels: &mut [u8], alpha: &[u8], colour: i16, step: i16) {
    // A power of two: a shift and not a division.
    const SPAN: i16 = (SOLID - HAZE) as i16;
    for (place, (value, &alpha)) in (0_i16..).zip(pixels.iter_mut().zip(alpha)) {
        let own = i16::from(alpha.clamp(HAZE, SOLID).wrapping_sub(HAZE));
        let fill = on_ramp(place, colour, step);
        let mixed = i16::from(*value).wrapping_mul(own).wrapping_add(fill.wrapping_mul(SPAN.wrapping_sub(own)));
        *value = (mixed.wrapping_add(SPAN / 2) / SPAN) as u8;
    }
}

impl Cell {
    fn add(&mut self, channel: usize, (weight, sum): (f32, f32)) {
        self.weight[channel] += weight;
        self.colour[channel] += sum;
    }
}

impl Grid {
    /// The colour where cell (`row`, `column`) of the next finer grid lies: a mix of the four nearest cells.
    fn between(&self, row: usize, column: usize) -> [f32; 3] {
        let near = |place: usize, count: usize| {
            let this = (place / 2).min(count - 1);
            let other = if place.is_multiple_of(2) { this.saturating_sub(1) } else { (this + 1).min(count - 1) };
            (this, other)
        };
        let ((row, other_row), (column, other_column)) = (near(row, self.size.height), near(column, self.size.width));
        let colour = |row: usize, column: usize| self.cells[row * self.size.width + column].colour;
        let (a, b, c, d) = (
            colour(row, column),
            colour(row, other_column),
            colour(other_row, column),
            colour(other_row, other_column),
        );
        std::array::from_fn(|n| (9.0 * a[n] + 3.0 * b[n] + 3.0 * c[n] + d[n]) / 16.0)
    }
}

fn rows(plane: &[u8], size: Size) -> impl Iterator<Item = &[u8]> {
    plane.chunks_exact(size.width)
}

/// Sum of the weights, and of the values times their weights.
#[inline(always)]
fn weighted<const CELL: usize>(values: &[u8], alpha: &[u8]) -> (f32, f32) {
    let (mut weights, mut sum) = (0_u32, 0_u32);
    match (<&[u8; CELL]>::try_from(values), <&[u8; CELL]>::try_from(alpha)) {
        // Most of a picture is one or the other.
        (Ok(_), Ok(alpha)) if *alpha == [0; CELL] => {}
        (Ok(values), Ok(alpha)) if *alpha == [u8::MAX; CELL] => {
            weights = 255 * CELL as u32;
            sum = values.iter().fold(0_u32, |sum, &value| sum.wrapping_add(value.into())).wrapping_mul(255);
        }
        _ => {
            for (&value, &alpha) in values.iter().zip(alpha) {
                let weight = if alpha < LENDS_COLOUR { 0 } else { u32::from(alpha) };
                weights = weights.wrapping_add(weight);
                sum = sum.wrapping_add(weight.wrapping_mul(u32::from(value)));
            }
        }
    }
    // At most 16 · 255 · 255: nothing wraps, and it is exact in f32.
    (weights as f32, sum as f32)
}

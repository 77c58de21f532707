//! Draws a matte from those of the frames on both sides of it, along the ways that lead there.

use crate::frame::{Closer, Size};
use crate::model::fused_by;
use crate::motion::{Field, Found, GRID_ORIGIN, STEP};

/// Mean absolute difference of a block, of 255, that noise alone makes.
const NOISE: f32 = 2.0;

/// Mean absolute difference of a block, of 255, at which what was carried there counts half.
const DOUBTFUL: f32 = 6.0;

/// Where the frame's blocks are in the frames before and after it; nowhere else in the frame itself.
pub(super) struct Ways<'a> {
    pub fields: [Option<&'a Field>; 2],
    /// How far the frame is from the one before to the one after, 0..1.
    pub time: f32,
}

/// Mattes of the frames before and after.
pub(super) struct Sources<'a> {
    pub whole: [&'a [f32]; 2],
    /// Empty where there was no closer look.
    pub closer: Option<[&'a [Closer]; 2]>,
}

/// Draws mattes of one size. All buffers.
#[derive(Debug)]
pub(super) struct Draw {
    small: Size,
    matte: Size,
    /// Of the mattes of whole frames, and of the closer ones.
    cells: [Vec<Cell>; 2],
    rows: [Vec<Cell>; 2],
    /// For each column of the matte: the blocks on both sides, and how far it is from the first.
    columns: Vec<(usize, usize, f32)>,
}

/// Where a block was and will be, px of the matte; how much the place before and the one after count.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    places: [[f32; 2]; 2],
    weights: [f32; 2],
    /// How well it was found, 0..1.
    trust: f32,
}

impl Draw {
    pub(super) fn new(small: Size, matte: Size) -> Self {
        let blocks = Field::size_for(small);
        let columns = (0..matte.width).map(|x| between(x, matte.width, small.width, blocks.width)).collect();
        Self { small, matte, cells: [Vec::new(), Vec::new()], rows: [Vec::new(), Vec::new()], columns }
    }

    /// Draws into `matte`, which stays what it is where the frame was seen whole and not looked at closer.
    pub(super) fn draw(
        &mut self,
        whole: Ways<'_>,
        closer: Option<Ways<'_>>,
        sources: &Sources<'_>,
        matte: &mut Vec<f32>,
    ) {
        let scale =
            [self.matte.width as f32 / self.small.width as f32, self.matte.height as f32 / self.small.height as f32];
        matte.resize(self.matte.pixels(), 0.0);
        let blocks = Field::size_for(self.small);
        let is_seen = whole.fields.iter().all(Option::is_none);
        whole.cells(scale, blocks, &mut self.cells[0]);
        match &closer {
            Some(closer) => closer.cells(scale, blocks, &mut self.cells[1]),
            None => self.cells[1].clear(),
        }
        for (y, out) in matte.chunks_exact_mut(self.matte.width.max(1)).enumerate() {
            let (upper, lower, part) = between(y, self.matte.height, self.small.height, blocks.height);
            for (row, cells) in self.rows.iter_mut().zip(&self.cells) {
                row.clear();
                let line = |line: usize| cells.iter().skip(line * blocks.width).take(blocks.width);
                row.extend(line(upper).zip(line(lower)).map(|(upper, lower)| upper.mixed(lower, part)));
            }
            let place = |x: usize, offset: [f32; 2]| [x as f32 + offset[0], y as f32 + offset[1]];
            let [whole, region] = &self.rows;
            for ((x, out), &(left, right, part)) in out.iter_mut().enumerate().zip(&self.columns) {
                let cell = whole[left].mixed(&whole[right], part);
                if !is_seen {
                    let [was, will_be] = cell.places;
                    let was = sample(sources.whole[0], self.matte, place(x, was));
                    let will_be = sample(sources.whole[1], self.matte, place(x, will_be));
                    *out = (was * cell.weights[0] + will_be * cell.weights[1]) / (cell.weights[0] + cell.weights[1]);
                }
                let Some(closer) = &sources.closer else { continue };
                let near = region[left].mixed(&region[right], part);
                let mut seen = [0.0; 2];
                for (side, (source, weight)) in closer.iter().zip(near.weights).enumerate() {
                    if source.is_empty() {
                        continue;
                    }
                    let found = sample_pair(source, self.matte, place(x, near.places[side]));
                    seen = [seen[0] + found[0] * weight, seen[1] + found[1] * weight];
                }
                if seen[1] > 0.0 {
                    let trust = seen[1] / (near.weights[0] + near.weights[1]);
                    *out = fused_by(*out, cell.trust, seen[0] / seen[1], near.trust, trust);
                }
            }
        }
    }
}

impl Ways<'_> {
    fn cells(&self, scale: [f32; 2], blocks: Size, cells: &mut Vec<Cell>) {
        cells.clear();
        let nowhere = Found { x: 0, y: 0, error: 0.0 };
        let mut found = self.fields.map(|field| field.map(Field::blocks));
        let times = [1.0 - self.time, self.time];
        cells.extend((0..blocks.pixels()).map(|_| {
            let found = found.each_mut().map(|found| found.as_mut().and_then(Iterator::next).unwrap_or(nowhere));
            let place = |found: &Found| [f32::from(found.x) * scale[0], f32::from(found.y) * scale[1]];
            let weight = |side: usize| times[side] / ((found[side].error + NOISE) * (found[side].error + NOISE));
            let weights = [weight(0), weight(1)];
            let all = weights[0] + weights[1];
            let error = (found[0].error * weights[0] + found[1].error * weights[1]) / all;
            let doubt = error / DOUBTFUL;
            Cell {
                places: [place(&found[0]), place(&found[1])],
                weights: weights.map(|weight| weight / all),
                trust: 1.0 / (1.0 + doubt * doubt),
            }
        }));
    }
}

impl Cell {
    #[inline(always)]
    fn mixed(&self, other: &Self, part: f32) -> Self {
        let mix = |one: f32, other: f32| one + (other - one) * part;
        Self {
            places: std::array::from_fn(|n| {
                std::array::from_fn(|axis| mix(self.places[n][axis], other.places[n][axis]))
            }),
            weights: std::array::from_fn(|n| mix(self.weights[n], other.weights[n])),
            trust: mix(self.trust, other.trust),
        }
    }
}

/// The two blocks between which a pixel of the matte lies, along one axis, and how far it is from the first, 0..1.
#[inline(always)]
fn between(place: usize, matte: usize, small: usize, blocks: usize) -> (usize, usize, f32) {
    let place = (place as f32 + 0.5) * (small as f32 / matte as f32) - 0.5;
    let block = ((place - GRID_ORIGIN) / STEP as f32).clamp(0.0, blocks.saturating_sub(1) as f32);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the count of blocks")]
    let first = block as usize;
    (first, (first + 1).min(blocks.saturating_sub(1)), block - first as f32)
}

/// The four pixels around a place, and how far it is from the first of them.
#[inline(always)]
fn around(size: Size, [x, y]: [f32; 2]) -> ([usize; 4], [f32; 2]) {
    let x = x.clamp(0.0, (size.width - 1) as f32);
    let y = y.clamp(0.0, (size.height - 1) as f32);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the plane")]
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(size.width - 1), (top + 1).min(size.height - 1));
    let (upper, lower) = (top * size.width, bottom * size.width);
    ([upper + left, upper + right, lower + left, lower + right], [x - left as f32, y - top as f32])
}

/// The value of a plane between its pixels; outside of it, that of its border.
#[inline(always)]
fn sample(plane: &[f32], size: Size, place: [f32; 2]) -> f32 {
    let (pixels, part) = around(size, place);
    let [a, b, c, d] = pixels.map(|pixel| plane.get(pixel).copied().unwrap_or_default());
    let (upper, lower) = (a + (b - a) * part[0], c + (d - c) * part[0]);
    upper + (lower - upper) * part[1]
}

/// The same of two planes at once.
#[inline(always)]
fn sample_pair(plane: &[Closer], size: Size, place: [f32; 2]) -> [f32; 2] {
    let (pixels, part) = around(size, place);
    let [a, b, c, d] = pixels.map(|pixel| plane.get(pixel).copied().unwrap_or_default().0);
    std::array::from_fn(|n| {
        let (upper, lower) = (a[n] + (b[n] - a[n]) * part[0], c[n] + (d[n] - c[n]) * part[0]);
        upper + (lower - upper) * part[1]
    })
}

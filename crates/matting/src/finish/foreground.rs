//! The subject's own colour at its soft edges.
//!
//! A pixel of alpha a shows a·F + (1 − a)·B: over another background the old one, B, would shine through. F is
//! estimated by blur-fusion (Forte, "Approximate Fast Foreground Colour Estimation", 2021): what the subject and the
//! background look like nearby, each averaged with weights that fall steeply with alpha, and then as much of the pixel
//! itself as alpha says. The averages are of cells, so the cost hardly depends on how far is looked.
//! Invariants: pixels of alpha 0 and 255 are not touched; where nothing of the subject or of the background is near,
//! a pixel keeps its colour.

mod cells;

use self::cells::{Columns, Raster, Sums, between_cells, runs, spread, sums_of};
use crate::frame::{Planes, Size, has_soft};
use crate::lanes::widest;

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

/// Pixels that are worked on at once.
const LANES: usize = 8;

/// Cleans frames of one size.
#[derive(Debug)]
pub(super) struct Foreground {
    luma: Raster,
    chroma: Raster,
    /// The greatest alpha of the luma pixels that share a pixel of chroma.
    greatest: Vec<u8>,
    /// α of each alpha, 0..1, and α⁴.
    opacity: [f32; 256],
    weights: [f32; 256],
    /// Which cells hold soft pixels, which are near enough to lie under those, and to lend them their colours.
    soft: Vec<bool>,
    under: Vec<bool>,
    lends: Vec<bool>,
    columns: Columns,
    cells: Vec<Sums>,
    blurred: Vec<Sums>,
}

impl Foreground {
    pub(super) fn new(frame: Size) -> Self {
        let long = frame.width.max(frame.height);
        #[expect(clippy::cast_precision_loss, reason = "0..=255")]
        let opacity: [f32; 256] = std::array::from_fn(|alpha| alpha as f32 / 255.0);
        // Even, so that it is whole cells of chroma too.
        let cell = LEAST_CELL.max(long * LEAST_CELL / FINE / 2 * 2);
        Self {
            luma: Raster::new(frame, cell),
            chroma: Raster::new(frame.chroma(), cell / 2),
            greatest: vec![0; frame.chroma().pixels()],
            weights: opacity.map(|opacity| opacity.powi(4)),
            opacity,
            soft: Vec::new(),
            under: Vec::new(),
            lends: Vec::new(),
            columns: Columns::default(),
            cells: Vec::new(),
            blurred: Vec::new(),
        }
    }

    /// Takes the old background out of the colour of soft pixels. `chroma_alpha` is alpha of the pixels of U and V.
    pub(super) fn clean(&mut self, planes: &mut Planes<'_>, chroma_alpha: &[u8]) {
        let (luma, chroma) = (self.luma.clone(), self.chroma.clone());
        let mut greatest = std::mem::take(&mut self.greatest);
        widest(
            #[inline(always)]
            || {
                if self.find_soft(planes.alpha, &luma) {
                    self.clean_plane(planes.y, [planes.alpha, planes.alpha], &luma);
                }
                if self.find_soft(chroma_alpha, &chroma) {
                    // A pixel that is all subject shares its chroma with its neighbours.
                    greatest_of_four(planes.alpha, luma.size, &mut greatest);
                    for plane in [&mut *planes.u, &mut *planes.v] {
                        self.clean_plane(plane, [chroma_alpha, &greatest], &chroma);
                    }
                }
            },
        );
        self.greatest = greatest;
    }

    /// Pixels whose `greatest` alpha is 255 are not touched.
    #[inline(always)]
    fn clean_plane(&mut self, plane: &mut [u8], [alpha, greatest]: [&[u8]; 2], raster: &Raster) {
        self.gather(plane, alpha, raster);
        self.blur(raster.grid);
        self.apply(plane, [alpha, greatest], raster);
    }

    /// Which cells hold soft pixels, or are near enough to lend them their colours. Whether there are any.
    #[inline(always)]
    fn find_soft(&mut self, alpha: &[u8], raster: &Raster) -> bool {
        self.columns.find_soft(alpha, raster, &mut self.soft);
        // A pixel lies between the middles of cells, and those are made of others within reach.
        spread(&self.soft, raster.grid, 1, &mut self.under);
        spread(&self.under, raster.grid, REACH, &mut self.lends);
        self.soft.contains(&true)
    }

    #[inline(always)]
    fn gather(&mut self, plane: &[u8], alpha: &[u8], raster: &Raster) {
        let Raster { size, cell, grid, .. } = *raster;
        self.cells.clear();
        self.cells.resize(grid.pixels(), [0.0; 6]);
        let bands = plane.chunks(size.width * cell).zip(alpha.chunks(size.width * cell));
        for (row, (values, alpha)) in bands.enumerate() {
            let place = row * grid.width;
            let (lends, soft) = (&self.lends[place..][..grid.width], &self.soft[place..][..grid.width]);
            for run in runs(lends) {
                let all = run.start * cell..(run.end * cell).min(size.width);
                self.columns.add_up(values, alpha, size.width, all.clone());
                for column in run {
                    let part = column * cell..((column + 1) * cell).min(size.width);
                    self.cells[place + column] = if soft[column] {
                        let rows = values.chunks_exact(size.width).zip(alpha.chunks_exact(size.width));
                        let rows = rows.map(|(values, alpha)| (&values[part.clone()], &alpha[part.clone()]));
                        sums_of(rows, &self.weights, &self.opacity)
                    } else {
                        let height = values.len() / size.width;
                        self.columns.sums(part.start - all.start..part.end - all.start, height)
                    };
                }
            }
        }
    }

    /// Each cell becomes the weighted sum of those around it.
    #[inline(always)]
    fn blur(&mut self, grid: Size) {
        let Size { width, height } = grid;
        self.blurred.resize(grid.pixels(), [0.0; 6]);
        for place in (0..grid.pixels()).filter(|&place| self.under[place]) {
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

    #[inline(always)]
    fn apply(&self, plane: &mut [u8], [alpha, greatest]: [&[u8]; 2], raster: &Raster) {
        let Raster { size, cell, grid, between, parts } = raster;
        let alpha = alpha.chunks_exact(size.width).zip(greatest.chunks_exact(size.width));
        let rows = plane.chunks_exact_mut(size.width).zip(alpha);
        for (y, (values, (alpha, greatest))) in rows.enumerate() {
            let (upper, lower, down) = between_cells(y, *cell, grid.height);
            let [upper, lower] = [upper, lower].map(|row| &self.blurred[row * grid.width..][..grid.width]);
            for run in runs(&self.soft[y / cell * grid.width..][..grid.width]) {
                let (mut start, end) = (run.start * cell, (run.end * cell).min(size.width));
                while start < end {
                    // Pixels between the same two columns of cells.
                    let (left, right) = between[start];
                    let count = between[start..end].partition_point(|place| *place == (left, right));
                    let place = start..start + count;
                    start += count;
                    let alphas = [&alpha[place.clone()], &greatest[place.clone()]];
                    if has_soft(alphas[0]) {
                        let ends = [left, right].map(|column| mix(&upper[column], &lower[column], down));
                        fuse(&mut values[place.clone()], alphas, &parts[place], &ends);
                    }
                }
            }
        }
    }
}

/// As [`halve`](crate::scaling::halve), the greatest of each four.
#[inline(always)]
fn greatest_of_four(plane: &[u8], size: Size, target: &mut [u8]) {
    let rows = plane.chunks_exact(2 * size.width).zip(target.chunks_exact_mut(size.width / 2));
    for (pair, out) in rows {
        let (upper, lower) = pair.split_at(size.width);
        for ((upper, lower), out) in upper.chunks_exact(2).zip(lower.chunks_exact(2)).zip(out) {
            *out = upper[0].max(upper[1]).max(lower[0]).max(lower[1]);
        }
    }
}

/// Takes the background out of pixels that lie between the same sums, each so far from the first of them.
#[inline(always)]
fn fuse(values: &mut [u8], [alpha, greatest]: [&[u8]; 2], parts: &[f32], ends: &[Sums; 2]) {
    let chunks = alpha.chunks(LANES).zip(greatest.chunks(LANES)).zip(parts.chunks(LANES));
    for (values, ((alpha, greatest), parts)) in values.chunks_mut(LANES).zip(chunks) {
        if !has_soft(alpha) {
            continue;
        }
        let count = values.len();
        let (mut some, mut alphas, mut places) = ([0; LANES], [0; LANES], [0.0; LANES]);
        some[..count].copy_from_slice(values);
        alphas[..count].copy_from_slice(alpha);
        places[..count].copy_from_slice(parts);
        let fused = fused(&some, &alphas, &places, ends);
        for ((value, fused), (&alpha, &greatest)) in values.iter_mut().zip(fused).zip(alpha.iter().zip(greatest)) {
            *value = if alpha == 0 || greatest == 255 { *value } else { fused };
        }
    }
}

/// The subject's part of pixels.
#[inline(always)]
fn fused(values: &[u8; LANES], alpha: &[u8; LANES], parts: &[f32; LANES], [one, other]: &[Sums; 2]) -> [u8; LANES] {
    let mut fused = [0; LANES];
    for n in 0..LANES {
        let sums = mix(one, other, parts[n]);
        let [subject_weight, subject, subject_alpha, background_weight, background, background_alpha] = sums;
        let (bright, opaque) = (subject / subject_weight, subject_alpha / subject_weight);
        let (dim, clear) = (background / background_weight, background_alpha / background_weight);
        // Where an edge is wide both means are mixtures of both colours, by known parts: they are told apart.
        let slope = (bright - dim) / (opaque - clear);
        let subject = (bright + slope * (1.0 - opaque)).clamp(0.0, 255.0);
        let background = (dim - slope * clear).clamp(0.0, 255.0);
        let (value, alpha) = (f32::from(values[n]), f32::from(alpha[n]) / 255.0);
        let own = subject + alpha * (value - alpha * subject - (1.0 - alpha) * background);
        // Of all lanes at once, so without a branch; what was divided by nothing is not used.
        let is_known =
            (subject_weight >= LEAST_WEIGHT) & (background_weight >= LEAST_WEIGHT) & (opaque - clear >= LEAST_CONTRAST);
        let own = if is_known { own + 0.5 } else { value };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let rounded = own as u8;
        fused[n] = rounded;
    }
    fused
}

#[inline(always)]
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
    use crate::scaling::halve;

    const SIZE: Size = Size { width: 128, height: 64 };

    /// Subject left, background right, 32 px of soft edge between; `own` and `old` are their Y, U and V.
    fn blended(own: [u8; 3], old: [u8; 3]) -> Frame {
        let mut frame = Frame::new(SIZE);
        let (planes, _) = frame.planes_and_matte();
        for (place, alpha) in planes.alpha.iter_mut().enumerate() {
            *alpha = ((80.0 - (place % SIZE.width) as f32) / 32.0 * 255.0).clamp(0.0, 255.0) as u8;
        }
        let mut chroma_alpha = vec![0; SIZE.chroma().pixels()];
        halve(planes.alpha, SIZE, &mut chroma_alpha);
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

    fn clean(planes: &mut Planes<'_>) {
        let mut chroma_alpha = vec![0; SIZE.chroma().pixels()];
        halve(planes.alpha, SIZE, &mut chroma_alpha);
        Foreground::new(SIZE).clean(planes, &chroma_alpha);
    }

    #[test]
    fn the_old_background_does_not_shine_through_soft_edges() {
        let (own, old) = ([180, 90, 160], [40, 200, 60]);
        let mut frame = blended(own, old);
        let (mut planes, _) = frame.planes_and_matte();
        clean(&mut planes);
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
        clean(&mut planes);
        let sure = planes.alpha.iter().map(|&alpha| alpha == 0 || alpha == 255).collect::<Vec<_>>();
        assert!(frame.yuv().iter().zip(&before).zip(sure).all(|((now, then), sure)| !sure || now == then));
    }
}

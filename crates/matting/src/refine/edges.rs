//! Soft edges that follow the picture.
//!
//! A model's matte is smaller than the frame, and soft where the model cannot tell. Within such a band alpha is made
//! of the picture's colour: around each place the linear form of Y, U and V that explains alpha best is found (the
//! guided filter of He, Sun and Tang, 2013, on colour), each neighbour weighted by how sure the model is of it, so
//! that the form is that of the sure sides and not of the band itself. It is found on a small grid (the fast guided
//! filter of He and Sun, 2015) and applied to the frame's own pixels.
//! Invariants: alpha 0 and alpha 255 stay; what the grid cannot explain (a form without slope) stays soft as it was.

use std::ops::Range;

use super::between;
use super::near::{CHUNK, Near, chunks_of};
use crate::error::EngineError;
use crate::frame::{Planes, Size, has_soft};
use crate::lanes::widest;
use crate::scaling::Scaler;

/// Longer side of the grid, px.
const LONG_SIDE: usize = 480;

/// The window reaches so many px of the grid each way.
const REACH: usize = 3;

/// Variance of a colour, of 1, below which it explains nothing: noise of half a percent.
const NOISE: f32 = 1e-5;

/// What a place of which nothing is known counts beside a sure one.
const UNSURE_WEIGHT: f32 = 0.01;

/// From here to the ends of 0..255 the result goes over into what was there.
const NEARLY_SURE: f32 = 255.0 / 20.0;

/// The filter takes some of alpha's contrast, which is given back: without it the error is 5 % greater.
const CONTRAST: f32 = 1.1;

/// Planes of products that are summed over the window.
const PRODUCTS: usize = 14;

/// Slopes of Y, U and V, and what is added.
const TERMS: usize = 4;

/// Refines alpha of frames of one size. Rows of the grid are as long as whole chunks of columns.
#[derive(Debug)]
pub(crate) struct Edges {
    frame: Size,
    grid: Size,
    scaler: Scaler,
    /// Y, U, V and alpha on the grid.
    small: [Vec<u8>; 4],
    /// The last rows of products, summed along the row: 2 · [`REACH`] + 1 of them go round.
    ring: Vec<[Vec<f32>; PRODUCTS]>,
    products: [Vec<f32>; PRODUCTS],
    /// Each place's own form, and the mean of those around it.
    forms: [Vec<f32>; TERMS],
    smooth: [Vec<f32>; TERMS],
    /// Where mean forms are asked for, the forms that they are made of, and the products for those.
    asked: Near,
    formed: Near,
    multiplied: Near,
    /// The forms of one row of the frame, at the grid's columns.
    row: Vec<[f32; TERMS]>,
    /// For each column of the frame: the grid's column to the left, and how far to the right of it it is.
    columns: Vec<(usize, f32)>,
    /// The frame's columns that lie in each chunk of the grid's.
    parts: Vec<Range<usize>>,
}

impl Edges {
    pub(crate) fn new(frame: Size) -> Self {
        let chroma = frame.chroma();
        let long = chroma.width.max(chroma.height);
        let side = |side: usize| if long <= LONG_SIDE { side } else { ((side * LONG_SIDE + long / 2) / long).max(1) };
        let grid = Size { width: side(chroma.width), height: side(chroma.height) };
        let stride = chunks_of(grid) * CHUNK;
        let plane = || vec![0.0; grid.height * stride];
        let row = || std::array::from_fn(|_| vec![0.0; stride]);
        let columns: Vec<(usize, f32)> = (0..frame.width)
            .map(|x| {
                let (left, _, part) = between(x, frame.width, grid.width);
                (left, part)
            })
            .collect();
        let first_of = |chunk: usize| columns.partition_point(|(left, _)| left / CHUNK < chunk);
        Self {
            frame,
            grid,
            scaler: Scaler::default(),
            small: std::array::from_fn(|_| vec![0; grid.pixels()]),
            ring: (0..=2 * REACH).map(|_| row()).collect(),
            products: row(),
            forms: std::array::from_fn(|_| plane()),
            smooth: std::array::from_fn(|_| plane()),
            asked: Near::new(grid),
            formed: Near::new(grid),
            multiplied: Near::new(grid),
            row: vec![[0.0; TERMS]; stride],
            parts: (0..chunks_of(grid)).map(|chunk| first_of(chunk)..first_of(chunk + 1)).collect(),
            columns,
        }
    }

    /// Refines the frame's alpha.
    pub(crate) fn refine(&mut self, planes: &mut Planes<'_>) -> Result<(), EngineError> {
        let found = widest(
            #[inline(always)]
            || self.find_band(planes.alpha),
        );
        if !found {
            return Ok(());
        }
        let (frame, chroma) = (self.frame, self.frame.chroma());
        let [y, u, v, alpha] = &mut self.small;
        self.scaler.on_grid(frame, (planes.y, frame), y, self.grid)?;
        self.scaler.on_grid(frame, (planes.u, chroma), u, self.grid)?;
        self.scaler.on_grid(frame, (planes.v, chroma), v, self.grid)?;
        self.scaler.on_grid(frame, (planes.alpha, frame), alpha, self.grid)?;
        widest(
            #[inline(always)]
            || {
                self.find_forms();
                self.smooth_forms();
                self.apply(planes);
            },
        );
        Ok(())
    }

    /// Marks what soft pixels ask for. Whether there are any.
    #[inline(always)]
    fn find_band(&mut self, alpha: &[u8]) -> bool {
        self.asked.clear();
        let mut found = false;
        let last = (self.grid.height - 1, self.parts.len() - 1);
        for (y, row) in alpha.chunks_exact(self.frame.width).enumerate() {
            let (upper, ..) = between(y, self.frame.height, self.grid.height);
            for (chunk, part) in self.parts.iter().enumerate() {
                if !has_soft(&row[part.clone()]) {
                    continue;
                }
                found = true;
                // A pixel lies between two rows and two columns.
                for row in upper..=(upper + 1).min(last.0) {
                    self.asked.mark(row, chunk);
                    self.asked.mark(row, (chunk + 1).min(last.1));
                }
            }
        }
        if found {
            self.formed.spread(&self.asked, REACH);
            self.multiplied.spread(&self.formed, REACH);
        }
        found
    }

    #[inline(always)]
    fn find_forms(&mut self) {
        let (height, stride) = (self.grid.height, self.row.len());
        let mut ready = 0;
        for y in 0..height {
            if self.formed.runs(y).next().is_none() {
                continue;
            }
            ready = ready.max(y.saturating_sub(REACH));
            while ready <= (y + REACH).min(height - 1) {
                self.multiply(ready);
                ready += 1;
            }
            let window = y.saturating_sub(REACH)..=(y + REACH).min(height - 1);
            for chunk in self.formed.runs(y).flatten() {
                let place = chunk * CHUNK;
                let mut sums = [[0.0; CHUNK]; PRODUCTS];
                for other in window.clone() {
                    for (sum, row) in sums.iter_mut().zip(&self.ring[other % self.ring.len()]) {
                        sum.iter_mut().zip(&row[place..place + CHUNK]).for_each(|(sum, value)| *sum += value);
                    }
                }
                let mut forms = [[0.0; CHUNK]; TERMS];
                for x in 0..CHUNK {
                    let form = fit(std::array::from_fn(|plane| sums[plane][x]));
                    forms.iter_mut().zip(form).for_each(|(plane, value)| plane[x] = value);
                }
                let place = y * stride + place;
                for (plane, form) in self.forms.iter_mut().zip(&forms) {
                    plane[place..place + CHUNK].copy_from_slice(form);
                }
            }
        }
    }

    /// One row's products, summed along it, into the ring.
    #[inline(always)]
    fn multiply(&mut self, row: usize) {
        let width = self.grid.width;
        let slot = row % self.ring.len();
        for run in self.multiplied.runs(row) {
            for chunk in run.clone() {
                let first = chunk * CHUNK;
                let count = CHUNK.min(width - first);
                let mut values = [[0.0; CHUNK]; 4];
                for (values, plane) in values.iter_mut().zip(&self.small) {
                    let plane = &plane[row * width + first..][..count];
                    values.iter_mut().zip(plane).for_each(|(value, &byte)| *value = f32::from(byte) / 255.0);
                }
                let mut products = [[0.0; CHUNK]; PRODUCTS];
                for x in 0..CHUNK {
                    let of_place = products_of(std::array::from_fn(|plane| values[plane][x]));
                    products.iter_mut().zip(of_place).for_each(|(plane, value)| plane[x] = value);
                }
                for (plane, values) in self.products.iter_mut().zip(&products) {
                    plane[first..first + CHUNK].copy_from_slice(values);
                }
            }
            // What is cut off at the ends of a run is not asked for.
            let run = run.start * CHUNK..(run.end * CHUNK).min(width);
            for (from, to) in self.products.iter().zip(&mut self.ring[slot]) {
                sum_along(&from[run.clone()], &mut to[run.clone()]);
            }
        }
    }

    /// Means of the forms around each place that is asked for.
    #[inline(always)]
    fn smooth_forms(&mut self) {
        let (Size { width, height }, stride) = (self.grid, self.row.len());
        let mut sum = vec![0.0; stride];
        for y in 0..height {
            let (upper, lower) = (y.saturating_sub(REACH), (y + REACH).min(height - 1));
            let rows = (lower - upper + 1) as f32;
            for run in self.asked.runs(y) {
                // With what lies within reach on both sides, which has forms.
                let first = (run.start * CHUNK).saturating_sub(CHUNK);
                let wide = first..(run.end * CHUNK + CHUNK).min(width);
                for (from, to) in self.forms.iter().zip(&mut self.smooth) {
                    let sum = &mut sum[wide.clone()];
                    sum.fill(0.0);
                    for row in upper..=lower {
                        let row = &from[row * stride..][wide.clone()];
                        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                    }
                    let out = &mut to[y * stride..][wide.clone()];
                    sum_along(sum, out);
                    for (x, value) in wide.clone().zip(out) {
                        let columns = (x + REACH).min(width - 1) - x.saturating_sub(REACH) + 1;
                        *value /= rows * columns as f32;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn apply(&mut self, planes: &mut Planes<'_>) {
        let (width, chroma_width) = (self.frame.width, self.frame.width / 2);
        for y in 0..self.frame.height {
            let alpha = &mut planes.alpha[y * width..(y + 1) * width];
            let luma = &planes.y[y * width..(y + 1) * width];
            let chroma = y / 2 * chroma_width;
            let (u, v) = (&planes.u[chroma..chroma + chroma_width], &planes.v[chroma..chroma + chroma_width]);
            let (upper, _, part) = between(y, self.frame.height, self.grid.height);
            for chunk in 0..self.parts.len() {
                let place = self.parts[chunk].clone();
                if !self.asked.is_marked(upper, chunk) || !has_soft(&alpha[place.clone()]) {
                    continue;
                }
                self.mix_rows(upper, part, chunk);
                for x in place {
                    if matches!(alpha[x], 0 | 255) {
                        continue;
                    }
                    let (left, part) = self.columns[x];
                    let right = (left + 1).min(self.grid.width - 1);
                    let [a, b] = [self.row[left], self.row[right]];
                    let form = std::array::from_fn(|n| a[n] + (b[n] - a[n]) * part);
                    alpha[x] = refined(alpha[x], [luma[x], u[x / 2], v[x / 2]], form);
                }
            }
        }
    }

    /// The forms of a row of the frame between two of the grid, in a chunk and at the column after it.
    #[inline(always)]
    fn mix_rows(&mut self, upper: usize, part: f32, chunk: usize) {
        let stride = self.row.len();
        let lower = (upper + 1).min(self.grid.height - 1);
        let place = chunk * CHUNK..((chunk + 1) * CHUNK + 1).min(stride);
        for (x, form) in place.clone().zip(&mut self.row[place]) {
            *form = std::array::from_fn(|n| {
                let (a, b) = (self.smooth[n][upper * stride + x], self.smooth[n][lower * stride + x]);
                a + (b - a) * part
            });
        }
    }
}

/// What a place of Y, U, V and alpha adds to the sums.
#[inline(always)]
fn products_of([y, u, v, alpha]: [f32; 4]) -> [f32; PRODUCTS] {
    let sure = 2.0 * alpha - 1.0;
    let w = sure * sure + UNSURE_WEIGHT;
    let (wy, wu, wv) = (w * y, w * u, w * v);
    [w, wy, wu, wv, w * alpha, wy * y, wy * u, wy * v, wu * u, wu * v, wv * v, wy * alpha, wu * alpha, wv * alpha]
}

/// Alpha of a pixel by the form of its place.
#[inline(always)]
fn refined(own: u8, colour: [u8; 3], form: [f32; TERMS]) -> u8 {
    let own = f32::from(own);
    let [y, u, v] = colour.map(f32::from);
    // The form is of values in 0..1; alpha is too.
    let value = form[0] * y + form[1] * u + form[2] * v + form[3] * 255.0;
    let value = (value - 127.5) * CONTRAST + 127.5;
    let share = (own.min(255.0 - own) / NEARLY_SURE).min(1.0);
    let refined = own + (value.clamp(0.0, 255.0) - own) * share;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=255")]
    let rounded = (refined + 0.5) as u8;
    rounded
}

/// Sums of all values within [`REACH`].
#[inline(always)]
fn sum_along(from: &[f32], to: &mut [f32]) {
    to.copy_from_slice(from);
    for shift in 1..=REACH.min(from.len().saturating_sub(1)) {
        let count = from.len() - shift;
        to.iter_mut().zip(&from[shift..]).for_each(|(sum, value)| *sum += value);
        to[shift..].iter_mut().zip(&from[..count]).for_each(|(sum, value)| *sum += value);
    }
}

/// The linear form of Y, U and V that explains alpha best, from weighted sums.
#[inline(always)]
fn fit(sums: [f32; PRODUCTS]) -> [f32; TERMS] {
    let [w, y, u, v, alpha, yy, yu, yv, uu, uv, vv, ya, ua, va] = sums;
    let scale = 1.0 / w;
    let (y, u, v, alpha) = (y * scale, u * scale, v * scale, alpha * scale);
    let (yy, yu, yv) = (yy * scale - y * y + NOISE, yu * scale - y * u, yv * scale - y * v);
    let (uu, uv, vv) = (uu * scale - u * u + NOISE, uv * scale - u * v, vv * scale - v * v + NOISE);
    let (ya, ua, va) = (ya * scale - y * alpha, ua * scale - u * alpha, va * scale - v * alpha);
    // The inverse of a symmetric matrix, by its cofactors.
    let (c_yy, c_yu, c_yv) = (uu * vv - uv * uv, yv * uv - yu * vv, yu * uv - yv * uu);
    let (c_uu, c_uv, c_vv) = (yy * vv - yv * yv, yu * yv - yy * uv, yy * uu - yu * yu);
    // Rounding may take it below what the noise term alone makes of it.
    let determinant = (yy * c_yy + yu * c_yu + yv * c_yv).max(NOISE * NOISE * NOISE);
    let slopes = [
        (c_yy * ya + c_yu * ua + c_yv * va) / determinant,
        (c_yu * ya + c_uu * ua + c_uv * va) / determinant,
        (c_yv * ya + c_uv * ua + c_vv * va) / determinant,
    ];
    [slopes[0], slopes[1], slopes[2], alpha - slopes[0] * y - slopes[1] * u - slopes[2] * v]
}

//! Soft edges that follow the picture.
//!
//! A model's matte is smaller than the frame, and soft where the model cannot tell. Within such a band alpha is made
//! of the picture's colour: around each place the linear form of Y, U and V that explains alpha best is found (the
//! guided filter of He, Sun and Tang, 2013, on colour), each neighbour weighted by how sure the model is of it, so
//! that the form is that of the sure sides and not of the band itself. It is found on a small grid (the fast guided
//! filter of He and Sun, 2015) and applied to the frame's own pixels.
//! Invariants: alpha 0 and alpha 255 stay; what the grid cannot explain (a form without slope) stays soft as it was.

use super::between;
use crate::error::EngineError;
use crate::frame::{Planes, Size};
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

/// Refines alpha of frames of one size.
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
    /// The forms of one row of the frame, at the grid's columns.
    row: Vec<[f32; TERMS]>,
    /// For each column of the frame: the grid's column to the left, and how far to the right of it it is.
    columns: Vec<(usize, f32)>,
}

impl Edges {
    pub(crate) fn new(frame: Size) -> Self {
        let chroma = frame.chroma();
        let long = chroma.width.max(chroma.height);
        let side = |side: usize| if long <= LONG_SIDE { side } else { ((side * LONG_SIDE + long / 2) / long).max(1) };
        let grid = Size { width: side(chroma.width), height: side(chroma.height) };
        let plane = || vec![0.0; grid.pixels()];
        let row = || std::array::from_fn(|_| vec![0.0; grid.width]);
        Self {
            frame,
            grid,
            scaler: Scaler::default(),
            small: std::array::from_fn(|_| vec![0; grid.pixels()]),
            ring: (0..=2 * REACH).map(|_| row()).collect(),
            products: row(),
            forms: std::array::from_fn(|_| plane()),
            smooth: std::array::from_fn(|_| plane()),
            row: Vec::new(),
            columns: (0..frame.width)
                .map(|x| {
                    let (left, _, part) = between(x, frame.width, grid.width);
                    (left, part)
                })
                .collect(),
        }
    }

    /// Refines the frame's alpha.
    pub(crate) fn refine(&mut self, planes: &mut Planes<'_>) -> Result<(), EngineError> {
        let rows = planes.alpha.chunks_exact(self.frame.width);
        let has_band = |row: &[u8]| row.iter().fold(0, |most, &alpha| most.max(alpha.min(255 - alpha))) > 0;
        let (Some(first), Some(last)) = (rows.clone().position(has_band), rows.clone().rposition(has_band)) else {
            return Ok(());
        };
        let (frame, chroma) = (self.frame, self.frame.chroma());
        let [y, u, v, alpha] = &mut self.small;
        self.scaler.plane(planes.y, frame, y, self.grid)?;
        self.scaler.plane(planes.u, chroma, u, self.grid)?;
        self.scaler.plane(planes.v, chroma, v, self.grid)?;
        self.scaler.plane(planes.alpha, frame, alpha, self.grid)?;
        let (upper, ..) = between(first, frame.height, self.grid.height);
        let (lower, ..) = between(last, frame.height, self.grid.height);
        let lower = (lower + 1).min(self.grid.height - 1);
        self.find_forms(upper.saturating_sub(REACH), (lower + REACH).min(self.grid.height - 1));
        self.smooth_forms(upper, lower);
        self.apply(planes, first, last);
        Ok(())
    }

    /// The forms of these rows of the grid.
    fn find_forms(&mut self, first: usize, last: usize) {
        let height = self.grid.height;
        let mut ready = first.saturating_sub(REACH);
        for y in first..=last {
            while ready <= (y + REACH).min(height - 1) {
                self.multiply(ready);
                ready += 1;
            }
            let mut sums = std::mem::take(&mut self.products);
            for (plane, sum) in sums.iter_mut().enumerate() {
                sum.fill(0.0);
                for other in y.saturating_sub(REACH)..=(y + REACH).min(height - 1) {
                    let row = &self.ring[other % self.ring.len()][plane];
                    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
            }
            let place = y * self.grid.width;
            for x in 0..self.grid.width {
                let form = fit(std::array::from_fn(|plane| sums[plane][x]));
                for (plane, value) in self.forms.iter_mut().zip(form) {
                    plane[place + x] = value;
                }
            }
            self.products = sums;
        }
    }

    /// One row's products, summed along it, into the ring.
    fn multiply(&mut self, row: usize) {
        let place = row * self.grid.width..(row + 1) * self.grid.width;
        let part = |plane: usize| self.small[plane][place.clone()].iter().map(|&value| f32::from(value) / 255.0);
        let values = part(0).zip(part(1)).zip(part(2)).zip(part(3));
        let [w, wy, wu, wv, wa, wyy, wyu, wyv, wuu, wuv, wvv, wya, wua, wva] = &mut self.products;
        for (x, (((y, u), v), alpha)) in values.enumerate() {
            let sure = 2.0 * alpha - 1.0;
            let weight = sure * sure + UNSURE_WEIGHT;
            let (weight_y, weight_u, weight_v) = (weight * y, weight * u, weight * v);
            w[x] = weight;
            (wy[x], wu[x], wv[x], wa[x]) = (weight_y, weight_u, weight_v, weight * alpha);
            (wyy[x], wyu[x], wyv[x]) = (weight_y * y, weight_y * u, weight_y * v);
            (wuu[x], wuv[x], wvv[x]) = (weight_u * u, weight_u * v, weight_v * v);
            (wya[x], wua[x], wva[x]) = (weight_y * alpha, weight_u * alpha, weight_v * alpha);
        }
        let slot = row % self.ring.len();
        for (from, to) in self.products.iter().zip(&mut self.ring[slot]) {
            sum_along(from, to);
        }
    }

    /// Means of the forms around each place of these rows.
    fn smooth_forms(&mut self, first: usize, last: usize) {
        let Size { width, height } = self.grid;
        for (from, to) in self.forms.iter().zip(&mut self.smooth) {
            let mut sum = vec![0.0; width];
            for y in first..=last {
                sum.fill(0.0);
                let (upper, lower) = (y.saturating_sub(REACH), (y + REACH).min(height - 1));
                for row in from[upper * width..(lower + 1) * width].chunks_exact(width) {
                    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
                let out = &mut to[y * width..(y + 1) * width];
                sum_along(&sum, out);
                let rows = (lower - upper + 1) as f32;
                for (x, value) in out.iter_mut().enumerate() {
                    let columns = (x + REACH).min(width - 1) - x.saturating_sub(REACH) + 1;
                    *value /= rows * columns as f32;
                }
            }
        }
    }

    fn apply(&mut self, planes: &mut Planes<'_>, first: usize, last: usize) {
        let (width, chroma_width) = (self.frame.width, self.frame.width / 2);
        for y in first..=last {
            let alpha = &mut planes.alpha[y * width..(y + 1) * width];
            let luma = &planes.y[y * width..(y + 1) * width];
            let chroma = y / 2 * chroma_width;
            let (u, v) = (&planes.u[chroma..chroma + chroma_width], &planes.v[chroma..chroma + chroma_width]);
            let (upper, _, part) = between(y, self.frame.height, self.grid.height);
            let mut is_ready = false;
            for x in 0..width {
                let own = alpha[x];
                if own == 0 || own == 255 {
                    continue;
                }
                if !is_ready {
                    self.mix_rows(upper, part);
                    is_ready = true;
                }
                let (left, part) = self.columns[x];
                let right = (left + 1).min(self.grid.width - 1);
                let [a, b] = [self.row[left], self.row[right]];
                let form: [f32; TERMS] = std::array::from_fn(|n| a[n] + (b[n] - a[n]) * part);
                let own = f32::from(own);
                // The form is of values in 0..1; alpha is too.
                let value = form[0] * f32::from(luma[x])
                    + form[1] * f32::from(u[x / 2])
                    + form[2] * f32::from(v[x / 2])
                    + form[3] * 255.0;
                let value = (value - 127.5) * CONTRAST + 127.5;
                let share = (own.min(255.0 - own) / NEARLY_SURE).min(1.0);
                let refined = own + (value.clamp(0.0, 255.0) - own) * share;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=255")]
                let rounded = (refined + 0.5) as u8;
                alpha[x] = rounded;
            }
        }
    }

    /// The forms of a row of the frame, between two of the grid.
    fn mix_rows(&mut self, upper: usize, part: f32) {
        let width = self.grid.width;
        let lower = (upper + 1).min(self.grid.height - 1);
        self.row.clear();
        self.row.extend((0..width).map(|x| {
            std::array::from_fn(|n| {
                let (a, b) = (self.smooth[n][upper * width + x], self.smooth[n][lower * width + x]);
                a + (b - a) * part
            })
        }));
    }
}

/// Sums of all values within [`REACH`].
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

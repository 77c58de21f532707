//! A small matte as alpha of a larger frame.
//!
//! Most of a matte is all subject or all background, and so is what is drawn between such pixels: only what has others
//! near is computed, with a cubic (Catmull and Rom, 1974), in floating point up to the byte.

use crate::frame::Size;
use crate::lanes::widest;

/// Pixels that the cubic takes, each way.
const TAPS: usize = 4;

/// Columns of the frame that are looked at together.
const CHUNK: usize = 32;

/// Further than that from 0 and from 1 a value may show: the cubic makes at most 1.6 times as much of it, which rounds
/// to the same byte.
const MARGIN: f32 = 0.25 / 255.0;

/// Adding it leaves the nearest whole number in the lowest bits.
const WHOLE: f32 = (1 << 23) as f32;

/// Enlarges mattes of one size to one size.
#[derive(Debug)]
pub(super) struct Enlarger {
    from: Size,
    to: Size,
    columns: Vec<Taps>,
    rows: Vec<Taps>,
    /// What each chunk of columns is made of: the first column of the matte, and how many.
    spans: Vec<(usize, usize)>,
    /// The last rows of the matte, as wide as the frame; they go round.
    wide: [Wide; TAPS],
}

/// What a row or column of the frame is made of.
#[derive(Debug, Clone, Copy)]
struct Taps {
    first: usize,
    weights: [f32; TAPS],
}

/// A row of the matte, as wide as the frame.
#[derive(Debug, Default)]
struct Wide {
    /// None: of no row yet.
    row: Option<usize>,
    values: Vec<f32>,
    /// Of each chunk of columns.
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Background,
    Subject,
    Mixed,
}

impl Enlarger {
    /// None where a side shrinks, or the matte is smaller than what the cubic takes.
    pub(super) fn new(from: Size, to: Size) -> Option<Self> {
        if to.width < from.width || to.height < from.height || from.width.min(from.height) < TAPS {
            return None;
        }
        let columns = taps(from.width, to.width);
        let span = |chunk: &[Taps]| {
            let first = chunk.first().map_or(0, |taps| taps.first);
            (first, chunk.last().map_or(0, |taps| taps.first + TAPS) - first)
        };
        let spans = columns.chunks(CHUNK).map(span).collect();
        Some(Self { from, to, rows: taps(from.height, to.height), spans, columns, wide: Default::default() })
    }

    /// From 0..1 to 0..=255.
    pub(super) fn enlarge(&mut self, matte: &[f32], alpha: &mut [u8]) {
        self.wide.iter_mut().for_each(|wide| wide.row = None);
        widest(
            #[inline(always)]
            || {
                for y in 0..self.rows.len() {
                    let Taps { first, weights } = self.rows[y];
                    for row in first..first + TAPS {
                        self.widen(matte, row);
                    }
                    let rows: [&Wide; TAPS] = std::array::from_fn(|tap| &self.wide[(first + tap) % TAPS]);
                    draw(rows, &weights, &mut alpha[y * self.to.width..][..self.to.width]);
                }
            },
        );
    }

    /// Makes a row of the matte as wide as the frame, unless it is there.
    #[inline(always)]
    fn widen(&mut self, matte: &[f32], row: usize) {
        let Self { from, to, columns, spans, wide, .. } = self;
        let wide = &mut wide[row % TAPS];
        if wide.row == Some(row) {
            return;
        }
        wide.row = Some(row);
        wide.values.resize(to.width, 0.0);
        wide.kinds.resize(spans.len(), Kind::Background);
        let matte = &matte[row * from.width..][..from.width];
        let chunks = columns.chunks(CHUNK).zip(wide.values.chunks_mut(CHUNK)).zip(&mut wide.kinds);
        for (((taps, values), kind), &(first, count)) in chunks.zip(spans.iter()) {
            let near = &matte[first..first + count];
            let (least, most) = near.iter().fold((1.0_f32, 0.0_f32), |(least, most), &value| {
                (if value < least { value } else { least }, if value > most { value } else { most })
            });
            *kind = match () {
                () if most <= MARGIN => Kind::Background,
                () if least >= 1.0 - MARGIN => Kind::Subject,
                () => Kind::Mixed,
            };
            if most == 0.0 || least == 1.0 {
                values.fill(least.min(most));
                continue;
            }
            for (value, Taps { first, weights }) in values.iter_mut().zip(taps) {
                let near = &matte[*first..first + TAPS];
                let sum = (near[0] * weights[0] + near[1] * weights[1]) + (near[2] * weights[2] + near[3] * weights[3]);
                // Beyond its ends the cubic would swing twice as far the other way.
                *value = sum.clamp(0.0, 1.0);
            }
        }
    }
}

/// Draws a row of the frame.
#[inline(always)]
fn draw(rows: [&Wide; TAPS], weights: &[f32; TAPS], alpha: &mut [u8]) {
    let [a, b, c, d] = rows;
    for (chunk, alpha) in alpha.chunks_mut(CHUNK).enumerate() {
        let kind = a.kinds[chunk];
        let is_same = rows.iter().all(|row| row.kinds[chunk] == kind);
        match kind {
            Kind::Background if is_same => alpha.fill(0),
            Kind::Subject if is_same => alpha.fill(u8::MAX),
            Kind::Background | Kind::Subject | Kind::Mixed => {
                let place = chunk * CHUNK..chunk * CHUNK + alpha.len();
                let [a, b, c, d] = [a, b, c, d].map(|row| &row.values[place.clone()]);
                for ((((alpha, a), b), c), d) in alpha.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    let value = (a * weights[0] + b * weights[1]) + (c * weights[2] + d * weights[3]);
                    *alpha = (value.clamp(0.0, 1.0) * 255.0 + WHOLE).to_bits() as u8;
                }
            }
        }
    }
}

/// What each place of a longer line is made of. Beyond the ends there is nothing, and the others weigh more.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|place| {
            let middle = (place as f64 + 0.5) * scale - 0.5;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates at 0")]
            let first = ((middle - 1.0).floor() as usize).min(from - TAPS);
            let weights: [f64; TAPS] = std::array::from_fn(|tap| cubic((first + tap) as f64 - middle));
            let all: f64 = weights.iter().sum();
            #[expect(clippy::cast_possible_truncation, reason = "a weight")]
            let weights = weights.map(|weight| (weight / all) as f32);
            Taps { first, weights }
        })
        .collect()
}

fn cubic(distance: f64) -> f64 {
    let x = distance.abs();
    match x {
        ..1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        1.0..2.0 => ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::tests::plain;
    use crate::scaling::Convolution;

    /// A disc with a soft border, holes of all kinds in it, and noise that nobody sees.
    fn matte(size: Size) -> Vec<f32> {
        let value = |n: usize| {
            let (x, y) = ((n % size.width) as f32 / size.width as f32, (n / size.width) as f32 / size.height as f32);
            let far = ((x - 0.5).hypot(y - 0.4) - 0.3) * 12.0;
            let noise = if n.is_multiple_of(37) { 0.0004 } else { 0.0 };
            let hole = if n.is_multiple_of(101) { 0.6 } else { 0.0 };
            (0.5 - far - hole + noise).clamp(0.0, 1.0)
        };
        (0..size.pixels()).map(value).collect()
    }

    #[test]
    fn what_is_skipped_is_what_would_have_been_drawn() {
        let from = Size { width: 96, height: 50 };
        let matte = matte(from);
        for to in
            [from, Size { width: 97, height: 50 }, Size { width: 360, height: 190 }, Size { width: 800, height: 410 }]
        {
            let mut alpha = vec![77; to.pixels()];
            Enlarger::new(from, to).unwrap().enlarge(&matte, &mut alpha);
            let mut expected = vec![0; to.pixels()];
            Convolution::new(from, to).scale_to_bytes(&matte, &mut expected).unwrap();
            let furthest = alpha.iter().zip(&expected).map(|(one, other)| one.abs_diff(*other)).max();
            // That one rounds to 16 bits on its way.
            assert!(furthest.unwrap() <= 1, "{furthest:?} at {to:?}");
        }
    }

    #[test]
    fn every_processor_draws_the_same_bits() {
        let (from, to) = (Size { width: 96, height: 50 }, Size { width: 361, height: 190 });
        let matte = matte(from);
        let draw = || {
            let mut alpha = vec![77; to.pixels()];
            Enlarger::new(from, to).unwrap().enlarge(&matte, &mut alpha);
            alpha
        };
        assert!(draw() == plain(draw));
    }

    #[test]
    fn a_matte_that_is_too_small_or_too_large_is_left_to_others() {
        let size = |width, height| Size { width, height };
        assert!(Enlarger::new(size(3, 9), size(30, 90)).is_none());
        assert!(Enlarger::new(size(10, 10), size(9, 100)).is_none());
        assert!(Enlarger::new(size(4, 4), size(5, 4)).is_some());
    }
}

//! Mattes that are carried: a model that is run on some frames serves all of them.
//!
//! Owns: which frames the model sees ([`Pace`]), the mattes of those between ([`Carrier`]). A frame between two that
//! were matted is matched with both, block by block (`motion`); each block's matte comes from where the block was and
//! will be, weighted by how well it was found there and how near that frame is. It waits for the later one, so nothing
//! lags; what is hidden in one of them is, as a rule, seen in the other.
//! Invariants: nothing depends on the clock or on how full a queue is; the mattes between two matted frames follow from
//! those frames and the ones between alone; the model sees every n-th of the video, the first and last frame of a scene and
//! the first of a segment, so nothing is handed over at a border.

use std::collections::VecDeque;

use crate::error::EngineError;
use crate::frame::{Colour, Frame, Size};
use crate::motion::{Field, GRID_ORIGIN, Pyramid, STEP};
use crate::scaling::Scaler;

/// Longer side of the luma that is matched, px: large enough for a limb, small enough to cost a few ms.
const LONG_SIDE: usize = 320;

/// Mean absolute difference of a block, of 255, that noise alone makes.
const NOISE: f32 = 2.0;

/// The size of the luma that is matched.
pub(crate) fn small_size(frame: Size) -> Size {
    let long = frame.width.max(frame.height);
    if long <= LONG_SIDE {
        return frame;
    }
    let side = |side: usize| ((side * LONG_SIDE + long / 2) / long).max(1);
    Size { width: side(frame.width), height: side(frame.height) }
}

/// Chooses the frames that the model sees.
#[derive(Debug)]
pub(crate) struct Pace {
    every: u64,
    frame: Size,
    small: Size,
    scaler: Scaler,
}

impl Pace {
    pub(crate) fn new(frame: Size, every: u32) -> Self {
        let every = u64::from(every.max(1));
        Self { every, frame, small: small_size(frame), scaler: Scaler::default() }
    }

    /// Whether the model sees every frame.
    pub(crate) const fn is_every_frame(&self) -> bool {
        self.every == 1
    }

    /// Whether the model sees the frame of this number by its number alone. `small` becomes its luma, for matching.
    pub(crate) fn is_due(&mut self, number: u64, colour: Colour<'_>, small: &mut Vec<u8>) -> Result<bool, EngineError> {
        if !self.is_every_frame() {
            small.resize(self.small.pixels(), 0);
            self.scaler.plane(colour[0], self.frame, small, self.small)?;
        }
        Ok(number.is_multiple_of(self.every))
    }
}

/// What is carried from frame to frame.
#[derive(Debug, Default)]
struct CarriedState {
    /// The last frame that the model saw.
    key: Option<Key>,
    /// Frames since that one.
    since: u32,
}

/// A frame that the model saw.
#[derive(Debug)]
struct Key {
    luma: Vec<u8>,
    matte: Vec<f32>,
}

/// Gives mattes to the frames that the model did not see.
#[derive(Debug)]
pub(crate) struct Carrier {
    small: Size,
    matte: Size,
    state: CarriedState,
    /// Frames that wait for the next one that the model saw, and how long after the last one each is.
    waiting: VecDeque<(u32, Frame)>,
    /// Buffers that are used again.
    pyramids: [Pyramid; 3],
    fields: [Field; 2],
    cells: Vec<Cell>,
    row: Vec<Cell>,
}

/// Where a block was and will be, px of the matte, and how much the later place counts.
#[derive(Debug, Clone, Copy, Default)]
struct Cell([f32; 5]);

impl Carrier {
    pub(crate) fn new(frame: Size, matte: Size) -> Self {
        let small = small_size(frame);
        Self {
            small,
            matte,
            state: CarriedState::default(),
            waiting: VecDeque::new(),
            pyramids: std::array::from_fn(|_| Pyramid::new(small)),
            fields: std::array::from_fn(|_| Field::new(small)),
            cells: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Takes the next frame; `give` gets those whose mattes are ready, in order.
    pub(crate) fn take<E>(&mut self, frame: Frame, mut give: impl FnMut(Frame) -> Result<(), E>) -> Result<(), E> {
        self.state.since += 1;
        if !frame.for_model {
            self.waiting.push_back((self.state.since, frame));
            return Ok(());
        }
        if !self.waiting.is_empty() {
            self.pyramids[1].fill(&frame.small);
        }
        while let Some((since, mut waiting)) = self.waiting.pop_front() {
            self.carry(since, &mut waiting, &frame);
            give(waiting)?;
        }
        self.keep(&frame);
        give(frame)
    }

    /// Remembers a frame that the model saw.
    fn keep(&mut self, frame: &Frame) {
        self.pyramids[0].fill(&frame.small);
        self.state.since = 0;
        let key = self.state.key.get_or_insert_with(|| Key { luma: Vec::new(), matte: Vec::new() });
        key.luma.clone_from(&frame.small);
        key.matte.clone_from(&frame.matte);
    }

    /// Makes the matte of a frame between the last one that the model saw and `next`.
    fn carry(&mut self, since: u32, frame: &mut Frame, next: &Frame) {
        // The first frame of a video is always seen: there is one before.
        let Some(key) = &self.state.key else { return };
        let [before, after, now] = &mut self.pyramids;
        now.fill(&frame.small);
        let [was, will_be] = &mut self.fields;
        was.match_blocks(now, before);
        will_be.match_blocks(now, after);
        #[expect(clippy::cast_precision_loss, reason = "counts of a few frames")]
        let time = since as f32 / self.state.since as f32;
        let scale =
            [self.matte.width as f32 / self.small.width as f32, self.matte.height as f32 / self.small.height as f32];
        self.cells.clear();
        self.cells.extend(was.blocks().zip(will_be.blocks()).map(|(was, will_be)| {
            let trust = |error: f32, near: f32| near / ((error + NOISE) * (error + NOISE));
            let (earlier, later) = (trust(was.error, 1.0 - time), trust(will_be.error, time));
            let place = |offset: i16, scale: f32| f32::from(offset) * scale;
            Cell([
                place(was.x, scale[0]),
                place(was.y, scale[1]),
                place(will_be.x, scale[0]),
                place(will_be.y, scale[1]),
                later / (earlier + later),
            ])
        }));
        let grid = was.size();
        frame.matte.resize(self.matte.pixels(), 0.0);
        for (y, out) in frame.matte.chunks_exact_mut(self.matte.width.max(1)).enumerate() {
            let (upper, lower, part) = between(y, self.matte.height, self.small.height, grid.height);
            let rows = self.cells.chunks_exact(grid.width);
            let (upper, lower) = (rows.clone().nth(upper), rows.clone().nth(lower));
            let (Some(upper), Some(lower)) = (upper, lower) else { return };
            self.row.clear();
            self.row.extend(upper.iter().zip(lower).map(|(upper, lower)| upper.mixed(lower, part)));
            for (x, out) in out.iter_mut().enumerate() {
                let (left, right, part) = between(x, self.matte.width, self.small.width, grid.width);
                let (Some(left), Some(right)) = (self.row.get(left), self.row.get(right)) else { return };
                let Cell([was_x, was_y, will_x, will_y, later]) = left.mixed(right, part);
                let was = sample(&key.matte, self.matte, x as f32 + was_x, y as f32 + was_y);
                let will_be = sample(&next.matte, self.matte, x as f32 + will_x, y as f32 + will_y);
                *out = was + (will_be - was) * later;
            }
        }
    }
}

impl Cell {
    #[inline(always)]
    fn mixed(&self, other: &Self, part: f32) -> Self {
        Self(std::array::from_fn(|n| self.0[n] + (other.0[n] - self.0[n]) * part))
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

/// The value of a plane between its pixels; outside of it, that of its border.
#[inline(always)]
fn sample(plane: &[f32], size: Size, x: f32, y: f32) -> f32 {
    let x = x.clamp(0.0, (size.width - 1) as f32);
    let y = y.clamp(0.0, (size.height - 1) as f32);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the plane")]
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(size.width - 1), (top + 1).min(size.height - 1));
    let (part_x, part_y) = (x - left as f32, y - top as f32);
    let at = |x: usize, y: usize| plane.get(y * size.width + x).copied().unwrap_or_default();
    let upper = at(left, top) + (at(right, top) - at(left, top)) * part_x;
    let lower = at(left, bottom) + (at(right, bottom) - at(left, bottom)) * part_x;
    upper + (lower - upper) * part_y
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 128, height: 72 };

    /// A bright disc on a busy ground, and its matte.
    fn frame(number: usize, for_model: bool) -> Frame {
        let (middle, radius) = ((24.0 + 4.0 * number as f32, 36.0_f32), 16.0_f32);
        let mut frame = Frame::new(SIZE);
        let mut matte = Vec::new();
        for (place, luma) in frame.yuv_mut().iter_mut().take(SIZE.pixels()).enumerate() {
            let (x, y) = ((place % SIZE.width) as f32, (place / SIZE.width) as f32);
            let (dx, dy) = (x - middle.0, y - middle.1);
            let inside = (radius - dx.hypot(dy) + 0.5).clamp(0.0, 1.0);
            let ground = 60.0 + 30.0 * (x * 0.4).sin() * (y * 0.3).cos();
            let disc = 190.0 + 30.0 * (dx * 0.5).sin() * (dy * 0.6).cos();
            *luma = (ground + (disc - ground) * inside) as u8;
            matte.push(inside);
        }
        (frame.for_model, frame.matte) = (for_model, matte);
        let small = frame.yuv()[..SIZE.pixels()].to_vec();
        frame.small = small;
        frame
    }

    /// Frames as they come out of a carrier that has only the mattes of every fourth.
    fn carried(carrier: &mut Carrier, numbers: std::ops::RangeInclusive<usize>) -> Vec<Frame> {
        let mut out = Vec::new();
        let last = *numbers.end();
        for number in numbers {
            let mut frame = frame(number, number % 4 == 0 || number == last);
            if !frame.for_model {
                frame.matte.clear();
            }
            let taken: Result<(), ()> = carrier.take(frame, |frame| {
                out.push(frame);
                Ok(())
            });
            taken.unwrap();
        }
        out
    }

    fn difference(one: &[f32], other: &[f32]) -> f32 {
        assert_eq!(one.len(), other.len());
        one.iter().zip(other).map(|(one, other)| (one - other).abs()).sum::<f32>() / one.len() as f32
    }

    #[test]
    fn a_carried_matte_moves_with_its_subject() {
        let out = carried(&mut Carrier::new(SIZE, SIZE), 0..=12);
        assert_eq!(out.len(), 13);
        for (number, found) in out.iter().enumerate() {
            let truth = frame(number, true).matte;
            let held = frame(number / 4 * 4, true).matte;
            let error = difference(&found.matte, &truth);
            assert!(number % 4 == 0 || error < difference(&held, &truth) / 3.0, "frame {number}: {error}");
        }
    }

    #[test]
    fn a_matte_of_the_model_is_not_touched() {
        let out = carried(&mut Carrier::new(SIZE, SIZE), 0..=9);
        for number in [0, 4, 8, 9] {
            assert!(out[number].matte == frame(number, true).matte);
        }
    }

    #[test]
    fn the_model_sees_every_so_manyth_frame_of_the_video() {
        let mut pace = Pace::new(SIZE, 5);
        let luma = vec![0; SIZE.pixels()];
        let mut small = Vec::new();
        let due = (3..14).filter(|number| pace.is_due(*number, [&luma, &[], &[]], &mut small).unwrap());
        assert_eq!(due.collect::<Vec<_>>(), [5, 10]);
        assert_eq!(small.len(), SIZE.pixels());
    }

    #[test]
    fn what_is_matched_is_small_whatever_the_frame() {
        for (frame, small) in
            [((1920, 1080), (320, 180)), ((1080, 1920), (180, 320)), ((64, 36), (64, 36)), ((4096, 2), (320, 1))]
        {
            let size = |(width, height)| Size { width, height };
            assert_eq!(small_size(size(frame)), size(small));
        }
    }
}

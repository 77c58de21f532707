//! Mattes that are carried: a model that is run on some frames serves all of them.
//!
//! Owns: which frames the model sees ([`Pace`]), the mattes of those between ([`Carrier`]). A frame between two that
//! were matted is matched with both, block by block (`motion`); each block's matte comes from where the block was and
//! will be, weighted by how well it was found there and how near that frame is. It waits for the later one, so nothing
//! lags; what is hidden in one of them is, as a rule, seen in the other. Where the model looks at the whole frame and
//! closer at a region by turns, both kinds are carried so, and put together by how sure each is of itself and how well
//! it was found (`draw`).
//! Invariants: nothing depends on the clock or on how full a queue is; a frame's matte follows from the nearest frames
//! of each kind on both sides and itself alone; the model sees every n-th of the video, and in every way the first and
//! last frame of a scene and the first of a segment, so nothing is handed over at a border.

mod draw;

use std::collections::VecDeque;

use self::draw::{Draw, Sources, Ways};
use crate::error::EngineError;
use crate::frame::{Closer, Colour, Frame, Size, Turn};
use crate::motion::{Field, Pyramid};
use crate::scaling::Scaler;

/// Longer side of the luma that is matched, px: large enough for a limb, small enough to cost a few ms.
const LONG_SIDE: usize = 320;

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
    takes_turns: bool,
    frame: Size,
    small: Size,
    scaler: Scaler,
}

impl Pace {
    pub(crate) fn new(frame: Size, every: u32, takes_turns: bool) -> Self {
        let every = u64::from(every.max(1));
        Self { every, takes_turns, frame, small: small_size(frame), scaler: Scaler::default() }
    }

    /// Whether the model sees every frame.
    pub(crate) const fn is_every_frame(&self) -> bool {
        self.every == 1
    }

    /// How the model sees the frame of this number by its number alone. `small` becomes its luma, for matching.
    pub(crate) fn turn(
        &mut self,
        number: u64,
        colour: Colour<'_>,
        small: &mut Vec<u8>,
    ) -> Result<Option<Turn>, EngineError> {
        if !self.is_every_frame() {
            small.resize(self.small.pixels(), 0);
            self.scaler.plane(colour[0], self.frame, small, self.small)?;
        }
        Ok(number.is_multiple_of(self.every).then(|| {
            let is_closer = self.takes_turns && !(number / self.every).is_multiple_of(2);
            if is_closer { Turn::Closer } else { Turn::Whole }
        }))
    }

    /// How it sees the first and the last frame of a scene.
    pub(crate) const fn at_an_end(&self) -> Turn {
        if self.takes_turns { Turn::Both } else { Turn::Whole }
    }
}

/// A frame that the model saw.
#[derive(Debug)]
struct Key {
    number: u64,
    turn: Turn,
    luma: Pyramid,
    matte: Vec<f32>,
    closer: Vec<Closer>,
}

/// Gives mattes to the frames that the model did not see.
#[derive(Debug)]
pub(crate) struct Carrier {
    small: Size,
    takes_turns: bool,
    /// In order; the oldest are those that the first frame that waits still needs.
    keys: VecDeque<Key>,
    /// Frames that wait until the model has seen one behind them, in every way.
    waiting: VecDeque<Frame>,
    draw: Draw,
    now: Pyramid,
    /// Used again.
    fields: Vec<Field>,
    spare: Vec<Key>,
}

/// Places of keys on both sides of a frame; both are the frame itself when it is one.
type Sides = [usize; 2];

impl Carrier {
    pub(crate) fn new(frame: Size, matte: Size, takes_turns: bool) -> Self {
        let small = small_size(frame);
        Self {
            small,
            takes_turns,
            keys: VecDeque::new(),
            waiting: VecDeque::new(),
            draw: Draw::new(small, matte),
            now: Pyramid::new(small),
            fields: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Takes the next frame; `give` gets those whose mattes are ready, in order.
    pub(crate) fn take<E>(&mut self, mut frame: Frame, mut give: impl FnMut(Frame) -> Result<(), E>) -> Result<(), E> {
        if let Some(turn) = frame.turn {
            self.keep(&mut frame, turn);
        }
        self.waiting.push_back(frame);
        while let Some((whole, closer)) = self.waiting.front().and_then(|frame| self.sides_of(frame.number)) {
            let Some(mut frame) = self.waiting.pop_front() else { break };
            self.carry(&mut frame, whole, closer);
            // The next frame needs nothing that lies before what this one needed.
            let needed = closer.map_or(whole[0], |closer| closer[0].min(whole[0]));
            self.spare.extend(self.keys.drain(..needed));
            give(frame)?;
        }
        Ok(())
    }

    /// Remembers a frame that the model saw.
    fn keep(&mut self, frame: &mut Frame, turn: Turn) {
        let number = frame.number;
        let mut key = self.spare.pop().unwrap_or_else(|| {
            let luma = Pyramid::new(self.small);
            Key { number, turn, luma, matte: Vec::new(), closer: Vec::new() }
        });
        (key.number, key.turn) = (number, turn);
        key.luma.fill(&frame.small);
        key.matte.clone_from(&frame.matte);
        std::mem::swap(&mut key.closer, &mut frame.closer);
        self.keys.push_back(key);
    }

    /// The keys on both sides of a frame, of those that were seen whole and of those that were looked at closer, once
    /// they are there.
    fn sides_of(&self, number: u64) -> Option<(Sides, Option<Sides>)> {
        let sides = |is_of: fn(Turn) -> bool| {
            let before = self.keys.iter().rposition(|key| key.number <= number && is_of(key.turn))?;
            let after = self.keys.iter().position(|key| key.number >= number && is_of(key.turn))?;
            Some([before, after])
        };
        let whole = sides(Turn::sees_whole)?;
        if !self.takes_turns {
            return Some((whole, None));
        }
        Some((whole, Some(sides(Turn::looks_closer)?)))
    }

    /// Makes the matte of a frame.
    fn carry(&mut self, frame: &mut Frame, whole: Sides, closer: Option<Sides>) {
        let is_seen = |sides: Sides| sides[0] == sides[1];
        let is_nothing = |sides: &Sides| sides.iter().all(|&side| self.keys[side].closer.is_empty());
        let closer = closer.filter(|sides| !is_nothing(sides));
        if is_seen(whole) && closer.is_none() {
            return;
        }
        self.now.fill(&frame.small);
        // One field for each key that is not the frame itself.
        let mut places: Vec<usize> = whole.into_iter().chain(closer.into_iter().flatten()).collect();
        places.sort_unstable();
        places.dedup();
        places.retain(|&place| self.keys[place].number != frame.number);
        while self.fields.len() < places.len() {
            self.fields.push(Field::new(self.small));
        }
        for (field, &place) in self.fields.iter_mut().zip(&places) {
            field.match_blocks(&self.now, &self.keys[place].luma);
        }
        let ways = |sides: Sides| -> Ways<'_> {
            let field = |side: usize| places.iter().position(|&place| place == side).map(|n| &self.fields[n]);
            let [before, after] = sides.map(|side| self.keys[side].number);
            #[expect(clippy::cast_precision_loss, reason = "counts of a few frames")]
            let time = (frame.number - before) as f32 / (after - before).max(1) as f32;
            Ways { fields: sides.map(field), time }
        };
        let (whole_ways, closer_ways) = (ways(whole), closer.map(ways));
        let sources = Sources {
            whole: whole.map(|side| self.keys[side].matte.as_slice()),
            closer: closer.map(|sides| sides.map(|side| self.keys[side].closer.as_slice())),
        };
        self.draw.draw(whole_ways, closer_ways, &sources, &mut frame.matte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 128, height: 72 };

    /// A bright disc on a busy ground, and its matte.
    fn frame(number: usize, turn: Option<Turn>) -> Frame {
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
        (frame.number, frame.turn, frame.matte) = (number as u64, turn, matte);
        let small = frame.yuv()[..SIZE.pixels()].to_vec();
        frame.small = small;
        frame
    }

    /// Frames as they come out of a carrier that has only the mattes of every fourth.
    fn carried(carrier: &mut Carrier, numbers: std::ops::RangeInclusive<usize>) -> Vec<Frame> {
        let mut out = Vec::new();
        let last = *numbers.end();
        for number in numbers {
            let mut frame = frame(number, (number % 4 == 0 || number == last).then_some(Turn::Whole));
            if frame.turn.is_none() {
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
        let out = carried(&mut Carrier::new(SIZE, SIZE, false), 0..=12);
        assert_eq!(out.len(), 13);
        for (number, found) in out.iter().enumerate() {
            let truth = frame(number, None).matte;
            let held = frame(number / 4 * 4, None).matte;
            let error = difference(&found.matte, &truth);
            assert!(number % 4 == 0 || error < difference(&held, &truth) / 3.0, "frame {number}: {error}");
        }
    }

    #[test]
    fn a_matte_of_the_model_is_not_touched() {
        let out = carried(&mut Carrier::new(SIZE, SIZE, false), 0..=9);
        for number in [0, 4, 8, 9] {
            assert!(out[number].matte == frame(number, None).matte);
        }
    }

    /// The model knows nothing of the disc's right half when it sees all, and nothing of its left half when it looks
    /// closer: what it says there is a guess.
    fn half_known(number: usize, turn: Option<Turn>) -> Frame {
        let mut frame = frame(number, turn);
        let middle = 24 + 4 * number;
        let closer = frame.matte.iter().enumerate().map(|(place, &value)| {
            let column = place % SIZE.width;
            if column >= middle { Closer([value, 1.0]) } else { Closer([0.5, 1.0]) }
        });
        frame.closer = closer.collect();
        for (_, value) in frame.matte.iter_mut().enumerate().filter(|(place, _)| place % SIZE.width >= middle) {
            *value = 0.5;
        }
        if !turn.is_some_and(Turn::sees_whole) {
            frame.matte.clear();
        }
        if !turn.is_some_and(Turn::looks_closer) {
            frame.closer.clear();
        }
        frame
    }

    #[test]
    fn each_frame_has_what_both_kinds_of_looks_know() {
        let mut carrier = Carrier::new(SIZE, SIZE, true);
        let mut out = Vec::new();
        for number in 0..=16 {
            let turn = match number {
                0 | 16 => Some(Turn::Both),
                4 | 12 => Some(Turn::Closer),
                8 => Some(Turn::Whole),
                _ => None,
            };
            let taken: Result<(), ()> = carrier.take(half_known(number, turn), |frame| {
                out.push(frame);
                Ok(())
            });
            taken.unwrap();
        }
        assert_eq!(out.iter().map(|frame| frame.number).collect::<Vec<_>>(), (0..=16).collect::<Vec<_>>());
        for (number, found) in out.iter().enumerate() {
            let truth = frame(number, None).matte;
            let whole = half_known(number, Some(Turn::Whole)).matte;
            let error = difference(&found.matte, &truth);
            assert!(error < difference(&whole, &truth) / 3.0, "frame {number}: {error}");
        }
    }

    #[test]
    fn where_there_was_no_closer_look_the_whole_one_is_all_there_is() {
        let mut carrier = Carrier::new(SIZE, SIZE, true);
        let mut out = Vec::new();
        for number in 0..=2 {
            let turn = if number == 1 { Turn::Whole } else { Turn::Both };
            let taken: Result<(), ()> = carrier.take(frame(number, Some(turn)), |frame| {
                out.push(frame);
                Ok(())
            });
            taken.unwrap();
        }
        assert!(out.iter().enumerate().all(|(number, found)| found.matte == frame(number, None).matte));
    }

    #[test]
    fn the_model_sees_every_so_manyth_frame_of_the_video_and_every_other_time_closer() {
        let luma = vec![0; SIZE.pixels()];
        let mut small = Vec::new();
        let mut turns = |takes_turns| -> Vec<_> {
            let mut pace = Pace::new(SIZE, 5, takes_turns);
            let mut turn = |number| pace.turn(number, [&luma, &[], &[]], &mut small).unwrap();
            (3..22).filter_map(|number| Some((number, turn(number)?))).collect()
        };
        let whole = Turn::Whole;
        assert_eq!(turns(false), [(5, whole), (10, whole), (15, whole), (20, whole)]);
        assert_eq!(turns(true), [(5, Turn::Closer), (10, whole), (15, Turn::Closer), (20, whole)]);
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

//! Scene cuts.
//!
//! Owns: telling a cut from motion. The frame is made tiny; a cut changes most of its places at once and the spread of
//! its brightness, and much more than the frames before it did (after the adaptive detectors of shot boundaries, as in
//! Lienhart, "Comparison of automatic shot boundary detection algorithms", 1999). A flash or a fade is no cut: what is
//! carried over them still fits.

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::frame::{Colour, Size};
use crate::scaling::Scaler;

const WIDTH: usize = 32;
const HEIGHT: usize = 18;
const BINS: usize = 16;
/// Mean absolute change of the tiny picture, of 255.
const LEAST_CHANGE: f32 = 22.0;
/// Against the mean change of the frames before.
const LEAST_RATIO: f32 = 4.0;
/// Share of the brightness that lies in other bins than before, 0..1.
const LEAST_SPREAD: f32 = 0.3;
/// Weight of the newest change in the mean.
const NEWEST: f32 = 0.2;

/// Watches the frames of one video.
#[derive(Debug)]
pub(crate) struct CutDetector {
    size: Size,
    scaler: Scaler,
    tiny: Vec<u8>,
    seen: Seen,
}

/// What is carried from frame to frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    before: Option<Vec<u8>>,
    usual_change: f32,
}

impl CutDetector {
    pub(crate) fn new(size: Size) -> Self {
        Self { size, scaler: Scaler::default(), tiny: vec![0; WIDTH * HEIGHT], seen: Seen::default() }
    }

    /// Of the frames so far.
    pub(crate) const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Goes on behind frames that were seen by another one.
    pub(crate) fn resume(&mut self, seen: Seen) {
        self.seen = Seen { before: seen.before.filter(|tiny| tiny.len() == WIDTH * HEIGHT), ..seen };
    }

    /// Whether this frame begins a scene; the first one does.
    pub(crate) fn starts_scene(&mut self, colour: Colour<'_>) -> Result<bool, EngineError> {
        let tiny = Size { width: WIDTH, height: HEIGHT };
        self.scaler.shrink(colour[0], self.size, &mut self.tiny, tiny)?;
        let Some(before) = &mut self.seen.before else {
            self.seen.before = Some(self.tiny.clone());
            return Ok(true);
        };
        let change = change(before, &self.tiny);
        let is_cut = change >= LEAST_CHANGE
            && change >= self.seen.usual_change * LEAST_RATIO
            && spread(before, &self.tiny) >= LEAST_SPREAD;
        before.copy_from_slice(&self.tiny);
        // The change of a cut says nothing about the motion in its scenes.
        if !is_cut {
            self.seen.usual_change += (change - self.seen.usual_change) * NEWEST;
        }
        Ok(is_cut)
    }
}

fn change(before: &[u8], now: &[u8]) -> f32 {
    let sum: u32 = before.iter().zip(now).map(|(before, now)| u32::from(before.abs_diff(*now))).sum();
    sum as f32 / now.len() as f32
}

fn spread(before: &[u8], now: &[u8]) -> f32 {
    let histogram = |picture: &[u8]| {
        let mut bins = [0_i32; BINS];
        for value in picture {
            if let Some(bin) = bins.get_mut(usize::from(*value) * BINS / 256) {
                *bin += 1;
            }
        }
        bins
    };
    let (before, after) = (histogram(before), histogram(now));
    let moved: i32 = before.iter().zip(after).map(|(before, after)| (before - after).abs()).sum();
    moved as f32 / (2 * now.len()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 64, height: 36 };

    /// Bright bars on dark, moved by `phase` px.
    fn bars(phase: usize, width: usize, [dark, bright]: [u8; 2]) -> Vec<u8> {
        (0..SIZE.pixels())
            .map(|place| if ((place % SIZE.width + phase) / width).is_multiple_of(2) { dark } else { bright })
            .collect()
    }

    fn cuts(frames: &[Vec<u8>]) -> Vec<usize> {
        let mut detector = CutDetector::new(SIZE);
        let starts = |frame: &Vec<u8>| detector.starts_scene([frame, &[], &[]]).unwrap();
        let starts: Vec<bool> = frames.iter().map(starts).collect();
        starts.iter().enumerate().filter(|(_, starts)| **starts).map(|(index, _)| index).collect()
    }

    #[test]
    fn a_cut_is_found_where_it_is() {
        let first = (0..10).map(|frame| bars(frame, 16, [20, 60]));
        let second = (0..10).map(|frame| bars(frame, 16, [120, 220]));
        assert_eq!(cuts(&first.chain(second).collect::<Vec<_>>()), [0, 10]);
    }

    #[test]
    fn motion_is_no_cut_however_fast() {
        let frames: Vec<_> = (0..20).map(|frame| bars(frame * 7, 16, [20, 220])).collect();
        assert_eq!(cuts(&frames), [0]);
    }

    #[test]
    fn a_fade_is_no_cut() {
        let frames: Vec<_> = (0..20_u8).map(|frame| bars(0, 16, [20 + frame * 8, 60 + frame * 8])).collect();
        assert_eq!(cuts(&frames), [0]);
    }
}

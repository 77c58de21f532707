//! A still model that looks at the whole frame and closer at its subject by turns.
//!
//! Where mattes are carried between the frames that a model sees, those need not all be seen alike: every other time it
//! is shown a region of its subject at its full resolution, as large as it saw it before *and will see it next*, so a
//! subject on the move is not cut off. Both kinds of mattes are carried to all frames and put together there
//! ([`crate::carried`]): for the same number of runs each frame has what both looks know.
//! Invariants: where the model is unsure of what it sees it does not look closer: that would make its error larger; of
//! several subjects each has its turn; what is looked at follows from the frames of a scene, or of a segment, alone.

use serde::{Deserialize, Serialize};

use super::attention::{FirstLook, GRID, THERE, check_last, regions};
use super::crop::Cropper;
use super::found::Region;
use super::{Matter, NetworkMatter, Stopper, from_bytes, scaled_to, to_bytes};
use crate::error::EngineError;
use crate::frame::{Closer, Frame, Sight, Size, Turn};
use crate::registry::InputSpec;

/// The longer side of a matte, px: about what a look at a region can resolve.
const MAX_MATTE_SIDE: usize = 640;

/// Mean of |2·alpha − 1| within what was found, below which the model does not know what it sees: 0.57 at most where a
/// street without a subject was taken for one, 0.74 at least where there was one.
const LEAST_SURE: f32 = 0.65;

/// What is carried from frame to frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TurnState {
    /// The last matte of a whole frame on the grid, 0..1.
    last: Vec<f32>,
    /// Closer looks since the scene began.
    turns: usize,
}

/// A still model that takes turns.
pub(super) struct TurningMatter {
    still: NetworkMatter,
    /// Regions that are looked at in a turn, at most.
    looks: usize,
    cropper: Cropper,
    state: TurnState,
    first: FirstLook,
}

impl TurningMatter {
    pub(super) fn new(still: NetworkMatter, looks: usize) -> Self {
        Self { still, looks, cropper: Cropper::default(), state: TurnState::default(), first: FirstLook::default() }
    }

    /// What is seen of the regions whose turn it is; `seen` is where the subject may be.
    fn look_closer(&mut self, sight: Sight<'_>, seen: &[f32], closer: &mut Vec<Closer>) -> Result<(), EngineError> {
        closer.clear();
        let mut regions = regions(seen, sight.size);
        regions.retain(|region| sureness(seen, region, sight.size) >= LEAST_SURE);
        let whole = self.matte_size(sight.size);
        let first = self.state.turns % regions.len().max(1);
        for region in regions.iter().cycle().skip(first).take(self.looks.min(regions.len())) {
            self.state.turns += 1;
            closer.resize(whole.pixels(), Closer::default());
            self.cropper.add(region, sight, &mut self.still, whole, closer, surer)?;
        }
        Ok(())
    }
}

/// Of regions that overlap the one in whose middle a place lies.
fn surer(there: Closer, seen: f32, trust: f32) -> Closer {
    if trust > there.0[1] { Closer([seen * trust, trust]) } else { there }
}

impl Matter for TurningMatter {
    fn input(&self) -> Option<&InputSpec> {
        self.still.input()
    }

    fn picture_size(&self, source: Size) -> Size {
        self.still.picture_size(source)
    }

    fn matte_size(&self, source: Size) -> Size {
        scaled_to(source, source.width.max(source.height).min(MAX_MATTE_SIDE), 1)
    }

    fn every(&self) -> u32 {
        self.still.every()
    }

    fn takes_turns(&self) -> bool {
        true
    }

    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError> {
        self.forget();
        self.still.begin(prompt)
    }

    fn forget(&mut self) {
        self.state = TurnState::default();
        self.still.forget();
    }

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        let whole = self.matte_size(sight.size);
        self.first.take(&mut self.still, sight, [picture, whole], matte)
    }

    /// Whole frames first: a region is looked at where the subject was before it and will be after it.
    fn mattes(&mut self, frames: &mut [Frame], picture: Size) -> Result<(), EngineError> {
        let mut seen = std::mem::take(&mut self.state.last);
        for frame in frames.iter_mut().filter(|frame| frame.turn.is_some_and(Turn::sees_whole)) {
            let (sight, matte) = frame.sight_and_matte();
            self.matte(sight, picture, matte)?;
            seen.resize(GRID.pixels(), 0.0);
            seen.iter_mut().zip(&self.first.grid).for_each(|(seen, now)| *seen = seen.max(*now));
            self.state.last.clone_from(&self.first.grid);
        }
        for frame in frames.iter_mut().filter(|frame| frame.turn.is_some_and(Turn::looks_closer)) {
            let mut closer = std::mem::take(&mut frame.closer);
            if !seen.is_empty() {
                self.look_closer(frame.sight_and_matte().0, &seen, &mut closer)?;
            }
            frame.closer = closer;
        }
        if self.state.last.is_empty() {
            self.state.last = seen;
        }
        Ok(())
    }

    fn warm_up(&mut self, source: Size) -> Result<(), EngineError> {
        self.still.warm_up(source)
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        to_bytes(&self.state)
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), EngineError> {
        let state: TurnState = from_bytes(saved)?;
        check_last(&state.last)?;
        self.state = state;
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        self.still.stopper()
    }
}

/// How sure the model is of what it found in a region, 0..1.
fn sureness(grid: &[f32], region: &Region, frame: Size) -> f32 {
    let (x, y) = (GRID.width as f32 / frame.width as f32, GRID.height as f32 / frame.height as f32);
    let (mut sum, mut count) = (0.0, 0.0_f32);
    for (place, value) in grid.iter().enumerate().filter(|(_, value)| **value >= THERE) {
        let (column, row) = ((place % GRID.width) as f32 + 0.5, (place / GRID.width) as f32 + 0.5);
        if (region.left * x..region.right * x).contains(&column) && (region.top * y..region.bottom * y).contains(&row) {
            sum += (2.0 * value - 1.0).abs();
            count += 1.0;
        }
    }
    sum / count.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Size = Size { width: 640, height: 360 };

    #[test]
    fn what_is_half_there_is_not_sure_and_what_lies_outside_does_not_count() {
        let mut grid = vec![0.0; GRID.pixels()];
        for row in 10..20 {
            grid[row * GRID.width + 5..][..10].fill(0.6);
            grid[row * GRID.width + 40..][..10].fill(1.0);
        }
        let region = |left: f32| Region { left, top: 50.0, right: left + 130.0, bottom: 120.0 };
        assert!((sureness(&grid, &region(40.0), FRAME) - 0.2).abs() < 1e-3);
        assert_eq!(sureness(&grid, &region(390.0), FRAME), 1.0);
        assert_eq!(sureness(&grid, &region(200.0), FRAME), 0.0);
    }
}

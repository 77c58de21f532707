//! A second, closer look of a still model at its subject.
//!
//! Such a model sees the frame squeezed to a few hundred pixels. It is shown the regions of what it found as well,
//! each at its full resolution, and both mattes are put together by how sure they are: what one look misses the other
//! has, and outside of the regions the first look is all there is, so nothing is lost that a region left out.
//! A region also covers what was found in the frame before: a subject that the first look overlooks for some frames is
//! looked at all the same.
//! Invariants: no region, no second look; a frame in which nothing was ever found stays empty.

use serde::{Deserialize, Serialize};

use super::crop::Cropper;
use super::found::Region;
use super::{Matter, NetworkMatter, Stopper, from_bytes, scaled_to, to_bytes};
use crate::error::EngineError;
use crate::frame::{Sight, Size};
use crate::pipeline::stretch::broken_handover;
use crate::registry::InputSpec;
use crate::scaling::MatteScaler;

/// The longer side of a matte, px: about what two looks can resolve.
const MAX_MATTE_SIDE: usize = 960;

/// The grid on which regions are found.
pub(super) const GRID: Size = Size { width: 64, height: 64 };

/// Alpha from which something is there.
pub(super) const THERE: f32 = 0.3;
/// Of the frame, which a region must cover at least, before its margin.
const LEAST_AREA: f32 = 0.002;
/// Of the frame: a region larger than that is seen as well in the whole frame.
const MOST_AREA: f32 = 0.75;
/// Two regions become one if that covers at most so much more than they do.
const JOINED: f32 = 1.2;
/// What is seen around a region is at least so much of it; the cropper adds to it.
const LEAST_MARGIN: f32 = 0.04;

/// How much the closer look counts where it sees more, and where it sees less than the first: what it adds is rarely
/// wrong; what it takes away may only be out of its sight.
const ADDS: f32 = 2.0;
const TAKES: f32 = 0.7;
/// How sure a look is of what it does not know.
const LEAST_SURE: f32 = 0.02;

/// What is carried from frame to frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttentionState {
    /// The last matte on the grid, 0..1.
    last: Vec<f32>,
}

/// A still model that looks twice.
pub(super) struct AttentiveMatter {
    still: NetworkMatter,
    /// Regions that are looked at, at most.
    looks: usize,
    cropper: Cropper,
    state: AttentionState,
    first: FirstLook,
    /// From mattes of this size to the grid.
    whole_to_grid: Option<(Size, MatteScaler)>,
}

/// A look at the whole frame: its matte, and the same on the grid.
#[derive(Default)]
pub(super) struct FirstLook {
    pub(super) grid: Vec<f32>,
    found: Vec<f32>,
    scalers: Option<Scalers>,
}

/// For mattes of one size.
struct Scalers {
    whole: Size,
    to_whole: MatteScaler,
    to_grid: MatteScaler,
}

impl FirstLook {
    /// Sizes are of the model's picture and of the matte.
    pub(super) fn take(
        &mut self,
        still: &mut NetworkMatter,
        sight: Sight<'_>,
        [picture, whole]: [Size; 2],
        matte: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        still.infer(sight.picture, picture, &mut self.found)?;
        let scalers = self.scalers.take().filter(|scalers| scalers.whole == whole);
        let scalers = self.scalers.insert(scalers.unwrap_or_else(|| Scalers {
            whole,
            to_whole: MatteScaler::new(picture, whole),
            to_grid: MatteScaler::new(picture, GRID),
        }));
        scalers.to_grid.scale(&self.found, &mut self.grid)?;
        scalers.to_whole.scale(&self.found, matte)
    }
}

/// Whether a matte that another run saw last is one on the grid.
pub(super) fn check_last(last: &[f32]) -> Result<(), EngineError> {
    let fits = [0, GRID.pixels()].contains(&last.len());
    if fits { Ok(()) } else { Err(broken_handover(&"its last matte is of another size")) }
}

impl AttentiveMatter {
    pub(super) fn new(still: NetworkMatter, looks: usize) -> Self {
        let (state, first) = (AttentionState::default(), FirstLook::default());
        Self { still, looks, cropper: Cropper::default(), state, first, whole_to_grid: None }
    }
}

impl Matter for AttentiveMatter {
    fn input(&self) -> Option<&InputSpec> {
        self.still.input()
    }

    fn picture_size(&self, source: Size) -> Size {
        self.still.picture_size(source)
    }

    fn matte_size(&self, source: Size) -> Size {
        scaled_to(source, source.width.max(source.height).min(MAX_MATTE_SIDE), 1)
    }

    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError> {
        self.forget();
        self.still.begin(prompt)
    }

    fn forget(&mut self) {
        self.state = AttentionState::default();
        self.still.forget();
    }

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        let whole = self.matte_size(sight.size);
        self.first.take(&mut self.still, sight, [picture, whole], matte)?;
        for (now, before) in self.first.grid.iter_mut().zip(&self.state.last) {
            *now = now.max(*before);
        }
        for region in regions(&self.first.grid, sight.size).iter().take(self.looks) {
            self.cropper.add(region, sight, &mut self.still, whole, matte, fused)?;
        }
        let to_grid = self.whole_to_grid.take().filter(|(size, _)| *size == whole);
        let (_, to_grid) = self.whole_to_grid.insert(to_grid.unwrap_or_else(|| (whole, MatteScaler::new(whole, GRID))));
        to_grid.scale(matte, &mut self.state.last)
    }

    fn every(&self) -> u32 {
        self.still.every()
    }

    fn warm_up(&mut self, source: Size) -> Result<(), EngineError> {
        self.still.warm_up(source)
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        to_bytes(&self.state)
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), EngineError> {
        let state: AttentionState = from_bytes(saved)?;
        check_last(&state.last)?;
        self.state = state;
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        self.still.stopper()
    }
}

/// Two looks at one place; `trust` of the closer one falls towards its borders, 0..1.
#[inline(always)]
fn fused(first: f32, closer: f32, trust: f32) -> f32 {
    fused_by(first, 1.0, closer, 1.0, trust)
}

/// The same of looks that may have been carried here from other frames; each with how well it was found, 0..1.
#[inline(always)]
pub(crate) fn fused_by(first: f32, first_found: f32, closer: f32, closer_found: f32, trust: f32) -> f32 {
    let sure = |value: f32| (2.0 * value - 1.0).abs() + LEAST_SURE;
    let weight = sure(closer) * closer_found * if closer > first { ADDS } else { TAKES };
    let own = sure(first) * first_found;
    let both = (first * own + closer * weight) / (own + weight);
    first + (both - first) * trust
}

/// The regions of a matte on the grid, in px of the frame, the largest first.
pub(super) fn regions(grid: &[f32], frame: Size) -> Vec<Region> {
    let mut regions: Vec<Region> = islands(grid).into_iter().map(|island| in_frame(island, frame)).collect();
    let area = frame.pixels() as f32;
    regions.retain(|region| region.area() >= LEAST_AREA * area);
    while let Some((one, other, joined)) = joinable(&regions) {
        regions.swap_remove(other);
        if let Some(region) = regions.get_mut(one) {
            *region = joined;
        }
    }
    regions.retain(|region| region.area() <= MOST_AREA * area);
    regions.sort_by(|one, other| other.area().total_cmp(&one.area()));
    regions
}

/// Two regions that are better seen as one, the first of them before the other.
fn joinable(regions: &[Region]) -> Option<(usize, usize, Region)> {
    let pairs = (0..regions.len()).flat_map(|other| (0..other).map(move |one| (one, other)));
    pairs
        .filter_map(|(one, other)| Some((one, other, regions.get(one)?.joined(regions.get(other)?), [one, other])))
        .find(|(_, _, joined, both)| {
            let apart: f32 = both.iter().filter_map(|&place| regions.get(place)).map(Region::area).sum();
            joined.area() <= JOINED * apart
        })
        .map(|(one, other, joined, _)| (one, other, joined))
}

/// Left, top, right and bottom of each connected piece, in cells.
fn islands(grid: &[f32]) -> Vec<[usize; 4]> {
    let mut seen = vec![false; grid.len()];
    let mut islands = Vec::new();
    let mut open = Vec::new();
    for start in 0..grid.len() {
        let mut bounds = [usize::MAX, usize::MAX, 0, 0];
        open.push(start);
        while let Some(place) = open.pop() {
            if grid[place] < THERE || std::mem::replace(&mut seen[place], true) {
                continue;
            }
            let (x, y) = (place % GRID.width, place / GRID.width);
            bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1), bounds[3].max(y + 1)];
            for row in y.saturating_sub(1)..(y + 2).min(GRID.height) {
                open.extend((x.saturating_sub(1)..(x + 2).min(GRID.width)).map(|x| row * GRID.width + x));
            }
        }
        if bounds[2] > 0 {
            islands.push(bounds);
        }
    }
    islands
}

fn in_frame([left, top, right, bottom]: [usize; 4], frame: Size) -> Region {
    let (x, y) = (frame.width as f32 / GRID.width as f32, frame.height as f32 / GRID.height as f32);
    let region =
        Region { left: left as f32 * x, top: top as f32 * y, right: right as f32 * x, bottom: bottom as f32 * y };
    region.widened(LEAST_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Size = Size { width: 640, height: 640 };

    fn grid(pieces: &[[usize; 4]]) -> Vec<f32> {
        let inside = |x: usize, y: usize| {
            pieces.iter().any(|[left, top, right, bottom]| (*left..*right).contains(&x) && (*top..*bottom).contains(&y))
        };
        (0..GRID.pixels()).map(|place| f32::from(inside(place % GRID.width, place / GRID.width))).collect()
    }

    #[test]
    fn each_subject_has_its_region_and_neighbours_share_one() {
        let apart = regions(&grid(&[[2, 2, 12, 22], [40, 40, 52, 60]]), FRAME);
        assert_eq!(apart.len(), 2);
        assert!(apart[0].left < 400.0 && apart[0].right > 520.0 && apart[0].top < 400.0, "{apart:?}");
        let near = regions(&grid(&[[2, 2, 12, 22], [13, 2, 23, 22]]), FRAME);
        assert_eq!(near.len(), 1, "{near:?}");
    }

    #[test]
    fn an_empty_frame_and_one_that_is_all_subject_have_no_region() {
        assert!(regions(&grid(&[]), FRAME).is_empty());
        assert!(regions(&grid(&[[0, 0, 64, 64]]), FRAME).is_empty());
    }

    #[test]
    fn a_closer_look_may_add_more_than_it_may_take() {
        assert_eq!(fused(0.0, 0.0, 1.0), 0.0);
        assert!(fused(0.0, 1.0, 1.0) > 0.6);
        assert!(fused(1.0, 0.0, 1.0) > 0.5, "a subject that one look sees is not lost");
        assert!(fused(0.5, 1.0, 1.0) > 0.95, "who does not know is outvoted");
        assert_eq!(fused(0.3, 1.0, 0.0), 0.3);
    }
}

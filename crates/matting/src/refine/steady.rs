//! Mattes that hold still where the picture does.
//!
//! A model judges parts of a frame otherwise than those of the frame before although they look the same: holes open
//! and close, pieces of the background come and go. Here the mattes of one place on its way through the picture are
//! put together, of all frames before (with ever less weight) and [`super::LOOK_AHEAD`] after it; where the picture does not
//! match, the frame's own matte is all there is. The mean of frames that disagree would be a haze: it is decided by
//! their majority, and softness that each of the frames has by itself stays what it is.
//!
//! Works on a small grid; what changes there is added to the matte at its own size, so that nothing is blurred.
//! Invariants: an own matte always counts at least as much as any other frame's; nothing passes a scene cut; where
//! all frames say nothing the result is nothing. Follows from the frames alone, the same bits always.

use serde::{Deserialize, Serialize};

use crate::frame::Size;
use crate::lanes::widest;
use crate::motion::Field;
use crate::refine::along::{Unlike, likeness, move_along};

/// What another frame's matte weighs against the own one, when the picture matches perfectly.
const DECAY: f32 = 0.85;

/// How hard the majority decides; 0 would leave the mean.
const MAJORITY: f32 = 6.0;

/// A frame on the grid.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub luma: Vec<u8>,
    /// 0..1.
    pub matte: Vec<f32>,
}

/// What was seen along the ways that lead to a frame's places.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trace {
    luma: Vec<u8>,
    /// Mean matte, 0..1.
    mean: Vec<f32>,
    /// Mean of m·(1 − m): how soft the frames are by themselves.
    soft: Vec<f32>,
    /// How much was seen; a frame counts 1.
    weight: Vec<f32>,
}

impl Trace {
    pub(crate) fn is_empty(&self) -> bool {
        self.luma.is_empty()
    }

    pub(crate) fn luma(&self) -> &[u8] {
        &self.luma
    }

    fn begin(&mut self, look: &Look) {
        self.luma.clone_from(&look.luma);
        self.mean.clone_from(&look.matte);
        self.soft.clear();
        self.soft.extend(look.matte.iter().map(|&matte| matte * (1.0 - matte)));
        self.weight.clear();
        self.weight.resize(look.matte.len(), 1.0);
    }
}

/// Puts frames of one size together. All buffers.
#[derive(Debug)]
pub(crate) struct Steadier {
    grid: Size,
    /// The other frame's trace, moved to where its places are now.
    moved: Trace,
    unlike: Unlike,
    ahead: Trace,
    /// What was decided, on the grid.
    decided: Vec<f32>,
}

impl Steadier {
    pub(crate) fn new(grid: Size) -> Self {
        Self { grid, moved: Trace::default(), unlike: Unlike::default(), ahead: Trace::default(), decided: Vec::new() }
    }

    /// The matte of a frame, on the grid. `past` leads to the frame before and then to this one.
    ///
    /// `to_past` is where the frame's places were; `next` are the frames after it, each with where the places of the
    /// one before it are in it.
    pub(crate) fn decide(
        &mut self,
        past: &mut Trace,
        to_past: Option<&Field>,
        look: &Look,
        next: &[(&Field, &Look)],
    ) -> &[f32] {
        match to_past.filter(|_| !past.is_empty()) {
            None => past.begin(look),
            Some(field) => self.step(past, field, look),
        }
        let mut ahead = std::mem::take(&mut self.ahead);
        let has_next = !next.is_empty();
        if let Some((_, last)) = next.last() {
            ahead.begin(last);
        }
        for (place, (field, _)) in next.iter().enumerate().rev() {
            let of = place.checked_sub(1).and_then(|place| next.get(place)).map_or(look, |(_, look)| *look);
            self.step(&mut ahead, field, of);
        }
        self.decided.clear();
        if has_next {
            let both = past.mean.iter().zip(&past.soft).zip(&past.weight);
            let both = both.zip(ahead.mean.iter().zip(&ahead.soft).zip(&ahead.weight)).zip(&look.matte);
            self.decided.extend(both.map(|((((mean, soft), weight), ((mean_then, soft_then), weight_then)), own)| {
                // The frame itself is in both.
                let all = weight + weight_then - 1.0;
                let mean = (mean * weight + mean_then * weight_then - own) / all;
                let soft = (soft * weight + soft_then * weight_then - own * (1.0 - own)) / all;
                by_majority(mean, soft)
            }));
        } else {
            self.decided.extend(past.mean.iter().zip(&past.soft).map(|(&mean, &soft)| by_majority(mean, soft)));
        }
        self.ahead = ahead;
        &self.decided
    }

    /// Takes a trace from one frame to `look`, whose places were where `field` says.
    fn step(&mut self, trace: &mut Trace, field: &Field, look: &Look) {
        self.carry(trace, field);
        let unlike = self.unlike.measure(self.grid, &look.luma, &self.moved.luma);
        std::mem::swap(trace, &mut self.moved);
        trace.luma.clone_from(&look.luma);
        let state = trace.mean.iter_mut().zip(&mut trace.soft).zip(&mut trace.weight);
        widest(
            #[inline(always)]
            || {
                for ((((mean, soft), weight), &own), &unlike) in state.zip(&look.matte).zip(unlike) {
                    let other = DECAY * likeness(unlike) * *weight;
                    let all = 1.0 + other;
                    *mean = (own + other * *mean) / all;
                    *soft = (own * (1.0 - own) + other * *soft) / all;
                    *weight = all;
                }
            },
        );
    }

    /// Moves a trace along the field into `moved`.
    fn carry(&mut self, trace: &Trace, field: &Field) {
        move_along(field, self.grid, &trace.luma, &mut self.moved.luma);
        move_along(field, self.grid, &trace.mean, &mut self.moved.mean);
        move_along(field, self.grid, &trace.soft, &mut self.moved.soft);
        move_along(field, self.grid, &trace.weight, &mut self.moved.weight);
    }
}

/// Frames that disagree spread more than each of them is soft.
#[inline(always)]
fn by_majority(mean: f32, soft: f32) -> f32 {
    let disagreement = (mean * (1.0 - mean) - soft).max(0.0);
    let decided = (mean - 0.5) * (1.0 + MAJORITY * disagreement) + 0.5;
    decided.clamp(0.0, 1.0)
}

//! Between the model and the encoder: mattes are steadied over time, their edges refined, and judged.
//!
//! Owns: the frames that wait for those after them, alpha at the frame's size, the order of the techniques. Does not
//! own: the techniques themselves (`steady`, `edges`), how a judgement is made (`quality`).
//! Invariants: at most [`LOOK_AHEAD`] frames wait, and never over a scene cut; a frame's result follows from the state
//! before it, the frame and those that it looks ahead to, and from nothing else.

mod along;
mod edges;
mod near;
mod steady;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub(crate) use self::along::{Unlike, grid_of, likeness, move_along};
use self::edges::Edges;
pub(crate) use self::steady::Look;
use self::steady::{Steadier, Trace};
use crate::error::EngineError;
use crate::frame::{Frame, Size};
use crate::motion::{Field, Pyramid};
use crate::quality::{Judge, JudgeState};
use crate::scaling::{MatteScaler, Scaler};
use crate::techniques::Techniques;

/// Frames after one that say what its matte becomes.
pub(crate) const LOOK_AHEAD: usize = 2;

/// Frames after which hardly anything is left of not having seen those before.
pub(crate) const LEAD_IN: u64 = 8;

/// What is carried from frame to frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RefineState {
    past: Trace,
    judge: JudgeState,
}

/// A frame that waits for those after it.
#[derive(Debug)]
struct Waiting {
    frame: Frame,
    look: Look,
    /// Where its places are in the frame before it, unless a scene starts.
    to_past: Option<Field>,
    /// Where its places are in the frame after it, when there is one of the same scene.
    to_next: Option<Field>,
}

/// Refines the mattes of frames of one size.
#[derive(Debug)]
pub(crate) struct Refiner {
    techniques: Techniques,
    frame: Size,
    grid: Size,
    matte: Size,
    state: RefineState,
    waiting: VecDeque<Waiting>,
    steadier: Steadier,
    edges: Edges,
    judge: Judge,
    to_frame: MatteScaler,
    to_grid: MatteScaler,
    correction: Vec<f32>,
    scaler: Scaler,
    /// Of the newest frame, and of the one before it.
    pyramids: [Pyramid; 2],
    /// Used again.
    looks: Vec<Look>,
    fields: Vec<Field>,
}

impl Refiner {
    pub(crate) fn new(techniques: Techniques, frame: Size, matte: Size) -> Self {
        let grid = grid_of(frame);
        Self {
            techniques,
            frame,
            grid,
            matte,
            state: RefineState::default(),
            waiting: VecDeque::new(),
            steadier: Steadier::new(grid),
            edges: Edges::new(frame),
            judge: Judge::new(grid),
            to_frame: MatteScaler::new(matte, frame),
            to_grid: MatteScaler::new(matte, grid),
            correction: Vec::new(),
            scaler: Scaler::default(),
            pyramids: [Pyramid::new(grid), Pyramid::new(grid)],
            looks: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// Goes on behind a border.
    pub(crate) fn resume(&mut self, state: RefineState) {
        self.waiting.clear();
        if !state.past.is_empty() {
            self.pyramids[0].fill(state.past.luma());
        }
        self.state = state;
    }

    /// Takes the next frame; `give` gets those that are ready, in order.
    pub(crate) fn take<E: From<EngineError>>(
        &mut self,
        frame: Frame,
        mut give: impl FnMut(&mut Self, Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        if frame.starts_scene {
            // Nothing of the scene before waits for it.
            self.end(&mut give)?;
        }
        self.look_at(frame)?;
        while self.waiting.len() > LOOK_AHEAD {
            self.give_first(&mut give)?;
        }
        Ok(())
    }

    /// There are no more frames.
    pub(crate) fn end<E: From<EngineError>>(
        &mut self,
        mut give: impl FnMut(&mut Self, Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.waiting.is_empty() {
            self.give_first(&mut give)?;
        }
        Ok(())
    }

    fn look_at(&mut self, frame: Frame) -> Result<(), EngineError> {
        let mut look = self.looks.pop().unwrap_or_default();
        look.luma.resize(self.grid.pixels(), 0);
        let (colour, matte) = frame.colour_and_matte();
        self.scaler.on_grid(self.frame, (colour[0], self.frame), &mut look.luma, self.grid)?;
        self.to_grid.scale(matte, &mut look.matte)?;
        self.pyramids.swap(0, 1);
        self.pyramids[0].fill(&look.luma);
        let is_first = self.waiting.is_empty() && self.state.past.is_empty();
        let mut to_past = None;
        if !frame.starts_scene && !is_first {
            let [now, before] = &self.pyramids;
            to_past = Some(matched(&mut self.fields, self.grid, now, before));
            if let Some(last) = self.waiting.back_mut() {
                last.to_next = Some(matched(&mut self.fields, self.grid, before, now));
            }
        }
        self.waiting.push_back(Waiting { frame, look, to_past, to_next: None });
        Ok(())
    }

    fn give_first<E: From<EngineError>>(
        &mut self,
        give: &mut impl FnMut(&mut Self, Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(mut first) = self.waiting.pop_front() else { return Ok(()) };
        if let Some(border) = &mut first.frame.border {
            border.handover.refine = self.state.clone();
        }
        self.finish(&mut first)?;
        let Waiting { frame, look, to_past, to_next } = first;
        self.looks.push(look);
        self.fields.extend(to_past.into_iter().chain(to_next));
        give(self, frame)
    }

    fn finish(&mut self, first: &mut Waiting) -> Result<(), EngineError> {
        let Waiting { frame, look, to_past, to_next } = first;
        let mut next = Vec::with_capacity(LOOK_AHEAD);
        let mut field = to_next.as_ref();
        for after in &self.waiting {
            let Some(there) = field else { break };
            next.push((there, &after.look));
            field = after.to_next.as_ref();
        }
        let decided = self.steadier.decide(&mut self.state.past, to_past.as_ref(), look, &next);
        if self.techniques.steady {
            self.correction.clear();
            self.correction.extend(decided.iter().zip(&look.matte).map(|(decided, own)| decided - own));
            if self.correction.iter().any(|&change| change != 0.0) {
                add_enlarged(&self.correction, self.grid, &mut frame.matte, self.matte);
            }
        }
        let (mut planes, matte) = frame.planes_and_matte();
        self.to_frame.scale_to_bytes(matte, planes.alpha)?;
        if self.techniques.edges {
            self.edges.refine(&mut planes)?;
        }
        let alpha = &*planes.alpha;
        let score = self.judge.judge(&mut self.state.judge, self.frame, alpha, look, decided, to_past.as_ref())?;
        frame.score = Some(score);
        Ok(())
    }
}

/// Where the places of one frame are in another.
fn matched(fields: &mut Vec<Field>, grid: Size, of: &Pyramid, within: &Pyramid) -> Field {
    let mut field = fields.pop().unwrap_or_else(|| Field::new(grid));
    field.match_blocks(of, within);
    field
}

/// Adds a plane to a matte of another size, drawn in straight lines.
fn add_enlarged(plane: &[f32], size: Size, matte: &mut [f32], matte_size: Size) {
    let columns: Vec<(usize, usize, f32)> =
        (0..matte_size.width).map(|x| between(x, matte_size.width, size.width)).collect();
    let mut row = vec![0.0; size.width];
    for (y, out) in matte.chunks_exact_mut(matte_size.width).enumerate() {
        let (upper, lower, part) = between(y, matte_size.height, size.height);
        let (upper, lower) = (&plane[upper * size.width..][..size.width], &plane[lower * size.width..][..size.width]);
        let mut is_nothing = true;
        for ((value, &upper), &lower) in row.iter_mut().zip(upper).zip(lower) {
            *value = upper + (lower - upper) * part;
            is_nothing &= *value == 0.0;
        }
        if is_nothing {
            continue;
        }
        for (value, &(left, right, part)) in out.iter_mut().zip(&columns) {
            let change = row[left] + (row[right] - row[left]) * part;
            *value = (*value + change).clamp(0.0, 1.0);
        }
    }
}

/// The two lines of a grid between which a line lies, and how far it is from the first.
fn between(place: usize, of: usize, grid: usize) -> (usize, usize, f32) {
    let place = ((place as f32 + 0.5) * (grid as f32 / of as f32) - 0.5).clamp(0.0, (grid - 1) as f32);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the grid")]
    let first = place as usize;
    (first, (first + 1).min(grid - 1), place - first as f32)
}

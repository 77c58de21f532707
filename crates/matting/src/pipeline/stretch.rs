//! A stretch: the part of a video that one run of the pipeline works on.
//!
//! Owns: where it begins and ends, what is handed over at the borders within it. A stage that carries something from
//! frame to frame puts what it carried *before* the frame at a border into that frame's [`Handover`]; a later run that
//! begins there takes it up, and makes the same mattes, bit for bit, as if there had been no border.

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::refine::RefineState;
use crate::scene::Seen;

/// What all stages carried from frame to frame, before a certain frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handover {
    pub cuts: Seen,
    /// Of the model: [`crate::model::Matter::save`].
    pub matter: Vec<u8>,
    pub refine: RefineState,
}

/// On the first frame of a segment.
#[derive(Debug)]
pub(crate) struct Border {
    pub handover: Handover,
    /// The stretch ends before this frame: it and those behind it are only looked at.
    pub ends_stretch: bool,
}

/// What a frame is to a stretch that comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// In the middle of a segment.
    Inside,
    /// The first frame of a segment.
    Border,
    /// The first frame of a segment that others have made.
    End,
}

/// Tells the borders between segments.
pub(crate) trait Borders: Sync {
    /// What the frame of this number is. Asked once for each, in order, but never for the stretch's first.
    fn crossing(&self, number: u64) -> Crossing;
}

/// The part of a video that one run of the pipeline works on.
pub(crate) struct Stretch<'a> {
    /// Number of the first frame that counts.
    pub first: u64,
    /// Frames before it that are worked on and thrown away, so that what is carried is as if all had been seen.
    pub lead_in: u64,
    /// What was carried before the first frame, when that is known; there is no lead-in then.
    pub carried: Option<Handover>,
    pub borders: Option<&'a dyn Borders>,
}

impl Stretch<'_> {
    /// All of a video, in one piece.
    pub(crate) const WHOLE: Self = Self { first: 0, lead_in: 0, carried: None, borders: None };

    /// What the frame of this number is. Asked once for each, in order.
    pub(crate) fn crossing(&self, number: u64) -> Crossing {
        match self.borders {
            Some(borders) if number > self.first => borders.crossing(number),
            Some(_) | None => Crossing::Inside,
        }
    }

    /// Number of the first frame that is decoded.
    pub(crate) const fn decoded_from(&self) -> u64 {
        self.first.saturating_sub(self.lead_in)
    }
}

/// What another version wrote is not taken up.
pub(crate) fn broken_handover(detail: &impl ToString) -> EngineError {
    EngineError::Handover { detail: detail.to_string() }
}

//! What goes wrong on purpose.

use std::collections::VecDeque;

use super::Millis;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Run,
    Health,
    Purge,
    Management,
    Take,
    Done,
    Ping,
}

/// What a call meets instead of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// This status, and nothing was done.
    Refuse(u16),
    /// It was done, and this status is the answer.
    Deny(u16),
    /// No answer, and nothing was done.
    Hang,
}

/// What becomes of a wake although it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeFate {
    Lost,
    Doubled,
    /// No worker gets it for so long; `/health` counts it meanwhile, or does not.
    Held {
        lasts: Millis,
        counted: bool,
    },
}

/// Faults that are to come, in their order.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Of the next wakes.
    pub(crate) wakes: VecDeque<WakeFate>,
    /// Requests of workers that die stay in progress for ever.
    pub(crate) phantoms: bool,
    /// No host has a GPU free: who runs goes on, nobody starts.
    pub(crate) throttled: bool,
    troubles: Vec<(Route, Trouble, u32)>,
}

impl Faults {
    /// The next `times` calls of a kind meet trouble.
    pub(crate) fn trouble(&mut self, route: Route, trouble: Trouble, times: u32) {
        self.troubles.push((route, trouble, times));
    }

    /// The trouble that a call meets which is made now.
    pub(crate) fn meet(&mut self, route: Route) -> Option<Trouble> {
        let (_, trouble, left) = self.troubles.iter_mut().find(|(of, _, left)| *of == route && *left > 0)?;
        *left = left.saturating_sub(1);
        Some(*trouble)
    }

    /// Ends all trouble: what is well again answers.
    pub(crate) fn repair(&mut self) {
        *self = Self::default();
    }

    /// Whether any trouble has not been met as often as it should.
    pub(crate) fn unmet(&self) -> bool {
        !self.wakes.is_empty() || self.troubles.iter().any(|(_, _, left)| *left > 0)
    }
}

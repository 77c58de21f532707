//! A hold on children that are started one after another, for a thread that may have to stop them at any time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Child, Killer};
use crate::error::EngineError;

/// Copies hold the same children.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leash(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    stopped: bool,
    killers: Vec<Killer>,
}

impl Leash {
    /// Holds these children, which were just started, instead of those before.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] when it was stopped meanwhile; they are killed when they are dropped.
    pub(crate) fn hold<'c>(&self, children: impl IntoIterator<Item = &'c Child>) -> Result<(), EngineError> {
        let mut held = self.lock();
        if held.stopped {
            return Err(EngineError::Cancelled);
        }
        held.killers = children.into_iter().map(Child::killer).collect();
        Ok(())
    }

    /// Kills what it holds; nothing can be held any more.
    pub(crate) fn stop(&self) {
        let mut held = self.lock();
        held.stopped = true;
        for killer in held.killers.drain(..) {
            killer.kill();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

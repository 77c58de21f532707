//! Lambda function: the level-triggered repair loop.
//!
//! Owns: one tick of repair and of waking, and the line that tells that it happened. Does not own: what is repaired
//! (`rotoless_core::usecase::Sweep`), how many wakes are missing (`rotoless_core::wake`), retention of objects (the
//! bucket's lifecycle rules).
//!
//! Invariant: waking does not depend on repairing. Whichever of the two fails, the other is done.

use std::sync::Arc;

use async_trait::async_trait;
use rotoless_core::ports::{StoreError, Waker};
use rotoless_core::usecase::{Sweep, Swept};
use rotoless_core::wake::reconcile;
use rotoless_telemetry::Metric;

/// What waits, and what is already on its way to it.
#[async_trait]
pub trait Backlog: Send + Sync {
    /// Messages that no worker has received.
    async fn visible(&self) -> Result<u32, StoreError>;
    /// Wakes that were asked for and have not become a session yet.
    async fn queued_wakes(&self) -> Result<u32, StoreError>;
}

/// One tick: repair, then wake.
pub struct Tick {
    /// Repairs jobs.
    pub sweep: Arc<Sweep>,
    /// What waits.
    pub backlog: Arc<dyn Backlog>,
    /// Makes workers exist.
    pub waker: Arc<dyn Waker>,
    /// Wakes in one tick at most.
    pub workers_max: u32,
}

/// What one tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Repairs.
    pub swept: Swept,
    /// Messages that waited.
    pub visible: u32,
    /// Wakes asked for.
    pub woken: u32,
}

impl Ticked {
    /// What is counted of a tick that came to its end: the sign of life whose absence raises an alarm, and how it found
    /// things.
    #[must_use]
    pub fn figures(&self) -> [(Metric, f64); 3] {
        [
            (Metric::SweepHeartbeat, 1.0),
            (Metric::OldestDueSeconds, self.swept.oldest_due_seconds as f64),
            (Metric::JobsQueued, f64::from(self.visible)),
        ]
    }
}

impl Tick {
    /// Repairs what is due, wakes whom it takes, and leaves one line in the log.
    ///
    /// # Errors
    /// [`StoreError`] of whichever half failed; the other was done.
    pub async fn run(&self) -> Result<Ticked, StoreError> {
        let swept = self.sweep.tick().await;
        let woken = self.wake().await;
        let (swept, (visible, woken)) = (swept?, woken?);
        let ticked = Ticked { swept, visible, woken };
        tracing::info!(
            sweep.oldest_due_seconds = swept.oldest_due_seconds,
            sweep.seen = swept.seen,
            sweep.resent = swept.resent,
            sweep.lapsed = swept.lapsed,
            sweep.adopted = swept.adopted,
            sweep.expired = swept.expired,
            sweep.failed = swept.failed,
            queue.visible = visible,
            sweep.woken = woken,
            "sweep"
        );
        Ok(ticked)
    }

    async fn wake(&self) -> Result<(u32, u32), StoreError> {
        let visible = self.backlog.visible().await?;
        if visible == 0 {
            return Ok((0, 0));
        }
        let missing = reconcile(visible, self.backlog.queued_wakes().await?, self.workers_max);
        if missing > 0 {
            self.waker.wake(missing).await?;
        }
        Ok((visible, missing))
    }
}

//! Lambda function: the level-triggered repair loop.
//!
//! Owns: one tick of repair and of waking, and the line that tells that it happened. Does not own: what is repaired
//! (`rotoless_core::usecase::Sweep`), how many wakes are missing (`rotoless_core::wake`), retention of objects (the
//! bucket's lifecycle rules).
//!
//! Invariant: waking does not depend on repairing. Whichever of the two fails, the other is done.

use std::sync::Arc;

use rotoless_core::ports::{StoreError, Waiting};
use rotoless_core::usecase::{Sweep, Swept, Wakes, Woken};
use rotoless_core::wake::{Backlog, Finding};
use rotoless_telemetry::Metric;

/// One tick: repair, and wake.
pub struct Tick {
    /// Repairs jobs.
    pub sweep: Arc<Sweep>,
    /// Makes workers exist.
    pub workers: Workers,
}

/// Where workers come from.
pub enum Workers {
    /// They are there, and poll: what waits is only counted.
    Polling(Arc<dyn Waiting>),
    /// They come when they are woken.
    Woken(Arc<Wakes>),
}

/// What one tick did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Repairs.
    pub swept: Swept,
    /// What waited.
    pub backlog: Backlog,
    /// What was found and done at the wake service, where workers are woken.
    pub woken: Option<Woken>,
}

impl Ticked {
    /// What is counted of a tick that came to its end: the sign of life whose absence raises an alarm, and how it found
    /// things.
    #[must_use]
    pub fn figures(&self) -> Vec<(Metric, f64)> {
        let mut figures = vec![
            (Metric::SweepHeartbeat, 1.0),
            (Metric::OldestDueSeconds, self.swept.oldest_due_seconds as f64),
            (Metric::JobsQueued, f64::from(self.backlog.visible)),
        ];
        if let Some(woken) = &self.woken {
            figures.extend([(Metric::WakesPosted, f64::from(woken.wakes)), (Metric::WakesLost, f64::from(woken.lost))]);
            if let Some(seen) = &woken.outstanding {
                figures.extend([
                    (Metric::WakesQueued, f64::from(seen.queued)),
                    (Metric::WorkersRunning, f64::from(seen.running)),
                    (Metric::WorkersThrottled, f64::from(seen.throttled)),
                ]);
            }
            let is_found = |finding| f64::from(u8::from(woken.findings.contains(&finding)));
            figures.extend(Finding::ALL.map(|finding| (metric(finding), is_found(finding))));
        }
        figures
    }
}

/// What counts a finding: 1 at a tick that made it, 0 at one that did not.
const fn metric(finding: Finding) -> Metric {
    match finding {
        Finding::Silent => Metric::WakeServiceSilent,
        Finding::NoWorkersAllowed => Metric::WorkersForbidden,
        Finding::Barred => Metric::WorkersBarred,
        Finding::WakesStuck => Metric::WakesStuck,
        Finding::Idling => Metric::WorkersIdling,
    }
}

impl Tick {
    /// Repairs what is due, wakes whom it takes, and leaves a line of each in the log.
    ///
    /// # Errors
    /// [`StoreError`] of whichever half failed; the other was done.
    pub async fn run(&self) -> Result<Ticked, StoreError> {
        // Beside one another: a wake service that hangs is no reason to repair later, and the tick's time ends.
        let (swept, woken) = tokio::join!(self.sweep.tick(), self.wake());
        let (swept, (backlog, woken)) = (swept?, woken?);
        tracing::info!(
            sweep.oldest_due_seconds = swept.oldest_due_seconds,
            sweep.seen = swept.seen,
            sweep.resent = swept.resent,
            sweep.lapsed = swept.lapsed,
            sweep.adopted = swept.adopted,
            sweep.expired = swept.expired,
            sweep.failed = swept.failed,
            queue.visible = backlog.visible,
            queue.in_flight = backlog.in_flight,
            "sweep"
        );
        if let Some(woken) = &woken {
            tell(woken);
        }
        Ok(Ticked { swept, backlog, woken })
    }

    async fn wake(&self) -> Result<(Backlog, Option<Woken>), StoreError> {
        match &self.workers {
            Workers::Polling(waiting) => Ok((waiting.backlog().await?, None)),
            Workers::Woken(wakes) => {
                let woken = wakes.tick().await?;
                Ok((woken.backlog, Some(woken)))
            }
        }
    }
}

fn tell(woken: &Woken) {
    let seen = woken.outstanding.unwrap_or_default();
    tracing::info!(
        wakes.posted = woken.wakes,
        wakes.lost = woken.lost,
        wakes.queued = seen.queued,
        wakes.purged = woken.is_purged,
        workers.running = seen.running,
        workers.idle = seen.idle,
        workers.initializing = seen.initializing,
        workers.throttled = seen.throttled,
        workers.max = seen.workers_max,
        workers.stopped = woken.is_stopped,
        "wake service"
    );
    for finding in &woken.findings {
        tracing::warn!(finding = finding.as_str(), "wake service needs a look");
    }
}

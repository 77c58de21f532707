//! One look at what waits and at the wake service, and what follows from it ([`crate::wake::decide`]).
//!
//! Level-triggered like the sweep, with which it runs: what fails this time is found again the next time.

use std::sync::Arc;

use crate::ports::{Clock, StoreError, Waiting, WakeMemory, Waker};
use crate::wake::{Backlog, Finding, Memory, Outstanding, WakePolicy, decide, reconcile};

/// Keeps workers coming as long as something waits.
pub struct Wakes {
    /// What waits.
    pub waiting: Arc<dyn Waiting>,
    /// The service that makes workers exist.
    pub first: Arc<dyn Waker>,
    /// Where workers come from when the first one starts none.
    pub second: Option<Arc<dyn Waker>>,
    /// What is remembered between two looks.
    pub memory: Arc<dyn WakeMemory>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When more than a wake is called for.
    pub policy: WakePolicy,
}

/// What one look found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Woken {
    /// What waited.
    pub backlog: Backlog,
    /// What the first service said; `None`: nothing.
    pub outstanding: Option<Outstanding>,
    /// Wakes that were posted, to either service.
    pub wakes: u32,
    /// Wakes that could not be posted.
    pub lost: u32,
    /// The queued wakes were thrown away.
    pub is_purged: bool,
    /// All workers were forbidden.
    pub is_stopped: bool,
    /// What people should know.
    pub findings: Vec<Finding>,
}

impl Wakes {
    /// One look. A wake service that fails is a finding and no error: the next look tries again.
    ///
    /// # Errors
    /// [`StoreError`] when the queue does not say what waits.
    pub async fn tick(&self) -> Result<Woken, StoreError> {
        let (backlog, outstanding, memory) =
            futures::join!(self.waiting.backlog(), self.first.outstanding(), self.memory.recall());
        let backlog = backlog?;
        let outstanding = heard(outstanding, "wake service did not say what it does");
        // Without a memory everything began just now: wakes do not wait for it.
        let memory = heard(memory, "what was found before is not known").unwrap_or_default();
        let (next, decision) = decide(self.clock.now(), backlog, outstanding.as_ref(), &memory, &self.policy);
        let mut woken = Woken { backlog, outstanding, findings: decision.findings, ..Woken::default() };
        if decision.purge {
            woken.is_purged = heard(self.first.purge().await, "wakes could not be thrown away").is_some();
        }
        if decision.wakes > 0 {
            post(&*self.first, decision.wakes, &mut woken).await;
        }
        if let (true, Some(second)) = (decision.to_second, &self.second) {
            self.wake_second(&**second, &mut woken).await;
        }
        if decision.stop {
            woken.is_stopped = heard(self.first.stop().await, "workers could not be forbidden").is_some();
        }
        self.remember(&memory, &next).await;
        Ok(woken)
    }

    async fn wake_second(&self, second: &dyn Waker, woken: &mut Woken) {
        let most = self.policy.wakes_max();
        let wakes = match heard(second.outstanding().await, "second wake service did not say what it does") {
            Some(there) => reconcile(woken.backlog.visible, there.queued, most),
            None => woken.backlog.visible.min(1),
        };
        if wakes > 0 {
            post(second, wakes, woken).await;
        }
    }

    async fn remember(&self, before: &Memory, next: &Memory) {
        if next != before {
            heard(self.memory.remember(next).await, "what was found could not be remembered");
        }
    }
}

async fn post(waker: &dyn Waker, wakes: u32, woken: &mut Woken) {
    let count = match heard(waker.wake(wakes).await, "wakes were not posted") {
        Some(()) => &mut woken.wakes,
        None => &mut woken.lost,
    };
    *count = count.saturating_add(wakes);
}

fn heard<T>(answer: Result<T, StoreError>, what: &'static str) -> Option<T> {
    answer.inspect_err(|err| tracing::warn!(error = %err, "{what}")).ok()
}

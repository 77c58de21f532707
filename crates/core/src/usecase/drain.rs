//! The two sides of the eventcount ([`crate::eventcount`]): what a worker that drains the queue is told, and the waker that
//! starts one where nobody is awake.

use std::sync::Arc;

use async_trait::async_trait;
use rotoless_contract::WorkerId;
use rotoless_contract::awake::{AsleepReply, AwakeReply};

use crate::eventcount::{AWAKE, COMING, Eventcount, Ringer, missing};
use crate::ports::{Clock, Eventcounts, Starter, StoreError, Waker};
use crate::wake::Outstanding;

/// What draining workers ask for.
pub struct Drainers {
    /// Who is awake.
    pub eventcount: Arc<dyn Eventcounts>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Drainers {
    /// A worker is awake, or is so still.
    ///
    /// # Errors
    /// [`StoreError`]; the worker asks again.
    pub async fn awake(&self, worker: &WorkerId, renew: bool) -> Result<AwakeReply, StoreError> {
        let now = self.clock.now();
        let until = now + AWAKE;
        let count = if renew {
            self.eventcount.renew(worker, until).await?
        } else {
            let count = self.eventcount.rise(worker, until).await?;
            self.forget_the_dead(&count).await;
            count
        };
        Ok(AwakeReply { seq: count.seq, awake_seconds: u32::try_from(AWAKE.as_secs()).unwrap_or(u32::MAX) })
    }

    /// A worker wants to go.
    ///
    /// # Errors
    /// [`StoreError`]; the worker may be gone already.
    pub async fn asleep(&self, worker: &WorkerId, seq: Option<u64>) -> Result<AsleepReply, StoreError> {
        Ok(AsleepReply { asleep: self.eventcount.sleep(worker, seq).await? })
    }

    /// Else the item would grow with every worker that ever died.
    async fn forget_the_dead(&self, count: &Eventcount) {
        for (worker, until) in count.forgotten(self.clock.now()) {
            if let Err(err) = self.eventcount.forget(worker, until).await {
                tracing::warn!(error = %err, "a worker that died is not forgotten");
                return;
            }
        }
    }
}

/// Wakes by starting a worker, unless somebody is awake to find the message.
pub struct DrainWaker {
    /// Who is awake.
    pub eventcount: Arc<dyn Eventcounts>,
    /// What starts a worker.
    pub starter: Arc<dyn Starter>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who wakes.
    pub ringer: Ringer,
    /// As many workers as there may be.
    pub workers_max: u32,
}

#[async_trait]
impl Waker for DrainWaker {
    async fn wake(&self, n: u32) -> Result<(), StoreError> {
        let count = self.eventcount.ring().await?;
        let now = self.clock.now();
        let awake = count.awake(now);
        if count.is_somebody_coming(now) || missing(self.ringer, n, awake, 0, self.workers_max) == 0 {
            return Ok(());
        }
        let there = self.starter.started().await?;
        let start = missing(self.ringer, n, awake, there.starting, self.workers_max);
        let until = now + COMING;
        if start == 0 || !self.eventcount.reserve(count.risen, now, until).await? {
            return Ok(());
        }
        match self.starter.start(start).await {
            Ok(started) => {
                tracing::info!(
                    workers.asked = start,
                    workers.started = started,
                    workers.awake = awake,
                    "workers start"
                );
                Ok(())
            }
            Err(err) => {
                if let Err(err) = self.eventcount.cancel(until).await {
                    // It ends by itself, before the sweep's next look.
                    tracing::warn!(error = %err, "a start that failed stays reserved");
                }
                Err(err)
            }
        }
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        let there = self.starter.started().await?;
        Ok(Outstanding {
            queued: there.starting,
            in_progress: there.running,
            running: there.running,
            initializing: there.starting.saturating_sub(there.waiting_long),
            throttled: there.waiting_long,
            ..Outstanding::default()
        })
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        self.starter.take_back().await
    }

    /// Ends all workers. A home that starts tasks has no switch that stays: what waits then is woken for again.
    async fn stop(&self) -> Result<(), StoreError> {
        self.starter.end().await
    }
}

//! The sweep: looks at every job whose time has come and repairs what a crash left. Level-triggered: it asks what
//! is, not what happened; running it twice, or half, or late, does no harm.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::JobId;

use super::change::Context;
use super::delete::remove_media;
use super::submit::message;
use super::{Missed, attempt, claim};
use crate::lifecycle::{self, Command, Phase};
use crate::policy::Policy;
use crate::ports::{Clock, Entropy, Jobs, Objects, StoreError, Waker, WorkQueue};
use crate::record::{JobRecord, Postponed};

/// Jobs asked for at a time.
const BATCH: u32 = 100;
/// Jobs looked at in one tick.
pub const MOST: usize = 1000;
/// No further job is looked at after this long: the next tick is near, and a function's time ends.
const TICK: SignedDuration = SignedDuration::from_secs(40);
/// A job that could not be repaired lets the others go first for so long, then twice as long, …
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(15);
/// … and at most this long, so that what was down is repaired soon after it is up.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);

/// Repairs jobs.
pub struct Sweep {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Manifests.
    pub objects: Arc<dyn Objects>,
    /// Where messages go.
    pub queue: Arc<dyn WorkQueue>,
    /// Makes workers exist.
    pub waker: Arc<dyn Waker>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Delivery ids.
    pub entropy: Arc<dyn Entropy>,
    /// Times.
    pub policy: Arc<Policy>,
}

/// What one tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How long the job that is late most has been due, in whole seconds, before this tick.
    pub oldest_due_seconds: u64,
    /// Jobs looked at.
    pub seen: u32,
    /// Messages sent again.
    pub resent: u32,
    /// Leases found ended.
    pub lapsed: u32,
    /// Manifests adopted.
    pub adopted: u32,
    /// Jobs that reached their greatest age.
    pub expired: u32,
    /// Deleted jobs whose media were removed.
    pub erased: u32,
    /// Jobs that could not be repaired this time.
    pub failed: u32,
}

impl Sweep {
    /// One tick. Jobs that cannot be repaired, however many, do not keep the others waiting: those that can be written
    /// are postponed, and those that cannot are passed over.
    ///
    /// # Errors
    /// [`StoreError`] when the due jobs cannot be listed.
    pub async fn tick(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let mut seen: BTreeSet<JobId> = BTreeSet::new();
        let end = self.clock.now().saturating_add(TICK).unwrap_or(Timestamp::MAX);
        loop {
            // The first ones of a later look may be those of an earlier one: asked for again, and passed over.
            let limit = BATCH.saturating_add(u32::try_from(seen.len()).unwrap_or(u32::MAX));
            let due = self.jobs.due(self.clock.now(), limit).await?;
            let more = due.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
            let before = seen.len();
            for id in due {
                if seen.len() >= MOST || self.clock.now() >= end {
                    return Ok(swept);
                }
                if seen.insert(id.clone()) {
                    self.look(&id, &mut swept).await;
                }
            }
            if !more || seen.len() == before {
                return Ok(swept);
            }
        }
    }

    async fn look(&self, id: &JobId, swept: &mut Swept) {
        swept.seen += 1;
        let job = match self.jobs.job(id).await {
            Ok(Some(job)) => job,
            Ok(None) => return,
            Err(err) => {
                swept.failed += 1;
                tracing::error!(job.id = %id, error = %err, "sweep could not read the job");
                return;
            }
        };
        if let Err(err) = self.repair(&job, swept).await {
            swept.failed += 1;
            tracing::error!(job.id = %id, error = %err, "sweep could not repair the job");
            self.postpone(&job).await;
        }
    }

    /// Lets others go first. A job that changed while it was repaired is due as it says itself.
    async fn postpone(&self, job: &JobRecord) {
        let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
        let failures = job.postponed.map_or(0, |postponed| postponed.failures);
        let wait = FIRST_WAIT.saturating_mul(1 << failures.min(10)).min(LONGEST_WAIT);
        let after = |from: Timestamp, wait| from.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let until = after(context.now, wait);
        // Nobody waits beyond the greatest age that is not beyond it yet.
        let end = after(job.queued_at.unwrap_or(job.created_at), self.policy.max_job_age);
        let until = if context.now < end { until.min(end) } else { until };
        let since = job.postponed.and_then(|postponed| postponed.since).or(job.due_at);
        let postponed = Postponed { until, failures: failures.saturating_add(1), since };
        let change = context.edit(job, |job| job.postponed = Some(postponed));
        if let Err(err) = self.commit(change).await {
            tracing::warn!(job.id = %job.id, error = %err, "sweep could not postpone the job");
        }
    }

    async fn repair(&self, job: &JobRecord, swept: &mut Swept) -> Result<(), StoreError> {
        let id = &job.id;
        let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
        // The index lags behind: what the row says counts.
        let Some(due) = job.due_at.filter(|due| *due <= context.now) else { return Ok(()) };
        // Having been put off makes nothing less late.
        let since = job.postponed.and_then(|postponed| postponed.since).unwrap_or(due);
        let late = context.now.duration_since(since).as_secs();
        swept.oldest_due_seconds = swept.oldest_due_seconds.max(u64::try_from(late).unwrap_or(0));
        if job.deletion.is_some() {
            remove_media(&*self.jobs, &*self.objects, &context, job).await?;
            swept.erased += 1;
            return Ok(());
        }
        let too_old = self.too_old(job, context.now);
        match self.adopt(&context, job).await {
            Ok(true) => {
                swept.adopted += 1;
                return Ok(());
            }
            Ok(false) => {}
            // Nothing keeps a hold open beyond the greatest age.
            Err(err) if too_old => tracing::error!(job.id = %id, error = %err, "expires without a look for a manifest"),
            Err(err) => return Err(err),
        }
        if too_old {
            swept.expired += u32::from(self.end(&context, job, Command::Expire, "expired", attempt::idle).await?);
            return Ok(());
        }
        match job.state.phase {
            Phase::Pending => swept.resent += u32::from(self.resend(&context, job).await?),
            Phase::Processing { .. } => {
                let lapse = Command::Lapse { now: context.now };
                if self.end(&context, job, lapse, "lapsed", unsent).await? {
                    swept.lapsed += 1;
                    if let Some(job) = self.jobs.job(id).await? {
                        swept.resent += u32::from(self.resend(&context, &job).await?);
                    }
                }
            }
            Phase::Draft | Phase::Completed | Phase::Failed { .. } => {}
        }
        Ok(())
    }

    fn too_old(&self, job: &JobRecord, now: Timestamp) -> bool {
        let since = job.queued_at.unwrap_or(job.created_at);
        since.saturating_add(self.policy.max_job_age).is_ok_and(|end| end <= now)
    }

    /// Completes the job if an attempt of its run had finished it.
    async fn adopt(&self, context: &Context<'_>, job: &JobRecord) -> Result<bool, StoreError> {
        if job.started_at.is_none() {
            return Ok(false);
        }
        claim::adopt(&*self.jobs, &*self.objects, context, job).await
    }

    /// Applies a command that ends an attempt or the job. `false` when somebody else was quicker.
    async fn end(
        &self,
        context: &Context<'_>,
        job: &JobRecord,
        command: Command,
        outcome: &str,
        edit: fn(&mut JobRecord),
    ) -> Result<bool, StoreError> {
        let Ok(transition) = lifecycle::apply(&job.state, command) else { return Ok(false) };
        let mut change = context.change(job, transition, edit);
        change.attempts = attempt::ended(&*self.jobs, job, outcome, context.now).await?;
        self.commit(change).await
    }

    async fn resend(&self, context: &Context<'_>, job: &JobRecord) -> Result<bool, StoreError> {
        let Some(message) = message(job) else { return Ok(false) };
        self.queue.send(&message, &job.client).await?;
        if let Err(err) = self.waker.wake(1).await {
            tracing::warn!(job.id = %job.id, error = %err, "wake not sent");
        }
        let change = context.edit(job, |job| {
            job.resends += u32::from(job.enqueued_at.is_some());
            job.enqueued_at = Some(context.now);
        });
        self.commit(change).await?;
        Ok(true)
    }

    async fn commit(&self, change: crate::ports::Change) -> Result<bool, StoreError> {
        match self.jobs.commit(change).await.map_err(Missed::from) {
            Ok(()) => Ok(true),
            Err(Missed::Again | Missed::Credits) => Ok(false),
            Err(Missed::Store(err)) => Err(err),
        }
    }
}

/// A lapsed attempt's message may be in flight, or gone with its worker: no message is known, until the one that is
/// sent now is. Two messages do no harm.
fn unsent(job: &mut JobRecord) {
    attempt::idle(job);
    job.enqueued_at = None;
}

//! Cancel: wins or loses against completion by the same condition on the job, never both.

use std::sync::Arc;

use rotoless_contract::{ClientId, JobId, JobStatus};

use super::change::Context;
use super::{JUDGEMENTS, Missed};
use crate::lifecycle::{self, Command};
use crate::policy::Policy;
use crate::ports::{Clock, Entropy, Jobs, StoreError};
use crate::record::JobRecord;

/// Cancels jobs.
pub struct Cancel {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Delivery ids.
    pub entropy: Arc<dyn Entropy>,
    /// Times.
    pub policy: Arc<Policy>,
}

/// Why nothing was cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// Unknown, or somebody else's.
    #[error("unknown job")]
    UnknownJob,
    /// Completion was first.
    #[error("the job has completed")]
    Completed,
    /// A dependency failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job kept changing.
    #[error("too much contention")]
    Contention,
}

impl Cancel {
    /// Cancels a job that has not ended and gives its hold back. One that has failed, or was cancelled before, is
    /// returned as it is.
    ///
    /// # Errors
    /// [`CancelError`]; the job is as it was.
    pub async fn cancel(&self, client: &ClientId, id: &JobId) -> Result<JobRecord, CancelError> {
        for _ in 0..JUDGEMENTS {
            let job = self.jobs.job(id).await?;
            let before = job.filter(|job| job.is_shown_to(client)).ok_or(CancelError::UnknownJob)?;
            let Ok(transition) = lifecycle::apply(&before.state, Command::Cancel) else {
                return match before.state.status() {
                    JobStatus::Completed => Err(CancelError::Completed),
                    JobStatus::Created | JobStatus::Pending | JobStatus::Processing | JobStatus::Failed => Ok(before),
                };
            };
            let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
            let mut change = context.change(&before, transition, |_| {});
            change.attempts = super::attempt::ended(&*self.jobs, &before, "cancelled", context.now).await?;
            let job = change.job.clone();
            match self.jobs.commit(change).await.map_err(Missed::from) {
                Ok(()) => return Ok(job),
                Err(Missed::Again) => {}
                // A release needs no credits.
                Err(Missed::Credits) => return Err(CancelError::Contention),
                Err(Missed::Store(err)) => return Err(err.into()),
            }
        }
        Err(CancelError::Contention)
    }
}

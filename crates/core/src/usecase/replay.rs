//! Replay: a webhook event that has ended is sent again, under its old id, on a fresh schedule.

use std::sync::Arc;

use rotoless_contract::job::EventState;
use rotoless_contract::{ClientId, DeliveryId, JobId};

use super::change::Context;
use super::{JUDGEMENTS, Missed};
use crate::policy::Policy;
use crate::ports::{Clock, Deliveries, Entropy, Jobs, StoreError};
use crate::record::DeliveryRecord;

/// Sends events again.
pub struct Replay {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Their events.
    pub deliveries: Arc<dyn Deliveries>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For changes of the job.
    pub entropy: Arc<dyn Entropy>,
    /// Times.
    pub policy: Arc<Policy>,
}

/// Why nothing is sent again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Unknown job, or somebody else's.
    #[error("unknown job")]
    UnknownJob,
    /// The job has no such event.
    #[error("unknown event")]
    UnknownDelivery,
    /// A dependency failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event kept changing.
    #[error("too much contention")]
    Contention,
}

impl Replay {
    /// The event, due now. One that is still to be sent is returned as it is: it will be.
    ///
    /// # Errors
    /// [`ReplayError`]; nothing will be sent because of this call.
    pub async fn replay(&self, client: &ClientId, job: &JobId, id: &DeliveryId) -> Result<DeliveryRecord, ReplayError> {
        for _ in 0..JUDGEMENTS {
            let record = self.jobs.job(job).await?;
            let record = record.filter(|record| record.is_shown_to(client)).ok_or(ReplayError::UnknownJob)?;
            let event = self.deliveries.delivery(job, id).await?.ok_or(ReplayError::UnknownDelivery)?;
            if event.state == EventState::Pending {
                return Ok(event);
            }
            let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
            let again = DeliveryRecord {
                state: EventState::Pending,
                tries: 0,
                due_at: Some(context.now),
                last_result: None,
                version: event.version + 1,
                ..event
            };
            // The job shows the state of its newest event of a kind: an older run's does not speak for it.
            let is_newest = record.queued_at.is_none_or(|queued| again.created_at >= queued);
            let mut change = context.edit(&record, |record| {
                if is_newest {
                    record.events.insert(again.event.as_str().to_owned(), EventState::Pending);
                }
            });
            change.delivery = Some(again.clone());
            match self.jobs.commit(change).await.map_err(Missed::from) {
                Ok(()) => return Ok(again),
                Err(Missed::Again | Missed::Credits) => {}
                Err(Missed::Store(err)) => return Err(err.into()),
            }
        }
        Err(ReplayError::Contention)
    }
}

//! Delete: the job is shown to nobody any more, and its media are removed. What the ledger refers to stays.
//!
//! First the mark, then the media: a crash between the two leaves a job that the sweep finds due, and finishes. A
//! job that has not ended is cancelled by the same change, so that its hold is released with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rotoless_contract::api::JobRequest;
use rotoless_contract::manifest::job_segments_prefix;
use rotoless_contract::{ClientId, JobId};

use super::change::Context;
use super::{JUDGEMENTS, Missed};
use crate::lifecycle::{self, Command, Transition};
use crate::policy::Policy;
use crate::ports::{Clock, Entropy, Jobs, Objects, StoreError};
use crate::record::{Deletion, JobRecord, Source};

/// Deletes jobs.
pub struct Delete {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Their media.
    pub objects: Arc<dyn Objects>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Delivery ids.
    pub entropy: Arc<dyn Entropy>,
    /// Times.
    pub policy: Arc<Policy>,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// Unknown, somebody else's, or deleted before.
    #[error("unknown job")]
    UnknownJob,
    /// A dependency failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job kept changing.
    #[error("too much contention")]
    Contention,
}

impl Delete {
    /// Deletes a job and its media: output, manifest, and the upload it was made from unless another job that has
    /// not ended needs it. A job under way is cancelled.
    ///
    /// # Errors
    /// [`DeleteError`]; the job is as it was.
    pub async fn delete(&self, client: &ClientId, id: &JobId) -> Result<(), DeleteError> {
        let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
        let deleted = self.mark(&context, client, id).await?;
        // From here on the sweep would finish it.
        if let Err(err) = remove_media(&*self.jobs, &*self.objects, &context, &deleted).await {
            tracing::warn!(job.id = %id, error = %err, "media not removed yet, left to the sweep");
        }
        Ok(())
    }

    async fn mark(&self, context: &Context<'_>, client: &ClientId, id: &JobId) -> Result<JobRecord, DeleteError> {
        for _ in 0..JUDGEMENTS {
            let job = self.jobs.job(id).await?;
            let before = job.filter(|job| job.is_shown_to(client)).ok_or(DeleteError::UnknownJob)?;
            let cancel = lifecycle::apply(&before.state, Command::Cancel);
            let ends_attempt = cancel.is_ok();
            let transition =
                cancel.unwrap_or_else(|_| Transition { next: before.state.clone(), money: None, event: None });
            let mut change = context.change(&before, transition, |job| forget(job, context));
            if ends_attempt {
                change.attempts = super::attempt::ended(&*self.jobs, &before, "cancelled", context.now).await?;
            }
            let deleted = change.job.clone();
            match self.jobs.commit(change).await.map_err(Missed::from) {
                Ok(()) => return Ok(deleted),
                Err(Missed::Again) => {}
                // A release needs no credits.
                Err(Missed::Credits) => return Err(DeleteError::Contention),
                Err(Missed::Store(err)) => return Err(err.into()),
            }
        }
        Err(DeleteError::Contention)
    }
}

/// The client's own words go with the job.
fn forget(job: &mut JobRecord, context: &Context<'_>) {
    job.deletion = Some(Deletion { at: context.now, media_removed: false });
    job.request = JobRequest::default();
    job.spec.text_prompt = None;
    job.metadata = None;
    job.warnings = Vec::new();
    job.webhook_url = None;
    job.matte = None;
    job.events = BTreeMap::new();
    job.claim_token = None;
}

/// Removes what a deleted job left in the object store, and says so on it.
pub(super) async fn remove_media(
    jobs: &dyn Jobs,
    objects: &dyn Objects,
    context: &Context<'_>,
    job: &JobRecord,
) -> Result<(), StoreError> {
    objects.delete_prefix(&format!("outputs/{}/", job.id)).await?;
    objects.delete_prefix(&job_segments_prefix(&job.id)).await?;
    let uploads = std::iter::once(&job.source).chain(&job.background_source).filter_map(Source::upload);
    for (upload_id, key) in uploads {
        // Its own need ended with the mark. From here on no other job can begin to need it.
        if jobs.retire_upload(upload_id).await? {
            objects.delete_prefix(key).await?;
        }
    }
    let removed = context.edit(job, |job| {
        job.deletion = job.deletion.map(|deletion| Deletion { media_removed: true, ..deletion });
    });
    match jobs.commit(removed).await.map_err(Missed::from) {
        // Changed meanwhile: it is due still, and the sweep comes again.
        Ok(()) | Err(Missed::Again | Missed::Credits) => Ok(()),
        Err(Missed::Store(err)) => Err(err),
    }
}

//! Exports: another format, background or composition of a completed job, from its kept matte. No model runs and no
//! credits are taken; otherwise an export is a job like any other.

use rotoless_contract::api::JobRequest;
use rotoless_contract::{ClientId, JobId, JobStatus, MilliCredits};

use super::{Created, IdempotencyKey, Measured, Submit, SubmitError, refused_start};
use crate::ports::CommitError;
use crate::record::{Exported, JobRecord};
use crate::request::Order;
use crate::usage::Caller;

/// Why no export can be made of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotExportable {
    /// It has not completed.
    #[error("only a completed job can be exported")]
    NotCompleted,
    /// Its matte was not kept.
    #[error("the job has no matte")]
    NoMatte,
    /// Its video or its matte has been removed.
    #[error("the job's media have expired")]
    Expired,
}

impl Submit {
    /// Creates and starts an export of a completed job. `request` says what the output shall be; its `video_url`,
    /// `model`, `text_prompt` and `auto_start` are the job's.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was created or sent.
    pub async fn export(
        &self,
        client: &ClientId,
        of: &JobId,
        request: &JobRequest,
        promise: Option<&IdempotencyKey>,
        caller: Option<&Caller>,
    ) -> Result<Created, SubmitError> {
        let outcome = self.export_anew(client, of, request, promise, caller).await;
        self.enqueued_or_replayed(client, promise, outcome).await
    }

    async fn export_anew(
        &self,
        client: &ClientId,
        of: &JobId,
        request: &JobRequest,
        promise: Option<&IdempotencyKey>,
        caller: Option<&Caller>,
    ) -> Result<JobRecord, SubmitError> {
        let job = self.own_job(client, of).await?;
        let exported = self.exportable(&job).await?;
        let request = completed_request(request, &job);
        let order = self.order(&request)?;
        let background_source = self.background_media(client, &request, &order.spec).await?;
        let measured = Measured { source: job.source.clone(), duration_ms: None, seconds: job.billed_seconds };
        let draft = self.draft(client, &request, order, measured);
        let draft = JobRecord { background_source, exported: Some(exported), rate: MilliCredits::ZERO, ..draft };
        let mut change = self.first_commit(&draft, promise)?;
        change.call = caller.map(|caller| caller.record(change.job.updated_at, 200, Some(&change.job)));
        let export = change.job.clone();
        match self.jobs.commit(change).await {
            Ok(()) => Ok(export),
            Err(CommitError::UploadGone) => Err(NotExportable::Expired.into()),
            Err(err) => Err(refused_start(err).unwrap_or(SubmitError::Contention)),
        }
    }

    /// What the export is made of, if it is all there still.
    async fn exportable(&self, job: &JobRecord) -> Result<Exported, SubmitError> {
        if job.state.status() != JobStatus::Completed {
            return Err(NotExportable::NotCompleted.into());
        }
        let exported = match (&job.exported, &job.matte) {
            // An export of an export is one of the first job.
            (Some(exported), _) => exported.clone(),
            (None, Some(matte)) => Exported { from: job.id.clone(), matte: matte.clone() },
            (None, None) => return Err(NotExportable::NoMatte.into()),
        };
        let source = job.source.upload().map(|(_, key)| key);
        for key in source.into_iter().chain([exported.matte.key.as_str()]) {
            if self.objects.head(key).await?.is_none() {
                return Err(NotExportable::Expired.into());
            }
        }
        Ok(exported)
    }
}

/// The request as if it had been the job's own.
fn completed_request(request: &JobRequest, job: &JobRecord) -> JobRequest {
    JobRequest {
        video_url: job.request.video_url.clone(),
        model: Some(job.spec.model.to_string()),
        text_prompt: job.spec.text_prompt.clone(),
        auto_start: None,
        ..request.clone()
    }
}

/// The matte of an export is what it is, whatever a later start asks for.
pub(super) fn keep_what_is_exported(job: &JobRecord, order: &mut Order) {
    order.spec.model = job.spec.model;
    order.spec.text_prompt.clone_from(&job.spec.text_prompt);
}

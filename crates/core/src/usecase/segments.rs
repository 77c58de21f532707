//! Finished segments of a run: an attempt stores them, the next one goes on behind them.
//!
//! Owns: who may read and write them, what they are called. Does not own: what is in them, which is the worker's own
//! affair. Invariants: an attempt sees the segments of its own run alone; a segment is written once; a run that has
//! ended has none, but for what a crash left to the bucket's lifecycle.

use jiff::Timestamp;
use rotoless_contract::manifest::{segment_key, segments_prefix};
use rotoless_contract::worker::{Download, Refusal, SegmentTerms, SegmentsReply, SegmentsRequest, Upload};
use rotoless_contract::{Attempt, JobId, Run};

use super::CallError;
use super::attempt::AttemptCalls;
use super::links::{Links, unsigned};
use crate::lifecycle::{self, Command};
use crate::policy::Policy;
use crate::ports::{Objects, PutTerms};
use crate::record::JobRecord;

/// What a claim says of segments. An export runs no model: it is made in one piece.
pub(super) fn terms(job: &JobRecord, policy: &Policy) -> Option<SegmentTerms> {
    let is_on = policy.segment_seconds > 0 && job.exported.is_none();
    is_on.then_some(SegmentTerms { seconds: policy.segment_seconds })
}

impl AttemptCalls {
    /// What is finished of the attempt's run, and links to a segment.
    ///
    /// # Errors
    /// [`CallError`]: `StaleAttempt` when a later attempt exists, `Terminal` when the job has ended, `Implausible`.
    pub async fn segments(
        &self,
        id: &JobId,
        attempt: Attempt,
        request: &SegmentsRequest,
    ) -> Result<SegmentsReply, CallError> {
        if !request.is_plausible() {
            return Err(CallError::Implausible("a segments of that plan or number"));
        }
        let job = self.jobs.job(id).await?.ok_or(CallError::UnknownJob)?;
        let now = self.clock.now();
        check_current(&job, attempt, now, &self.policy)?;
        let run = job.state.run.ok_or(CallError::refused(Refusal::Superseded))?;
        let prefix = format!("{}{}/", segments_prefix(id, run), request.plan);
        let stored = self.objects.list_prefix(&prefix).await?;
        let number = |key: &str| key.strip_prefix(&prefix)?.parse::<u32>().ok();
        let mut finished: Vec<u32> = stored.iter().filter_map(|(key, _)| number(key)).collect();
        finished.sort_unstable();
        let read = match request.read.map(|index| segment_key(id, run, &request.plan, index)) {
            Some(key) => match stored.iter().find(|(stored, _)| *stored == key) {
                Some((_, size_bytes)) => {
                    let url = self.objects.presign_get(&key, unsigned(self.policy.link_life), None).await?.0;
                    Some(Download { url, size_bytes: *size_bytes, external: false })
                }
                None => None,
            },
            None => None,
        };
        let write = match request.write {
            Some(index) => Some(self.target(&job, run, &request.plan, index).await?),
            None => None,
        };
        Ok(SegmentsReply { finished, read, write })
    }

    async fn target(&self, job: &JobRecord, run: Run, plan: &str, index: u32) -> Result<Upload, CallError> {
        let key = segment_key(&job.id, run, plan, index);
        let links = Links { objects: &*self.objects, policy: &self.policy };
        let terms = PutTerms {
            content_type: Some("application/x-tar".to_owned()),
            only_if_absent: true,
            ..PutTerms::default()
        };
        let put = self.objects.presign_put(&key, unsigned(links.last(job)), &terms).await?;
        Ok(Upload { key, url: put.url.0, headers: put.headers })
    }
}

/// A stale attempt reads nothing: what it knows is out of date, and its links would outlive it.
fn check_current(job: &JobRecord, attempt: Attempt, now: Timestamp, policy: &Policy) -> Result<(), CallError> {
    let beat = Command::Heartbeat { attempt, progress: 0, now, lease: policy.lease };
    lifecycle::apply(&job.state, beat).map(drop).map_err(|refused| CallError::from_lifecycle(refused, now))
}

/// Removes the segments of a run that has ended. What fails is left to the bucket's lifecycle, and to the job's
/// deletion.
pub(super) async fn remove(objects: &dyn Objects, policy: &Policy, job: &JobRecord) {
    // A job that is no longer than a segment has none.
    let may_have_some = terms(job, policy).is_some_and(|terms| job.billed_seconds > u64::from(terms.seconds));
    let Some(run) = job.state.run.filter(|_| may_have_some) else { return };
    if let Err(error) = objects.delete_prefix(&segments_prefix(&job.id, run)).await {
        tracing::warn!(job.id = %job.id, error = %error, "segments are left");
    }
}

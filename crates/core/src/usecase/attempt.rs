//! What the holder of an attempt says: heartbeat, probed, report. A stale attempt changes nothing; a repeated
//! report is answered as the first one was.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::worker::{
    FailureReason, FreshLinks, HeartbeatReply, HeartbeatRequest, ProbedReply, ProbedRequest, Refusal, ReportReply,
    ReportRequest, Stage,
};
use rotoless_contract::{Attempt, JobId};

use super::change::Context;
use super::links::{Links, seconds};
use super::{CallError, JUDGEMENTS, Missed, finished, measured, segments};
use crate::lifecycle::{self, Command, Phase, Refused};
use crate::policy::{Policy, billed_seconds, cost};
use crate::ports::{Change, Clock, CommitError, Entropy, Jobs, Objects, StoreError};
use crate::record::{AnsweredReport, AttemptRecord, JobRecord};

/// The calls of one attempt, already authenticated as its own.
pub struct AttemptCalls {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Manifests.
    pub objects: Arc<dyn Objects>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Delivery ids.
    pub entropy: Arc<dyn Entropy>,
    /// Prices and times.
    pub policy: Arc<Policy>,
}

impl AttemptCalls {
    /// Extends the lease and records progress; makes fresh links where they are asked for. Answers `cancel` when the run
    /// has ended without this attempt. A heartbeat that was seen before, or overtaken by a later one, is answered with
    /// what stands: it revives no lease and gets no link (`docs/adr/0013-a-heartbeat-counts-once.md`).
    ///
    /// # Errors
    /// [`CallError`]: `StaleAttempt` when a later attempt exists.
    pub async fn heartbeat(
        &self,
        id: &JobId,
        attempt: Attempt,
        beat: &HeartbeatRequest,
    ) -> Result<HeartbeatReply, CallError> {
        let lease_seconds = seconds(self.policy.lease);
        let silent = |cancel, lease_seconds| HeartbeatReply { cancel, lease_seconds, links: None };
        for _ in 0..JUDGEMENTS {
            let before = self.job(id).await?;
            let context = self.context();
            let command =
                Command::Heartbeat { attempt, progress: progress(beat), now: context.now, lease: self.policy.lease };
            let transition = match lifecycle::apply(&before.state, command) {
                Ok(transition) => transition,
                Err(Refused::Terminal) => return Ok(silent(true, 0)),
                Err(refused) => return Err(CallError::from_lifecycle(refused, context.now)),
            };
            if !is_news(beat, before.last_beat) {
                return Ok(silent(false, seconds(left_of_lease(&before, context.now))));
            }
            let change = context.change(&before, transition, |job| {
                job.stage = Some(beat.stage);
                job.last_beat = beat.seq;
                if beat.stage == Stage::Matte {
                    job.matting_since = job.matting_since.or(Some(context.now));
                }
                job.frames = (beat.frames_total > 0).then_some((beat.frames_done, beat.frames_total));
            });
            match self.jobs.commit(change).await.map_err(Missed::from) {
                // After the commit, which only one of two equal heartbeats survives. When no link can be made the worker
                // hears of neither and asks again.
                Ok(()) => {
                    let links = self.fresh_links(&before, attempt, beat).await?;
                    return Ok(HeartbeatReply { links, ..silent(false, lease_seconds) });
                }
                Err(Missed::Again | Missed::Credits) => {}
                Err(Missed::Store(err)) => return Err(err.into()),
            }
        }
        Err(CallError::Contention)
    }

    /// Adjusts the hold to the measured source, once an attempt. Where the balance does not cover it the job fails.
    ///
    /// # Errors
    /// [`CallError`]: `InsufficientCredits` when the job failed for it.
    pub async fn probed(&self, id: &JobId, attempt: Attempt, probed: &ProbedRequest) -> Result<ProbedReply, CallError> {
        let input = measured::plausible(&probed.input).map_err(CallError::Implausible)?;
        let paid_seconds = billed_seconds(probed.duration_ms);
        for _ in 0..JUDGEMENTS {
            let before = self.job(id).await?;
            let context = self.context();
            if probed.duration_ms > self.policy.limits.max_duration_ms {
                // No honest worker goes on with such a source. Without this bound a lie here, and another in the
                // manifest, would be charged up to the whole balance.
                self.end(&before, attempt, FailureReason::LimitExceeded, &context).await?;
                return Err(CallError::refused(Refusal::Terminal));
            }
            let held = cost(before.rate, paid_seconds);
            let transition = lifecycle::apply(&before.state, Command::Adjust { attempt, cost: held })
                .map_err(|refused| CallError::from_lifecycle(refused, context.now))?;
            let change = context.change(&before, transition, |job| {
                job.input = Some(input.clone());
                job.billed_seconds = paid_seconds;
                job.stage = Some(Stage::Probe);
            });
            match self.jobs.commit(change).await {
                Ok(()) => return Ok(ProbedReply { paid_seconds, held }),
                Err(
                    CommitError::Stale | CommitError::KeyTaken | CommitError::TooManyOpen | CommitError::UploadGone,
                ) => {}
                // The job is as it was judged, so this attempt has measured before, and something else.
                Err(CommitError::AlreadyInLedger) => return Err(CallError::refused(Refusal::Contradiction)),
                Err(CommitError::InsufficientCredits) => {
                    self.end(&before, attempt, FailureReason::InsufficientCredits, &context).await?;
                    return Err(CallError::InsufficientCredits);
                }
                Err(CommitError::Store(err)) => return Err(err.into()),
            }
        }
        Err(CallError::Contention)
    }

    /// The end of an attempt. `body` is the report as received: its digest names it.
    ///
    /// # Errors
    /// [`CallError`]; a repetition is not an error.
    pub async fn report(
        &self,
        id: &JobId,
        attempt: Attempt,
        report: &ReportRequest,
        body: &[u8],
    ) -> Result<ReportReply, CallError> {
        let digest = sha256_hex(body);
        for _ in 0..JUDGEMENTS {
            let before = self.job(id).await?;
            if let Some(answered) = before.last_report.as_ref().filter(|answered| answered.attempt == attempt) {
                return if answered.digest == digest {
                    Ok(answered.reply.clone())
                } else {
                    Err(CallError::refused(Refusal::Contradiction))
                };
            }
            let context = self.context();
            let (mut change, outcome) = self.judge(&context, &before, attempt, report).await?;
            let status = change.job.state.status();
            let reply = ReportReply { status, delete_message: status.is_terminal() };
            change.job.last_report = Some(AnsweredReport { attempt, digest: digest.clone(), reply: reply.clone() });
            change.attempts = closed(&*self.jobs, id, attempt, &outcome, context.now).await?;
            match self.jobs.commit(change).await.map_err(Missed::from) {
                Ok(()) => {
                    if status.is_terminal() {
                        segments::remove(&*self.objects, &self.policy, &before).await;
                    }
                    return Ok(reply);
                }
                Err(Missed::Again | Missed::Credits) => {}
                Err(Missed::Store(err)) => return Err(err.into()),
            }
        }
        Err(CallError::Contention)
    }

    /// The change that a report asks for, and the word for the attempt's history.
    async fn judge(
        &self,
        context: &Context<'_>,
        before: &JobRecord,
        attempt: Attempt,
        report: &ReportRequest,
    ) -> Result<(Change, String), CallError> {
        let refused = |refused| CallError::from_lifecycle(refused, context.now);
        match report {
            ReportRequest::Completed { manifest_sha256 } => {
                // Judged once without the manifest, so that a stale attempt costs no read.
                let free = Command::Complete { attempt, charge: rotoless_contract::MilliCredits::ZERO };
                lifecycle::apply(&before.state, free).map_err(refused)?;
                let run = before.state.run.ok_or(CallError::refused(Refusal::Superseded))?;
                let found = finished::find(&*self.objects, before, run).await?;
                let found = found
                    .filter(|found| found.digest == *manifest_sha256 && found.manifest.attempt == attempt)
                    .ok_or(CallError::refused(Refusal::BadManifest))?;
                let complete = Command::Complete { attempt, charge: found.charge };
                let transition = lifecycle::apply(&before.state, complete).map_err(refused)?;
                Ok((context.change(before, transition, |job| found.record_on(job)), "completed".to_owned()))
            }
            ReportRequest::Failed { reason, detail } => {
                tracing::warn!(job.id = %before.id, attempt = %attempt, reason = %reason, detail = %clipped(detail), "attempt failed");
                let transition =
                    lifecycle::apply(&before.state, Command::Fail { attempt, reason: *reason }).map_err(refused)?;
                let last = reason.retryable() && transition.next.status().is_terminal();
                let finished = if last { self.finished_before(context, before, attempt).await? } else { None };
                let change = finished.unwrap_or_else(|| context.change(before, transition, idle));
                Ok((change, reason.as_str().to_owned()))
            }
            ReportRequest::Abandoned { detail } => {
                tracing::info!(job.id = %before.id, attempt = %attempt, detail = %clipped(detail), "attempt abandoned");
                let transition = lifecycle::apply(&before.state, Command::Abandon { attempt }).map_err(refused)?;
                Ok((context.change(before, transition, idle), "abandoned".to_owned()))
            }
        }
    }

    /// The last attempt failed, but one before it had written its manifest, too late to say so: finished work is
    /// not thrown away.
    async fn finished_before(
        &self,
        context: &Context<'_>,
        before: &JobRecord,
        attempt: Attempt,
    ) -> Result<Option<Change>, CallError> {
        let Some(run) = before.state.run else { return Ok(None) };
        let Some(found) = finished::find(&*self.objects, before, run).await? else { return Ok(None) };
        let complete = Command::Complete { attempt, charge: found.charge };
        let transition = lifecycle::apply(&before.state, complete)
            .map_err(|refused| CallError::from_lifecycle(refused, context.now))?;
        Ok(Some(context.change(before, transition, |job| found.record_on(job))))
    }

    /// Fails the job for a reason found by the control plane itself.
    async fn end(
        &self,
        before: &JobRecord,
        attempt: Attempt,
        reason: FailureReason,
        context: &Context<'_>,
    ) -> Result<(), CallError> {
        let transition = lifecycle::apply(&before.state, Command::Fail { attempt, reason })
            .map_err(|refused| CallError::from_lifecycle(refused, context.now))?;
        let mut change = context.change(before, transition, idle);
        change.attempts = closed(&*self.jobs, &before.id, attempt, reason.as_str(), context.now).await?;
        match self.jobs.commit(change).await.map_err(Missed::from) {
            Ok(()) => Ok(()),
            Err(Missed::Again | Missed::Credits) => Err(CallError::Contention),
            Err(Missed::Store(err)) => Err(err.into()),
        }
    }

    async fn fresh_links(
        &self,
        job: &JobRecord,
        attempt: Attempt,
        beat: &HeartbeatRequest,
    ) -> Result<Option<FreshLinks>, CallError> {
        // Whoever does not count heartbeats could have this one replayed.
        let (Some(run), true, Some(_)) = (job.state.run, beat.fresh_links, beat.seq) else { return Ok(None) };
        let links = Links { objects: &*self.objects, policy: &self.policy };
        Ok(Some(links.fresh(job, run, attempt, beat.stage).await?))
    }

    async fn job(&self, id: &JobId) -> Result<JobRecord, CallError> {
        self.jobs.job(id).await?.ok_or(CallError::UnknownJob)
    }

    fn context(&self) -> Context<'_> {
        Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy }
    }
}

/// Whether a heartbeat comes after all that were taken of its attempt. An attempt counts, or it does not: one that did
/// does not fall back.
fn is_news(beat: &HeartbeatRequest, last: Option<u64>) -> bool {
    last.is_none_or(|last| beat.seq.is_some_and(|seq| seq > last))
}

fn left_of_lease(job: &JobRecord, now: Timestamp) -> SignedDuration {
    match job.state.phase {
        Phase::Processing { lease_until, .. } => lease_until.duration_since(now).max(SignedDuration::ZERO),
        Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } => SignedDuration::ZERO,
    }
}

/// No attempt is at work any more.
pub(super) fn idle(job: &mut JobRecord) {
    job.stage = None;
    job.frames = None;
    job.matting_since = None;
}

/// 0..=99 of the frames; the last percent is completion.
fn progress(beat: &HeartbeatRequest) -> u8 {
    let percent = match beat.stage {
        Stage::Download | Stage::Probe => 0,
        Stage::Matte => beat.frames_done.saturating_mul(95).checked_div(beat.frames_total).unwrap_or(0).min(95),
        Stage::Verify => 96,
        Stage::Upload => 98,
    };
    u8::try_from(percent).unwrap_or(95)
}

/// A worker's words in our log: bounded, on one line.
fn clipped(detail: &str) -> String {
    detail.chars().take(1000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The history row of the attempt that holds the lease, if one does, ended.
pub(super) async fn ended(
    jobs: &dyn Jobs,
    job: &JobRecord,
    outcome: &str,
    now: Timestamp,
) -> Result<Vec<AttemptRecord>, StoreError> {
    match job.state.phase {
        Phase::Processing { attempt, .. } => closed(jobs, &job.id, attempt, outcome, now).await,
        Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } => Ok(Vec::new()),
    }
}

/// The history row of an attempt, ended. One that had ended before ended then, however it is judged now.
pub(super) async fn closed(
    jobs: &dyn Jobs,
    id: &JobId,
    attempt: Attempt,
    outcome: &str,
    now: Timestamp,
) -> Result<Vec<AttemptRecord>, StoreError> {
    let row = jobs.attempt(id, attempt).await?;
    let end = |row: AttemptRecord| {
        let (ended_at, outcome) = (row.ended_at.or(Some(now)), Some(outcome.to_owned()));
        AttemptRecord { ended_at, outcome, ..row }
    };
    Ok(row.map(end).into_iter().collect())
}

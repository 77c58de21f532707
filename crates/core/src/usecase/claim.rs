//! Claim: the right to work on a job, as attempt `n` until a deadline. A later claim of a run looks for the
//! manifest first: finished work is adopted, not done again.

use std::sync::Arc;

use rotoless_contract::signature::report_secret;
use rotoless_contract::worker::{ClaimReply, ClaimRequest, MediaLimits, Refusal};
use rotoless_contract::{Attempt, JobId, Run};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::change::Context;
use super::finished;
use super::links::{Links, Sources, Targets, seconds};
use super::{CallError, JUDGEMENTS, Missed};
use crate::lifecycle::{self, Command, Phase, Refused};
use crate::policy::Policy;
use crate::ports::{Clock, Entropy, Jobs, Objects, StoreError};
use crate::record::{AttemptRecord, JobRecord};

/// Gives out leases.
pub struct Claims {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Manifests, and links for the worker.
    pub objects: Arc<dyn Objects>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Delivery ids.
    pub entropy: Arc<dyn Entropy>,
    /// Times and limits.
    pub policy: Arc<Policy>,
    /// What attempts' secrets are derived from.
    pub master: SecretString,
}

impl Claims {
    /// Makes the caller the holder of the next attempt.
    ///
    /// # Errors
    /// [`CallError`]; `Refused` says what to do with the message.
    pub async fn claim(&self, id: &JobId, request: &ClaimRequest) -> Result<ClaimReply, CallError> {
        for _ in 0..JUDGEMENTS {
            let before = self.jobs.job(id).await?.ok_or(CallError::UnknownJob)?;
            check_token(&before, request)?;
            let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
            if self.settle_finished(&context, &before, request.run).await? {
                return Err(CallError::refused(Refusal::Terminal));
            }
            let claim = Command::Claim { run: request.run, now: context.now, lease: self.policy.lease };
            let transition = match lifecycle::apply(&before.state, claim) {
                Ok(transition) => transition,
                Err(Refused::Exhausted) => match self.give_up(&context, &before).await? {
                    true => return Err(CallError::refused(Refusal::Terminal)),
                    false => continue,
                },
                Err(refused) => return Err(CallError::from_lifecycle(refused, context.now)),
            };
            let mut change = context.change(&before, transition, |job| {
                job.started_at = job.started_at.or(Some(context.now));
                job.stage = None;
                job.frames = None;
                job.matting_since = None;
                job.last_beat = None;
            });
            let Phase::Processing { attempt, .. } = change.job.state.phase else {
                return Err(CallError::Contention);
            };
            // Links before the commit: an attempt is only spent on a worker that can begin.
            let reply = self.reply(&change.job, request.run, attempt).await?;
            // Whoever held the lease until it ended: its row ends where the next one begins.
            change.attempts = super::attempt::ended(&*self.jobs, &before, "lapsed", context.now).await?;
            change.attempts.push(begun(&change.job, request, attempt, context.now));
            match self.jobs.commit(change).await.map_err(Missed::from) {
                Ok(()) => return Ok(reply),
                Err(Missed::Again | Missed::Credits) => {}
                Err(Missed::Store(err)) => return Err(err.into()),
            }
        }
        Err(CallError::Contention)
    }

    /// Completes the job if an earlier attempt of the run had finished it. `true` when it did.
    async fn settle_finished(&self, context: &Context<'_>, before: &JobRecord, run: Run) -> Result<bool, CallError> {
        // Not by the count of attempts: an abandoned one is taken off it, and may have finished all the same.
        if before.started_at.is_none() || before.state.run != Some(run) || before.state.status().is_terminal() {
            return Ok(false);
        }
        adopt(&*self.jobs, &*self.objects, context, before).await.map_err(CallError::from)
    }

    /// The run has no attempt left and the last lease has ended: the job fails. `true` when it did.
    async fn give_up(&self, context: &Context<'_>, before: &JobRecord) -> Result<bool, CallError> {
        let Ok(transition) = lifecycle::apply(&before.state, Command::Lapse { now: context.now }) else {
            return Err(CallError::refused(Refusal::Terminal));
        };
        let mut change = context.change(before, transition, |_| {});
        change.attempts = super::attempt::ended(&*self.jobs, before, "lapsed", context.now).await?;
        match self.jobs.commit(change).await.map_err(Missed::from) {
            Ok(()) => Ok(true),
            Err(Missed::Again | Missed::Credits) => Ok(false),
            Err(Missed::Store(err)) => Err(err.into()),
        }
    }

    async fn reply(&self, job: &JobRecord, run: Run, attempt: Attempt) -> Result<ClaimReply, CallError> {
        let links = Links { objects: &*self.objects, policy: &self.policy };
        let Sources { input, background, kept_matte } = links.sources(job).await?;
        let Targets { keep_matte, output, manifest } = links.targets(job, run, attempt).await?;
        let limits = MediaLimits { max_bytes: input.size_bytes, ..self.policy.limits };
        Ok(ClaimReply {
            job_id: job.id.clone(),
            run,
            attempt,
            lease_seconds: seconds(self.policy.lease),
            deadline_seconds: seconds(links.deadline(job)),
            links_last_seconds: Some(seconds(links.last(job))),
            spec: job.spec.clone(),
            input,
            background,
            kept_matte,
            keep_matte,
            output,
            manifest,
            report_secret: report_secret(&self.master, &job.id, attempt),
            limits,
            segments: super::segments::terms(job, &self.policy),
        })
    }
}

/// Completes a job whose run has a valid manifest, unless a live lease stands. `true` when this call, or another
/// one meanwhile, did.
pub(super) async fn adopt(
    jobs: &dyn Jobs,
    objects: &dyn Objects,
    context: &Context<'_>,
    before: &JobRecord,
) -> Result<bool, StoreError> {
    let Some(run) = before.state.run else { return Ok(false) };
    // Judged before the object store is asked: most claims are refused here.
    let probe = Command::Adopt { run, charge: rotoless_contract::MilliCredits::ZERO, now: context.now };
    if lifecycle::apply(&before.state, probe).is_err() {
        return Ok(false);
    }
    let Some(found) = finished::find(objects, before, run).await? else { return Ok(false) };
    let adopt = Command::Adopt { run, charge: found.charge, now: context.now };
    let Ok(transition) = lifecycle::apply(&before.state, adopt) else { return Ok(false) };
    tracing::info!(job.id = %before.id, attempt = %found.manifest.attempt, "manifest adopted");
    let attempt = found.manifest.attempt;
    let mut change = context.change(before, transition, |job| found.record_on(job));
    // Finished, or overtaken by what an earlier one had finished.
    change.attempts = super::attempt::ended(jobs, before, "lapsed", context.now).await?;
    change.attempts.retain(|row| row.attempt != attempt);
    change.attempts.extend(super::attempt::closed(jobs, &before.id, attempt, "completed", context.now).await?);
    match jobs.commit(change).await.map_err(Missed::from) {
        Ok(()) => {
            super::segments::remove(objects, context.policy, before).await;
            Ok(true)
        }
        Err(Missed::Again | Missed::Credits) => Ok(false),
        Err(Missed::Store(err)) => Err(err),
    }
}

/// A message of an older run is refused before its token is looked at: that token is no longer known.
fn check_token(job: &JobRecord, request: &ClaimRequest) -> Result<(), CallError> {
    let Some(run) = job.state.run else { return Err(CallError::refused(Refusal::Superseded)) };
    if request.run < run {
        return Err(CallError::refused(Refusal::Superseded));
    }
    let token = job.claim_token.as_ref().ok_or(CallError::WrongToken)?;
    let same = token.0.as_bytes().ct_eq(request.claim_token.expose_secret().as_bytes());
    if request.run == run && bool::from(same) { Ok(()) } else { Err(CallError::WrongToken) }
}

fn begun(job: &JobRecord, request: &ClaimRequest, attempt: Attempt, now: jiff::Timestamp) -> AttemptRecord {
    let label = |text: &str| text.chars().filter(|c| !c.is_control()).take(128).collect::<String>();
    AttemptRecord {
        attempt,
        run: job.state.run.unwrap_or(Run::FIRST),
        worker_id: label(&request.worker_id),
        provider: label(&request.provider),
        claimed_at: now,
        ended_at: None,
        outcome: None,
    }
}

//! One session: at most one message, from receive to delete.
//!
//! Owns: the order claim → attempt → report → delete, what is done with the message, the log line of an attempt.
//! Does not own: the steps of an attempt (`attempt`), the loop over sessions (`run`).
//! Invariants: a message is deleted only when the control plane said that it is of no more use; the heartbeat has
//! ended before the report is sent, so nothing is extended behind a delete.

use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use rotoless_contract::queue::{MESSAGE_VERSION, QueueMessage};
use rotoless_contract::worker::{
    ClaimReply, ClaimRequest, FailureReason, Refusal, ReportReply, ReportRequest, attempt_path, claim_path,
};
use rotoless_contract::{Attempt as Number, JobId};
use secrecy::SecretString;

use crate::ailment::Ailment;
use crate::attempt::{Attempt, Committed, Ended};
use crate::connect::Connect;
use crate::control::{CallError, Control};
use crate::detail::{harmless, shown};
use crate::handed::Turn;
use crate::links::Links;
use crate::live::{Live, StopCause};
use crate::matting::Matting;
use crate::process::{Shutdown, WorkDir};
use crate::pulse::{Kept, Pulse};
use crate::queue::{Queue, QueueError, Received};
use crate::timing::Timing;
use crate::transfer::Transfer;

/// Version of the claim that is sent.
const CLAIM_VERSION: u32 = 1;

/// The greatest message SQS carries is 1 MiB; ours are a few hundred bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Serves sessions.
pub(crate) struct Worker {
    pub(crate) connect: Connect,
    pub(crate) control: Control,
    pub(crate) queue: Queue,
    pub(crate) transfer: Transfer,
    pub(crate) engine: Arc<dyn Matting>,
    /// What runs the models: `cpu`, `cuda`, `tensorrt`.
    pub(crate) provider: String,
    pub(crate) worker_id: String,
    pub(crate) fleet_key: SecretString,
    pub(crate) work_dir: WorkDir,
    pub(crate) timing: Timing,
    pub(crate) shutdown: Shutdown,
    /// Whoever started the session may want it to end before its time.
    pub(crate) dismissed: Shutdown,
    /// Where the host takes the worker away after some time, and another one goes on.
    pub(crate) turn: Option<Turn>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// No message, or asked to end.
    Idle,
    /// A message that led to no attempt.
    Passed,
    /// An attempt was made, whatever came of it.
    Handled { job: JobId, attempt: Number },
}

/// Why a session could not do its work. The message, if any, stays in the queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("no message can be received")]
    Queue(#[from] QueueError),
    #[error("the claim had no success")]
    Claim(#[source] CallError),
    /// This worker must not serve another one.
    #[error(transparent)]
    Ailing(#[from] Ailment),
}

/// What is done with the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Delete,
    /// Its visibility runs out by itself.
    Leave,
    Release(Duration),
}

impl Worker {
    /// Makes new connections: those from before a sleep of the process lead nowhere.
    pub(crate) fn renew(&mut self) -> Result<(), reqwest::Error> {
        self.control = self.connect.control(&self.timing)?;
        self.queue = self.connect.queue(&self.timing);
        self.transfer = self.transfer.renewed()?;
        Ok(())
    }

    /// Serves one session.
    pub(crate) async fn session(&self) -> Result<SessionEnd, SessionError> {
        self.session_of(self.timing.receive_wait).await
    }

    /// Serves one session that waits for its message at most so long.
    pub(crate) async fn session_of(&self, wait: Duration) -> Result<SessionEnd, SessionError> {
        let received = tokio::select! {
            biased;
            () = self.shutdown.requested() => return Ok(SessionEnd::Idle),
            received = self.queue.receive(wait) => received?,
        };
        let received_at = Instant::now();
        let Some(received) = received else { return Ok(SessionEnd::Idle) };
        if self.dismissed.since().is_some() {
            self.dispose(&received, Then::Release(Duration::ZERO)).await;
            return Ok(SessionEnd::Idle);
        }
        let (end, then) = self.serve(&received, received_at).await;
        self.dispose(&received, then).await;
        end
    }

    /// Does what a message asks for. The message is still there.
    pub(crate) async fn serve(
        &self,
        received: &Received,
        received_at: Instant,
    ) -> (Result<SessionEnd, SessionError>, Then) {
        let message = match parse(&received.body) {
            Ok(message) => message,
            Err(error) => {
                // Left for the dead letter queue: a newer worker may understand it, and people should see it.
                tracing::error!(message.id = received.id, error = shown(&error), "message cannot be understood");
                return (Ok(SessionEnd::Passed), Then::Leave);
            }
        };
        let claimed_at = Instant::now();
        match self.claim(&message, received_at).await {
            Ok(claim) => self.attempt(received, received_at, claim, claimed_at).await,
            Err(error) => self.unclaimed(received, &message, error),
        }
    }

    async fn claim(&self, message: &QueueMessage, received_at: Instant) -> Result<ClaimReply, CallError> {
        let request = ClaimRequest {
            v: CLAIM_VERSION,
            run: message.run,
            claim_token: message.claim_token.clone(),
            worker_id: self.worker_id.chars().take(128).collect(),
            provider: self.provider.clone(),
        };
        // Nobody extends the message yet: a claim must be answered while it is still ours.
        let Timing { visibility, call, .. } = self.timing;
        let last_try = received_at + (visibility - call.min(visibility / 2));
        let deadline = || if self.shutdown.since().is_some() { received_at } else { last_try };
        self.control.call_until(&self.fleet_key, &claim_path(&message.job_id), &request, deadline).await
    }

    /// The claim had no success: what becomes of the message.
    fn unclaimed(
        &self,
        received: &Received,
        message: &QueueMessage,
        error: CallError,
    ) -> (Result<SessionEnd, SessionError>, Then) {
        let job = message.job_id.as_str();
        match error {
            CallError::Refused { refusal, retry_after } => {
                tracing::info!(job.id = job, refusal = refusal.as_str(), "claim refused");
                (Ok(SessionEnd::Passed), after_refused_claim(refusal, retry_after, &self.timing))
            }
            // An unknown job, or a message that was made up: for people to look at, in the dead letter queue.
            CallError::Rejected { status: status @ (400 | 404), .. } => {
                tracing::error!(job.id = job, message.id = received.id, status, "claim rejected");
                (Ok(SessionEnd::Passed), Then::Leave)
            }
            error @ (CallError::Rejected { .. } | CallError::InsufficientCredits | CallError::Unavailable { .. }) => {
                // Whoever ends does not keep what another worker could take.
                let ends = self.shutdown.since().is_some();
                let then = if ends { Then::Release(Duration::ZERO) } else { Then::Leave };
                (Err(SessionError::Claim(error)), then)
            }
        }
    }

    // Of level error, so that the ids stand on a line whatever is logged.
    #[tracing::instrument(level = "error", skip_all, fields(job.id = claim.job_id.as_str(), attempt = claim.attempt.get()))]
    async fn attempt(
        &self,
        received: &Received,
        received_at: Instant,
        claim: ClaimReply,
        claimed_at: Instant,
    ) -> (Result<SessionEnd, SessionError>, Then) {
        let lease = Duration::from_secs(claim.lease_seconds.into());
        let live = Arc::new(Live::new(claimed_at + lease));
        let links = Arc::new(Links::new(&claim, claimed_at));
        let kept = Kept {
            live: Arc::clone(&live),
            links: Arc::clone(&links),
            receipt: received.receipt.clone(),
            received: received_at,
            path: attempt_path(&claim.job_id, claim.attempt, "heartbeat"),
            secret: claim.report_secret.clone(),
            claimed: claimed_at,
            lease,
            deadline: claimed_at + Duration::from_secs(claim.deadline_seconds.into()),
            shutdown: self.shutdown.clone(),
            dismissed: self.dismissed.clone(),
            turn_ends: self.turn.map(|turn| turn.ends),
            timing: self.timing.clone(),
        };
        let outcome = match Pulse::start(&self.connect, kept) {
            Ok(pulse) => {
                let outcome = self.guarded(&claim, &live, &links).await;
                pulse.stop().await;
                outcome
            }
            Err(error) => Err(Ended::failed(FailureReason::InternalError, &error)),
        };
        self.log(&claim, claimed_at, &live, &outcome);
        let ailment = match &outcome {
            Err(Ended::Hung(_)) => Some(Ailment::EngineHung),
            Err(Ended::Ailing { ailment, .. }) => Some(*ailment),
            Ok(_) | Err(_) => None,
        };
        let is_in_vain = self.turn.is_some_and(|turn| turn.was_in_vain(&live, claimed_at));
        let then = self.settle(&claim, &live, outcome, is_in_vain).await;
        let end = match ailment {
            Some(ailment) => Err(ailment.into()),
            None => Ok(SessionEnd::Handled { job: claim.job_id, attempt: claim.attempt }),
        };
        (end, then)
    }

    /// The attempt, with a floor under it: whatever panics there is a failure of this job and of no other.
    async fn guarded(&self, claim: &ClaimReply, live: &Arc<Live>, links: &Arc<Links>) -> Result<Committed, Ended> {
        let dir = self.work_dir.attempt().map_err(|error| {
            if error.kind() == ErrorKind::StorageFull {
                Ended::Ailing { ailment: Ailment::DiskFull, detail: shown(&error) }
            } else {
                Ended::failed(FailureReason::InternalError, &error)
            }
        })?;
        let attempt = Attempt {
            claim,
            live,
            links,
            control: &self.control,
            transfer: &self.transfer,
            engine: &self.engine,
            timing: &self.timing,
            dir: dir.path(),
        };
        let outcome = AssertUnwindSafe(attempt.work()).catch_unwind().await;
        let outcome = outcome.map(|outcome| outcome.map_err(|ended| ended.on_disk(dir.path())));
        if let Err(error) = dir.close() {
            tracing::warn!(error = shown(&error), "temporary files are left");
        }
        outcome.unwrap_or_else(|_| {
            Err(Ended::Failed { reason: FailureReason::InternalError, detail: "the worker panicked".to_owned() })
        })
    }

    /// Tells the control plane how the attempt ended, where there is anything to tell.
    async fn settle(
        &self,
        claim: &ClaimReply,
        live: &Live,
        outcome: Result<Committed, Ended>,
        is_in_vain: bool,
    ) -> Then {
        let report = match outcome {
            Ok(committed) => return self.settle_committed(claim, live, committed).await,
            Err(Ended::Failed { reason, detail }) => ReportRequest::Failed { reason, detail: harmless(&detail) },
            Err(Ended::JobOver) => return Then::Delete,
            Err(Ended::Stale | Ended::Unheard) => return Then::Leave,
            Err(Ended::Stopped(cause) | Ended::Hung(cause)) => match cause {
                StopCause::JobOver => return Then::Delete,
                StopCause::Stale | StopCause::LeaseLost | StopCause::ReceiptLost => return Then::Leave,
                StopCause::Deadline => timed_out("the attempt ran past its deadline"),
                StopCause::Stalled => timed_out("no frame was finished for too long"),
                StopCause::Shutdown if is_in_vain => {
                    timed_out("not one segment was finished in the time that this host gives an attempt")
                }
                StopCause::Shutdown => return self.abandon(claim, "the worker was asked to end").await,
                StopCause::Dismissed => return self.abandon(claim, "the host stopped the session").await,
            },
            Err(Ended::Ailing { ailment, detail }) => match ailment {
                // Nothing that the video could help: it costs no attempt.
                Ailment::DeviceLost => return self.abandon(claim, &ailment.to_string()).await,
                Ailment::DiskFull | Ailment::EngineHung | Ailment::CutOff => {
                    let detail = harmless(&format!("{ailment}: {detail}"));
                    ReportRequest::Failed { reason: FailureReason::InternalError, detail }
                }
            },
        };
        let reply = self.report(claim, &report, || live.lease_end()).await;
        self.after_report(reply)
    }

    async fn settle_committed(&self, claim: &ClaimReply, live: &Live, committed: Committed) -> Then {
        let report = ReportRequest::Completed { manifest_sha256: committed.manifest_sha256 };
        let reply = self.report(claim, &report, || live.lease_end()).await;
        match reply {
            // The manifest in the store is another attempt's after all: its owner or a later claim goes on with it.
            Err(CallError::Refused { refusal: Refusal::BadManifest, .. }) if !committed.certain => Then::Leave,
            Err(CallError::Refused { refusal: Refusal::BadManifest, .. }) => {
                let detail = "the control plane did not accept the manifest".to_owned();
                let report = ReportRequest::Failed { reason: FailureReason::VerificationFailed, detail };
                let reply = self.report(claim, &report, || live.lease_end()).await;
                self.after_report(reply)
            }
            reply => self.after_report(reply),
        }
    }

    /// The host goes away: short, because its end may come at any moment.
    async fn abandon(&self, claim: &ClaimReply, why: &str) -> Then {
        let until = Instant::now() + self.timing.abandon_report;
        let report = ReportRequest::Abandoned { detail: why.to_owned() };
        let reply = self.report(claim, &report, || until).await;
        match self.after_report(reply) {
            Then::Delete => Then::Delete,
            Then::Leave | Then::Release(_) => Then::Release(Duration::ZERO),
        }
    }

    async fn report(
        &self,
        claim: &ClaimReply,
        report: &ReportRequest,
        until: impl Fn() -> Instant + Send,
    ) -> Result<ReportReply, CallError> {
        let path = attempt_path(&claim.job_id, claim.attempt, "report");
        self.control.call_until(&claim.report_secret, &path, report, until).await
    }

    fn after_report(&self, reply: Result<ReportReply, CallError>) -> Then {
        match reply {
            Ok(ReportReply { delete_message: true, .. }) => Then::Delete,
            Ok(ReportReply { delete_message: false, .. }) => Then::Release(self.timing.prompt_retry),
            Err(CallError::Refused { refusal, .. }) => match refusal {
                Refusal::Terminal | Refusal::Superseded => Then::Delete,
                Refusal::StaleAttempt | Refusal::Leased | Refusal::Contradiction | Refusal::BadManifest => {
                    tracing::warn!(refusal = refusal.as_str(), "report refused");
                    Then::Leave
                }
            },
            Err(
                error @ (CallError::Rejected { .. } | CallError::InsufficientCredits | CallError::Unavailable { .. }),
            ) => {
                tracing::error!(error = shown(&error), "report had no success");
                Then::Leave
            }
        }
    }

    pub(crate) async fn dispose(&self, received: &Received, then: Then) {
        let outcome = match then {
            Then::Delete => self.queue.delete(&received.receipt).await,
            Then::Leave => Ok(()),
            Then::Release(after) => self.queue.release(&received.receipt, after).await,
        };
        match outcome {
            Ok(()) => {}
            Err(QueueError::StaleReceipt) => tracing::debug!(message.id = received.id, "message is not ours any more"),
            // It comes again, and the claim tells what to do with it.
            Err(error) => tracing::warn!(
                message.id = received.id,
                error = shown(&error),
                "message was neither deleted nor released"
            ),
        }
    }

    /// The one line of an attempt.
    fn log(&self, claim: &ClaimReply, began: Instant, live: &Live, outcome: &Result<Committed, Ended>) {
        let (frames, output_bytes) = match outcome {
            Ok(committed) => (committed.frames, committed.size_bytes),
            Err(_) => (live.now_at().frames_done, 0),
        };
        let (outcome, detail) = match outcome {
            Ok(_) => ("committed", ""),
            Err(Ended::Failed { reason, detail }) => (reason.as_str(), detail.as_str()),
            Err(Ended::Stopped(cause)) => (cause.as_str(), ""),
            Err(Ended::Hung(cause)) => (cause.as_str(), "the engine did not stop"),
            Err(Ended::JobOver) => ("job_over", ""),
            Err(Ended::Stale) => ("stale", ""),
            Err(Ended::Unheard) => ("unheard", ""),
            Err(Ended::Ailing { ailment, detail }) => (ailment.as_str(), detail.as_str()),
        };
        tracing::info!(
            job.id = claim.job_id.as_str(),
            attempt = claim.attempt.get(),
            outcome,
            detail = harmless(detail),
            frames,
            duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            model = claim.spec.model.as_str(),
            provider = self.provider,
            source.size_bytes = claim.input.size_bytes,
            output.size_bytes = output_bytes,
            "attempt ended"
        );
    }
}

fn timed_out(detail: &str) -> ReportRequest {
    ReportRequest::Failed { reason: FailureReason::TimedOut, detail: detail.to_owned() }
}

fn after_refused_claim(refusal: Refusal, retry_after: Option<Duration>, timing: &Timing) -> Then {
    match refusal {
        Refusal::Terminal | Refusal::Superseded => Then::Delete,
        Refusal::Leased => Then::Release(retry_after.unwrap_or(timing.visibility).min(timing.visibility)),
        Refusal::StaleAttempt | Refusal::Contradiction | Refusal::BadManifest => Then::Leave,
    }
}

/// Why a message is not one of ours.
#[derive(Debug, thiserror::Error)]
enum MessageError {
    #[error("the message has {0} bytes")]
    TooLarge(usize),
    #[error("the message cannot be parsed")]
    Malformed,
    #[error("the message has version {0}")]
    Version(u64),
}

fn parse(body: &str) -> Result<QueueMessage, MessageError> {
    /// The version is read by itself: the rest of a later version may look different.
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u64,
    }
    if body.len() > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLarge(body.len()));
    }
    // The parser's errors quote what they read, and the claim token is in there.
    let Versioned { v } = serde_json::from_str(body).map_err(|_| MessageError::Malformed)?;
    if v != u64::from(MESSAGE_VERSION) {
        return Err(MessageError::Version(v));
    }
    serde_json::from_str(body).map_err(|_| MessageError::Malformed)
}

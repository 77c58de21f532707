//! The loop of a worker on RunPod: take, one session, done.
//!
//! Owns: how many takes are outstanding (one, and none while a job is in progress), what RunPod is told of a session,
//! when this worker has itself replaced. Does not own: the session (`crate::session`), the wire (`client`).
//! Invariants: one job of RunPod, at most one message; a video that fails is no error of RunPod's, which would repeat
//! it; a job that RunPod stopped is never answered; nothing of a session outlives it.

use std::time::{Duration, Instant};

use rotoless_contract::{Attempt, JobId};
use serde::Serialize;
use tokio::sync::watch;

use super::client::{CallError, Client, Job, Taken};
use super::env::RunPod;
use super::heartbeat::{Heartbeat, InProgress};
use super::stops::Stops;
use crate::ailment::Ailment;
use crate::backoff::Backoff;
use crate::detail::shown;
use crate::process::{Shutdown, resident_bytes};
use crate::run::RunError;
use crate::session::{SessionEnd, SessionError, Worker};
use crate::sessions::{LATE, Recycle, WAIT_WHEN_LATE};

/// Sessions in a row without queue or control plane, after which the worker is taken for cut off: it would go on
/// swallowing wakes that others could follow.
const CUT_OFF: u32 = 3;

/// What RunPod is told: of a job that was served, or of a worker that must not serve any more.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Output>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(rename = "stopPod", skip_serializing_if = "std::ops::Not::not")]
    stop_pod: bool,
}

/// One line about a session.
#[derive(Debug, Serialize)]
pub(crate) struct Output {
    handled: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<Attempt>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    idle: bool,
}

impl Answer {
    /// `ailment`: what the session showed of the worker itself.
    pub(crate) fn of(end: Option<SessionEnd>, ailment: Option<Ailment>) -> Self {
        let nothing = Output { handled: 0, job: None, attempt: None, idle: false };
        if let Some(ailment) = ailment {
            return Self { output: None, error: Some(ailment.to_string()), stop_pod: true };
        }
        let output = match end {
            Some(SessionEnd::Handled { job, attempt }) => {
                Output { handled: 1, job: Some(job), attempt: Some(attempt), ..nothing }
            }
            Some(SessionEnd::Idle) => Output { idle: true, ..nothing },
            Some(SessionEnd::Passed) | None => nothing,
        };
        Self { output: Some(output), error: None, stop_pod: false }
    }
}

/// How long the session of a wake that was posted then waits for its message.
pub(crate) fn receive_wait(posted_at: Option<i64>, now: i64, whole: Duration) -> Duration {
    let age = posted_at.map_or(0, |at| now.saturating_sub(at));
    if age > LATE.as_secs().cast_signed() { whole.min(WAIT_WHEN_LATE) } else { whole }
}

/// Serves jobs of RunPod until this process is asked to end, or has itself replaced.
pub(crate) async fn serve(worker: Worker, platform: &RunPod, recycle: Recycle) -> Result<(), RunError> {
    let in_progress = InProgress::default();
    let heartbeat = Heartbeat::start(platform, in_progress.clone())?;
    let naps = heartbeat.naps.clone();
    Box::pin(Serving::new(worker, platform, recycle, in_progress, naps)?.run()).await
}

/// The same without a heartbeat, told by the test when the process slept.
#[cfg(test)]
pub(crate) async fn serve_sleeper(
    worker: Worker,
    platform: &RunPod,
    naps: watch::Receiver<u64>,
) -> Result<(), RunError> {
    let (recycle, in_progress) = (Recycle::default(), InProgress::default());
    Box::pin(Serving::new(worker, platform, recycle, in_progress, naps)?.run()).await
}

/// What a worker has gone through.
struct Life {
    recycle: Recycle,
    attempts: u64,
    /// Bytes resident before the first session.
    born_with: Option<u64>,
    failed_in_a_row: u32,
}

impl Life {
    fn new(recycle: Recycle) -> Self {
        Self { recycle, attempts: 0, born_with: resident_bytes(), failed_in_a_row: 0 }
    }

    /// Whether it is time for a new worker.
    fn is_over(&self) -> bool {
        let Recycle { attempts, growth_bytes } = self.recycle;
        let grown = || Some(resident_bytes()?.saturating_sub(self.born_with?));
        attempts.is_some_and(|most| self.attempts >= most)
            || growth_bytes.is_some_and(|most| grown().is_some_and(|grown| grown >= most))
    }

    /// What a session's end says about the worker.
    fn diagnose(&mut self, outcome: Result<SessionEnd, SessionError>) -> (Option<SessionEnd>, Option<Ailment>) {
        match outcome {
            Ok(end) => {
                match end {
                    SessionEnd::Handled { .. } => (self.attempts, self.failed_in_a_row) = (self.attempts + 1, 0),
                    SessionEnd::Passed => self.failed_in_a_row = 0,
                    // An empty queue says nothing about the control plane, and it is empty for as long as a message
                    // is hidden that could not be claimed.
                    SessionEnd::Idle => {}
                }
                (Some(end), None)
            }
            Err(SessionError::Ailing(ailment)) => (None, Some(ailment)),
            Err(error @ (SessionError::Queue(_) | SessionError::Claim(_))) => {
                tracing::warn!(error = shown(&error), "session failed");
                self.failed_in_a_row += 1;
                (None, (self.failed_in_a_row >= CUT_OFF).then_some(Ailment::CutOff))
            }
        }
    }
}

/// What follows from a session.
enum Next {
    Take,
    End,
}

struct Serving {
    worker: Worker,
    client: Client,
    stops: Stops,
    in_progress: InProgress,
    naps: watch::Receiver<u64>,
    life: Life,
}

impl Serving {
    fn new(
        worker: Worker,
        platform: &RunPod,
        recycle: Recycle,
        in_progress: InProgress,
        naps: watch::Receiver<u64>,
    ) -> Result<Self, RunError> {
        let client = Client::new(platform.clone())?;
        let stops = Stops::listen(client.renewed()?);
        Ok(Self { worker, client, stops, in_progress, naps, life: Life::new(recycle) })
    }

    async fn run(mut self) -> Result<(), RunError> {
        let shutdown = self.worker.shutdown.clone();
        let timing = self.worker.timing.clone();
        let fresh = || Backoff::new(Duration::from_secs(1), timing.session_retry_cap);
        let mut backoff = fresh();
        while shutdown.since().is_none() {
            if self.naps.has_changed().unwrap_or(false) {
                self.renew()?;
            }
            let began = Instant::now();
            let taken = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                taken = self.take() => taken,
            };
            let pause = match taken {
                Ok(Taken::Jobs(jobs)) => {
                    backoff = fresh();
                    if matches!(self.serve_all(jobs).await?, Next::End) {
                        break;
                    }
                    Duration::ZERO
                }
                Ok(Taken::Nothing) => {
                    backoff = fresh();
                    timing.empty_take_floor.saturating_sub(began.elapsed())
                }
                Ok(Taken::TooMany) => timing.too_many_takes,
                Err(error) => {
                    tracing::warn!(error = shown(&error), "no job can be taken from RunPod");
                    backoff.wait(None)
                }
            };
            tokio::select! {
                () = shutdown.requested() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// One take. It ends by an answer, or when none can come any more: then what is on its way has a moment to arrive,
    /// because a job that nobody reads is RunPod's to miss. For the same reason a short sleep does not end it: its
    /// connection may be as good as before.
    async fn take(&mut self) -> Result<Taken, CallError> {
        let timing = &self.worker.timing;
        let host = self.worker.connect.clock.host();
        let began = host.now();
        let mut naps = self.naps.clone();
        let take = self.client.take(!self.in_progress.all().is_empty());
        let cap = tokio::time::sleep(timing.take_cap);
        tokio::pin!(take, cap);
        let otherwise = loop {
            tokio::select! {
                biased;
                taken = &mut take => return taken,
                Ok(()) = naps.changed() => {
                    let lasted = host.now().duration_since(began).unwrap_or_default();
                    if lasted >= timing.take_cap {
                        break Ok(Taken::Nothing);
                    }
                }
                () = &mut cap => break Err(CallError::Timeout),
            }
        };
        tokio::time::timeout(timing.take_grace, take).await.unwrap_or(otherwise)
    }

    /// New connections: those from before a sleep lead nowhere.
    fn renew(&mut self) -> Result<(), RunError> {
        let naps = *self.naps.borrow_and_update();
        tracing::info!(naps, "the process slept, connecting anew");
        self.client = self.client.renewed()?;
        self.stops.renew(self.client.renewed()?);
        self.worker.renew()?;
        Ok(())
    }

    async fn serve_all(&mut self, jobs: Vec<Job>) -> Result<Next, RunError> {
        self.in_progress.set(jobs.iter().map(|job| job.id.clone()).collect());
        for job in jobs {
            if let Next::End = self.serve(&job).await? {
                return Ok(Next::End);
            }
        }
        Ok(Next::Take)
    }

    /// One session, and its line to RunPod.
    async fn serve(&mut self, job: &Job) -> Result<Next, RunError> {
        let began = Instant::now();
        let (outcome, was_stopped) = self.session(job).await;
        let (end, ailment) = self.life.diagnose(outcome);
        let mut answer = Answer::of(end, ailment);
        answer.stop_pod |= self.life.is_over() && !was_stopped;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let handled = answer.output.as_ref().map_or(0, |output| output.handled);
        let (stopped, recycled) = (was_stopped, answer.stop_pod);
        tracing::info!(wake.id = job.id, handled, duration_ms, stopped, recycled, "session ended");
        if !was_stopped {
            self.tell(job, &answer).await;
        }
        self.in_progress.remove(&job.id);
        match ailment {
            Some(ailment) => Err(RunError::Ailing(ailment)),
            None => Ok(if answer.stop_pod { Next::End } else { Next::Take }),
        }
    }

    /// The session of a job, and whether RunPod stopped it.
    async fn session(&mut self, job: &Job) -> (Result<SessionEnd, SessionError>, bool) {
        let (dismiss, dismissed) = Shutdown::channel();
        self.worker.dismissed = dismissed;
        let wait =
            receive_wait(job.posted_at, self.worker.connect.clock.unix_seconds(), self.worker.timing.receive_wait);
        let mut session = Box::pin(self.worker.session_of(wait));
        let stop = self.stops.of(&job.id);
        tokio::pin!(stop);
        tokio::select! {
            biased;
            outcome = &mut session => (outcome, false),
            () = &mut stop => {
                tracing::info!(wake.id = job.id, "RunPod stops the job");
                dismiss.ask();
                (session.await, true)
            }
        }
    }

    /// Tells RunPod what came of a job. Losing it is harmless: RunPod calls the job failed, and may repeat a wake.
    async fn tell(&self, job: &Job, answer: &Answer) {
        let timing = &self.worker.timing;
        let Ok(body) = serde_json::to_string(answer) else { return };
        let tries = async {
            let mut backoff = Backoff::new(timing.done_retry_first, timing.done_retry_cap);
            for left in (0..timing.done_tries).rev() {
                let call = tokio::time::timeout(timing.call, self.client.done(&job.id, body.clone()));
                let error = match call.await.unwrap_or(Err(CallError::Timeout)) {
                    Ok(()) => return,
                    Err(error) => error,
                };
                if left == 0 {
                    tracing::warn!(wake.id = job.id, error = shown(&error), "RunPod was not told of a session");
                    return;
                }
                tokio::time::sleep(backoff.wait(None)).await;
            }
        };
        let ends = async {
            self.worker.shutdown.requested().await;
            tokio::time::sleep(timing.abandon_report).await;
        };
        tokio::select! {
            biased;
            () = tries => {}
            () = ends => {}
            () = tokio::time::sleep(timing.done_within) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_of_a_late_wake_waits_less_and_one_without_a_time_is_not_late() {
        let (whole, now) = (Duration::from_secs(20), 1_795_376_400);
        for (posted_at, wait) in [
            (None, 20),
            (Some(now), 20),
            (Some(now - 60), 20),
            (Some(now - 61), 5),
            (Some(0), 5),
            (Some(i64::MIN), 5),
            // A clock that runs ahead.
            (Some(now + 300), 20),
            (Some(i64::MAX), 20),
        ] {
            assert_eq!(receive_wait(posted_at, now, whole), Duration::from_secs(wait), "{posted_at:?}");
        }
        assert_eq!(receive_wait(Some(0), now, Duration::from_secs(1)), Duration::from_secs(1));
    }
}

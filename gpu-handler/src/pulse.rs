//! The heartbeat: keeps lease and message, watches the attempt's clocks, raises the stop flag.
//!
//! It lives on an operating system thread of its own, with its own runtime and its own connections, so that no
//! load on the engine or on the attempt's tasks can starve it. Does not own: what follows from a stop (`session`).
//! Invariants: after [`Pulse::stop`] nothing is sent any more; after a quiet cause to stop nothing is extended.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rotoless_contract::worker::{HeartbeatReply, HeartbeatRequest, Refusal, Stage};
use secrecy::SecretString;
use tokio::sync::{oneshot, watch};
use tracing::Instrument as _;

use crate::backoff::Backoff;
use crate::connect::Connect;
use crate::control::{CallError, Control};
use crate::detail::shown;
use crate::links::Links;
use crate::live::{Live, Progress, StopCause};
use crate::process::Shutdown;
use crate::queue::{Queue, QueueError, Receipt};
use crate::timing::Timing;

/// How long a call in flight is waited for at the end: its answer matters to nobody any more, but an extension that
/// overtakes the release of a message would hide it for longer.
const IN_FLIGHT_GRACE: Duration = Duration::from_secs(2);

/// A running heartbeat.
pub(crate) struct Pulse {
    finish: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

/// What a heartbeat keeps alive and when that ends.
pub(crate) struct Kept {
    pub(crate) live: Arc<Live>,
    pub(crate) links: Arc<Links>,
    pub(crate) receipt: Receipt,
    /// When the message was received.
    pub(crate) received: Instant,
    /// The path and the secret of this attempt's heartbeats.
    pub(crate) path: String,
    pub(crate) secret: SecretString,
    /// The lease, counted from when the claim was sent.
    pub(crate) claimed: Instant,
    pub(crate) lease: Duration,
    /// When the attempt must have ended.
    pub(crate) deadline: Instant,
    pub(crate) shutdown: Shutdown,
    pub(crate) dismissed: Shutdown,
    /// When the host will ask the session to end, where it does so by the clock.
    pub(crate) turn_ends: Option<Instant>,
    pub(crate) timing: Timing,
}

impl Pulse {
    /// Starts the heartbeat's thread.
    pub(crate) fn start(connect: &Connect, kept: Kept) -> io::Result<Self> {
        let (finish, finished) = watch::channel(false);
        let (end, ended) = oneshot::channel();
        let connect = connect.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let attempt = tracing::Span::current();
        std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
            let beating = async move {
                match connect.control(&kept.timing) {
                    Ok(control) => {
                        let beat = Beat::new(control, connect.queue(&kept.timing), &kept);
                        tokio::select! {
                            () = watch_clocks(&kept) => {}
                            () = beat.run(finished) => {}
                        }
                    }
                    // The lease runs out by itself, and the attempt with it.
                    Err(error) => tracing::error!(error = shown(&error), "no heartbeat"),
                }
            };
            runtime.block_on(beating.instrument(attempt));
            // Nobody listens any more when the session was dropped.
            let _ = end.send(());
        })?;
        Ok(Self { finish, ended })
    }

    /// Stops it; a call in flight is waited for, but not for long.
    pub(crate) async fn stop(self) {
        self.finish.send_replace(true);
        // An error says that the thread is gone, which is what was asked for.
        let _ = self.ended.await;
    }
}

async fn asked_and_waited(mut finished: watch::Receiver<bool>, grace: Duration) {
    // An error says that the session is gone, which asks for the same.
    let _ = finished.wait_for(|finished| *finished).await;
    tokio::time::sleep(grace).await;
}

struct Beat<'a> {
    control: Control,
    queue: Queue,
    kept: &'a Kept,
    lease: Schedule,
    visibility: Schedule,
    /// Heartbeats so far: the control plane counts each once.
    seq: u64,
    /// The newest wish for links that was sent.
    wish: u64,
}

/// When something is renewed next: a third into what it lasts, or soon after a failure.
struct Schedule {
    next: Instant,
    every: Duration,
    retry: Duration,
    backoff: Option<Backoff>,
}

impl Schedule {
    fn new(began: Instant, lasts: Duration, timing: &Timing) -> Self {
        let every = lasts / 3;
        Self { next: began + every, every, retry: timing.retry_first, backoff: None }
    }

    fn sooner(&mut self, began: Instant, at_most: Duration) {
        self.every = self.every.min(at_most);
        self.next = began + self.every;
    }

    fn renewed(&mut self, at: Instant) {
        self.backoff = None;
        self.next = at + self.every;
    }

    fn failed(&mut self) {
        // Several tries must fit into what is left of a lease.
        let cap = self.every / 4;
        let backoff = self.backoff.get_or_insert_with(|| Backoff::new(self.retry, cap));
        self.next = Instant::now() + backoff.wait(None);
    }
}

/// Looks at the attempt's clocks at every tick, also while a call hangs. Never ends.
async fn watch_clocks(kept: &Kept) {
    loop {
        if let Some(cause) = kept.judge(Instant::now()) {
            kept.live.stop(cause);
        }
        tokio::time::sleep(kept.timing.tick).await;
    }
}

impl Kept {
    fn judge(&self, now: Instant) -> Option<StopCause> {
        let progress = self.live.now_at();
        if now >= self.live.lease_end() {
            return Some(StopCause::LeaseLost);
        }
        if now >= self.deadline {
            return Some(StopCause::Deadline);
        }
        if progress.stage == Stage::Matte && now.saturating_duration_since(progress.moved) >= self.timing.stalled {
            return Some(StopCause::Stalled);
        }
        if self.dismissed.since().is_some() {
            return Some(StopCause::Dismissed);
        }
        if self.turn_ends.is_some_and(|ends| self.ends_within_a_segment(ends, now)) {
            return Some(StopCause::Shutdown);
        }
        let asked = self.shutdown.since()?;
        let may_finish = match progress.stage {
            Stage::Download | Stage::Probe => false,
            Stage::Matte => progress.remaining(now).is_some_and(|left| left <= self.timing.finish_within),
            Stage::Verify | Stage::Upload => true,
        };
        let in_time = now.saturating_duration_since(asked) < self.timing.finish_cap;
        (!may_finish || !in_time).then_some(StopCause::Shutdown)
    }
}

impl Kept {
    /// Whether what is worked on would be thrown away at the end of the turn: neither the segment nor the rest of the
    /// video is expected to be finished by then.
    fn ends_within_a_segment(&self, ends: Instant, now: Instant) -> bool {
        let progress = self.live.now_at();
        let is_too_late = |at: Instant| at > ends;
        progress.stage == Stage::Matte
            && self.live.next_segment_at().is_some_and(is_too_late)
            && progress.remaining(now).is_none_or(|left| is_too_late(now + left))
    }
}

impl<'a> Beat<'a> {
    fn new(control: Control, queue: Queue, kept: &'a Kept) -> Self {
        let mut lease = Schedule::new(kept.claimed, kept.lease, &kept.timing);
        // Heartbeats also carry progress, which clients watch.
        lease.sooner(kept.claimed, kept.timing.heartbeat);
        let visibility = Schedule::new(kept.received, kept.timing.visibility, &kept.timing);
        Self { control, queue, kept, lease, visibility, seq: 0, wish: 0 }
    }

    /// Renews until told to finish, or until there is nothing to keep any more.
    async fn run(mut self, mut finished: watch::Receiver<bool>) {
        while !self.kept.live.cause().is_some_and(StopCause::is_quiet) && !*finished.borrow() {
            tokio::select! {
                biased;
                () = self.renew_what_is_due() => {}
                () = asked_and_waited(finished.clone(), IN_FLIGHT_GRACE) => return,
            }
            let next = self.lease.next.min(self.visibility.next).min(Instant::now() + self.kept.timing.tick);
            tokio::select! {
                // Also when the session is gone, and with it whoever could use what is kept.
                _ = finished.changed() => return,
                () = tokio::time::sleep_until(next.into()) => {}
                // Somebody waits for links.
                () = self.kept.links.wished_after(self.wish) => self.lease.next = Instant::now(),
            }
        }
    }

    async fn renew_what_is_due(&mut self) {
        let now = Instant::now();
        let (lease_due, visibility_due) = (now >= self.lease.next, now >= self.visibility.next);
        let beat = lease_due.then(|| self.sign_of_life(now));
        let lease = async {
            match &beat {
                Some(beat) => Some(self.control.call(&self.kept.secret, &self.kept.path, beat).await),
                None => None,
            }
        };
        let visibility = async {
            if !visibility_due {
                return None;
            }
            Some(tokio::time::timeout(self.kept.timing.call, self.queue.extend(&self.kept.receipt)).await)
        };
        let (lease, visibility) = tokio::join!(lease, visibility);
        if let (Some(outcome), Some(beat)) = (lease, &beat) {
            self.lease_answered(now, beat, outcome);
        }
        match visibility {
            None => {}
            Some(Ok(Ok(()))) => self.visibility.renewed(now),
            Some(Ok(Err(QueueError::StaleReceipt))) => self.kept.live.stop(StopCause::ReceiptLost),
            Some(Ok(Err(QueueError::Unavailable { .. })) | Err(_)) => self.visibility.failed(),
        }
    }

    fn sign_of_life(&mut self, now: Instant) -> HeartbeatRequest {
        let wish = self.kept.links.wish(now);
        self.wish = wish.unwrap_or(self.wish);
        self.seq += 1;
        let Progress { stage, frames_done, frames_total, .. } = self.kept.live.now_at();
        // The check counts its own frames anew; the matted ones are all done by then.
        let frames_done = match stage {
            Stage::Download | Stage::Probe | Stage::Matte => frames_done,
            Stage::Verify | Stage::Upload => frames_total,
        };
        HeartbeatRequest {
            seq: Some(self.seq),
            fresh_links: wish.is_some(),
            ..HeartbeatRequest::at(stage, frames_done, frames_total)
        }
    }

    /// `sent` is when the call was sent: a lease counted from there can only end too early for us, never too late.
    fn lease_answered(&mut self, sent: Instant, beat: &HeartbeatRequest, outcome: Result<HeartbeatReply, CallError>) {
        let live = &self.kept.live;
        match outcome {
            Ok(HeartbeatReply { cancel: true, .. }) => live.stop(StopCause::JobOver),
            Ok(HeartbeatReply { cancel: false, lease_seconds, links }) => {
                if beat.fresh_links {
                    self.kept.links.answer(self.wish, links, sent);
                }
                live.renew(sent + Duration::from_secs(lease_seconds.into()));
                self.lease.renewed(sent);
            }
            Err(CallError::Refused { refusal, .. }) => live.stop(match refusal {
                Refusal::Terminal | Refusal::Superseded => StopCause::JobOver,
                Refusal::StaleAttempt | Refusal::Leased | Refusal::Contradiction | Refusal::BadManifest => {
                    StopCause::Stale
                }
            }),
            Err(
                error @ (CallError::Unavailable { .. } | CallError::Rejected { .. } | CallError::InsufficientCredits),
            ) => {
                tracing::warn!(error = shown(&error), "heartbeat failed");
                self.lease.failed();
            }
        }
    }
}

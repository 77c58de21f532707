//! Messages that somebody else received and hands over, each with the time that there is for it: a worker whose host
//! starts it for a message and takes it away after a while.
//!
//! Owns: the time of such a turn, and what becomes of the message at its end. Does not own: the session itself
//! (`session`). Invariants: a message that is not done is visible again soon, whatever its queue's own timeout; nothing is
//! begun that the rest of the turn has no room for; an attempt is given back early enough that it can say so.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::config::Config;
use crate::detail::shown;
use crate::live::Live;
use crate::net;
use crate::process::{AskShutdown, Shutdown};
use crate::queue::{QueueError, Receipt, Received};
use crate::run::{RunError, prepare};
use crate::session::{SessionError, Then, Worker};
use crate::timing::Timing;

/// A message in flight with us.
#[derive(Debug)]
pub struct HandedMessage {
    /// The queue's name for it, for logs.
    pub id: String,
    /// What was sent.
    pub body: String,
    /// Proof that it is in flight with us.
    pub receipt: String,
}

/// The time that a host gives to one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// All of it.
    whole: Duration,
    /// When the session is asked to end.
    pub(crate) ends: Instant,
}

impl Turn {
    /// Whether an attempt that was cut short had most of its time and left nothing that another one could go on from:
    /// the next would end like it, and the one after that.
    pub(crate) fn was_in_vain(self, live: &Live, claimed_at: Instant) -> bool {
        claimed_at.elapsed() >= self.whole / 2 && live.segments_stored() == 0
    }
}

/// A worker that is handed its messages. One at a time is served; others wait.
pub struct HandedWorker {
    worker: Mutex<Worker>,
    timing: Timing,
}

/// Of a turn's time, how much before its end a session is asked to end: what is nearly done is finished within a half of
/// it, an engine stops within a quarter, and the rest is for saying so.
fn drain(whole: Duration) -> Duration {
    (whole / 15).clamp(Duration::from_secs(3).min(whole), Duration::from_secs(60))
}

impl HandedWorker {
    /// Opens the engine and looks at all that a job needs.
    ///
    /// # Errors
    /// The worker is not fit.
    pub async fn open(config: Config) -> Result<Self, RunError> {
        net::install_tls();
        let (_, nobody_asks) = Shutdown::channel();
        let worker = prepare(config, nobody_asks).await?;
        tracing::info!(worker.id = worker.worker_id, provider = worker.provider, "worker is ready");
        Ok(Self::over(worker))
    }

    pub(crate) fn over(worker: Worker) -> Self {
        let timing = worker.timing.clone();
        Self { worker: Mutex::new(worker), timing }
    }

    /// Serves one message. `whole` is the time that a turn has, `ends` when this one does: nothing goes on after it.
    /// `true`: the message is done with, and deleted. `false`: it is visible again soon and wants to be served again.
    ///
    /// # Errors
    /// [`RunError::Ailing`]: this process must end. The message was let go.
    pub async fn serve(&self, message: HandedMessage, whole: Duration, ends: Instant) -> Result<bool, RunError> {
        let mut worker = self.worker.lock().await;
        let received_at = Instant::now();
        let received = Received { id: message.id, body: message.body, receipt: Receipt::new(message.receipt) };
        let drain = drain(whole);
        let asked = ends.checked_sub(drain).unwrap_or(received_at);
        if asked.saturating_duration_since(received_at) < drain {
            tracing::info!(message.id = received.id, "too little of this turn is left to begin with the message");
            worker.dispose(&received, Then::Release(Duration::ZERO)).await;
            return Ok(false);
        }
        // The queue's own timeout is as long as a turn. A turn that dies should not cost as much.
        match worker.queue.extend(&received.receipt).await {
            Ok(()) => {}
            Err(QueueError::StaleReceipt) => {
                tracing::info!(message.id = received.id, "message is not ours any more");
                return Ok(false);
            }
            Err(error) => tracing::warn!(message.id = received.id, error = shown(&error), "message was not extended"),
        }
        let ask = self.begin(&mut worker, Turn { whole, ends: asked }, drain);
        let clock = async {
            tokio::time::sleep_until(asked.into()).await;
            tracing::info!("the turn ends");
            ask.ask();
            std::future::pending::<Infallible>().await
        };
        let (end, then) = tokio::select! {
            served = worker.serve(&received, received_at) => served,
            never = clock => match never {},
        };
        worker.dispose(&received, then).await;
        match end {
            Ok(_) => {}
            Err(SessionError::Ailing(ailment)) => return Err(RunError::Ailing(ailment)),
            Err(error @ (SessionError::Queue(_) | SessionError::Claim(_))) => {
                tracing::warn!(error = shown(&error), "session failed");
            }
        }
        Ok(then == Then::Delete)
    }

    /// Puts the worker into a turn. What comes back ends it.
    fn begin(&self, worker: &mut Worker, turn: Turn, drain: Duration) -> AskShutdown {
        let (ask, shutdown) = Shutdown::channel();
        worker.shutdown = shutdown;
        worker.turn = Some(turn);
        worker.timing = Timing {
            finish_within: drain / 3,
            finish_cap: drain / 2,
            engine_grace: drain / 4,
            abandon_report: self.timing.abandon_report.min(drain / 8),
            ..self.timing.clone()
        };
        ask
    }
}

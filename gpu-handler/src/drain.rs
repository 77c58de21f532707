//! A worker that drains the queue: it was started because a message waited, serves what there is, and ends.
//!
//! ```text
//! awake ─ open the engine ─ receive ─ serve ─ receive ─ … ─ nothing came ─ asleep? ─ yes: ends
//!                              └───────────────────────────────────────── no ──┘
//! ```
//! Owns: the loop, how long it waits for more. Does not own: who is told that it is awake (`presence`), a session
//! (`session`). Invariants: the count that it goes to sleep by was read before its last look at the queue began, so that a
//! message announced since is looked for (`rotoless_core::eventcount` has the argument); while a message is in its hands it
//! asks its host not to be taken away; it never waits for a queue or a control plane that is gone for longer than
//! [`GIVE_UP`], because waiting is paid for.

mod presence;
mod protection;

use std::time::{Duration, Instant};

use reqwest::Url;

use self::presence::Presence;
use self::protection::Protection;
use crate::ailment::Ailment;
use crate::backoff::Backoff;
use crate::config::{Config, Reader};
use crate::detail::shown;
use crate::process::Shutdown;
use crate::run::RunError;
use crate::session::{SessionEnd, SessionError, Worker};

/// Queue or control plane may be gone for so long. The sweep starts another worker for what waits.
const GIVE_UP: Duration = Duration::from_secs(300);

/// How long a worker that was started says that it is awake, until it is heard.
const FIRST_WORD: Duration = Duration::from_secs(60);

/// The keys of a worker that drains.
#[derive(Debug, Clone)]
pub struct Drain {
    /// It goes when nothing came for so long.
    idle: Duration,
    /// Where the host is asked for protection.
    agent: Option<Url>,
}

impl Drain {
    pub(crate) fn read(read: &mut Reader<'_>) -> Option<Self> {
        // Below a second SQS does not ask all its servers; above five minutes the sweep takes us for hung.
        let idle = read.seconds("DRAIN_IDLE_SECONDS", 1, 300);
        let agent = read.optional("ECS_AGENT_URI").and_then(|text| {
            let url = protection::agent_url(&text);
            if url.is_none() {
                read.problem("ECS_AGENT_URI", "is not http to a loopback or link-local address");
            }
            url
        });
        Some(Self { idle: idle?, agent })
    }
}

/// A worker's place among those that are awake, before it can work.
pub(crate) struct Drainer {
    presence: Presence,
    protection: Option<Protection>,
    idle: Duration,
}

impl Drainer {
    /// Says that a worker is awake: before the engine is opened, which takes its time, so that nobody starts another one
    /// meanwhile.
    pub(crate) async fn rise(config: &Config, drain: &Drain) -> Result<Self, RunError> {
        let mut presence = Presence::new(config)?;
        let until = Instant::now() + FIRST_WORD;
        presence.rise(|| until).await.map_err(|error| RunError::Session(Box::new(error)))?;
        let protection = drain.agent.clone().map(Protection::new).transpose()?;
        Ok(Self { presence, protection, idle: drain.idle })
    }

    /// The worker cannot work.
    pub(crate) async fn leave(mut self) {
        self.presence.leave().await;
    }

    /// Serves what there is, then goes.
    pub(crate) async fn serve(mut self, worker: &Worker) -> Result<(), RunError> {
        let outcome = self.drain(worker).await;
        // Also after a failure: whoever sends now must not count on this worker.
        if !matches!(outcome, Ok(Left::Asleep)) {
            self.presence.leave().await;
        }
        outcome.map(drop)
    }

    async fn drain(&mut self, worker: &Worker) -> Result<Left, RunError> {
        loop {
            let Some(seq) = self.until_nothing_came(worker).await? else { return Ok(Left::Asked) };
            match self.presence.sleep(seq).await {
                Ok(true) => return Ok(Left::Asleep),
                Ok(false) => {
                    tracing::info!("a message was announced since the last look: looking again");
                    let until = Instant::now() + FIRST_WORD;
                    self.presence.rise(|| until).await.map_err(|error| RunError::Session(Box::new(error)))?;
                }
                Err(error) => {
                    tracing::warn!(error = shown(&error), "nobody hears that this worker goes");
                    return Ok(Left::Unheard);
                }
            }
        }
    }

    /// Serves until nothing came for as long as it waits. The count before the last look; `None`: asked to end.
    async fn until_nothing_came(&mut self, worker: &Worker) -> Result<Option<Option<u64>>, RunError> {
        let mut quiet_since = Instant::now();
        let mut failing = Failing::default();
        while worker.shutdown.since().is_none() {
            let seq = self.presence.seq();
            let left = self.idle.saturating_sub(quiet_since.elapsed()).max(Duration::from_secs(1));
            match self.session(worker, left.min(worker.timing.receive_wait)).await {
                Ok(SessionEnd::Idle) if worker.shutdown.since().is_some() => break,
                Ok(SessionEnd::Idle) => {
                    failing = Failing::default();
                    if quiet_since.elapsed() >= self.idle {
                        return Ok(Some(seq));
                    }
                }
                Ok(SessionEnd::Passed | SessionEnd::Handled { .. }) => {
                    failing = Failing::default();
                    self.presence.look_at_the_count().await;
                    quiet_since = Instant::now();
                }
                Err(SessionError::Ailing(ailment)) => return Err(ailment.into()),
                Err(error @ (SessionError::Queue(_) | SessionError::Claim(_))) => {
                    tracing::warn!(error = shown(&error), "session failed");
                    failing.wait(worker.timing.session_retry_cap, &worker.shutdown).await?;
                    quiet_since = Instant::now();
                }
            }
        }
        Ok(None)
    }

    /// One session, protected from the moment in which it has a message.
    async fn session(&self, worker: &Worker, wait: Duration) -> Result<SessionEnd, SessionError> {
        let received = tokio::select! {
            biased;
            () = worker.shutdown.requested() => return Ok(SessionEnd::Idle),
            received = worker.queue.receive(wait) => received?,
        };
        let received_at = Instant::now();
        let Some(received) = received else { return Ok(SessionEnd::Idle) };
        let protected = match &self.protection {
            Some(protection) => Some(protection.begin().await),
            None => None,
        };
        let (end, then) = worker.serve(&received, received_at).await;
        worker.dispose(&received, then).await;
        if let Some(protected) = protected {
            protected.end().await;
        }
        end
    }
}

/// How a worker went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// The control plane let it go.
    Asleep,
    /// Its host wants it to.
    Asked,
    /// The control plane did not answer.
    Unheard,
}

/// Sessions that failed one after the other.
#[derive(Default)]
struct Failing(Option<(Instant, Backoff)>);

impl Failing {
    async fn wait(&mut self, cap: Duration, shutdown: &Shutdown) -> Result<(), Ailment> {
        let (since, backoff) =
            self.0.get_or_insert_with(|| (Instant::now(), Backoff::new(Duration::from_secs(1), cap)));
        if since.elapsed() > GIVE_UP {
            return Err(Ailment::CutOff);
        }
        tokio::select! {
            () = shutdown.requested() => {}
            () = tokio::time::sleep(backoff.wait(None)) => {}
        }
        Ok(())
    }
}

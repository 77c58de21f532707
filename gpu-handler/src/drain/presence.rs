//! Being awake, as the control plane knows it.
//!
//! Owns: one name a process, the calls, their renewal on an operating system thread of its own, so that no load on the
//! engine can starve it. Does not own: when the worker goes (`drain`).
//! Invariants: no renewal is sent once the worker asked to go to sleep, and one that is late brings nobody back; a
//! control plane that knows nothing of this (404) has a worker that is not counted, and no failure.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Url;
use rotoless_contract::WorkerId;
use rotoless_contract::awake::{AWAKE_VERSION, AsleepReply, AsleepRequest, AwakeReply, AwakeRequest, worker_path};
use secrecy::SecretString;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::config::Config;
use crate::control::{CallError, Control};
use crate::detail::shown;
use crate::net;
use crate::run::RunError;
use crate::timing::Timing;

/// How long it is tried to say that the worker goes, before it goes unheard.
const LAST_WORD: Duration = Duration::from_secs(30);

/// The same where the host may kill it at any moment.
const SHORT_LAST_WORD: Duration = Duration::from_secs(5);

/// Shortest time between two renewals, whatever the control plane says.
const LEAST_RENEWAL: Duration = Duration::from_millis(200);

/// The latest count that was heard of. 0: none.
type Seq = Arc<AtomicU64>;

/// This worker among those that are awake.
pub(super) struct Presence {
    speaker: Speaker,
    /// None: the control plane does not count.
    counted: Option<Renewal>,
}

/// What every thread needs to speak.
#[derive(Clone)]
struct Speaker {
    url: Url,
    clock: Clock,
    timing: Timing,
    key: SecretString,
    worker: WorkerId,
    seq: Seq,
    control: Control,
}

/// Renewals, until they are stopped.
struct Renewal {
    finish: watch::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Speaker {
    /// The same with connections of its own.
    fn again(&self) -> Result<Self, reqwest::Error> {
        let control = Control::new(net::client()?, self.url.clone(), self.clock.clone(), &self.timing);
        Ok(Self { control, ..self.clone() })
    }

    async fn awake(&self, renew: bool, until: impl Fn() -> Instant + Send) -> Result<AwakeReply, CallError> {
        let path = worker_path(&self.worker, "awake");
        let request = AwakeRequest { v: AWAKE_VERSION, renew };
        let reply: AwakeReply = self.control.call_until(&self.key, &path, &request, until).await?;
        // Of two answers that overtook each other the greater one is from later.
        self.seq.fetch_max(reply.seq, Ordering::SeqCst);
        Ok(reply)
    }
}

impl Presence {
    pub(super) fn new(config: &Config) -> Result<Self, RunError> {
        let timing = Timing::default();
        let clock = Clock::default();
        let mut bits = [0; 16];
        // Its error is one of the standard library's only by a feature that others may turn on.
        getrandom::fill(&mut bits).map_err(|error| io::Error::other(error.to_string()))?;
        let control = Control::new(net::client()?, config.control_url.clone(), clock.clone(), &timing);
        let worker = WorkerId::from_random(bits);
        tracing::info!(worker.id = config.worker_id, presence.id = worker.as_str(), "worker counts itself as awake");
        let speaker = Speaker {
            url: config.control_url.clone(),
            clock,
            timing,
            key: config.fleet_key.clone(),
            worker,
            seq: Seq::default(),
            control,
        };
        Ok(Self { speaker, counted: None })
    }

    /// What the count was last heard to be; `None`: it never was.
    pub(super) fn seq(&self) -> Option<u64> {
        self.counted.as_ref().map(|_| self.speaker.seq.load(Ordering::SeqCst))
    }

    /// The worker is there, and says so until it goes.
    pub(super) async fn rise(&mut self, until: impl Fn() -> Instant + Send) -> Result<(), CallError> {
        match self.speaker.awake(false, until).await {
            Ok(reply) => {
                self.counted = Renewal::start(&self.speaker, reply.awake_seconds)
                    .inspect_err(|error| tracing::error!(error = shown(error), "nobody renews that we are awake"))
                    .ok();
                Ok(())
            }
            Err(CallError::Rejected { status: 404, .. }) => {
                tracing::warn!("the control plane does not count who is awake");
                self.counted = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Hears what the count is now. Where nobody answers the one before does, and one look more is had.
    pub(super) async fn look_at_the_count(&self) {
        if self.counted.is_some() {
            let now = Instant::now();
            if let Err(error) = self.speaker.awake(true, || now).await {
                tracing::debug!(error = shown(&error), "count not heard");
            }
        }
    }

    /// Whether the worker may go: nothing was announced since the count was `seq`.
    pub(super) async fn sleep(&mut self, seq: Option<u64>) -> Result<bool, CallError> {
        let Some(renewal) = self.counted.take() else { return Ok(true) };
        renewal.stop().await;
        let until = Instant::now() + LAST_WORD;
        self.say_asleep(seq, until).await
    }

    /// The worker goes in any case.
    pub(super) async fn leave(&mut self) {
        let Some(renewal) = self.counted.take() else { return };
        renewal.stop().await;
        let until = Instant::now() + SHORT_LAST_WORD;
        if let Err(error) = self.say_asleep(None, until).await {
            tracing::warn!(error = shown(&error), "nobody hears that this worker goes");
        }
    }

    async fn say_asleep(&self, seq: Option<u64>, until: Instant) -> Result<bool, CallError> {
        let path = worker_path(&self.speaker.worker, "asleep");
        let request = AsleepRequest { v: AWAKE_VERSION, seq };
        let reply: AsleepReply = self.speaker.control.call_until(&self.speaker.key, &path, &request, || until).await?;
        Ok(reply.asleep)
    }
}

impl Renewal {
    fn start(speaker: &Speaker, awake_seconds: u32) -> io::Result<Self> {
        let speaker = speaker.again().map_err(io::Error::other)?;
        let (finish, mut finished) = watch::channel(());
        let (end, ended) = oneshot::channel();
        let every = (Duration::from_secs(awake_seconds.into()) / 3).max(LEAST_RENEWAL);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("presence".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = renew_for_ever(&speaker, every) => {}
                    // Also by the sender's end.
                    _ = finished.changed() => {}
                }
            });
            // Nobody listens any more when the worker was dropped.
            let _ = end.send(());
        })?;
        Ok(Self { finish, ended })
    }

    async fn stop(self) {
        self.finish.send_replace(());
        // An error says that the thread is gone, which is what was asked for.
        let _ = self.ended.await;
    }
}

async fn renew_for_ever(speaker: &Speaker, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let until = Instant::now() + every;
        if let Err(error) = speaker.awake(true, || until).await {
            tracing::warn!(error = shown(&error), "nobody hears that we are awake");
        }
    }
}

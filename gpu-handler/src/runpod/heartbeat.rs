//! Signs of life to RunPod, and an eye on the clocks: an operating system thread with a runtime and connections of its
//! own, so that no load on the engine or on the sessions can starve it.
//!
//! Owns: the interval, the tries of one ping, noticing that the process slept. Does not own: what follows from it
//! (`session`). Invariants: a ping names the jobs that are in progress when it is sent; no ping outlives the heartbeat.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::client::Client;
use super::env::RunPod;
use crate::backoff::Backoff;
use crate::detail::shown;

/// Tries of one ping.
const TRIES: u32 = 4;

/// First wait between them.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// How often the clocks are looked at.
const TICK: Duration = Duration::from_secs(1);

/// More than this between two looks, by either clock, and the process slept.
const NAP: Duration = Duration::from_secs(5);

/// The jobs of RunPod that are in progress, as pings name them.
#[derive(Debug, Clone, Default)]
pub(super) struct InProgress(Arc<Mutex<Vec<String>>>);

impl InProgress {
    pub(super) fn set(&self, jobs: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = jobs;
    }

    pub(super) fn remove(&self, job: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != job);
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running heartbeat; it ends when this is dropped.
pub(super) struct Heartbeat {
    _finish: watch::Sender<()>,
    /// How often the process was found to have slept.
    pub(super) naps: watch::Receiver<u64>,
}

impl Heartbeat {
    pub(super) fn start(platform: &RunPod, in_progress: InProgress) -> io::Result<Self> {
        let (finish, mut finished) = watch::channel(());
        let (woke, naps) = watch::channel(0_u64);
        let platform = platform.clone();
        let woken = naps.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("runpod-ping".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = watch_clocks(&woke) => {}
                    () = ping_for_ever(&platform, &in_progress, woken) => {}
                    // Only ever by the sender's end.
                    _ = finished.changed() => {}
                }
            });
        })?;
        Ok(Self { _finish: finish, naps })
    }
}

async fn ping_for_ever(platform: &RunPod, in_progress: &InProgress, mut naps: watch::Receiver<u64>) {
    if !platform.has_pings() {
        tracing::info!("RunPod gave no address, key or name to ping with");
        std::future::pending::<()>().await;
    }
    let mut client = None;
    loop {
        let began = Instant::now();
        if client.is_none() || naps.has_changed().unwrap_or(false) {
            naps.mark_unchanged();
            client = Client::new(platform.clone())
                .inspect_err(|error| tracing::error!(error = shown(error), "no client for pings"))
                .ok();
        }
        if let Some(client) = &client {
            ping(client, in_progress, platform.ping_interval).await;
        }
        tokio::time::sleep(platform.ping_interval.saturating_sub(began.elapsed())).await;
    }
}

/// One ping with its tries, of which each may last two intervals; the next ping is no more than that late.
async fn ping(client: &Client, in_progress: &InProgress, interval: Duration) {
    let tries = async {
        let mut backoff = Backoff::new(RETRY_FIRST, interval);
        for left in (0..TRIES).rev() {
            match client.ping(&in_progress.all()).await {
                Ok(()) => return,
                Err(error) if left == 0 => tracing::warn!(error = shown(&error), "RunPod does not hear our pings"),
                Err(error) => {
                    tracing::debug!(error = shown(&error), "ping failed");
                    tokio::time::sleep(backoff.wait(None)).await;
                }
            }
        }
    };
    if tokio::time::timeout(2 * interval, tries).await.is_err() {
        tracing::warn!("a ping to RunPod had no answer");
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Whether the process slept between then and now: stopped (both clocks went on), or put away with its machine and
    /// its monotonic clock. A wall clock that was set back counts as well: new connections cost little.
    fn slept_until(self, now: Self) -> bool {
        let monotonic = now.monotonic.saturating_duration_since(self.monotonic);
        let wall = match now.wall.duration_since(self.wall) {
            Ok(forward) => forward,
            Err(backward) => backward.duration() + monotonic,
        };
        monotonic > TICK + NAP || wall.abs_diff(monotonic) > NAP
    }
}

async fn watch_clocks(woke: &watch::Sender<u64>) {
    let mut last = Moment::now();
    loop {
        tokio::time::sleep(TICK).await;
        let now = Moment::now();
        if last.slept_until(now) {
            woke.send_modify(|naps| *naps += 1);
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_slept_is_told_from_one_that_was_slow_by_either_clock() {
        let then = Moment::now();
        let after = |monotonic: u64, wall: i64| {
            let by = Duration::from_secs(wall.unsigned_abs());
            let wall = if wall < 0 { then.wall - by } else { then.wall + by };
            Moment { monotonic: then.monotonic + Duration::from_secs(monotonic), wall }
        };
        for (monotonic, wall) in [(1, 1), (3, 3), (6, 6), (1, 5)] {
            assert!(!then.slept_until(after(monotonic, wall)), "{monotonic} {wall}");
        }
        // Stopped for ten minutes; put away with its machine; a clock set by a day, forward and back.
        for (monotonic, wall) in [(600, 600), (1, 600), (1, 86_400), (1, -86_400)] {
            assert!(then.slept_until(after(monotonic, wall)), "{monotonic} {wall}");
        }
    }
}

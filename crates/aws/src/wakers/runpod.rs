//! The waker of GPU workers on RunPod: a request without content makes a worker exist.
//!
//! Owns: how many posts are under way, what RunPod knows of wakes and workers. Does not own: how many are wanted
//! (`rotoless_core::wake`), the calls themselves ([`crate::runpod`]).
//! Invariant: nothing is tried again here; the sweep wakes again for what is still visible.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Clock, StoreError, Waker};
use rotoless_core::wake::Outstanding;

use super::choice::RunPodSettings;
use crate::runpod::{Endpoint, Management, RunPodError, RunPolicy};

/// Posts under way at once; RunPod allows 200.
const AT_ONCE: usize = 10;

/// After this long no further post is begun: the function that wakes has an end of its own.
const WHOLE_WAKE: Duration = Duration::from_secs(20);

/// How long a known greatest number of workers is believed, or that none is to be had: a sweep asks at each tick, and
/// whoever looks more often does not.
const BELIEVED: SignedDuration = SignedDuration::from_secs(50);

/// Wakes workers of one endpoint.
pub struct RunPodWaker {
    endpoint: Endpoint,
    management: Management,
    kill_switch: Option<Management>,
    policy: RunPolicy,
    clock: Arc<dyn Clock>,
    workers_max: Mutex<Option<Glance>>,
}

#[derive(Clone, Copy)]
struct Glance {
    /// By the clock on the wall: a function's other one may stand still between two ticks.
    at: Timestamp,
    workers_max: Option<u32>,
}

impl fmt::Debug for RunPodWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunPodWaker").field("endpoint", &self.endpoint).field("policy", &self.policy).finish()
    }
}

impl RunPodWaker {
    /// For the sessions of jobs under this policy. Nothing is sent yet.
    #[must_use]
    pub fn new(settings: &RunPodSettings, policy: &Policy, clock: Arc<dyn Clock>) -> Self {
        let RunPodSettings { endpoint_id, api_key, api_url, rest_url, stop_key } = settings.clone();
        let endpoint = Endpoint::new(api_url, endpoint_id, api_key.clone());
        Self {
            management: endpoint.management(rest_url.clone(), api_key),
            kill_switch: stop_key.map(|key| endpoint.management(rest_url, key)),
            endpoint,
            policy: RunPolicy::of(policy),
            clock,
            workers_max: Mutex::new(None),
        }
    }

    /// `None` where the key may not read it, or RunPod does not say: no reason to believe in either.
    async fn workers_max(&self) -> Option<u32> {
        let known = *self.workers_max.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if let Some(glance) = known.filter(|glance| now.duration_since(glance.at).abs() < BELIEVED) {
            return glance.workers_max;
        }
        let workers_max = match self.management.workers_max(self.endpoint.id()).await {
            Ok(workers_max) => Some(workers_max),
            Err(error) => {
                tracing::info!(error = %error, "the greatest number of RunPod workers is not to be had");
                None
            }
        };
        *self.workers_max.lock().unwrap_or_else(PoisonError::into_inner) = Some(Glance { at: now, workers_max });
        workers_max
    }
}

#[async_trait]
impl Waker for RunPodWaker {
    /// Posts `n` wakes, each within 2 s; one that fails does not keep the others.
    async fn wake(&self, n: u32) -> Result<(), StoreError> {
        let begun = Instant::now();
        let posts = (0..n).map(|_| async {
            if begun.elapsed() >= WHOLE_WAKE {
                return Err(RunPodError::TimedOut(WHOLE_WAKE));
            }
            self.endpoint.run(self.clock.now(), self.policy).await
        });
        let failed: Vec<_> =
            stream::iter(posts).buffer_unordered(AT_ONCE).filter_map(|post| async { post.err() }).collect().await;
        let count = failed.len();
        match failed.into_iter().next() {
            None => Ok(()),
            Some(first) => {
                tracing::warn!(error = %first, wakes.wanted = n, wakes.failed = count, "wakes were not accepted");
                Err(first.into())
            }
        }
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        let (health, workers_max) = tokio::join!(self.endpoint.health(), self.workers_max());
        let health = health?;
        Ok(Outstanding {
            queued: health.jobs.in_queue,
            in_progress: health.jobs.in_progress,
            running: health.workers.running,
            idle: health.workers.idle,
            initializing: health.workers.initializing,
            throttled: health.workers.throttled,
            unhealthy: health.workers.unhealthy,
            workers_max,
        })
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        Ok(self.endpoint.purge().await?)
    }

    async fn stop(&self) -> Result<(), StoreError> {
        let Some(management) = &self.kill_switch else {
            return Err(RunPodError::NotAsked("there is no key for the kill switch").into());
        };
        management.stop(self.endpoint.id()).await?;
        // What was believed is no longer so.
        *self.workers_max.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

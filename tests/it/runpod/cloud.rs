//! A world whose workers an endpoint gives: the service, the endpoint, its hosts, and the looks of a sweep between them.
//!
//! Invariant: what is asked of every endpoint at its end cannot be forgotten, because a cloud only exists inside
//! [`in_a_cloud`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use rotoless_aws::runpod::EndpointId;
use rotoless_aws::system::SystemClock;
use rotoless_aws::wakers::{RunPodSettings, RunPodWaker};
use rotoless_contract::Job;
use rotoless_core::policy::Policy;
use rotoless_core::ports::{StoreError, Waiting, WakeMemory, Waker as _};
use rotoless_core::usecase::Wakes;
use rotoless_core::wake::{Backlog, Memory, WakePolicy};
use tokio::task::JoinHandle;

use super::platform::{Platform, SECOND, Scaler, Settings};
use super::shell::{API_KEY, ENDPOINT, Endpoint};
use super::spawner::Hosts;
use crate::world::client::Client;
use crate::world::fleet::short_leases;
use crate::world::media::Clip;
use crate::world::{Options, World, in_a_world};

/// How long a take waits.
const POLL: Duration = Duration::from_secs(3);
/// Between two looks, as in `rotoless up`.
const LOOK: Duration = Duration::from_secs(5);
/// A job with everything that happens to it, on a machine that is busy with other tests.
pub(crate) const JOB: Duration = Duration::from_secs(120);
/// From silence to no worker: the idle timeout and a minute, TW-16.
pub(crate) const SILENCE: Duration = Duration::from_secs(62);
/// What one second of `light` costs, in milli-credits.
const SECOND_OF_LIGHT: u64 = 750;
const CREDITS: u64 = 1000;

/// RunPod with its times cut short.
pub(crate) fn brisk() -> Settings {
    Settings {
        scaler: Scaler::QueueDelay(200),
        idle_timeout: 2 * SECOND,
        pull: 300,
        init_timeout: 60 * SECOND,
        unhealthy: SECOND,
        ..Settings::default()
    }
}

/// The endpoint with real workers before a running service.
pub(crate) struct Cloud {
    pub(crate) hosts: Hosts,
    waker: Arc<RunPodWaker>,
    looks: JoinHandle<()>,
    clip: PathBuf,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.looks.abort();
    }
}

/// Runs a test, then waits until nobody runs, and judges endpoint and world.
pub(crate) async fn in_a_cloud(
    settings: Settings,
    options: Options,
    test: impl AsyncFnOnce(&mut World, &Cloud, &Client),
) {
    let endpoint = Endpoint::open(settings, POLL).await;
    let options = Options { no_worker: true, args: [short_leases(), options.args].concat(), ..options };
    in_a_world(options, async |world| {
        let client = world.client("acme", CREDITS as f64).await;
        let hosts = Hosts::of(world, endpoint);
        let waker = Arc::new(waker(&hosts.endpoint));
        let looks = tokio::spawn(look_for_ever(wakes(world, &waker, &hosts.endpoint)));
        let clip = Clip::SMALL.make(world.scratch());
        let cloud = Cloud { hosts, waker, looks, clip };
        test(world, &cloud, &client).await;
        world.queue_empties().await;
        cloud.hosts.end(world, SILENCE).await;
    })
    .await;
}

impl Cloud {
    /// A hand in the endpoint.
    pub(crate) fn platform<T>(&self, act: impl FnOnce(&mut Platform, u64) -> T) -> T {
        self.hosts.endpoint.with(act)
    }

    /// Orders a job of a second: its message is sent, then its wake is posted.
    pub(crate) async fn order(&self, client: &Client) -> String {
        self.orders(client, 1).await.remove(0)
    }

    pub(crate) async fn orders(&self, client: &Client, count: usize) -> Vec<String> {
        let url = client.upload(&self.clip).await;
        let mut jobs = Vec::new();
        for _ in 0..count {
            jobs.push(self.order_of(client, &url).await);
        }
        jobs
    }

    /// The same of a source of one's own.
    pub(crate) async fn order_of(&self, client: &Client, url: &str) -> String {
        let job = client.order(url).await;
        // One try.
        let _ = self.waker.wake(1).await;
        job
    }

    /// A wake that nobody ordered.
    pub(crate) async fn wake(&self) {
        self.waker.wake(1).await.unwrap();
    }
}

/// Waits for each job, one after the other: asked for all at once, the service would be busy with answering that.
pub(crate) async fn all_completed(client: &Client, jobs: &[String]) -> Vec<Job> {
    let mut done = Vec::new();
    for job in jobs {
        done.push(client.completed(job, JOB).await);
    }
    done
}

/// So many seconds of `light` were paid, and nothing is held.
pub(crate) async fn paid(client: &Client, seconds: u64) {
    let used = seconds * SECOND_OF_LIGHT;
    assert_eq!(client.milli_credits().await, [CREDITS * 1000 - used, 0, used]);
}

fn waker(endpoint: &Endpoint) -> RunPodWaker {
    let settings = RunPodSettings {
        endpoint_id: EndpointId::parse(ENDPOINT).unwrap(),
        api_key: API_KEY.to_owned().into(),
        api_url: endpoint.url().parse().unwrap(),
        rest_url: endpoint.url().parse().unwrap(),
        stop_key: None,
    };
    RunPodWaker::new(&settings, &Policy::default(), Arc::new(SystemClock))
}

/// The queue of a world.
struct Queue {
    sqs: aws_sdk_sqs::Client,
    url: String,
}

#[async_trait]
impl Waiting for Queue {
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let asked = self.sqs.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.to_vec()));
        let answer = asked.send().await.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        let counts = answer.attributes().unwrap();
        let [visible, in_flight] = names.map(|name| counts[&name].parse().unwrap());
        Ok(Backlog { visible, in_flight })
    }
}

#[derive(Default)]
struct Remembered(Mutex<Memory>);

#[async_trait]
impl WakeMemory for Remembered {
    async fn recall(&self) -> Result<Memory, StoreError> {
        Ok(*self.0.lock().unwrap())
    }

    async fn remember(&self, memory: &Memory) -> Result<(), StoreError> {
        *self.0.lock().unwrap() = *memory;
        Ok(())
    }
}

fn wakes(world: &World, waker: &Arc<RunPodWaker>, endpoint: &Endpoint) -> Wakes {
    let (sqs, url) = world.queue();
    let workers_max = endpoint.with(|platform, _| platform.workers_max());
    Wakes {
        waiting: Arc::new(Queue { sqs, url }),
        first: Arc::clone(waker) as _,
        second: None,
        memory: Arc::new(Remembered::default()),
        clock: Arc::new(SystemClock),
        policy: WakePolicy { workers_max, ..WakePolicy::default() },
    }
}

async fn look_for_ever(wakes: Wakes) {
    loop {
        tokio::time::sleep(LOOK).await;
        // The next look tries again.
        let _ = wakes.tick().await;
    }
}

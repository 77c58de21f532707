//! A world whose workers an endpoint gives: the service, which wakes them, the endpoint, and its hosts.
//!
//! Invariant: what is asked of every endpoint at its end cannot be forgotten, because a cloud only exists inside
//! [`in_a_cloud`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use rotoless_contract::Job;
use serde_json::{Value, json};

use super::platform::{Platform, SECOND, Scaler, Settings};
use super::shell::{API_KEY, ENDPOINT, Endpoint};
use super::spawner::Hosts;
use crate::world::client::Client;
use crate::world::fleet::short_leases;
use crate::world::media::Clip;
use crate::world::{Options, World, in_a_world};

/// How long a take waits.
const POLL: Duration = Duration::from_secs(3);
/// A job with everything that happens to it, on a machine that is busy with other tests.
pub(crate) const JOB: Duration = Duration::from_secs(120);
/// From silence to no worker: the idle timeout and a minute, TW-16.
pub(crate) const SILENCE: Duration = Duration::from_secs(62);
/// What one second of `light` costs, in milli-credits.
const SECOND_OF_LIGHT: u64 = 750;
const CREDITS: u64 = 1000;
/// What the service says when the endpoint does not answer it.
const UNHEARD: [&str; 1] = ["report had no success"];

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
    http: reqwest::Client,
    clip: PathBuf,
}

/// Runs a test, then waits until nobody runs, and judges endpoint and world.
pub(crate) async fn in_a_cloud(
    settings: Settings,
    options: Options,
    test: impl AsyncFnOnce(&mut World, &Cloud, &Client),
) {
    let workers_max = settings.workers_max.to_string();
    let endpoint = Endpoint::open(settings, POLL).await;
    let has_own = options.args.iter().any(|arg| arg == "--lease-seconds");
    let leases = if has_own { Vec::new() } else { short_leases() };
    let woken = ["--waker", "runpod", "--workers-max", &workers_max].map(str::to_owned);
    let env = [
        ("RUNPOD_ENDPOINT_ID", ENDPOINT),
        ("RUNPOD_API_KEY", API_KEY),
        ("RUNPOD_API_URL", endpoint.url()),
        ("RUNPOD_REST_URL", endpoint.url()),
    ];
    let options = Options {
        no_worker: true,
        args: [leases, woken.into(), options.args].concat(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        expected_errors: &UNHEARD,
        ..options
    };
    in_a_world(options, async |world| {
        let client = world.client("acme", CREDITS as f64).await;
        let hosts = Hosts::of(world, endpoint);
        let clip = Clip::SMALL.make(world.scratch());
        let cloud = Cloud { hosts, http: client.door.http().clone(), clip };
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

    /// Orders a job of a second.
    pub(crate) async fn order(&self, client: &Client) -> String {
        self.orders(client, 1).await.remove(0)
    }

    pub(crate) async fn orders(&self, client: &Client, count: usize) -> Vec<String> {
        let url = client.upload(&self.clip).await;
        let mut jobs = Vec::new();
        for _ in 0..count {
            jobs.push(client.order(&url).await);
        }
        jobs
    }

    /// A wake that nobody ordered, with a policy of its own.
    pub(crate) async fn wake(&self, policy: Value) {
        let url = format!("{}/run", self.hosts.endpoint.base());
        let body = json!({"input": {"v": 1}, "policy": policy});
        let posted = self.http.post(url).bearer_auth(API_KEY).json(&body).send().await.unwrap();
        assert!(posted.status().is_success());
    }

    /// An operator's hand on the switch.
    pub(crate) async fn set_workers_max(&self, workers_max: u32) {
        let url = format!("{}/v1/endpoints/{ENDPOINT}", self.hosts.endpoint.url());
        let patch = self.http.patch(url).bearer_auth(API_KEY).json(&json!({"workersMax": workers_max}));
        assert!(patch.send().await.unwrap().status().is_success());
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

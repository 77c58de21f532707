//! The service is killed: in the middle of a create, of a delivery, and at random.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::endpoint::{Endpoint, Manner};
use super::{CREDITS, JOB, SECOND, soak};
use crate::world::client::Client;
use crate::world::fleet::{Fleet, short_leases};
use crate::world::media::Clip;
use crate::world::proxy::{Exchange, Fault, Moment, Rule};
use crate::world::{Options, World, in_a_world};

/// A dead service's worker and tools follow it.
const VANISH: Duration = Duration::from_secs(10);
/// A try that was not recorded counts as lost after a minute.
const AGAIN: Duration = Duration::from_secs(90);
/// Small, so that the test stays short; `make test-soak` has the large one.
const DOSE: soak::Dose = soak::Dose { lasts: Duration::from_secs(20), pause_ms: (1500, 4000), seed: 20_261_122 };

/// P0–P3, D0–D2, TO-6, TS-3, G-06, G-08, G-21, G-42. In one world, because an event that was lost comes again after a
/// minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_killed_at_any_moment_loses_and_doubles_no_job_no_hold_and_no_event() {
    let endpoints = [Manner::Deaf, Manner::Mute, Manner::Status(200)].map(Endpoint::start);
    let endpoints = futures::future::join_all(endpoints).await;
    let soaked = Endpoint::start(Manner::Status(200)).await;
    let mut args = short_leases();
    args.extend(Endpoint::allowed(endpoints.iter().chain([&soaked])));
    let options = Options { args, expected_errors: soak::EXPECTED_ERRORS, ..Options::default() };
    in_a_world(options, async |world| {
        killed_in_the_middle_of_a_delivery(world, &endpoints).await;
        let killed = Instant::now();
        killed_in_the_middle_of_a_create(world).await;
        soak::kill_loop(world, &soaked, DOSE).await;
        for (name, endpoint) in ["D0", "D1", "D2"].iter().zip(&endpoints) {
            let left = AGAIN.saturating_sub(killed.elapsed());
            endpoint.wait(name, left, |endpoint| endpoint.counts().len() == 1).await;
        }
        // D1 was read before the kill: that the second try has come as well shows in its number.
        let left = AGAIN.saturating_sub(killed.elapsed());
        endpoints[1].wait("D1 again", left, |endpoint| endpoint.came().len() == 2).await;
        for endpoint in &endpoints {
            assert!(endpoint.counts().values().all(|count| *count <= 2), "{:?}", endpoint.came());
        }
    })
    .await;
}

/// D0: the connection was made and the event not sent. D1: sent and not recorded. D2: answered, recorded or not.
async fn killed_in_the_middle_of_a_delivery(world: &mut World, endpoints: &[Endpoint]) {
    let client = world.client("events", 10.0).await;
    let url = client.upload(&Clip::SMALL.make(world.scratch())).await;
    for endpoint in endpoints {
        let order = json!({"video_url": url, "model": "light", "webhook_url": endpoint.url(), "auto_start": false});
        let job = client.order_with(order).await;
        client.cancel(&job).await.ok();
    }
    for endpoint in endpoints {
        endpoint.wait("an event", JOB, |endpoint| endpoint.connections() > 0).await;
    }
    let counts: Vec<usize> = endpoints.iter().map(|endpoint| endpoint.came().len()).collect();
    assert_eq!(counts[0], 0);
    endpoints[1].wait("its event", JOB, |endpoint| endpoint.came().len() == 1).await;
    world.kill_service(VANISH).await;
    endpoints.iter().for_each(|endpoint| endpoint.behaves(Manner::Status(200)));
    world.up().await;
}

/// P0: before the transaction. P1–P3: at random moments of it and of message and wake; last, before the answer.
async fn killed_in_the_middle_of_a_create(world: &mut World) {
    let client = world.client("creates", CREDITS as f64).await;
    let url = client.upload(&Clip::SMALL.make(world.scratch())).await;
    let fleet = Fleet::of(world);
    let port = fleet.proxy.port(0).await;
    let by_proxy = client.through(&format!("http://{}", port.address));
    let after = [1, 3, 6, 10, 16].map(|ms| Fault::KillAfter(Duration::from_millis(ms)));
    let faults = [Fault::Kill(Moment::Before)].into_iter().chain(after).chain([Fault::Kill(Moment::Between)]);
    let mut jobs = BTreeSet::new();
    for (number, fault) in faults.enumerate() {
        port.hits(world.session());
        let key = format!("create-{number}");
        let rule = Rule { exchange: Exchange::Create, job: None, attempt: None, says: "", times: 1, fault };
        let trap = fleet.proxy.set(rule);
        create(&by_proxy, &url, &key).await;
        trap.met().await;
        world.died(VANISH).await;
        world.up().await;
        fleet.follow(world);
        let made = create(&client, &url, &key).await.expect("the service is up");
        let again = create(&client, &url, &key).await.expect("the service is up");
        assert_eq!(made, again);
        jobs.insert(made);
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], jobs.len(), "{fault:?}");
    }
    for job in &jobs {
        client.completed(job, JOB).await;
    }
    let used = jobs.len() as u64 * SECOND;
    assert_eq!(client.milli_credits().await, [CREDITS * 1000 - used, 0, used]);
}

/// The id of the job, if anybody answered.
async fn create(client: &Client, url: &str, key: &str) -> Option<String> {
    let order = json!({"video_url": url, "model": "light"});
    let request = client.request(reqwest::Method::POST, "/v1/jobs").header("Idempotency-Key", key).json(&order);
    let response = request.send().await.ok()?;
    assert_eq!(response.status(), 200);
    let job: serde_json::Value = response.json().await.ok()?;
    Some(job["id"].as_str().unwrap().to_owned())
}

//! Endpoints that do everything but answer, against the service as it runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use super::endpoint::{Endpoint, Manner};
use super::{CREDITS, JOB, bare};
use crate::world::client::Client;
use crate::world::in_a_world;
use crate::world::media::Clip;
use crate::world::processes::Growth;

/// From an event to its arrival at an endpoint that is well: deliver looks once a second.
const PROMPT: Duration = Duration::from_secs(8);
/// An exchange is over after 10 s; two of them at once an endpoint.
const CUT: Duration = Duration::from_secs(40);
/// What two dozen exchanges with endless answers may cost the service, in MiB.
const MEMORY: u64 = 64;

const HOSTILE: [Manner; 8] = [
    Manner::Deaf,
    Manner::Mute,
    Manner::Drips,
    Manner::Floods,
    Manner::Rambles,
    Manner::Bomb,
    Manner::Continues,
    Manner::Late,
];

/// Makes an event: the end of a job that never began.
async fn event(client: &Client, video_url: &str, endpoint: &Endpoint) -> String {
    let order = json!({"video_url": video_url, "model": "light", "webhook_url": endpoint.url(), "auto_start": false});
    let job = client.order_with(order).await;
    client.cancel(&job).await.ok();
    job
}

/// What the client is told of a job's one event.
async fn told(client: &Client, job: &str) -> Value {
    client.get(&format!("/v1/jobs/{job}/deliveries")).await.ok()["items"][0].clone()
}

/// TD-2, TD-3, TD-8, G-23, G-27, G-28: in the running service, by its own sender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_never_finish_delay_nobody_else_and_cost_no_memory() {
    let hostile = join_all(HOSTILE.iter().chain(&HOSTILE).map(|manner| Endpoint::start(*manner))).await;
    let (good, target) = (Endpoint::start(Manner::Status(200)).await, Endpoint::start(Manner::Status(200)).await);
    let redirecting = [301, 302, 303, 307, 308].map(|status| Endpoint::start(Manner::Redirects(status, target.port)));
    let redirecting = join_all(redirecting).await;
    let mut options = bare();
    options.args.extend(Endpoint::allowed(hostile.iter().chain(&redirecting).chain([&good, &target])));
    in_a_world(options, async |world| {
        let client = world.client("acme", CREDITS as f64).await;
        let url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        event(&client, &url, &good).await;
        good.wait("the first event", JOB, |good| good.came().len() == 1).await;
        let growth = Growth::of(world.session());

        // Two each: as many as may be under way with one endpoint.
        let mut jobs = Vec::new();
        for endpoint in hostile.iter().chain(&hostile) {
            jobs.push(event(&client, &url, endpoint).await);
        }
        let mut redirected = Vec::new();
        for endpoint in &redirecting {
            redirected.push(event(&client, &url, endpoint).await);
        }
        for endpoint in &hostile {
            endpoint.wait("an event", JOB, |endpoint| endpoint.connections() > 0).await;
        }
        let mut longest = Duration::ZERO;
        for number in 2..8 {
            let began = Instant::now();
            event(&client, &url, &good).await;
            good.wait("an event", JOB, |good| good.came().len() == number).await;
            longest = longest.max(began.elapsed());
        }
        eprintln!("an endpoint that is well waited {longest:?} at most");
        assert!(longest < PROMPT, "{longest:?}");

        for job in &jobs {
            let cut = async {
                loop {
                    let told = told(&client, job).await;
                    if told["tries"] != 0 && told["attempts"][0].is_object() {
                        return told;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            let told = tokio::time::timeout(CUT, cut).await.unwrap();
            let attempt = &told["attempts"][0];
            // An answer whose status came counts as one, however it went on.
            assert!(attempt["status_code"] == 200 || attempt["result"].is_string(), "{told:#?}");
        }
        growth.check(MEMORY, "the service before endless answers");
        for (job, endpoint) in redirected.iter().zip(&redirecting) {
            let told = told(&client, job).await;
            let Manner::Redirects(status, _) = endpoint.manner() else { panic!("it redirects") };
            assert_eq!((&told["attempts"][0]["status_code"], &told["status"]), (&json!(status), &json!("pending")));
        }
        assert_eq!(target.connections(), 0, "nobody follows");

        // One that was too late hears of it again, under the same id.
        let late = &hostile[HOSTILE.len() - 1];
        late.wait("the same event again", JOB, |late| late.counts().values().any(|count| *count > 1)).await;
    })
    .await;
}

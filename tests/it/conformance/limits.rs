//! Rate limits, and the routes of older clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::library::{LANGUAGES, Library};
use super::wire::{self, Wire};
use crate::world::client::{Client, Reply, send};
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

fn with_args(args: &[&str]) -> Options {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Options { no_worker: true, messages_left: true, args, ..Options::default() }
}

/// Limit, remaining, and seconds until the bucket is full.
fn meter(reply: &Reply) -> [i64; 3] {
    let number =
        |name: &str| reply.header(name).parse::<i64>().unwrap_or_else(|_| panic!("{name}: {:?}", reply.headers));
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    [number("x-ratelimit-limit"), number("x-ratelimit-remaining"), number("x-ratelimit-reset") - now]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_has_a_bucket_for_reads_and_one_for_the_rest_and_is_told_what_is_left() {
    let options = with_args(&["--reads-per-minute", "6", "--creates-per-minute", "3"]);
    in_a_world(options, async |world| {
        let (one, other) = (world.client("acme", 10.0).await, world.client("acme", 10.0).await);
        for left in (0..3).rev() {
            let reply = one.post("/v1/jobs", &json!({})).await;
            reply.is(400, "invalid_request");
            let [limit, remaining, reset] = meter(&reply);
            assert_eq!((limit, remaining), (3, left));
            assert!((0..=61).contains(&reset), "{reset}");
        }
        for language in LANGUAGES {
            let create = json!({"video_url": "u", "model": "light"});
            Library::of(language, &one).raises("create_job", &create).is("RateLimitError", 429, "rate_limited");
        }
        let refused = one.post("/v1/uploads", &json!({})).await;
        refused.is(429, "rate_limited");
        let after: i64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=20).contains(&after), "{after}");
        assert_eq!(refused.json["error"]["retryable"], true);
        assert_eq!(meter(&refused)[1], 0);
        // Reads go on, and so does the client's other key.
        assert_eq!(meter(&one.get("/v1/credits").await)[..2], [6, 5]);
        assert_eq!(meter(&other.post("/v1/jobs", &json!({})).await)[..2], [3, 2]);
        for _ in 0..5 {
            one.get("/v1/jobs").await.ok();
        }
        one.get("/v1/jobs").await.is(429, "rate_limited");
        // Every `/v1` answer tells it, whoever asks; who has no key takes nothing from anybody.
        let wrong = Client { key: "wrong".to_owned(), ..other.clone() };
        let reply = wrong.get("/v1/jobs").await;
        reply.is(401, "invalid_api_key");
        assert_eq!(meter(&reply)[0], 6);
        assert_eq!(meter(&other.get("/v1/nothing").await)[0], 6);
        assert_eq!(meter(&other.get("/v1/credits").await)[..2], [6, 5]);
    })
    .await;
}

/// The three steps of an older client, with a key or without. Gives the statuses.
async fn older(client: &Client, clip: &[u8], keyed: bool) -> [u16; 3] {
    let mut wire = Wire::connect(client).await;
    if !keyed {
        wire.without_key();
    }
    let form = wire::form("clip.mp4", clip);
    wire.send_head("POST", "/api/upload", &[&form.content_type(), &form.content_length()]).await;
    wire.send(&form.body).await;
    let uploaded = wire.answer().await;
    let call = async |request: reqwest::RequestBuilder| {
        send(if keyed { request.header("X-Api-Key", &client.key) } else { request }).await
    };
    let http = client.door.http();
    let order = json!({"video_url": uploaded.json()["video_url"], "model": "light", "auto_start": false});
    let created = call(http.post(client.door.url("/api/process")).json(&order)).await;
    let id = created.json["id"].as_str().unwrap_or("none").to_owned();
    let read = call(http.get(client.door.url(&format!("/api/status/{id}")))).await;
    if read.status == 200 {
        assert_eq!((&read.json["id"], &read.json["status"]), (&json!(id), &json!("created")));
    }
    [uploaded.status, created.status, read.status]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_routes_are_keyed_open_or_off_as_the_operator_says() {
    for (setting, keyed, keyless) in
        [("keyed", [200; 3], [401; 3]), ("open", [200; 3], [200; 3]), ("off", [404; 3], [404; 3])]
    {
        in_a_world(with_args(&["--legacy-api", setting]), async |world| {
            let client = world.client("acme", 10.0).await;
            let clip = std::fs::read(Clip::SMALL.make(world.scratch())).unwrap();
            assert_eq!(older(&client, &clip, true).await, keyed, "{setting}");
            assert_eq!(older(&client, &clip, false).await, keyless, "{setting}");
        })
        .await;
    }
}

//! Rate limits as clients meet them, and the legacy routes.

use std::sync::Arc;

use axum::http::Method;
use rotoless_api::LegacyApi;
use rotoless_core::policy::Policy;
use rotoless_core::rate::{PerMinute, Rates};
use serde_json::{Value, json};

use crate::world::{CLIP, Reply, World, part};

fn rates(reads: u32, creates: u32) -> Arc<Policy> {
    let rates = Rates { reads: PerMinute::new(reads), creates: PerMinute::new(creates) };
    Arc::new(Policy { rates, ..Policy::default() })
}

fn header(reply: &Reply, name: &str) -> u64 {
    reply.headers[name].to_str().unwrap().parse().unwrap()
}

/// G-36
#[tokio::test]
async fn an_empty_bucket_is_a_429_with_retry_after_and_the_other_bucket_is_full_still() {
    let world = World::with(|host, _| host.policy = rates(3, 2)).await;
    let key = world.client("acme", 10).await;
    let other = world.client("acme", 0).await;
    for left in (0..3).rev() {
        let reply = world.get("/v1/jobs").key(&key).send().await;
        assert_eq!((reply.status.as_u16(), header(&reply, "x-ratelimit-remaining")), (200, left));
        assert_eq!(header(&reply, "x-ratelimit-limit"), 3);
    }
    let reply = world.get("/v1/jobs").key(&key).send().await;
    reply.is(429, "rate_limited");
    assert!((1..=20).contains(&header(&reply, "retry-after")), "{:?}", reply.headers);
    assert_eq!(header(&reply, "x-ratelimit-remaining"), 0);
    let reset = i64::try_from(header(&reply, "x-ratelimit-reset")).unwrap();
    assert!((1..=61).contains(&(reset - jiff::Timestamp::now().as_second())), "{reset}");
    assert_eq!(reply.json["error"]["retryable"], true);

    let upload = world.post("/v1/uploads").key(&key).form(&[part("file", Some("clip.mp4"), CLIP)]).send().await;
    assert_eq!((upload.status.as_u16(), header(&upload, "x-ratelimit-limit")), (200, 2));
    // Another key of the same client has buckets of its own.
    assert_eq!(world.get("/v1/jobs").key(&other).send().await.status, 200);
}

#[tokio::test]
async fn every_v1_answer_tells_of_the_bucket() {
    let world = World::start().await;
    let key = world.client("acme", 10).await;
    let replies = [
        world.get("/v1/jobs").key(&key).send().await,
        world.get("/v1/jobs").send().await,
        world.get("/v1/jobs").key("nonsense").send().await,
        world.get("/v1/nothing").key(&key).send().await,
        world.call(Method::PUT, "/v1/jobs").key(&key).send().await,
        world.post("/v1/jobs").key(&key).body("{").send().await,
        world.get("/v1/admin/keys").admin().send().await,
    ];
    for reply in &replies {
        for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
            header(reply, name);
        }
    }
    assert!(world.get("/health").send().await.headers.get("x-ratelimit-limit").is_none());
}

#[tokio::test]
async fn older_clients_find_upload_process_and_status_under_their_old_names() {
    let world = World::start().await;
    let key = world.client("acme", 10).await;
    let upload = world.post("/api/upload").key(&key).form(&[part("file", None, CLIP)]).send().await.ok::<Value>();
    let body = json!({"video_url": upload["video_url"], "bg_type": "green"});
    let job = world.post("/api/process").key(&key).json(&body).send().await.ok::<Value>();
    let status = world.get(&format!("/api/status/{}", job["id"].as_str().unwrap())).key(&key).send().await;
    assert_eq!(status.ok::<Value>()["status"], "pending");
    world.post("/api/process").json(&body).send().await.is(401, "missing_api_key");

    let off = World::with(|host, _| host.legacy = LegacyApi::Off).await;
    let key = off.client("acme", 10).await;
    off.post("/api/process").key(&key).json(&body).send().await.is(404, "not_found");
}

#[tokio::test]
async fn opened_to_all_the_old_names_share_one_client_and_nothing_else_is_open() {
    let world = World::with(|host, _| {
        host.legacy = LegacyApi::Open;
        host.policy = rates(100, 4);
    })
    .await;
    let upload = world.post("/api/upload").form(&[part("file", Some("a.mp4"), CLIP)]).send().await.ok::<Value>();
    let body = json!({"video_url": upload["video_url"], "bg_type": "green"});
    world.post("/api/process").json(&body).send().await.is(402, "insufficient_credits");
    let grant = json!({"client_id": "open", "credits": 5});
    world.post("/v1/admin/credits").admin().json(&grant).send().await.ok::<Value>();
    let job = world.post("/api/process").json(&body).send().await.ok::<Value>();
    let path = format!("/api/status/{}", job["id"].as_str().unwrap());
    assert_eq!(world.get(&path).send().await.ok::<Value>()["id"], job["id"]);
    world.get(&path.replace("/api/status", "/v1/jobs")).send().await.is(401, "missing_api_key");
    // A key given is a key judged.
    world.get(&path).key("nonsense").send().await.is(401, "invalid_api_key");
    world.post("/api/process").json(&body).send().await;
    world.post("/api/process").json(&body).send().await.is(429, "rate_limited");
}

/// G-36: not the rate but the number of jobs: told apart by `reason`, with a time after which to try again.
#[tokio::test]
async fn one_job_too_many_under_way_is_a_429_that_says_so_and_holds_nothing() {
    let world = World::with(|host, _| host.policy = Arc::new(Policy { max_open_jobs: 1, ..Policy::default() })).await;
    let key = world.client("acme", 1000).await;
    let other = world.client("other", 1000).await;
    let create = async |key: &str| {
        let video_url = world.upload(key).await;
        world.post("/v1/jobs").key(key).json(&json!({"video_url": video_url, "model": "light"})).send().await
    };
    let first = create(&key).await;
    assert_eq!(first.status, 200, "{:?}", first.json);
    let held = world.get("/v1/credits").key(&key).send().await.json;
    let refused = create(&key).await;
    refused.is(429, "rate_limited");
    assert_eq!(
        (&refused.json["error"]["reason"], &refused.json["error"]["retryable"]),
        (&json!("too_many_jobs"), &json!(true))
    );
    assert_eq!(header(&refused, "retry-after"), 30);
    assert!(header(&refused, "x-ratelimit-remaining") > 0, "the bucket is not empty");
    assert_eq!(world.get("/v1/credits").key(&key).send().await.json, held);
    assert_eq!(create(&other).await.status, 200, "each client has his own");
    let id = first.json["id"].as_str().unwrap();
    assert_eq!(world.post(&format!("/v1/jobs/{id}/cancel")).key(&key).send().await.status, 200);
    assert_eq!(create(&key).await.status, 200);
}

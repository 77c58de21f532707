//! What is refused, and that a refusal changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use crate::world::client::Client;
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

fn no_worker() -> Options {
    Options { no_worker: true, messages_left: true, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_job_is_as_unknown_as_none_and_a_wrong_key_opens_nothing() {
    in_a_world(no_worker(), async |world| {
        let (owner, stranger) = (world.client("acme", 10.0).await, world.client("umbrella", 10.0).await);
        let id = owner.order(&owner.upload(&Clip::SMALL.make(world.scratch())).await).await;
        let unknown = format!("job_{}", "0".repeat(32));
        for path in [format!("/v1/jobs/{id}"), format!("/v1/jobs/{unknown}")] {
            let (read, cancelled) =
                (stranger.get(&path).await, stranger.post(&format!("{path}/cancel"), &json!({})).await);
            for mut reply in [read, cancelled] {
                reply.is(404, "not_found");
                reply.json["error"]["request_id"].take();
                let expected =
                    json!({"code": "not_found", "message": "Job not found", "request_id": null, "retryable": false});
                let error = reply.json["error"].as_object().unwrap();
                for (name, value) in error {
                    assert_eq!(Some(value), expected.get(name), "{name}");
                }
            }
        }
        let wrong = Client { key: format!("{}x", owner.key), ..owner.clone() };
        wrong.get(&format!("/v1/jobs/{id}")).await.is(401, "invalid_api_key");
        assert_eq!(owner.job(&id).await.status.as_str(), "pending");
        owner.cancel(&id).await.ok();
        owner.cancel(&id).await.ok();
        assert_eq!(owner.milli_credits().await, [10_000, 0, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_the_balance_does_not_cover_leaves_neither_job_nor_hold() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 0.749).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let refused = client.post("/v1/jobs", &json!({"video_url": video_url, "model": "light"})).await;
        refused.is(402, "insufficient_credits");
        assert_eq!(client.milli_credits().await, [749, 0, 0]);
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 0);
    })
    .await;
}

/// TF-3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_calls_itself_a_video_is_refused_by_either_way_in() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let text = world.scratch().join("film.mp4");
        std::fs::write(&text, "#EXTM3U\nfile:///etc/passwd\n".repeat(100)).unwrap();
        let by_form = client.send_form(&text).await;
        by_form.is(400, "invalid_request");
        assert_eq!(by_form.json["error"]["message"], "Invalid file type");
        // The object store takes any bytes; the order does not.
        let video_url = client.upload(&text).await;
        client.post("/v1/jobs", &json!({"video_url": video_url, "model": "light"})).await.is(400, "invalid_request");
        assert_eq!(client.milli_credits().await, [10_000, 0, 0]);
    })
    .await;
}

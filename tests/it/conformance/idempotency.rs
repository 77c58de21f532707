//! A request that is sent again has one effect, if its sender wished so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::no_worker;
use crate::world::client::{Client, Reply, send};
use crate::world::in_a_world;
use crate::world::media::Clip;

/// The two forms of the wish.
#[derive(Debug, Clone, Copy)]
enum Form {
    Header,
    Metadata,
}

const FORMS: [Form; 2] = [Form::Header, Form::Metadata];

async fn create(client: &Client, form: Form, key: &str, mut body: Value) -> Reply {
    let request = client.request(Method::POST, "/v1/jobs");
    match form {
        Form::Header => send(request.header("Idempotency-Key", key).json(&body)).await,
        Form::Metadata => {
            body["metadata"] = json!({"external_job_id": key, "idempotent": true});
            send(request.json(&body)).await
        }
    }
}

fn is_replay(reply: &Reply) -> bool {
    reply.header("idempotency-replayed") == "true"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_again_is_the_same_job_and_another_is_a_conflict() {
    in_a_world(no_worker(), async |world| {
        let (client, other) = (world.client("acme", 100.0).await, world.client("umbrella", 100.0).await);
        let clip = Clip::SMALL.make(world.scratch());
        let video_url = client.upload(&clip).await;
        let body = json!({"video_url": video_url, "model": "light"});
        for form in FORMS {
            let first = create(&client, form, "order-7", body.clone()).await;
            assert!(!is_replay(&first), "{form:?}");
            let id = first.ok()["id"].clone();
            let again = create(&client, form, "order-7", body.clone()).await;
            assert!(is_replay(&again), "{form:?}");
            assert_eq!(again.ok()["id"], id);
            let differs = json!({"video_url": video_url, "model": "light", "bg_type": "white"});
            create(&client, form, "order-7", differs).await.is(409, "idempotency_conflict");
            // The key is the client's own.
            let others = json!({"video_url": other.upload(&clip).await, "model": "light"});
            let foreign = create(&other, form, "order-7", others).await;
            assert!(!is_replay(&foreign));
            assert_ne!(foreign.ok()["id"], id);
            // Still so when the job has ended.
            client.cancel(id.as_str().unwrap()).await.ok();
            let late = create(&client, form, "order-7", body.clone()).await.ok();
            assert_eq!((&late["id"], &late["status"]), (&id, &json!("failed")));
        }
        // The two forms are two names.
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 2);
        assert_eq!(client.milli_credits().await, [100_000, 0, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_are_one_job_and_one_hold() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 100.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let body = json!({"video_url": video_url, "model": "light"});
        for form in FORMS {
            let key = format!("{form:?}");
            let replies = join_all((0..20).map(|_| create(&client, form, &key, body.clone()))).await;
            let mut ids = BTreeSet::new();
            let mut made = 0;
            for reply in replies {
                if reply.status == 409 {
                    // Its twin was still being worked on.
                    reply.is(409, "conflict");
                    assert!(reply.header("retry-after").parse::<u32>().is_ok(), "{:?}", reply.headers);
                    continue;
                }
                made += u32::from(!is_replay(&reply));
                ids.insert(reply.ok()["id"].as_str().unwrap().to_owned());
            }
            assert_eq!((ids.len(), made), (1, 1), "{form:?}");
        }
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 2);
        assert_eq!(client.milli_credits().await, [100_000 - 1500, 1500, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_leaves_its_key_free_and_a_bad_key_is_refused() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 100.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let body = json!({"video_url": video_url, "model": "light"});
        for form in FORMS {
            let bad = json!({"video_url": video_url, "model": "light", "output_format": "avi"});
            create(&client, form, "again", bad).await.is(400, "invalid_request");
            let made = create(&client, form, "again", body.clone()).await;
            assert!(!is_replay(&made));
            made.ok();
            for key in ["", &"k".repeat(256)] {
                create(&client, form, key, body.clone()).await.is(400, "invalid_request");
            }
        }
        create(&client, Form::Header, "two words", body.clone()).await.is(400, "invalid_request");
        let twice =
            client.request(Method::POST, "/v1/jobs").header("Idempotency-Key", "a").header("Idempotency-Key", "b");
        send(twice.json(&body)).await.is(400, "invalid_request");
        // An id alone is no wish.
        for idempotent in [json!(false), json!(null), json!("true")] {
            let mut plain = body.clone();
            plain["metadata"] = json!({"external_job_id": "again", "idempotent": idempotent});
            let reply = client.post("/v1/jobs", &plain).await;
            assert!(!is_replay(&reply));
            reply.ok();
        }
    })
    .await;
}

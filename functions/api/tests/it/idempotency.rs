//! A repeated request has one effect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::world::{Reply, World};

async fn create(world: &World, key: &str, wish: &str, body: &Value) -> Reply {
    world.post("/v1/jobs").key(key).header("Idempotency-Key", wish).json(body).send().await
}

fn replayed(reply: &Reply) -> bool {
    reply.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

/// G-06, G-07
#[tokio::test]
async fn the_same_key_and_request_make_one_job_and_another_request_a_conflict() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let body = json!({"video_url": world.upload(&key).await, "model": "light", "metadata": {"a": 1, "b": 2}});
    let first = create(&world, &key, "order-1", &body).await;
    assert!(first.status == 200 && !replayed(&first), "{}", first.text);
    for _ in 0..3 {
        let again = create(&world, &key, "order-1", &body).await;
        assert!(replayed(&again));
        assert_eq!(again.json["id"], first.json["id"]);
    }
    // The order of fields is the sender's own business.
    let text = body.to_string();
    let reordered =
        format!("{{\"model\":\"light\",\"metadata\":{{\"b\":2,\"a\":1}},\"video_url\":{}}}", body["video_url"]);
    assert_ne!(text, reordered);
    let call = world.post("/v1/jobs").key(&key).header("Idempotency-Key", "order-1").body(reordered);
    assert_eq!(call.send().await.json["id"], first.json["id"]);

    let mut other = body.clone();
    other["model"] = json!("original");
    create(&world, &key, "order-1", &other).await.is(409, "idempotency_conflict");
    assert_ne!(create(&world, &key, "order-2", &body).await.json["id"], first.json["id"]);
    assert_eq!(world.credits(&key).await, [95.5, 4.5, 0.0]);
}

/// G-06: the first answers are lost, or all come together.
#[tokio::test]
async fn requests_with_one_key_at_the_same_moment_make_one_job() {
    let world = Arc::new(World::start().await);
    let key = world.client("acme", 100).await;
    let body = json!({"video_url": world.upload(&key).await});
    let calls = (0..8).map(|_| {
        let (world, key, body) = (world.clone(), key.clone(), body.clone());
        tokio::spawn(async move { create(&world, &key, "once", &body).await })
    });
    let mut ids = BTreeSet::new();
    let mut made = 0;
    for call in futures::future::join_all(calls).await {
        let reply = call.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        made += u32::from(!replayed(&reply));
        ids.insert(reply.json["id"].as_str().unwrap().to_owned());
    }
    assert_eq!((ids.len(), made), (1, 1));
    assert_eq!(world.credits(&key).await, [97.0, 3.0, 0.0]);
}

/// G-31
#[tokio::test]
async fn a_key_is_a_clients_own() {
    let world = World::start().await;
    let mut ids = BTreeSet::new();
    for client in ["acme", "other"] {
        let key = world.client(client, 100).await;
        let body = json!({"video_url": world.upload(&key).await});
        ids.insert(create(&world, &key, "1", &body).await.json["id"].to_string());
    }
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn a_client_that_cannot_set_headers_says_it_in_metadata() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let video_url = world.upload(&key).await;
    let body = json!({"video_url": video_url, "metadata": {"external_job_id": "e-1", "idempotent": true}});
    let create = async |body: &Value| world.post("/v1/jobs").key(&key).json(body).send().await;
    let first = create(&body).await;
    let again = create(&body).await;
    assert!(!replayed(&first) && replayed(&again));
    assert_eq!(first.json["id"], again.json["id"]);
    let mut other = body.clone();
    other["model"] = json!("light");
    create(&other).await.is(409, "idempotency_conflict");

    // Not asked for: an external id alone is just metadata.
    for idempotent in [json!(false), json!("true"), Value::Null] {
        let body = json!({"video_url": video_url, "metadata": {"external_job_id": "e-2", "idempotent": idempotent}});
        assert_ne!(create(&body).await.json["id"], create(&body).await.json["id"]);
    }
    for id in [json!(""), json!(7), Value::Null, json!("x".repeat(256))] {
        let body = json!({"video_url": video_url, "metadata": {"external_job_id": id, "idempotent": true}});
        create(&body).await.is(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_key_that_is_not_one_readable_word_is_refused() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let body = json!({"video_url": world.upload(&key).await});
    for wish in ["", "a b", "\u{e9}", &"x".repeat(256)] {
        let reply = create(&world, &key, wish, &body).await;
        reply.is(400, "invalid_request");
        assert_eq!(reply.param(), Some("Idempotency-Key"));
    }
    let twice = world.post("/v1/jobs").key(&key).header("Idempotency-Key", "a").header("Idempotency-Key", "a");
    twice.json(&body).send().await.is(400, "invalid_request");
    assert_eq!(create(&world, &key, &"x".repeat(255), &body).await.status, 200);
}

/// A refused request promises nothing; an accepted one holds, whatever the workers can do later.
#[tokio::test]
async fn a_promise_begins_with_the_job_and_outlives_the_model() {
    let gone = Arc::new(AtomicBool::new(false));
    let world = {
        let gone = gone.clone();
        World::with(move |host, _| {
            host.models = Arc::new(move |_| if gone.load(Ordering::SeqCst) { Err("gone".to_owned()) } else { Ok(()) });
        })
        .await
    };
    let key = world.client("acme", 2).await;
    let body = json!({"video_url": world.upload(&key).await});
    create(&world, &key, "k", &body).await.is(402, "insufficient_credits");
    let grant = json!({"client_id": "acme", "credits": 5});
    world.post("/v1/admin/credits").admin().json(&grant).send().await.ok::<Value>();
    let made = create(&world, &key, "k", &body).await;
    assert!(made.status == 200 && !replayed(&made));
    gone.store(true, Ordering::SeqCst);
    let again = create(&world, &key, "k", &body).await;
    assert!(replayed(&again));
    assert_eq!(again.json["id"], made.json["id"]);
    assert_eq!(create(&world, &key, "other", &body).await.reason(), Some("model_unavailable"));
}

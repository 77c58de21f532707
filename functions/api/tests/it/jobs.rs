//! Jobs as clients make, follow and end them.

use std::sync::Arc;

use rotoless_contract::worker::FailureReason;
use rotoless_contract::{Background, Model};
use rotoless_core::ports::{Jobs as _, Waiting as _};
use serde_json::{Value, json};

use crate::world::{Reply, World};

impl World {
    async fn create(&self, key: &str, body: &Value) -> Reply {
        self.post("/v1/jobs").key(key).json(body).send().await
    }

    async fn read(&self, key: &str, id: &Value) -> Reply {
        self.get(&format!("/v1/jobs/{}", id.as_str().unwrap())).key(key).send().await
    }
}

/// R4, R10, R12
#[tokio::test]
async fn a_job_is_made_by_flat_fields_alone_and_read_at_top_level() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let video_url = world.upload(&key).await;
    let body = json!({"video_url": video_url, "model": "original", "bg_type": "green", "output_format": "webm", "auto_start": true});
    let created = world.create(&key, &body).await;
    assert_eq!(created.json["success"], true);
    assert_eq!(created.json["id"], created.json["job_id"]);
    assert_eq!(created.json["status"], "pending");
    assert!(!created.json["message"].as_str().unwrap().is_empty());
    let job = world.read(&key, &created.json["id"]).await;
    for (field, value) in [
        ("progress", json!(0)),
        ("output_url", Value::Null),
        ("error", Value::Null),
        ("billing_status", json!("reserved")),
        ("credits_held", json!(3)),
        ("credits_charged", json!(0)),
        ("billed_seconds", json!(3)),
        ("background", json!({"type": "color", "color": "#09A246"})),
    ] {
        assert_eq!(job.json[field], value, "{field}");
    }
    assert!(job.json["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(world.queue.backlog().await.unwrap().visible, 1);
    assert_eq!(world.credits(&key).await, [97.0, 3.0, 0.0]);
}

#[tokio::test]
async fn a_completed_job_has_a_link_that_is_made_anew_on_each_read_and_saves_under_its_id() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let id = world.job(&key).await;
    world.complete(&id, b"the output").await;
    let job = world.read(&key, &json!(id)).await;
    assert_eq!((&job.json["status"], &job.json["progress"]), (&json!("completed"), &json!(100)));
    assert_eq!((&job.json["billing_status"], &job.json["credits_charged"]), (&json!("charged"), &json!(3)));
    assert_eq!(job.json["duration_seconds"], 3.0);
    let listed = world.get("/v1/jobs?status=completed").key(&key).send().await;
    for url in [&job.json["output_url"], &listed.json["items"][0]["output_url"]] {
        let reply = reqwest::get(url.as_str().unwrap()).await.unwrap();
        assert_eq!(reply.headers()["content-disposition"], format!("attachment; filename=\"{id}.webm\""));
        assert_eq!(reply.bytes().await.unwrap(), "the output");
    }
    let stored = world.store.job(&id).await.unwrap().unwrap();
    assert!(!format!("{:?}", serde_json::to_value(&stored).unwrap()).contains("X-Amz-Signature"));
    let cancelled = world.post(&format!("/v1/jobs/{id}/cancel")).key(&key).send().await;
    cancelled.is(409, "conflict");
    assert_eq!(world.credits(&key).await, [97.0, 0.0, 3.0]);
}

/// R11
#[tokio::test]
async fn a_draft_costs_nothing_until_it_is_started_with_nothing_or_with_overrides() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let video_url = world.upload(&key).await;
    for start in [None, Some(json!({})), Some(json!({"model": "light", "bg_type": "transparent"}))] {
        let before = world.credits(&key).await;
        let draft = world.create(&key, &json!({"video_url": video_url, "bg_type": "white", "auto_start": false})).await;
        assert_eq!((&draft.json["status"], &draft.json["billing_status"]), (&json!("created"), &Value::Null));
        assert_eq!(world.credits(&key).await, before);
        let mut call = world.post(&format!("/v1/jobs/{}/start", draft.json["id"].as_str().unwrap())).key(&key);
        if let Some(body) = &start {
            call = call.json(body);
        }
        let started = call.send().await;
        assert_eq!((&started.json["status"], &started.json["id"]), (&json!("pending"), &draft.json["id"]));
        let stored = world.store.job(&draft.json["id"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap();
        if start.is_some_and(|body| body.get("model").is_some()) {
            assert_eq!((stored.spec.model, stored.spec.background), (Model::Light, Background::Transparent));
        } else {
            assert_eq!(stored.spec.model, Model::Original);
        }
    }
}

/// G-09
#[tokio::test]
async fn a_second_start_starts_nothing_and_one_with_other_options_is_a_conflict() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let id = world.job(&key).await;
    let start = async |body: &Value| world.post(&format!("/v1/jobs/{id}/start")).key(&key).json(body).send().await;
    for same in [json!({}), json!({"model": "original"})] {
        let again = start(&same).await;
        assert_eq!((again.status.as_u16(), &again.json["id"]), (200, &json!(id)));
    }
    start(&json!({"model": "light"})).await.is(409, "conflict");
    assert_eq!(world.credits(&key).await, [97.0, 3.0, 0.0]);
    assert_eq!(world.queue.backlog().await.unwrap().visible, 1);
    world.complete(&id, b"x").await;
    assert_eq!(start(&json!({})).await.json["status"], "completed");
    start(&json!({"model": "light"})).await.is(409, "conflict");
}

/// G-02
#[tokio::test]
async fn a_balance_that_does_not_cover_the_hold_is_a_402_that_leaves_nothing_behind() {
    let world = World::start().await;
    let key = world.client("acme", 5).await;
    let video_url = world.upload(&key).await;
    world.create(&key, &json!({"video_url": video_url})).await.ok::<Value>();
    let draft = world.create(&key, &json!({"video_url": video_url, "auto_start": false})).await;
    let start = format!("/v1/jobs/{}/start", draft.json["id"].as_str().unwrap());
    for reply in [world.create(&key, &json!({"video_url": video_url})).await, world.post(&start).key(&key).send().await]
    {
        reply.is(402, "insufficient_credits");
        assert_eq!(reply.message(), "Not enough credits to process this video");
        assert_eq!(reply.json["error"]["retryable"], false);
    }
    assert_eq!(world.credits(&key).await, [2.0, 3.0, 0.0]);
    assert_eq!(world.get("/v1/jobs").key(&key).send().await.json["total"], 2);
}

/// R5, R6
#[tokio::test]
async fn a_cancelled_job_is_failed_with_a_reason_and_a_second_cancel_is_harmless() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let id = world.job(&key).await;
    let mut replies = Vec::new();
    for _ in 0..2 {
        let reply = world.post(&format!("/v1/jobs/{id}/cancel")).key(&key).send().await;
        assert_eq!((&reply.json["success"], &reply.json["status"]), (&json!(true), &json!("failed")));
        assert_eq!((&reply.json["error_code"], &reply.json["error"]), (&json!("cancelled"), &json!("Cancelled")));
        assert_eq!(reply.json["billing_status"], "released");
        replies.push(reply.json);
    }
    assert_eq!(replies[0], replies[1]);
    assert_eq!(world.credits(&key).await, [100.0, 0.0, 0.0]);
    assert_eq!(world.read(&key, &json!(id)).await.json["status"], "failed");
}

/// R6
#[tokio::test]
async fn a_failed_job_says_why_and_can_be_started_anew() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let id = world.job(&key).await;
    world.fail(&id, FailureReason::InvalidMedia).await;
    let job = world.read(&key, &json!(id)).await;
    assert_eq!((&job.json["status"], &job.json["error_code"]), (&json!("failed"), &json!("invalid_media")));
    assert!(!job.json["error"].as_str().unwrap().is_empty());
    world.get(&format!("/api/download/{id}")).send().await.is(400, "job_not_completed");
    let again = world.post(&format!("/v1/jobs/{id}/start")).key(&key).json(&json!({"model": "light"})).send().await;
    assert_eq!((&again.json["status"], &again.json["error"]), (&json!("pending"), &Value::Null), "{}", again.text);
    assert_eq!(world.credits(&key).await, [97.75, 2.25, 0.0]);
}

#[tokio::test]
async fn a_list_is_newest_first_in_pages_that_miss_nothing_and_repeat_nothing() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let video_url = world.upload(&key).await;
    let mut made = Vec::new();
    for n in 0..7 {
        let reply = world.create(&key, &json!({"video_url": video_url, "auto_start": n % 2 == 0})).await;
        made.insert(0, reply.json["id"].clone());
    }
    let list = async |query: &str| world.get(&format!("/v1/jobs?{query}")).key(&key).send().await;
    let all = list("").await;
    let ids = |reply: &Reply| -> Vec<Value> {
        assert_eq!(reply.json["items"], reply.json["jobs"]);
        reply.json["items"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect()
    };
    assert_eq!(ids(&all), made);
    assert_eq!((&all.json["limit"], &all.json["offset"], &all.json["total"]), (&json!(20), &json!(0), &json!(7)));
    assert_eq!((&all.json["has_more"], &all.json["next_cursor"]), (&json!(false), &Value::Null));

    let (mut by_cursor, mut by_offset, mut query) = (Vec::new(), Vec::new(), "limit=3".to_owned());
    loop {
        let page = list(&query).await;
        by_cursor.extend(ids(&page));
        by_offset.extend(ids(&list(&format!("limit=3&offset={}", by_offset.len())).await));
        assert_eq!(page.json["has_more"], json!(by_cursor.len() < 7));
        let Some(cursor) = page.json["next_cursor"].as_str() else { break };
        query = format!("limit=3&cursor={cursor}");
    }
    assert_eq!((&by_cursor, &by_offset), (&made, &made));

    assert_eq!(list("status=pending").await.json["total"], 7);
    assert_eq!(list("status=created").await.json["total"], 3);
    assert_eq!(list("status=completed").await.json["total"], 0);
    assert_eq!(list("limit=&status=").await.json["total"], 7);
    for bad in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=1.5",
        "offset=-1",
        "offset=10001",
        "status=done",
        "cursor=x",
        "limit=1&limit=2",
        "cursor=%ff",
    ] {
        list(bad).await.is(400, "invalid_request");
    }
}

/// G-32
#[tokio::test]
async fn fields_that_are_the_services_own_are_ignored_and_named() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let body = json!({
        "video_url": world.upload(&key).await, "id": "job_ffffffffffffffffffffffffffffffff", "client_id": "other",
        "status": "completed", "credits_charged": 0, "rate": 0, "billed_seconds": 0, "output_url": "https://e.com/",
    });
    let job = world.create(&key, &body).await;
    assert_ne!(job.json["id"], body["id"]);
    assert_eq!((&job.json["status"], &job.json["credits_held"]), (&json!("pending"), &json!(3)));
    assert_eq!(job.json["output_url"], Value::Null);
    assert_eq!(job.json["warnings"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn a_job_that_the_workers_cannot_do_is_refused_before_it_costs_anything() {
    let world = World::with(|host, _| {
        host.models = Arc::new(|model| match model {
            Model::Human => Err("run `rotoless models fetch human`".to_owned()),
            Model::Original | Model::Light | Model::Pro => Ok(()),
        });
        host.supported =
            Arc::new(
                |spec| {
                    if spec.background == Background::Transparent { Err("not yet".to_owned()) } else { Ok(()) }
                },
            );
    })
    .await;
    let key = world.client("acme", 100).await;
    let video_url = world.upload(&key).await;
    let refused = world.create(&key, &json!({"video_url": video_url, "model": "human", "bg_type": "green"})).await;
    refused.is(400, "invalid_request");
    assert_eq!((refused.reason(), refused.param()), (Some("model_unavailable"), Some("model")));
    assert!(refused.message().contains("rotoless models fetch human"));
    let refused = world.create(&key, &json!({"video_url": video_url})).await;
    assert_eq!((refused.reason(), refused.message()), (Some("unsupported_options"), "not yet"));

    // A start is judged by what it would start, not by the draft.
    let draft = world.create(&key, &json!({"video_url": video_url, "bg_type": "green", "auto_start": false})).await;
    let start = format!("/v1/jobs/{}/start", draft.json["id"].as_str().unwrap());
    let refused = world.post(&start).key(&key).json(&json!({"model": "human"})).send().await;
    assert_eq!(refused.reason(), Some("model_unavailable"));
    assert_eq!(world.credits(&key).await, [100.0, 0.0, 0.0]);
    assert_eq!(world.post(&start).key(&key).send().await.json["status"], "pending");
}

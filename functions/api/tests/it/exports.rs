//! Exports: other outputs of a completed job, from its matte, without a model and without credits.

use rotoless_contract::{JobId, OutputFormat};
use rotoless_core::ports::{Jobs as _, Objects as _};
use serde_json::{Value, json};

use crate::world::{MATTE, Reply, World};

async fn export(world: &World, key: &str, of: &JobId, body: &Value) -> Reply {
    world.post(&format!("/v1/jobs/{of}/exports")).key(key).json(body).send().await
}

fn id(job: &Value) -> JobId {
    job["id"].as_str().unwrap().parse().unwrap()
}

async fn completed(world: &World, key: &str) -> JobId {
    let job = world.job(key).await;
    world.complete(&job, b"output").await;
    job
}

/// G-03
#[tokio::test]
async fn an_export_is_a_job_of_its_own_that_costs_nothing_and_runs_no_model() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let job = completed(&world, &key).await;
    let seen = world.get(&format!("/v1/jobs/{job}")).key(&key).send().await.ok::<Value>();
    assert!(seen["exportable_until"].is_string() && seen["exported_from"].is_null(), "{seen}");
    let paid = world.credits(&key).await;

    let body =
        json!({"output_format": "mp4", "background": {"type": "blur"}, "metadata": {"cut": 2}, "model": "human"});
    let made = export(&world, &key, &job, &body).await.ok::<Value>();
    let made_id = id(&made);
    assert_ne!(made_id, job);
    for (field, expected) in [
        ("exported_from", json!(job)),
        ("status", json!("pending")),
        ("model", json!("original")),
        ("output_format", json!("mp4")),
        ("credits_held", json!(0)),
        ("metadata", json!({"cut": 2})),
    ] {
        assert_eq!(made[field], expected, "{field}");
    }
    let claim = world.claim(&made_id).await;
    let matte = claim.kept_matte.expect("an export comes with its matte");
    assert_eq!((matte.download.size_bytes, matte.made_for), (MATTE.len() as u64, OutputFormat::Webm));
    assert!(claim.keep_matte.is_none(), "it is kept already");
    assert_eq!(world.credits(&key).await, paid);
}

#[tokio::test]
async fn a_completed_export_is_charged_nothing_and_can_be_exported_again() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let job = completed(&world, &key).await;
    let paid = world.credits(&key).await;
    let first = id(&export(&world, &key, &job, &json!({"output_format": "mov"})).await.ok::<Value>());
    world.complete(&first, b"other").await;
    let seen = world.get(&format!("/v1/jobs/{first}")).key(&key).send().await.ok::<Value>();
    assert_eq!((&seen["status"], &seen["credits_charged"]), (&json!("completed"), &json!(0)));
    assert!(seen["output_url"].is_string() && seen["exportable_until"].is_string());
    assert_eq!(world.credits(&key).await, paid);
    let second = export(&world, &key, &first, &json!({"output_format": "gif"})).await.ok::<Value>();
    assert_eq!(second["exported_from"], json!(job), "of the job whose matte it is");
}

/// G-06
#[tokio::test]
async fn an_export_with_the_same_key_is_the_same_export() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let job = completed(&world, &key).await;
    let call = || {
        let path = format!("/v1/jobs/{job}/exports");
        world.post(&path).key(&key).header("Idempotency-Key", "once").json(&json!({"output_format": "mov"})).send()
    };
    let (first, second) = (call().await, call().await);
    assert_eq!(first.json["id"], second.json["id"]);
    assert_eq!(second.headers["idempotency-replayed"], "true");
}

/// G-31
#[tokio::test]
async fn what_cannot_be_exported_is_refused_with_the_reason() {
    let world = World::start().await;
    let (key, other) = (world.client("acme", 100).await, world.client("other", 100).await);
    let pending = world.job(&key).await;
    let refused = export(&world, &key, &pending, &json!({})).await;
    refused.is(409, "conflict");
    assert_eq!(refused.json["error"]["reason"], "not_completed");
    world.complete(&pending, b"output").await;
    let job = pending;
    export(&world, &other, &job, &json!({})).await.is(404, "not_found");
    export(&world, &key, &job, &json!({"output_format": "avi"})).await.is(400, "invalid_request");

    let record = world.store.job(&job).await.unwrap().unwrap();
    world.objects.delete_prefix(&record.matte.unwrap().key).await.unwrap();
    let refused = export(&world, &key, &job, &json!({})).await;
    refused.is(409, "conflict");
    assert_eq!(refused.json["error"]["reason"], "media_expired");
}

/// A failed export starts again as what it is: without a model and without a price.
#[tokio::test]
async fn a_failed_export_starts_again_for_nothing() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let job = completed(&world, &key).await;
    let paid = world.credits(&key).await;
    let made = id(&export(&world, &key, &job, &json!({"output_format": "mov"})).await.ok::<Value>());
    world.post(&format!("/v1/jobs/{made}/cancel")).key(&key).send().await.ok::<Value>();
    let again = json!({"output_format": "webm", "model": "human"});
    let started = world.post(&format!("/v1/jobs/{made}/start")).key(&key).json(&again).send().await.ok::<Value>();
    assert_eq!((&started["model"], &started["output_format"]), (&json!("original"), &json!("webm")));
    assert_eq!(world.credits(&key).await, paid);
    assert!(world.claim(&made).await.kept_matte.is_some());
}

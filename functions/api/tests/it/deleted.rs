//! Deleting a job: nobody is shown it any more, its media are gone, its credits are accounted for.

use rotoless_core::ports::{Jobs as _, Objects as _};
use serde_json::{Value, json};

use crate::world::World;

async fn delete(world: &World, key: &str, id: &str) -> crate::world::Reply {
    world.call(axum::http::Method::DELETE, &format!("/v1/jobs/{id}")).key(key).send().await
}

/// G-41
#[tokio::test]
async fn a_deleted_job_is_unknown_everywhere_and_its_media_are_gone() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let job = world.job(&key).await;
    world.complete(&job, b"output").await;
    let before = world.store.job(&job).await.unwrap().unwrap();
    let (output, rotoless_core::record::Source::Upload { key: upload, .. }) =
        (before.output.unwrap().key, before.source);
    assert!(
        world.objects.head(&output).await.unwrap().is_some() && world.objects.head(&upload).await.unwrap().is_some()
    );

    let reply = delete(&world, &key, job.as_str()).await.ok::<Value>();
    assert_eq!((&reply["id"], &reply["deleted"], &reply["success"]), (&json!(job), &json!(true), &json!(true)));
    assert!(
        world.objects.head(&output).await.unwrap().is_none() && world.objects.head(&upload).await.unwrap().is_none()
    );
    for path in [
        format!("/v1/jobs/{job}"),
        format!("/v1/jobs/{job}/events"),
        format!("/v1/jobs/{job}/deliveries"),
        format!("/api/download/{job}"),
    ] {
        world.get(&path).key(&key).send().await.is(404, "not_found");
    }
    for tail in ["start", "cancel"] {
        world.post(&format!("/v1/jobs/{job}/{tail}")).key(&key).send().await.is(404, "not_found");
    }
    delete(&world, &key, job.as_str()).await.is(404, "not_found");
    assert_eq!(world.get("/v1/jobs").key(&key).send().await.json["total"], 0);
    // What was charged stays charged, and counted.
    assert_eq!(world.credits(&key).await, [97.0, 0.0, 3.0]);
    let left = world.store.job(&job).await.unwrap().unwrap();
    assert!(left.metadata.is_none() && left.request.video_url.is_none() && left.deletion.unwrap().media_removed);
}

#[tokio::test]
async fn a_job_under_way_is_cancelled_by_its_deletion_and_costs_nothing() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let job = world.job(&key).await;
    let claim = world.claim(&job).await;
    delete(&world, &key, job.as_str()).await.ok::<Value>();
    assert_eq!(world.credits(&key).await, [100.0, 0.0, 0.0]);
    assert!(world.beat(&job, claim.attempt).await, "the worker is told to stop");
}

#[tokio::test]
async fn an_upload_that_another_job_needs_survives_and_others_may_not_delete() {
    let world = World::start().await;
    let (key, other) = (world.client("acme", 100).await, world.client("other", 0).await);
    let video_url = world.upload(&key).await;
    let create = async || {
        let body = json!({"video_url": video_url, "bg_type": "green", "auto_start": false});
        world.post("/v1/jobs").key(&key).json(&body).send().await.json["id"].as_str().unwrap().to_owned()
    };
    let (first, second) = (create().await, create().await);
    delete(&world, &other, &first).await.is(404, "not_found");
    delete(&world, &key, &first).await.ok::<Value>();
    let started = world.post(&format!("/v1/jobs/{second}/start")).key(&key).send().await;
    assert_eq!(started.ok::<Value>()["status"], "pending");
    delete(&world, &key, &second).await.ok::<Value>();
    let body = json!({"video_url": video_url, "bg_type": "green"});
    let gone = world.post("/v1/jobs").key(&key).json(&body).send().await;
    assert_eq!(gone.reason(), Some("upload_not_found"));
}

#[tokio::test]
async fn the_key_of_a_deleted_job_makes_no_second_one() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let body = json!({"video_url": world.upload(&key).await, "bg_type": "green"});
    let create = async || world.post("/v1/jobs").key(&key).header("Idempotency-Key", "k").json(&body).send().await;
    let id = create().await.json["id"].as_str().unwrap().to_owned();
    delete(&world, &key, &id).await.ok::<Value>();
    let again = create().await;
    again.is(409, "idempotency_conflict");
    assert_eq!(again.reason(), Some("job_deleted"));
}

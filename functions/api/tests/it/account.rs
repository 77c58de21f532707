//! What a client used, and what a job would cost him.

use rotoless_contract::worker::FailureReason;
use serde_json::{Value, json};

use crate::world::World;

/// The sums are those of the ledger, and the events those of the requests.
#[tokio::test]
async fn usage_tells_what_was_done_and_what_it_cost() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let (done, failed) = (world.job(&key).await, world.job(&key).await);
    world.complete(&done, b"output").await;
    world.fail(&failed, FailureReason::InvalidMedia).await;
    let refused = world.post("/v1/jobs").key(&key).json(&json!({"video_url": "x"})).send().await;
    refused.is(400, "invalid_request");

    let summary = world.get("/v1/usage/summary").key(&key).send().await.ok::<Value>();
    let sums = json!({
        "total_jobs": 2, "completed_jobs": 1, "failed_jobs": 1, "credits_used": 3, "seconds_processed": 3,
        "total_calls": 5,
    });
    for (name, value) in sums.as_object().unwrap() {
        assert_eq!((&summary[name], &summary["totals"][name]), (value, value), "{name}: {summary:#}");
    }
    assert_eq!(summary["days"], 7);
    let daily = summary["daily"].as_array().unwrap();
    assert_eq!(daily.len(), 7);
    let today = json!({"date": &jiff::Timestamp::now().to_string()[..10], "jobs": 2, "completed": 1, "failed": 1, "credits_used": 3, "seconds": 3});
    assert_eq!(daily[6], today);
    assert_eq!(summary["by_model"]["original"]["jobs"], 2);
    assert_eq!(world.credits(&key).await, [97.0, 0.0, 3.0]);

    let events = world.get("/v1/usage/events?limit=10").key(&key).send().await.ok::<Value>();
    assert_eq!(events["items"], events["events"]);
    let told: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|e| (&e["path"], &e["status_code"], &e["credits"])).collect();
    let (jobs, uploads) = (json!("/v1/jobs"), json!("/v1/uploads"));
    let (ok, bad, none, three) = (json!(200), json!(400), json!(0), json!(3));
    // Newest first; the failed job costs nothing any more.
    let expected = [
        (&jobs, &bad, &none),
        (&jobs, &ok, &none),
        (&uploads, &ok, &none),
        (&jobs, &ok, &three),
        (&uploads, &ok, &none),
    ];
    assert_eq!(told, expected);
    assert_eq!(events["items"][0]["request_id"], refused.headers["x-request-id"].to_str().unwrap());
    assert_eq!((&events["items"][3]["job_id"], &events["items"][3]["model"]), (&json!(done), &json!("original")));

    let other = world.client("other", 0).await;
    assert_eq!(world.get("/v1/usage/events").key(&other).send().await.ok::<Value>()["items"], json!([]));
    assert_eq!(world.get("/v1/usage/summary?days=90").key(&other).send().await.ok::<Value>()["total_calls"], 0);
}

#[tokio::test]
async fn usage_of_days_or_events_out_of_range_is_refused() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    for path in [
        "summary?days=0",
        "summary?days=91",
        "summary?days=x",
        "events?limit=0",
        "events?limit=101",
        "events?limit=1e9",
    ] {
        let reply = world.get(&format!("/v1/usage/{path}")).key(&key).send().await;
        reply.is(400, "invalid_request");
        assert!(reply.param().is_some(), "{path}");
    }
}

#[tokio::test]
async fn an_estimate_is_what_a_create_would_hold_and_creates_nothing() {
    let world = World::start().await;
    let key = world.client("acme", 4).await;
    let video_url = world.upload(&key).await;
    let body = json!({"video_url": video_url, "model": "original", "bg_type": "green", "colour": 1});
    let estimate = world.post("/v1/estimate").key(&key).json(&body).send().await.ok::<Value>();
    assert_eq!((&estimate["credits"], &estimate["billed_seconds"]), (&json!(3), &json!(3)));
    assert_eq!((&estimate["duration_seconds"], &estimate["expected_seconds"]), (&json!(3.0), &Value::Null));
    assert_eq!((&estimate["available"], &estimate["sufficient"]), (&json!(4), &json!(true)));
    assert_eq!(estimate["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/v1/jobs").key(&key).send().await.json["total"], 0);

    let job = world.job(&key).await;
    assert_eq!(world.credits(&key).await, [1.0, 3.0, 0.0]);
    world.complete(&job, b"output").await;
    let estimate = world.post("/v1/estimate").key(&key).json(&body).send().await.ok::<Value>();
    assert_eq!(estimate["sufficient"], false);
    // At the pace of the job that has completed: at once, as the test's worker does it.
    assert!(estimate["expected_seconds"].as_u64().is_some_and(|seconds| seconds <= 5), "{estimate:#}");
    let unknown = json!({"video_url": video_url.replace("vid_", "vid_0")});
    world.post("/v1/estimate").key(&key).json(&unknown).send().await.is(400, "invalid_request");
}

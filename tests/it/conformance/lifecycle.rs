//! A job's ways: estimated, started, watched, cancelled, deleted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::no_worker;
use crate::world::client::{Client, send};
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

/// On a machine that is busy with other tests.
const JOB: Duration = Duration::from_secs(200);
const SECOND: Clip = Clip::SMALL;
const THREE_SECONDS: Clip = Clip { seconds: 3, ..Clip::SMALL };
/// Long enough that somebody who watches sees it move.
const TEN_SECONDS: Clip = Clip { width: 320, height: 180, fps: 25, seconds: 10 };

async fn start(client: &Client, id: &str, body: &Value) -> crate::world::client::Reply {
    client.post(&format!("/v1/jobs/{id}/start"), body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_is_free_until_it_is_started_and_then_held_once() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&THREE_SECONDS.make(world.scratch())).await;
        let draft = json!({"video_url": video_url, "model": "light", "bg_type": "green", "auto_start": false});
        let id = client.order_with(draft).await;
        assert_eq!(client.milli_credits().await, [10_000, 0, 0]);
        let started = start(&client, &id, &json!({"output_format": "mov", "bg_type": "white"})).await.ok();
        assert_eq!((&started["status"], &started["output_format"]), (&json!("pending"), &json!("mov")));
        assert_eq!((&started["billing_status"], &started["credits_held"]), (&json!("reserved"), &json!(2.25)));
        for same in [json!({}), json!({"output_format": "mov"})] {
            assert_eq!(start(&client, &id, &same).await.ok()["status"], "pending");
        }
        for differs in [json!({"output_format": "webm"}), json!({"bg_type": "green"})] {
            start(&client, &id, &differs).await.is(409, "conflict");
        }
        assert_eq!(client.milli_credits().await, [7_750, 2_250, 0]);
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_has_failed_costs_nothing_and_can_be_started_anew() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&SECOND.make(world.scratch())).await;
        let draft = client.order_with(json!({"video_url": video_url, "model": "light", "auto_start": false})).await;
        let job = client.order(&video_url).await;
        for id in [&draft, &job] {
            for _ in 0..2 {
                let cancelled = client.cancel(id).await.ok();
                assert_eq!((&cancelled["status"], &cancelled["error_code"]), (&json!("failed"), &json!("cancelled")));
                assert!(cancelled["error"].is_string() && cancelled["completed_at"].is_string(), "{cancelled:#}");
            }
        }
        assert_eq!(client.job(&job).await.billing_status.unwrap().as_str(), "released");
        assert_eq!(client.milli_credits().await, [10_000, 0, 0]);
        let again = start(&client, &job, &json!({})).await.ok();
        assert_eq!(
            (&again["status"], &again["error"], &again["error_code"]),
            (&json!("pending"), &Value::Null, &Value::Null)
        );
        assert_eq!(client.milli_credits().await, [9_250, 750, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_estimate_is_what_a_create_holds_and_creates_nothing() {
    in_a_world(no_worker(), async |world| {
        let (client, poor) = (world.client("acme", 10.0).await, world.client("umbrella", 1.0).await);
        let three = THREE_SECONDS.make(world.scratch());
        let clips = [(client.upload(&SECOND.make(world.scratch())).await, 1), (client.upload(&three).await, 3)];
        for (video_url, seconds) in clips {
            let order = json!({"video_url": video_url, "model": "light", "output_format": "mp4", "colour": 1});
            let estimate = client.post("/v1/estimate", &order).await.ok();
            assert_eq!(
                (&estimate["billed_seconds"], &estimate["credits"]),
                (&json!(seconds), &json!(f64::from(seconds) * 0.75))
            );
            assert_eq!((&estimate["sufficient"], &estimate["available"]), (&json!(true), &json!(10)));
            assert_eq!((&estimate["model"], &estimate["output_format"]), (&json!("light"), &json!("mp4")));
            assert_eq!(client.milli_credits().await, [10_000, 0, 0]);
            let created = client.post("/v1/jobs", &order).await.ok();
            for same in ["warnings", "pricing_version", "billed_seconds"] {
                assert_eq!(estimate[same], created[same], "{same}");
            }
            assert_eq!(estimate["credits"], created["credits_held"]);
            client.cancel(created["id"].as_str().unwrap()).await.ok();
        }
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 2);
        // Who cannot pay is told so, and no error.
        let order = json!({"video_url": poor.upload(&three).await, "model": "light"});
        let estimate = poor.post("/v1/estimate", &order).await.ok();
        assert_eq!((&estimate["sufficient"], &estimate["credits"]), (&json!(false), &json!(2.25)));
        for wrong in [json!({}), json!({"video_url": "u"}), json!({"video_url": order["video_url"], "model": "best"})] {
            let (estimate, create) = (poor.post("/v1/estimate", &wrong).await, poor.post("/v1/jobs", &wrong).await);
            estimate.is(400, "invalid_request");
            for same in ["message", "param", "reason"] {
                assert_eq!(estimate.json["error"][same], create.json["error"][same], "{wrong}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_job_is_gone_with_its_media_and_its_price_stays_paid() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&SECOND.make(world.scratch())).await;
        let (id, kept) = (client.order(&video_url).await, client.order(&video_url).await);
        let job = client.completed(&id, JOB).await;
        client.completed(&kept, JOB).await;
        client.cancel(&id).await.is(409, "conflict");
        let link = job.output_url.unwrap();
        assert_eq!(send(client.door.http().get(&link)).await.status, 200);

        let path = format!("/v1/jobs/{id}");
        let deleted = client.delete(&path).await.ok();
        assert_eq!(deleted, json!({"success": true, "id": id, "job_id": id, "deleted": true}));
        assert_eq!(send(client.door.http().get(&link)).await.status, 404, "the media are gone");
        client.get(&path).await.is(404, "not_found");
        client.delete(&path).await.is(404, "not_found");
        client.cancel(&id).await.is(404, "not_found");
        start(&client, &id, &json!({})).await.is(404, "not_found");
        for rest in ["events", "deliveries"] {
            client.get(&format!("{path}/{rest}")).await.is(404, "not_found");
        }
        client.door.get(&format!("/api/download/{id}")).await.is(404, "not_found");
        let listed = client.get("/v1/jobs").await.ok();
        assert_eq!((&listed["total"], &listed["items"][0]["id"]), (&json!(1), &json!(kept)));
        assert_eq!(client.milli_credits().await, [10_000 - 1500, 0, 1500]);
        // The upload went with it: nothing that still runs needs it.
        client.post("/v1/jobs", &json!({"video_url": video_url, "model": "light"})).await.is(400, "invalid_request");
        let other = client.job(&kept).await.output_url.unwrap();
        assert_eq!(send(client.door.http().get(other)).await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_deletes_a_job_that_waits_cancels_it_first() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&SECOND.make(world.scratch())).await;
        let draft = client.order_with(json!({"video_url": video_url, "model": "light", "auto_start": false})).await;
        let (pending, stays) = (client.order(&video_url).await, client.order(&video_url).await);
        assert_eq!(client.milli_credits().await, [8_500, 1_500, 0]);
        for id in [draft, pending] {
            client.delete(&format!("/v1/jobs/{id}")).await.ok();
        }
        assert_eq!(client.milli_credits().await, [9_250, 750, 0]);
        assert_eq!(client.job(&stays).await.status.as_str(), "pending");
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 1);
        // A job that has not ended needs the upload.
        client.order(&video_url).await;
    })
    .await;
}

fn story(trail: &Value) -> Vec<(String, Option<u64>, Option<u64>)> {
    let entry = |entry: &Value| {
        let status = entry["status"].as_str().unwrap().to_owned();
        (status, entry["run"].as_u64(), entry["attempt"].as_u64())
    };
    trail["items"].as_array().unwrap().iter().map(entry).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_tells_the_story_of_a_job() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&SECOND.make(world.scratch())).await;
        let draft = json!({"video_url": video_url, "model": "light", "auto_start": false});
        let (id, other) = (client.order_with(draft.clone()).await, client.order_with(draft).await);
        start(&client, &id, &json!({})).await.ok();
        client.completed(&id, JOB).await;
        let trail = client.get(&format!("/v1/jobs/{id}/events")).await.ok();
        assert_eq!(trail["job_id"], json!(id));
        let told = |status: &str, run, attempt| (status.to_owned(), run, attempt);
        assert_eq!(
            story(&trail),
            [
                told("created", None, None),
                told("pending", Some(1), None),
                told("processing", Some(1), Some(1)),
                told("completed", Some(1), Some(1))
            ]
        );
        let times: Vec<&str> =
            trail["items"].as_array().unwrap().iter().map(|entry| entry["at"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?}");

        client.cancel(&other).await.ok();
        let trail = client.get(&format!("/v1/jobs/{other}/events")).await.ok();
        let last = trail["items"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["status"], &last["error_code"]), (&json!("failed"), &json!("cancelled")));
    })
    .await;
}

/// The events of a stream up to its end: name, id, data.
async fn watch(client: &Client, id: &str, last_seen: Option<&str>) -> Vec<(String, String, Value)> {
    let mut request =
        client.request(Method::GET, &format!("/v1/jobs/{id}/events")).header("Accept", "text/event-stream");
    if let Some(seen) = last_seen {
        request = request.header("Last-Event-ID", seen);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let text = tokio::time::timeout(JOB, response.text()).await.expect("the stream ends with the job").unwrap();
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|line| line.trim_start().to_owned()).unwrap_or_default()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    blocks
        .map(|block| (field(block, "event"), field(block, "id"), serde_json::from_str(&field(block, "data")).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_a_job_sees_it_move_and_the_stream_end_with_it() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 100.0).await;
        let id = client.order(&client.upload(&TEN_SECONDS.make(world.scratch())).await).await;
        let events = watch(&client, &id, None).await;
        assert!(events.len() >= 3, "{events:#?}");
        assert!(events.iter().all(|(name, _, job)| name == "job" && job["id"] == json!(id)), "{events:#?}");
        let progress: Vec<u64> = events.iter().map(|(_, _, job)| job["progress"].as_u64().unwrap()).collect();
        assert!(progress.is_sorted() && progress[0] < 100, "{progress:?}");
        let (_, last, job) = events.last().unwrap();
        assert_eq!((&job["status"], &job["progress"]), (&json!("completed"), &json!(100)));
        assert!(events.iter().any(|(_, _, job)| job["status"] == "processing"), "{events:#?}");
        // Whoever comes late, or again, is told the end at once.
        for seen in [None, Some(last.as_str()), Some("nonsense")] {
            let late = watch(&client, &id, seen).await;
            assert_eq!((late.len(), &late[0].2["status"]), (1, &json!("completed")));
        }
        let unknown = client.request(Method::GET, &format!("/v1/jobs/job_{}/events", "0".repeat(32)));
        send(unknown.header("Accept", "text/event-stream")).await.is(404, "not_found");
    })
    .await;
}

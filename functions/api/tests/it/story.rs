//! A job's story: its trail, live and afterwards, its webhook events, its place in the queue.

use axum::body::Body;
use axum::http::Request;
use futures::StreamExt as _;
use rotoless_api::Streams;
use rotoless_contract::worker::FailureReason;
use rotoless_core::ports::Deliveries as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::world::World;

#[tokio::test]
async fn the_trail_tells_every_change_of_state_in_order() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let video_url = world.upload(&key).await;
    let body = json!({"video_url": video_url, "bg_type": "green", "auto_start": false});
    let id = world.post("/v1/jobs").key(&key).json(&body).send().await.json["id"].as_str().unwrap().parse().unwrap();
    let start = format!("/v1/jobs/{id}/start");
    world.post(&start).key(&key).send().await.ok::<Value>();
    world.fail(&id, FailureReason::InternalError).await;
    world.fail(&id, FailureReason::InvalidMedia).await;
    world.post(&start).key(&key).send().await.ok::<Value>();
    world.complete(&id, b"output").await;
    let trail = world.get(&format!("/v1/jobs/{id}/events")).key(&key).send().await.ok::<Value>();
    let told: Vec<String> = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            format!("{} {} {} {}", entry["status"], entry["run"], entry["attempt"], entry["error_code"])
                .replace('"', "")
        })
        .collect();
    let expected = [
        "created null null null",
        "pending 1 null null",
        "processing 1 1 null",
        "pending 1 1 null",
        "processing 1 2 null",
        "failed 1 2 invalid_media",
        "pending 2 null null",
        "processing 2 3 null",
        "completed 2 3 null",
    ];
    assert_eq!(told, expected);
}

fn events_of(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn whoever_watches_sees_each_change_until_the_end() {
    let world = World::with(|host, _| host.streams = Some(Streams::new(1, CancellationToken::new()))).await;
    let key = world.client("acme", 100).await;
    let job = world.job(&key).await;
    let watch = || {
        let request = Request::get(format!("/v1/jobs/{job}/events")).header("X-Api-Key", &key);
        let request = request.header("Accept", "text/event-stream").body(Body::empty()).unwrap();
        world.router.clone().oneshot(request)
    };
    let response = watch().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    assert_eq!(events_of(std::str::from_utf8(&first).unwrap())[0]["status"], "pending");
    assert_eq!(watch().await.unwrap().status(), 503, "as many watch as may");
    world.complete(&job, b"output").await;
    let mut rest = String::new();
    while let Some(chunk) = body.next().await {
        rest.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let last = events_of(&rest).pop().unwrap();
    assert_eq!((&last["status"], &last["progress"]), (&json!("completed"), &json!(100)));
    drop(body);
    assert_eq!(watch().await.unwrap().status(), 200, "the place is free again");
    // Without the wish, or where the host cannot stream: the trail.
    let plain = world.get(&format!("/v1/jobs/{job}/events")).key(&key).send().await;
    assert_eq!(plain.json["items"][0]["status"], "created");
}

#[tokio::test]
async fn a_stopping_host_ends_the_streams() {
    let closing = CancellationToken::new();
    let streams = Streams::new(8, closing.clone());
    let world = World::with(|host, _| host.streams = Some(streams)).await;
    let key = world.client("acme", 100).await;
    let job = world.job(&key).await;
    let request = Request::get(format!("/v1/jobs/{job}/events")).header("X-Api-Key", &key);
    let request = request.header("Accept", "text/event-stream").body(Body::empty()).unwrap();
    let mut body = world.router.clone().oneshot(request).await.unwrap().into_body().into_data_stream();
    assert!(body.next().await.is_some());
    closing.cancel();
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn an_event_that_has_ended_is_sent_again_and_one_that_waits_is_left() {
    let world = World::start().await;
    let (key, other) = (world.client("acme", 100).await, world.client("other", 0).await);
    let video_url = world.upload(&key).await;
    let body = json!({"video_url": video_url, "bg_type": "green", "webhook_url": "https://example.com/hook"});
    let id: rotoless_contract::JobId =
        world.post("/v1/jobs").key(&key).json(&body).send().await.json["id"].as_str().unwrap().parse().unwrap();
    world.complete(&id, b"output").await;
    let list = async |key: &str| world.get(&format!("/v1/jobs/{id}/deliveries")).key(key).send().await;
    let listed = list(&key).await.ok::<Value>();
    let told: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|item| (&item["event"], &item["status"])).collect();
    let pending = json!("pending");
    assert_eq!(told, [(&json!("job.started"), &pending), (&json!("job.completed"), &pending)]);
    list(&other).await.is(404, "not_found");

    let delivery = listed["items"][1]["delivery_id"].as_str().unwrap().to_owned();
    let replay = async |key: &str, delivery: &str| {
        world.post(&format!("/v1/jobs/{id}/deliveries/{delivery}/replay")).key(key).send().await
    };
    // As deliver would leave it after the last try.
    let stored = world.store.delivery(&id, &delivery.parse().unwrap()).await.unwrap().unwrap();
    let mut ended = stored.clone();
    (ended.state, ended.due_at, ended.tries) = (rotoless_contract::job::EventState::Failed, None, 8);
    ended.version += 1;
    world.store.commit_delivery(&ended).await.unwrap();

    replay(&other, &delivery).await.is(404, "not_found");
    assert_eq!(replay(&key, "evt_x").await.message(), "Delivery not found");
    let again = replay(&key, &delivery).await.ok::<Value>();
    assert_eq!((&again["status"], &again["tries"], &again["delivery_id"]), (&pending, &json!(0), &json!(delivery)));
    let due = world.store.due_deliveries(jiff::Timestamp::now(), 10).await.unwrap();
    assert!(due.iter().any(|(_, id)| id.as_str() == delivery));
    let version = world.store.delivery(&id, &delivery.parse().unwrap()).await.unwrap().unwrap().version;
    replay(&key, &delivery).await.ok::<Value>();
    assert_eq!(world.store.delivery(&id, &delivery.parse().unwrap()).await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn those_who_wait_know_how_many_wait_before_them() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let (first, second) = (world.job(&key).await, world.job(&key).await);
    let position =
        async |id| world.get(&format!("/v1/jobs/{id}")).key(&key).send().await.json["queue_position"].clone();
    assert_eq!((position(&first).await, position(&second).await), (json!(0), json!(1)));
    world.claim(&first).await;
    assert_eq!(position(&first).await, Value::Null);
}

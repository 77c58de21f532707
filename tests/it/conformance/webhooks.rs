//! Webhooks as their receivers see them, and what the sender's client is told of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::library::{LANGUAGES, Library};
use super::no_worker;
use super::receiver::{Receiver, Sent};
use crate::world::client::Client;
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

const JOB: Duration = Duration::from_secs(200);
/// An event that arrived is recorded right after.
const RECORDED: Duration = Duration::from_secs(20);

/// The signature of a body at a time, by the rule alone.
pub(super) fn signature(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

fn check(sent: &Sent, secret: &str) -> Value {
    let header = |name: &str| sent.headers.get(name).unwrap_or_else(|| panic!("no {name}: {sent:#?}")).as_str();
    let event = sent.json();
    assert_eq!(header("x-webhook-event"), event["event"]);
    assert_eq!(header("x-webhook-delivery-id"), event["delivery_id"]);
    assert_eq!(header("webhook-id"), event["delivery_id"]);
    assert!(header("content-type").starts_with("application/json"));
    let timestamp = header("x-webhook-timestamp");
    assert!(timestamp.ends_with('Z') && timestamp.contains('T'), "{timestamp}");
    assert_eq!(header("x-webhook-signature"), signature(secret, timestamp, &sent.body));
    assert!(header("webhook-timestamp").parse::<u64>().is_ok() && header("webhook-signature").starts_with("v1,"));
    event
}

/// A job's events as its client sees them, once all are as wanted.
async fn deliveries(client: &Client, id: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + RECORDED;
    loop {
        let list = client.get(&format!("/v1/jobs/{id}/deliveries")).await.ok();
        assert_eq!(list["job_id"], json!(id));
        let items = list["items"].as_array().unwrap().clone();
        if !items.is_empty() && items.iter().all(&wanted) {
            return items;
        }
        assert!(Instant::now() < deadline, "{items:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jobs_events_arrive_signed_are_listed_and_can_be_sent_again() {
    let receiver = Receiver::start().await;
    let options = Options { args: receiver.allowed(), ..Options::default() };
    in_a_world(options, async |world| {
        let (client, secret) = world.client_with_secret("acme", 10.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let order = json!({"video_url": video_url, "model": "light", "webhook_url": receiver.url("/hook"),
            "metadata": {"order": 7}});
        let id = client.order_with(order).await;
        client.completed(&id, JOB).await;
        let came = receiver.wait("/hook", 2).await;
        let events: Vec<Value> = came.iter().map(|sent| check(sent, &secret)).collect();
        for event in &events {
            assert_eq!((&event["data"]["id"], &event["data"]["metadata"]), (&json!(id), &json!({"order": 7})));
        }

        let listed = deliveries(&client, &id, |item| item["status"] == "sent").await;
        let names: Vec<&Value> = listed.iter().map(|item| &item["event"]).collect();
        assert_eq!(names, ["job.started", "job.completed"]);
        for item in &listed {
            let event = events.iter().find(|event| event["delivery_id"] == item["delivery_id"]).expect("it came");
            assert_eq!((&event["event"], &event["sequence"]), (&item["event"], &item["sequence"]));
            assert_eq!((&item["tries"], &item["url"]), (&json!(1), &json!(receiver.url("/hook"))));
            assert_eq!((&item["attempts"][0]["status_code"], &item["next_attempt_at"]), (&json!(200), &Value::Null));
        }
        let shown = client.get(&format!("/v1/jobs/{id}")).await.ok();
        assert_eq!(shown["webhook_events"], json!({"job.started": "sent", "job.completed": "sent"}));

        let delivery = listed[1]["delivery_id"].as_str().unwrap();
        let replay = format!("/v1/jobs/{id}/deliveries/{delivery}/replay");
        let replayed = client.post(&replay, &json!({})).await.ok();
        assert_eq!((&replayed["success"], &replayed["delivery_id"]), (&json!(true), &json!(delivery)));
        let again = receiver.wait("/hook", 3).await.pop().unwrap();
        assert_eq!(
            (&check(&again, &secret)["delivery_id"], &again.json()["event"]),
            (&json!(delivery), &json!("job.completed"))
        );

        let stranger = world.client("umbrella", 1.0).await;
        stranger.post(&replay, &json!({})).await.is(404, "not_found");
        for unknown in [format!("evt_{}", "0".repeat(32)), "x".to_owned(), format!("{delivery}0")] {
            let path = format!("/v1/jobs/{id}/deliveries/{unknown}/replay");
            client.post(&path, &json!({})).await.is(404, "not_found");
        }
        let refused = Library::of(LANGUAGES[0], &client)
            .raises("parse_webhook", &json!({"body": again.text() + " ", "headers": again.headers, "secret": secret}));
        assert_eq!(refused.class, "ValueError");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_is_tried_again_and_its_client_can_see_why() {
    let receiver = Receiver::start().await;
    let options = Options { args: receiver.allowed(), ..no_worker() };
    in_a_world(options, async |world| {
        let (client, secret) = world.client_with_secret("acme", 10.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        receiver.answers(500);
        let order = json!({"video_url": video_url, "model": "light", "webhook_url": receiver.url("/hook")});
        let id = client.order_with(order).await;
        client.cancel(&id).await.ok();
        receiver.wait("/hook", 1).await;
        let tried = deliveries(&client, &id, |item| item["tries"] == 1).await;
        assert_eq!(tried.len(), 1);
        assert_eq!((&tried[0]["event"], &tried[0]["status"]), (&json!("job.failed"), &json!("pending")));
        assert_eq!(tried[0]["attempts"][0]["status_code"], 500);
        assert!(tried[0]["next_attempt_at"].is_string(), "{tried:#?}");
        assert_eq!(
            client.get(&format!("/v1/jobs/{id}")).await.ok()["webhook_events"],
            json!({"job.failed": "pending"})
        );

        receiver.answers(204);
        let came = receiver.wait("/hook", 2).await;
        let (first, second) = (check(&came[0], &secret), check(&came[1], &secret));
        assert_eq!(first["delivery_id"], second["delivery_id"]);
        assert_ne!(came[0].headers["x-webhook-timestamp"], came[1].headers["x-webhook-timestamp"]);
        let sent = deliveries(&client, &id, |item| item["status"] == "sent").await;
        assert_eq!(sent[0]["attempts"].as_array().unwrap().len(), 2);

        // One that says it is gone is believed.
        receiver.answers(410);
        let order = json!({"video_url": video_url, "model": "light", "webhook_url": receiver.url("/gone")});
        let gone = client.order_with(order).await;
        client.cancel(&gone).await.ok();
        let given_up = deliveries(&client, &gone, |item| item["status"] == "failed").await;
        assert_eq!((&given_up[0]["tries"], &given_up[0]["next_attempt_at"]), (&json!(1), &Value::Null));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_goes_to_public_https_endpoints_alone() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        for url in [
            "http://example.com/hook",
            "ftp://example.com/hook",
            "file:///etc/passwd",
            "https://user:password@example.com/",
            "https://",
            "example.com/hook",
            "javascript:alert(1)",
            &format!("https://example.com/{}", "x".repeat(2100)),
        ] {
            let order = json!({"video_url": video_url, "model": "light", "webhook_url": url});
            let refused = client.post("/v1/jobs", &order).await;
            refused.is(400, "invalid_request");
            assert_eq!(refused.json["error"]["param"], "webhook_url", "{url}");
        }
        // By a name or number that leads inside: nothing is sent, and the client is told so.
        for url in
            ["https://127.0.0.1:1/", "https://localhost:1/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/"]
        {
            let order = json!({"video_url": video_url, "model": "light", "webhook_url": url});
            let reply = client.post("/v1/jobs", &order).await;
            if reply.status == 400 {
                continue;
            }
            let id = reply.ok()["id"].as_str().unwrap().to_owned();
            client.cancel(&id).await.ok();
            let tried = deliveries(&client, &id, |item| item["tries"].as_u64() >= Some(1)).await;
            assert_eq!(tried[0]["attempts"][0]["status_code"], Value::Null, "{tried:#?}");
        }
    })
    .await;
}

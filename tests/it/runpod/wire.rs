//! The stand-in speaks as RunPod does: asked by hand, as a caller and as the published Python worker would.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::platform::{Order, Route, SECOND, Settings, Trouble, WorkerId};
use super::shell::{API_KEY, Endpoint, WORKER_KEY};

struct Hand {
    endpoint: Endpoint,
    http: reqwest::Client,
}

impl Hand {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = Settings {
            scaler: super::platform::Scaler::QueueDelay(0),
            pull: 0,
            idle_timeout: 100,
            ..Settings::default()
        };
        let endpoint = Endpoint::open(settings, Duration::from_millis(100)).await;
        Self { endpoint, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}/{path}", self.endpoint.base());
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth(API_KEY).json(&body);
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    async fn wake(&self) -> String {
        let (status, made) = self.call("POST", "run", json!({"input": {"v": 1}})).await;
        assert_eq!((status, &made["status"]), (StatusCode::OK, &json!("IN_QUEUE")));
        made["id"].as_str().unwrap().to_owned()
    }

    async fn take(&self, worker: WorkerId, busy: u8) -> reqwest::Result<(StatusCode, Value)> {
        let url = format!("{}/job-take/{worker}?gpu=none&job_in_progress={busy}", self.endpoint.base());
        let response = self.http.get(url).header("Authorization", WORKER_KEY).send().await?;
        Ok((response.status(), response.json().await.unwrap_or_default()))
    }

    async fn done(&self, worker: WorkerId, job: &str, body: Vec<u8>) -> reqwest::Result<StatusCode> {
        let url = format!("{}/job-done/{worker}/{job}?gpu=none&isStream=false", self.endpoint.base());
        let request = self.http.post(url).header("Authorization", WORKER_KEY).header("X-Request-ID", job);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded").header("charset", "utf-8");
        Ok(request.body(body).send().await?.status())
    }

    async fn ping(&self, worker: WorkerId, jobs: &str) {
        let url = format!("{}/ping/{worker}?gpu=none&job_id={jobs}&runpod_version=1.12.0", self.endpoint.base());
        let status = self.http.get(url).header("Authorization", WORKER_KEY).send().await.unwrap().status();
        assert_eq!(status, StatusCode::OK);
    }

    fn breaches(&self) -> Vec<String> {
        self.endpoint.with(|platform, _| std::mem::take(&mut platform.witness.breaches))
    }
}

const FIRST: WorkerId = WorkerId(1);

#[tokio::test]
async fn a_request_starts_a_worker_is_taken_once_and_completed() {
    let hand = Hand::new().await;
    assert_eq!(hand.endpoint.tick(), []);
    let id = hand.wake().await;
    let (_, health) = hand.call("GET", "health", Value::Null).await;
    assert_eq!((&health["jobs"]["inQueue"], &health["workers"]["running"]), (&json!(1), &json!(0)));
    assert_eq!(hand.endpoint.tick(), [Order::Start(FIRST)]);
    let (status, job) = hand.take(FIRST, 0).await.unwrap();
    assert_eq!((status, &job["id"], &job["input"]), (StatusCode::OK, &json!(id), &json!({"v": 1})));
    hand.ping(FIRST, &id).await;
    assert_eq!(hand.breaches(), Vec::<String>::new());
    let output = br#"{"output":{"handled":1}}"#.to_vec();
    assert_eq!(hand.done(FIRST, &id, output.clone()).await.unwrap(), StatusCode::OK);
    let (_, shown) = hand.call("GET", &format!("status/{id}"), Value::Null).await;
    assert_eq!((&shown["status"], &shown["output"]), (&json!("COMPLETED"), &json!({"handled": 1})));
    // No more work: what FlashBoot answers.
    assert_eq!(hand.take(FIRST, 0).await.unwrap().0, StatusCode::BAD_REQUEST);
    // Its idle timeout is over by now.
    assert_eq!(hand.endpoint.tick(), [Order::Freeze(FIRST)]);
    assert_eq!(hand.endpoint.with(|platform, _| platform.verdict()), Vec::<String>::new());
    hand.endpoint.with(|platform, now| {
        assert!((1..=now / SECOND + 1).contains(&platform.witness.seconds_billed(now)));
    });
    hand.done(FIRST, &id, output).await.unwrap();
    assert_eq!(hand.breaches().len(), 1, "a second result of the same request");
}

#[tokio::test]
async fn a_worker_without_manners_is_noticed() {
    let hand = Hand::new().await;
    let id = hand.wake().await;
    hand.endpoint.tick();
    hand.take(FIRST, 0).await.unwrap();
    // It has a request, says that it has none, and asks for another one.
    assert_eq!(hand.take(FIRST, 0).await.unwrap().0, StatusCode::BAD_REQUEST);
    assert_eq!(hand.breaches().len(), 2);
    hand.ping(FIRST, "another").await;
    assert_eq!(hand.breaches().len(), 1);
    hand.done(WorkerId(7), &id, b"{\"output\":1}".to_vec()).await.unwrap();
    assert_eq!(hand.breaches().len(), 1);
    assert_eq!(hand.done(FIRST, &id, b"output=1".to_vec()).await.unwrap(), StatusCode::BAD_REQUEST);
    assert_eq!(hand.breaches().len(), 1);
    // Neither taken back nor done.
    let verdict = hand.endpoint.with(|platform, _| platform.verdict());
    assert_eq!(verdict.len(), 3, "{verdict:?}");
    let (one, other) = tokio::join!(hand.take(FIRST, 1), hand.take(FIRST, 1));
    assert!(one.is_ok() || other.is_ok());
    assert!(hand.breaches().iter().any(|breach| breach.contains("twice at once")));
}

#[tokio::test]
async fn a_result_of_more_than_twenty_megabytes_is_refused_and_lost() {
    let hand = Hand::new().await;
    let id = hand.wake().await;
    hand.endpoint.tick();
    hand.take(FIRST, 0).await.unwrap();
    let mut large = b"{\"output\":\"".to_vec();
    large.resize(21 << 20, b'a');
    large.extend(b"\"}");
    // Refused before it was read whole: a worker may find the connection closed.
    let refused = hand.done(FIRST, &id, large).await;
    assert!(refused.map_or(true, |status| status == StatusCode::BAD_REQUEST));
    let (_, shown) = hand.call("GET", &format!("status/{id}"), Value::Null).await;
    assert_eq!(shown["status"], "IN_PROGRESS");
}

#[tokio::test]
async fn a_frozen_workers_take_is_cut_and_gets_nothing() {
    let hand = Hand::new().await;
    hand.wake().await;
    hand.endpoint.tick();
    let (_, job) = hand.take(FIRST, 0).await.unwrap();
    hand.done(FIRST, job["id"].as_str().unwrap(), b"{\"output\":1}".to_vec()).await.unwrap();
    let cut = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if hand.endpoint.tick() == [Order::Freeze(FIRST)] {
                break;
            }
        }
    };
    let takes = async {
        // Each lasts as long as the idle timeout: one of them is outstanding when it ends.
        loop {
            match hand.take(FIRST, 0).await {
                Ok((StatusCode::NOT_FOUND, _)) | Err(_) => break,
                Ok((StatusCode::BAD_REQUEST, _)) => {}
                Ok(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(cut, takes);
    let id = hand.wake().await;
    assert_eq!(hand.endpoint.tick(), [Order::Thaw(FIRST)]);
    assert_eq!(hand.take(FIRST, 0).await.unwrap().1["id"], json!(id));
}

#[tokio::test]
async fn callers_meet_refusals_limits_and_stops() {
    let hand = Hand::new().await;
    let unknown = hand.http.get(format!("{}/health", hand.endpoint.base())).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    let short = json!({"input": {"v": 1}, "policy": {"executionTimeout": 4999}});
    assert_eq!(hand.call("POST", "run", short).await.0, StatusCode::BAD_REQUEST);
    hand.endpoint.with(|platform, _| platform.faults.trouble(Route::Run, Trouble::Refuse(429), 1));
    assert_eq!(hand.call("POST", "run", json!({"input": {}})).await.0, StatusCode::TOO_MANY_REQUESTS);
    hand.endpoint.with(|platform, _| platform.faults.trouble(Route::Run, Trouble::Deny(500), 1));
    assert_eq!(hand.call("POST", "run", json!({"input": {}})).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let (_, health) = hand.call("GET", "health", Value::Null).await;
    assert_eq!(health["jobs"]["inQueue"], 1, "the one that was denied was accepted");
    assert_eq!(hand.call("POST", "purge-queue", Value::Null).await.1["removed"], 1);

    let id = hand.wake().await;
    hand.endpoint.tick();
    hand.take(FIRST, 0).await.unwrap();
    assert_eq!(hand.call("POST", &format!("retry/{id}"), Value::Null).await.0, StatusCode::BAD_REQUEST);
    hand.call("POST", &format!("cancel/{id}"), Value::Null).await;
    let url = format!("{}/job-stop/{FIRST}?gpu=none", hand.endpoint.base());
    let stops: Value =
        hand.http.get(url).header("Authorization", WORKER_KEY).send().await.unwrap().json().await.unwrap();
    assert_eq!(stops["jobsToStop"], json!([id]));
    // It stops without a word and asks for more: that is no breach.
    hand.take(FIRST, 0).await.unwrap();
    assert_eq!(hand.breaches(), Vec::<String>::new());
}

#[tokio::test]
async fn the_management_routes_show_the_endpoint_as_it_is() {
    let hand = Hand::new().await;
    let manage = async |method: &str, path: &str, body: Value| {
        let url = format!("{}/v1/{path}", hand.endpoint.url());
        let request = hand.http.request(method.parse().unwrap(), url).bearer_auth(API_KEY).json(&body);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let id = super::shell::ENDPOINT;
    let shown = manage("GET", &format!("endpoints/{id}"), Value::Null).await;
    assert_eq!((&shown["workersMax"], &shown["workersMin"]), (&json!(3), &json!(0)));
    let change = json!({"workersMax": 0, "scalerType": "REQUEST_COUNT", "scalerValue": 1, "name": "mattes"});
    let shown = manage("PATCH", &format!("endpoints/{id}"), change).await;
    assert_eq!((&shown["workersMax"], &shown["scalerType"]), (&json!(0), &json!("REQUEST_COUNT")));
    hand.wake().await;
    assert_eq!(hand.endpoint.tick(), []);
    let made = manage("POST", "templates", json!({"name": "worker"})).await;
    let listed = manage("GET", "templates", Value::Null).await;
    assert_eq!(listed, json!([made]));
    assert_eq!(manage("GET", "endpoints", Value::Null).await[0]["name"], "mattes");
}

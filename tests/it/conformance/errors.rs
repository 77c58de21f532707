//! The table of errors: each code is answered with its status, by whoever answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use reqwest::Method;
use serde_json::{Value, json};

use super::no_worker;
use crate::world::client::{Client, Reply, send};
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

/// What every error promises, besides its code.
fn is_an_envelope(reply: &Reply) {
    let error = reply.json["error"].as_object().unwrap_or_else(|| panic!("no envelope: {:#}", reply.json));
    assert_eq!(reply.json.as_object().unwrap().len(), 1, "{:#}", reply.json);
    assert_eq!(error["request_id"], json!(reply.header("x-request-id")), "{:#}", reply.json);
    assert!(reply.header("content-type").starts_with("application/json"), "{:?}", reply.headers);
    let known = ["code", "message", "request_id", "reason", "param", "retryable", "docs_url", "retry_after_seconds"];
    assert!(error.keys().all(|name| known.contains(&name.as_str())), "{:#}", reply.json);
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{:#}", reply.json);
}

fn is(reply: &Reply, status: u16, code: &str, message: Option<&str>) {
    reply.is(status, code);
    is_an_envelope(reply);
    if let Some(message) = message {
        assert_eq!(reply.json["error"]["message"], message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_code_is_answered_with_its_status() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let order = json!({"video_url": video_url, "model": "light"});
        let draft = client.order_with(json!({"video_url": video_url, "model": "light", "auto_start": false})).await;
        let started = client.order(&video_url).await;
        let door = client.door.clone();
        let keyless = async |key: Option<&str>| {
            let mut request = door.http().get(door.url("/v1/jobs"));
            if let Some(key) = key {
                request = request.header("X-Api-Key", key);
            }
            send(request).await
        };

        is(&client.post("/v1/jobs", &json!({})).await, 400, "invalid_request", None);
        let path = format!("/api/download/{draft}");
        is(&door.get(&path).await, 400, "job_not_completed", Some("Job not completed"));
        is(&keyless(None).await, 401, "missing_api_key", None);
        is(&keyless(Some("rtl_0000")).await, 401, "invalid_api_key", None);
        let fingerprint = door.admin("/v1/admin/keys", &json!({"client_id": "gone"})).await.ok();
        let key = fingerprint["api_key"].as_str().unwrap();
        keyless(Some(key)).await.ok();
        door.admin("/v1/admin/keys/disable", &json!({"key_fingerprint": fingerprint["key_fingerprint"]})).await.ok();
        is(&keyless(Some(key)).await, 401, "invalid_api_key", None);
        is(&client.get("/v1/admin/keys").await, 401, "invalid_admin_token", None);

        let poor = world.client("umbrella", 0.5).await;
        let poors = poor.upload(&Clip::SMALL.make(&subdirectory(world.scratch()))).await;
        let refused = poor.post("/v1/jobs", &json!({"video_url": poors, "model": "light"})).await;
        is(&refused, 402, "insufficient_credits", Some("Not enough credits to process this video"));
        assert_eq!(refused.json["error"]["retryable"], false);

        let unknown = format!("/v1/jobs/job_{}", "0".repeat(32));
        is(&client.get(&unknown).await, 404, "not_found", Some("Job not found"));
        is(&client.get("/v1/nothing").await, 404, "not_found", None);
        is(&send(client.request(Method::PUT, "/v1/jobs")).await, 405, "method_not_allowed", None);
        let differs = client.post(&format!("/v1/jobs/{started}/start"), &json!({"output_format": "mov"})).await;
        is(&differs, 409, "conflict", None);

        let keyed = async |body: &Value| {
            send(client.request(Method::POST, "/v1/jobs").header("Idempotency-Key", "k").json(body)).await
        };
        keyed(&order).await.ok();
        is(
            &keyed(&json!({"video_url": video_url, "model": "light", "output_format": "mov"})).await,
            409,
            "idempotency_conflict",
            None,
        );
        let large = json!({"video_url": "x".repeat(300 * 1024)});
        is(&client.post("/v1/jobs", &large).await, 413, "payload_too_large", None);
        is(&client.post("/v1/uploads", &large).await, 413, "payload_too_large", None);
    })
    .await;
}

fn subdirectory(dir: &std::path::Path) -> std::path::PathBuf {
    let path = dir.join("another");
    std::fs::create_dir(&path).unwrap();
    path
}

/// An upload that never was, beside one that is.
pub(super) fn unknown_like(video_url: &str) -> String {
    let (base, id) = video_url.rsplit_once('_').unwrap();
    format!("{base}_{}", "0".repeat(id.len()))
}

/// 503: the disk with the objects is away for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_no_loss_and_asks_to_come_again() {
    let options = Options { expected_errors: &["a dependency failed", "s3s::service"], ..no_worker() };
    in_a_world(options, async |world| {
        let client = world.client("acme", 10.0).await;
        let clip = Clip::SMALL.make(world.scratch());
        let video_url = client.upload_by_form(&clip).await;
        let (there, away) = (world.data_dir().join("s3"), world.data_dir().join("away"));
        std::fs::rename(&there, &away).unwrap();
        let refused = client.send_form(&clip).await;
        let order = client.post("/v1/jobs", &json!({"video_url": video_url, "model": "light"})).await;
        let unknown = client.post("/v1/jobs", &json!({"video_url": unknown_like(&video_url), "model": "light"})).await;
        let health = client.door.get("/health").await.ok();
        std::fs::rename(&away, &there).unwrap();
        let checks = &health["checks"];
        assert_eq!((&health["status"], &checks["s3_configured"]), (&json!("degraded"), &json!(false)), "{health:#}");
        assert_eq!((&checks["database"], &checks["queue"], &checks["api"]), (&json!(true), &json!(true), &json!(true)));
        for (reply, message) in
            [(&refused, None), (&order, Some("Processing failed")), (&unknown, Some("Processing failed"))]
        {
            is(reply, 503, "unavailable", message);
            assert!(reply.header("retry-after").parse::<u32>().is_ok(), "{:?}", reply.headers);
            assert_eq!(reply.json["error"]["retryable"], true);
        }
        client.order(&video_url).await;
        client.upload_by_form(&clip).await;
        assert_eq!(client.milli_credits().await, [10_000 - 750, 750, 0]);
    })
    .await;
}

/// Every route of the contract, without ids: what no handler answers is answered in the same way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_method_is_told_on_every_route_and_an_unknown_route_whatever_its_method() {
    in_a_world(no_worker(), async |world| {
        let client: Client = world.client("acme", 10.0).await;
        let job = format!("/v1/jobs/job_{}", "0".repeat(32));
        let routes: Vec<(String, &[&str])> = vec![
            ("/v1/uploads".to_owned(), &["POST"]),
            ("/v1/jobs".to_owned(), &["POST", "GET"]),
            (format!("{job}/start"), &["POST"]),
            (job.clone(), &["GET", "DELETE"]),
            (format!("{job}/cancel"), &["POST"]),
            ("/v1/estimate".to_owned(), &["POST"]),
            (format!("{job}/events"), &["GET"]),
            (format!("{job}/deliveries"), &["GET"]),
            (format!("{job}/deliveries/evt_{}/replay", "0".repeat(32)), &["POST"]),
            ("/v1/credits".to_owned(), &["GET"]),
            ("/v1/usage/summary".to_owned(), &["GET"]),
            ("/v1/usage/events".to_owned(), &["GET"]),
            ("/v1/admin/config".to_owned(), &["GET"]),
            ("/v1/admin/keys".to_owned(), &["GET", "POST"]),
            ("/v1/admin/keys/disable".to_owned(), &["POST"]),
            ("/v1/admin/keys/enable".to_owned(), &["POST"]),
            ("/v1/admin/credits".to_owned(), &["POST"]),
            ("/openapi.json".to_owned(), &["GET"]),
            (format!("/api/download/job_{}", "0".repeat(32)), &["GET"]),
            ("/api/pricing".to_owned(), &["GET"]),
            ("/health".to_owned(), &["GET"]),
        ];
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "BREW"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            for (path, allowed) in &routes {
                if allowed.contains(&method.as_str()) {
                    continue;
                }
                let reply = send(client.request(method.clone(), path)).await;
                is(&reply, 405, "method_not_allowed", None);
                let told = reply.header("allow");
                assert!(allowed.iter().all(|name| told.contains(name)), "{method} {path}: {told}");
            }
            for path in ["/", "/v1", "/v1/nothing", "/api", "/api/nothing", "/robots.txt", "/.env"] {
                is(&send(client.request(method.clone(), path)).await, 404, "not_found", None);
            }
        }
    })
    .await;
}

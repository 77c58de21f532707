//! Every answer is JSON with a request id; every refusal is the envelope (checked for each answer in `Call::send`).

use std::sync::Arc;

use axum::http::Method;
use rotoless_aws::{AwsClients, Store};
use serde_json::json;

use crate::world::{ADMIN_TOKEN, World, settings_of_nowhere};

const ROUTES: &[&str] = &[
    "/v1/uploads",
    "/v1/jobs",
    "/v1/jobs/job_00000000000000000000000000000000",
    "/v1/jobs/job_00000000000000000000000000000000/start",
    "/v1/jobs/job_00000000000000000000000000000000/cancel",
    "/v1/credits",
    "/v1/admin/keys",
    "/v1/admin/keys/disable",
    "/v1/admin/keys/enable",
    "/v1/admin/credits",
    "/api/download/job_00000000000000000000000000000000",
    "/api/pricing",
    "/health",
];

/// G-35, R1, R2
#[tokio::test]
async fn every_method_on_every_route_is_answered_in_json() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    for path in ROUTES {
        for verb in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY"] {
            let call = world.call(verb.parse().unwrap(), path).key(&key).header("X-Admin-Token", ADMIN_TOKEN);
            let reply = call.send().await;
            if reply.status == 405 {
                reply.is(405, "method_not_allowed");
                let allowed = reply.headers["allow"].to_str().unwrap();
                assert!(!allowed.is_empty() && !allowed.contains(verb), "{verb} {path}: {allowed}");
            }
        }
    }
}

/// G-35
#[tokio::test]
async fn unknown_routes_get_the_envelope_whatever_they_are_called() {
    let world = World::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/jobs/",
        "/v1/jobs/a/b",
        "/v2/jobs",
        "//v1/jobs",
        "/%00",
        "/v1/jobs%2f",
        "/openapi.yaml",
    ] {
        world.get(path).send().await.is(404, "not_found");
        world.post(path).body("x").send().await.is(404, "not_found");
    }
}

/// A HEAD answer has the status and headers of GET, and the size of its body.
#[tokio::test]
async fn head_is_answered_where_get_is() {
    use tower::ServiceExt as _;
    let world = World::start().await;
    for (path, status) in [("/health", 200), ("/api/pricing", 200), ("/v1/credits", 401)] {
        let request = axum::http::Request::head(path).body(axum::body::Body::empty()).unwrap();
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers().contains_key("x-request-id"));
    }
}

/// G-35
#[tokio::test]
async fn a_request_id_is_always_ours() {
    let world = World::start().await;
    let sent = world.get("/health").header("X-Request-Id", "req from outside; twice").send().await;
    let other = world.get("/health").header("X-Request-Id", "req_from_outside").send().await;
    assert_ne!(sent.headers["x-request-id"], other.headers["x-request-id"]);
}

/// G-35: what a panic said stays inside.
#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let world = World::with(|host, _| host.models = Arc::new(|_| panic!("internal detail 7f3a"))).await;
    let key = world.client("acme", 10).await;
    let video_url = world.upload(&key).await;
    let reply = world.post("/v1/jobs").key(&key).json(&json!({"video_url": video_url})).send().await;
    reply.is(500, "internal_error");
    assert_eq!(reply.message(), "Processing failed");
    assert!(!reply.text.contains("7f3a"));
}

/// G-35
#[tokio::test]
async fn a_database_that_is_away_is_a_503_with_retry_after() {
    let nowhere = AwsClients::connect(&settings_of_nowhere()).await;
    let world = World::with(move |_, ports| {
        let away = Arc::new(Store::new(nowhere.dynamodb, settings_of_nowhere().names));
        (ports.keys, ports.jobs) = (away.clone(), away);
    })
    .await;
    let key = rotoless_core::api_key::generate([1; 32]);
    let key = secrecy::ExposeSecret::expose_secret(&key);
    for (verb, path, message) in
        [(Method::POST, "/v1/jobs", "Processing failed"), (Method::GET, "/v1/jobs", "Temporarily unavailable")]
    {
        let reply = world.call(verb, path).key(key).json(&json!({"video_url": "x"})).send().await;
        reply.is(503, "unavailable");
        assert_eq!(reply.message(), message);
        assert_eq!(reply.headers["retry-after"], "1");
        assert_eq!(reply.json["error"]["retryable"], true);
    }
}

#[tokio::test]
async fn a_page_of_any_origin_may_call_and_read_with_a_key_and_never_with_cookies() {
    let world = World::start().await;
    let preflight = world
        .call(Method::OPTIONS, "/v1/jobs")
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "x-api-key,content-type");
    let reply = preflight.send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["access-control-allow-origin"], "*");
    assert!(reply.headers["access-control-allow-headers"].to_str().unwrap().contains("x-api-key"));
    assert!(!reply.headers.contains_key("access-control-allow-credentials"));
    // Also on refusals: a page must be able to read the code.
    let refused = world.get("/v1/jobs").header("Origin", "https://app.example.com").send().await;
    refused.is(401, "missing_api_key");
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
    assert!(refused.headers["access-control-expose-headers"].to_str().unwrap().contains("x-request-id"));
}

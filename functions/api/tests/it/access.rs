//! Who may call what.

use axum::http::Method;
use rotoless_contract::JobId;
use rotoless_core::api_key;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::world::{ADMIN_TOKEN, Reply, World};

/// Every route that needs a client's key.
const CLIENT_ROUTES: &[(&str, &str)] = &[
    ("POST", "/v1/uploads"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/job_00000000000000000000000000000000"),
    ("POST", "/v1/jobs/job_00000000000000000000000000000000/start"),
    ("POST", "/v1/jobs/job_00000000000000000000000000000000/cancel"),
    ("GET", "/v1/credits"),
];
/// Every route of the operator.
const ADMIN_ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/admin/keys"),
    ("POST", "/v1/admin/keys"),
    ("POST", "/v1/admin/keys/disable"),
    ("POST", "/v1/admin/keys/enable"),
    ("POST", "/v1/admin/credits"),
];

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

/// G-33
#[tokio::test]
async fn only_a_whole_enabled_key_opens_a_clients_routes() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let unknown = api_key::generate([9; 32]).expose_secret().to_owned();
    for (verb, path) in CLIENT_ROUTES {
        let call = || world.call(method(verb), path);
        call().send().await.is(401, "missing_api_key");
        call().key("").send().await.is(401, "missing_api_key");
        for wrong in
            ["nonsense", &unknown, &key[1..], &key.to_uppercase(), &format!("{key} "), &format!("Bearer {key}")]
        {
            call().key(wrong).send().await.is(401, "invalid_api_key");
        }
        call().header("X-Api-Key", b"caf\xe9").send().await.is(401, "invalid_api_key");
        // Two keys: whoever stands between may have judged the other one.
        call().key(&key).key(&key).send().await.is(401, "invalid_api_key");
        assert_ne!(call().key(&key).send().await.status, 401);
    }
}

/// G-34
#[tokio::test]
async fn a_clients_key_opens_no_admin_route_and_the_admin_token_no_clients_route() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    for (verb, path) in ADMIN_ROUTES {
        let call = || world.call(method(verb), path);
        call().send().await.is(401, "invalid_admin_token");
        call().key(&key).send().await.is(401, "invalid_admin_token");
        for wrong in [key.as_str(), "", "the operator's toke", "the operator's token."] {
            call().header("X-Admin-Token", wrong).send().await.is(401, "invalid_admin_token");
        }
        call().admin().admin().send().await.is(401, "invalid_admin_token");
        assert_ne!(call().admin().send().await.status, 401);
    }
    for (verb, path) in CLIENT_ROUTES {
        world.call(method(verb), path).admin().send().await.is(401, "missing_api_key");
        world.call(method(verb), path).key(ADMIN_TOKEN).send().await.is(401, "invalid_api_key");
    }
}

/// G-34
#[tokio::test]
async fn without_a_configured_token_admin_routes_are_as_unknown_as_any_other() {
    let world = World::with(|host, _| host.admin_token = None).await;
    let unknown = world.get("/v1/nothing").send().await;
    unknown.is(404, "not_found");
    for (verb, path) in ADMIN_ROUTES.iter().chain(&[("DELETE", "/v1/admin/keys"), ("GET", "/v1/admin/config")]) {
        for token in ["", ADMIN_TOKEN] {
            let reply = world.call(method(verb), path).header("X-Admin-Token", token).send().await;
            assert_eq!(anonymous(&reply), anonymous(&unknown));
        }
    }
}

/// G-31
#[tokio::test]
async fn anothers_job_answers_exactly_as_one_that_does_not_exist() {
    let world = World::start().await;
    let (owner, other) = (world.client("acme", 100).await, world.client("other", 100).await);
    let foreign = world.job(&owner).await;
    let unknown = JobId::from_random([1; 16]);
    for (verb, tail) in [("GET", ""), ("POST", "/start"), ("POST", "/cancel")] {
        let mut replies = Vec::new();
        for id in [foreign.as_str(), unknown.as_str(), "job_x", "..%2f..", "%ff"] {
            let reply = world.call(method(verb), &format!("/v1/jobs/{id}{tail}")).key(&other).send().await;
            reply.is(404, "not_found");
            assert_eq!(reply.message(), "Job not found");
            replies.push(anonymous(&reply));
        }
        assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    }
    let list = world.get("/v1/jobs").key(&other).send().await;
    assert_eq!((&list.json["items"], &list.json["total"]), (&json!([]), &json!(0)));
    // Nothing happened to it.
    let job = world.get(&format!("/v1/jobs/{foreign}")).key(&owner).send().await;
    assert_eq!(job.json["status"], "pending");
}

/// G-31
#[tokio::test]
async fn anothers_upload_is_as_unknown_as_one_that_does_not_exist() {
    let world = World::start().await;
    let (owner, other) = (world.client("acme", 100).await, world.client("other", 100).await);
    let foreign = world.upload(&owner).await;
    let unknown = foreign.replace(&foreign[foreign.len() - 8..], "00000000");
    let mut replies = Vec::new();
    for video_url in [foreign, unknown] {
        let reply = world.post("/v1/jobs").key(&other).json(&json!({"video_url": video_url})).send().await;
        reply.is(400, "invalid_request");
        assert_eq!(reply.reason(), Some("upload_not_found"));
        replies.push(anonymous(&reply));
    }
    assert_eq!(replies[0], replies[1]);
}

/// An answer without what is made anew for each.
fn anonymous(reply: &Reply) -> (u16, Value, Vec<(String, String)>) {
    let mut json = reply.json.clone();
    json["error"].as_object_mut().unwrap().remove("request_id");
    let mut headers: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| *name != "x-request-id" && !name.as_str().starts_with("x-ratelimit"))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (reply.status.as_u16(), json, headers)
}

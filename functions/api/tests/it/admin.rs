//! Keys and credits, as the operator handles them.

use rotoless_contract::api::{CreateKeyReply, GrantReply, KeyInfo, KeyList};
use rotoless_contract::signature::webhook_secret;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::world::World;

/// R12, G-33
#[tokio::test]
async fn a_key_is_shown_once_and_listed_without_its_secret() {
    let world = World::start().await;
    let body = json!({"client_id": "acme", "note": "for tests", "credits": 2.5});
    let created = world.post("/v1/admin/keys").admin().json(&body).send().await;
    assert!(created.json["key_fingerprint"].is_string() && created.json["api_key"].is_string());
    let created: CreateKeyReply = created.ok();
    let master = SecretString::from("the webhook master");
    let expected = webhook_secret(&master, &"acme".parse().unwrap(), 0);
    assert_eq!(created.webhook_secret, expected.expose_secret());
    assert_eq!(world.credits(&created.api_key).await, [2.5, 0.0, 0.0]);

    let list = world.get("/v1/admin/keys").admin().send().await;
    assert!(!list.text.contains(&created.api_key[4..]) && !list.text.contains("key_hash"));
    let mut listed = list.ok::<KeyList>().items.remove(0);
    // It has opened the balance once.
    assert!(listed.last_used_at.take().is_some_and(|at| at >= created.key.created_at));
    assert_eq!(listed, KeyInfo { calls: 1, ..created.key });
}

/// G-33
#[tokio::test]
async fn a_disabled_key_is_refused_at_once_and_opens_again_when_enabled() {
    let world = World::start().await;
    let (key, other) = (world.client("acme", 1).await, world.client("acme", 1).await);
    let list: KeyList = world.get("/v1/admin/keys").admin().send().await.ok();
    let (fingerprint, _) = rotoless_core::api_key::presented(&key).unwrap();
    assert!(list.items.iter().any(|item| item.key_fingerprint == fingerprint));
    let switch = async |to: &str| {
        let call = world.post(&format!("/v1/admin/keys/{to}")).admin().json(&json!({"key_fingerprint": fingerprint}));
        let reply = call.send().await;
        assert_eq!((&reply.json["success"], &reply.json["enabled"]), (&json!(true), &json!(to == "enable")));
    };
    switch("disable").await;
    world.get("/v1/credits").key(&key).send().await.is(401, "invalid_api_key");
    world.get("/v1/credits").key(&other).send().await.ok::<serde_json::Value>();
    switch("disable").await;
    switch("enable").await;
    assert_eq!(world.credits(&key).await, [2.0, 0.0, 0.0]);
}

#[tokio::test]
async fn an_unknown_fingerprint_is_a_404_and_makes_no_key() {
    let world = World::start().await;
    for fingerprint in ["", "x", "0123456789abcdef0123456789abcdef", "ABCDEF", &"a".repeat(5000)] {
        for to in ["enable", "disable"] {
            let call =
                world.post(&format!("/v1/admin/keys/{to}")).admin().json(&json!({"key_fingerprint": fingerprint}));
            call.send().await.is(404, "not_found");
        }
    }
    assert!(world.get("/v1/admin/keys").admin().send().await.ok::<KeyList>().items.is_empty());
}

/// G-01
#[tokio::test]
async fn a_grant_happens_once_however_often_it_is_sent() {
    let world = World::start().await;
    let key = world.client("acme", 1).await;
    let body = json!({"client_id": "acme", "credits": 10.125, "grant_id": "invoice-7"});
    for _ in 0..3 {
        let reply: GrantReply = world.post("/v1/admin/credits").admin().json(&body).send().await.ok();
        assert_eq!(reply.balance.available.0.0, 11_125);
    }
    let body = json!({"client_id": "acme", "credits": 1});
    for _ in 0..2 {
        world.post("/v1/admin/credits").admin().json(&body).send().await.ok::<GrantReply>();
    }
    assert_eq!(world.credits(&key).await, [13.125, 0.0, 0.0]);
}

#[tokio::test]
async fn what_is_out_of_bounds_grants_nothing() {
    let world = World::start().await;
    let key = world.client("acme", 1).await;
    for body in [
        json!({"client_id": "acme", "credits": 0}),
        json!({"client_id": "acme", "credits": -5}),
        json!({"client_id": "acme", "credits": 0.0001}),
        json!({"client_id": "acme", "credits": 1e12}),
        json!({"client_id": "acme", "credits": "5"}),
        json!({"client_id": "acme"}),
        json!({"client_id": "a/b", "credits": 5}),
        json!({"client_id": "", "credits": 5}),
        json!({"client_id": "acme", "credits": 5, "grant_id": "a b"}),
        json!({"client_id": "acme", "credits": 5, "grant_id": ""}),
        json!({"client_id": "acme", "credits": 5, "note": "x".repeat(501)}),
    ] {
        world.post("/v1/admin/credits").admin().json(&body).send().await.is(400, "invalid_request");
        if body.get("grant_id").is_none() && body["credits"] != 0 && body.get("credits").is_some() {
            world.post("/v1/admin/keys").admin().json(&body).send().await.is(400, "invalid_request");
        }
    }
    assert_eq!(world.credits(&key).await, [1.0, 0.0, 0.0]);
    assert_eq!(world.get("/v1/admin/keys").admin().send().await.ok::<KeyList>().items.len(), 1);
}

//! Usage, prices, health, and the operator's side.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::{Value, json};

use super::no_worker;
use crate::world::media::Clip;
use crate::world::{ADMIN_TOKEN, Options, in_a_world};

const JOB: Duration = Duration::from_secs(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_what_was_done() {
    in_a_world(Options::default(), async |world| {
        let (client, other) = (world.client("acme", 10.0).await, world.client("umbrella", 10.0).await);
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        for _ in 0..2 {
            let id = client.order(&video_url).await;
            client.completed(&id, JOB).await;
        }
        let draft = client.order_with(json!({"video_url": video_url, "model": "light", "auto_start": false})).await;
        client.cancel(&draft).await.ok();
        client.order_with(json!({"video_url": video_url, "model": "light", "auto_start": false})).await;
        client.post("/v1/jobs", &json!({})).await.is(400, "invalid_request");

        let summary = client.get("/v1/usage/summary").await.ok();
        // An upload link, five orders, a cancel; reads are not counted.
        let totals = json!({"total_jobs": 4, "completed_jobs": 2, "failed_jobs": 1, "total_calls": 7,
            "credits_used": 1.5, "seconds_processed": 2});
        assert_eq!(summary["totals"], totals);
        for (name, value) in totals.as_object().unwrap() {
            assert_eq!(&summary[name], value, "{name}");
        }
        assert_eq!(summary["by_model"]["light"]["jobs"], 4);
        let daily = summary["daily"].as_array().unwrap();
        assert_eq!((daily.len(), &summary["days"]), (7, &json!(7)));
        let sum = |name: &str| daily.iter().map(|day| day[name].as_f64().unwrap()).sum::<f64>();
        assert_eq!(
            (sum("jobs"), sum("completed"), sum("failed"), sum("credits_used"), sum("seconds")),
            (4.0, 2.0, 1.0, 1.5, 2.0)
        );
        assert_eq!(summary["credits_used"], client.get("/v1/credits").await.ok()["used"]);

        let events = client.get("/v1/usage/events").await.ok();
        assert_eq!(events["items"], events["events"]);
        let items = events["items"].as_array().unwrap();
        let told = |item: &Value| (item["method"].clone(), item["status_code"].clone());
        assert_eq!((items.len(), told(&items[0])), (7, (json!("POST"), json!(400))));
        let of_orders: f64 = items.iter().map(|item| item["credits"].as_f64().unwrap()).sum();
        assert!((of_orders - 1.5).abs() < 1e-9, "{items:#?}");
        for item in items {
            assert!(
                item["request_id"].as_str().unwrap().starts_with("req_") && item["latency_ms"].is_u64(),
                "{item:#}"
            );
        }
        assert_eq!(client.get("/v1/usage/events?limit=3").await.ok()["items"].as_array().unwrap(), &items[..3]);
        assert_eq!(other.get("/v1/usage/summary").await.ok()["total_jobs"], 0);
        assert_eq!(other.get("/v1/usage/events").await.ok()["items"], json!([]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_out_of_range_is_refused() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        for (path, param, wrong) in [
            ("/v1/usage/summary", "days", ["0", "91", "-1", "1e9", "abc", "99999999999"]),
            ("/v1/usage/events", "limit", ["0", "101", "-1", "1e9", "abc", "99999999999"]),
        ] {
            for value in wrong {
                let refused = client.get(&format!("{path}?{param}={value}")).await;
                refused.is(400, "invalid_request");
                assert_eq!(refused.json["error"]["param"], param, "{value}");
            }
        }
        for days in [1, 90] {
            let summary = client.get(&format!("/v1/usage/summary?days={days}")).await.ok();
            assert_eq!(summary["daily"].as_array().unwrap().len(), days);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_makes_lists_shuts_and_opens_keys() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 5.0).await;
        let door = client.door.clone();
        let made = door.admin("/v1/admin/keys", &json!({"client_id": "acme", "note": "a second one"})).await.ok();
        let (key, fingerprint) = (made["api_key"].as_str().unwrap().to_owned(), made["key_fingerprint"].clone());
        let second = crate::world::client::Client { key: key.clone(), ..client.clone() };
        second.get("/v1/credits").await.ok();
        second.get("/v1/jobs").await.ok();

        let listed = door.admin_get("/v1/admin/keys").await.ok();
        assert!(!listed.to_string().contains(&key), "the list shows a key");
        let items = listed["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["key_fingerprint"] == fingerprint).expect("it is listed");
        assert_eq!(
            (&item["client_id"], &item["note"], &item["enabled"]),
            (&json!("acme"), &json!("a second one"), &json!(true))
        );
        assert_eq!(item["calls"], 2, "{item:#}");
        // Without the Z, which sorts after the point of a fraction.
        let time = |field: &str| item[field].as_str().unwrap().trim_end_matches('Z').to_owned();
        assert!(time("last_used_at") >= time("created_at"), "{item:#}");

        let switch = json!({"key_fingerprint": fingerprint});
        let shut = door.admin("/v1/admin/keys/disable", &switch).await.ok();
        assert_eq!(shut, json!({"success": true, "key_fingerprint": fingerprint, "enabled": false}));
        second.get("/v1/credits").await.is(401, "invalid_api_key");
        client.get("/v1/credits").await.ok();
        assert_eq!(door.admin("/v1/admin/keys/enable", &switch).await.ok()["enabled"], true);
        second.get("/v1/credits").await.ok();
        for path in ["/v1/admin/keys/enable", "/v1/admin/keys/disable"] {
            for unknown in ["0".repeat(32), "x".to_owned(), String::new()] {
                door.admin(path, &json!({"key_fingerprint": unknown})).await.is(404, "not_found");
            }
        }
        for wrong in
            [json!({}), json!({"client_id": ""}), json!({"client_id": "a b"}), json!({"client_id": "a", "credits": -1})]
        {
            door.admin("/v1/admin/keys", &wrong).await.is(400, "invalid_request");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_counts_once_and_only_upwards() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 5.0).await;
        let grant = json!({"client_id": "acme", "credits": 2.5, "grant_id": "invoice-7", "note": "paid"});
        for _ in 0..2 {
            let granted = client.door.admin("/v1/admin/credits", &grant).await.ok();
            assert_eq!((&granted["available"], &granted["grant_id"]), (&json!(7.5), &json!("invoice-7")));
        }
        for credits in [json!(0), json!(-1), json!(0.0001), json!("5"), json!(1e300), json!(null)] {
            let wrong = json!({"client_id": "acme", "credits": credits});
            client.door.admin("/v1/admin/credits", &wrong).await.is(400, "invalid_request");
        }
        assert_eq!(client.milli_credits().await, [7_500, 0, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_tells_limits_and_no_secret() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 5.0).await;
        let config = client.door.admin_get("/v1/admin/config").await.ok();
        assert_eq!(config["limits"]["max_bytes"], 500_000_000);
        assert_eq!((&config["public_base_url"], &config["legacy_api"]), (&json!(client.door.url("")), &json!("keyed")));
        let available: Vec<_> =
            config["models"].as_array().unwrap().iter().filter(|model| model["available"] == true).collect();
        assert_eq!((available.len(), &available[0]["name"]), (1, &json!("light")));
        let prices = client.door.get("/api/pricing").await.ok();
        assert_eq!(config["pricing"], prices);
        let text = config.to_string();
        let secrets = std::fs::read(world.data_dir().join("secrets.json")).unwrap();
        let secrets: Value = serde_json::from_slice(&secrets).unwrap();
        let values = secrets.as_object().unwrap().values().filter_map(Value::as_str);
        for secret in values.chain([ADMIN_TOKEN, &client.key]) {
            assert!(!text.contains(secret), "a secret is shown");
        }
        client.get("/v1/admin/config").await.is(401, "invalid_admin_token");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_are_told_to_anybody_and_can_be_the_operators_own() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 5.0).await;
        let prices = client.door.get("/api/pricing").await.ok();
        assert_eq!(
            prices["model_pricing_credits_per_minute"],
            json!({"original": 60, "light": 45, "pro": 180, "human": 45})
        );
        assert!(prices["price_per_second_cents"].is_number() && prices["packages"].is_array(), "{prices:#}");
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let job = client.order(&video_url).await;
        assert_eq!(client.job(&job).await.pricing_version, prices["pricing_version"]);
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.json");
    let own = json!({
        "version": "ours-1", "credits_per_minute": {"original": 60, "light": 90.06, "pro": 180, "human": 0},
        "price_per_second_cents": 1.5, "packages": [{"credits": 1000, "price_cents": 999}],
    });
    std::fs::write(&file, own.to_string()).unwrap();
    let args = vec!["--pricing".to_owned(), file.to_str().unwrap().to_owned()];
    in_a_world(Options { args, ..no_worker() }, async |world| {
        let client = world.client("acme", 5.0).await;
        let prices = client.door.get("/api/pricing").await.ok();
        assert_eq!(prices["model_pricing_credits_per_minute"], own["credits_per_minute"]);
        for same in ["price_per_second_cents", "packages"] {
            assert_eq!(prices[same], own[same]);
        }
        assert_eq!(prices["pricing_version"], own["version"]);
        let job = client.order(&client.upload(&Clip::SMALL.make(world.scratch())).await).await;
        let shown = client.get(&format!("/v1/jobs/{job}")).await.ok();
        assert_eq!((&shown["credits_held"], &shown["pricing_version"]), (&json!(1.501), &own["version"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_to_anybody_and_knows_when_a_worker_was_there() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 5.0).await;
        let id = client.order(&client.upload(&Clip::SMALL.make(world.scratch())).await).await;
        client.completed(&id, JOB).await;
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let health = loop {
            let health = client.door.get("/health").await.ok();
            // A look is shared for some seconds.
            if health["checks"]["worker_last_seen"].is_string() || std::time::Instant::now() > deadline {
                break health;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_eq!(health["status"], "healthy");
        let checks = &health["checks"];
        for name in ["api", "r2_configured", "s3_configured", "queue", "database"] {
            assert_eq!(checks[name], true, "{name}");
        }
        assert_eq!(checks["runpod_configured"], false);
        assert!(checks["worker_last_seen"].is_string() && checks["version"].is_string(), "{health:#}");
    })
    .await;
}

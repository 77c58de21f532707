//! Routes without a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use rotoless_api::{Dependencies, HealthProbe};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_download_needs_no_key_but_a_completed_job() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let id = world.job(&key).await;
    for unknown in ["job_00000000000000000000000000000000", "job_1", "%ff", "a.webm"] {
        let reply = world.get(&format!("/api/download/{unknown}")).send().await;
        reply.is(404, "not_found");
        assert_eq!(reply.message(), "Job not found");
    }
    let path = format!("/api/download/{id}");
    let early = world.get(&path).send().await;
    early.is(400, "job_not_completed");
    assert_eq!(early.message(), "Job not completed");

    world.complete(&id, b"the output").await;
    // A key may come with it; whose it is does not matter.
    for reply in [world.get(&path).send().await, world.get(&path).key("nonsense").send().await] {
        assert_eq!((&reply.json["success"], &reply.json["output_format"]), (&json!(true), &json!("webm")));
        let link = reply.json["download_url"].as_str().unwrap();
        assert_eq!(reqwest::get(link).await.unwrap().bytes().await.unwrap(), "the output");
    }
}

#[tokio::test]
async fn the_prices_are_those_that_jobs_are_charged_by() {
    let world = World::start().await;
    let reply = world.get("/api/pricing").send().await;
    let expected = json!({"original": 60, "light": 45, "pro": 180, "human": 45});
    assert_eq!(reply.json["model_pricing_credits_per_minute"], expected);
    assert_eq!(reply.json["pricing_version"], rotoless_core::policy::Pricing::default().version);
    assert!(reply.json["packages"].is_array() && reply.json["price_per_second_cents"].is_number());
}

/// Counts how often it was asked.
struct Counted(AtomicU32, Option<Dependencies>);

#[async_trait]
impl HealthProbe for Counted {
    async fn look(&self) -> Dependencies {
        self.0.fetch_add(1, Ordering::SeqCst);
        match self.1 {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn health_is_always_200_and_one_look_serves_all_who_ask() {
    let well = Dependencies { database: true, queue: true, object_store: true, ..Dependencies::default() };
    let no_queue = Dependencies { queue: false, ..well };
    for (found, status) in [(Some(well), "healthy"), (Some(no_queue), "degraded"), (None, "degraded")] {
        let probe = Arc::new(Counted(AtomicU32::new(0), found));
        let world = World::with(|host, _| host.health = probe.clone()).await;
        for _ in 0..20 {
            let reply = world.get("/health").send().await;
            assert_eq!((reply.status.as_u16(), &reply.json["status"]), (200, &json!(status)));
            let checks = &reply.json["checks"];
            for name in ["api", "runpod_configured", "r2_configured", "s3_configured", "queue", "database"] {
                assert!(checks[name].is_boolean(), "{name}");
            }
            assert!(checks["version"].is_string() && checks.get("worker_last_seen").is_some());
        }
        assert_eq!(probe.0.load(Ordering::SeqCst), 1);
    }
}

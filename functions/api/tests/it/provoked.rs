//! Every refusal that the document promises can be had: each is provoked here, by a way that fits its code, and where
//! an operation needs another way, by its own.

use std::sync::Arc;

use axum::Router;
use rotoless_api::{ApiState, Host, LegacyApi, Ports};
use rotoless_contract::JobId;
use rotoless_core::policy::Policy;
use rotoless_core::rate::{PerMinute, Rates};
use serde_json::json;

use crate::documented::{OPERATIONS, Operation};
use crate::faults::{AlwaysTaken, Fault, over};
use crate::world::{ADMIN_TOKEN, Call, World};

struct Stage {
    world: World,
    /// Has credits.
    key: String,
    video_url: String,
    /// Of a host without an admin token and without the legacy routes.
    bare: Router,
    taken: Router,
    limited: Router,
}

impl Stage {
    async fn set() -> Self {
        let world = World::start().await;
        let key = world.client("acme", 1000).await;
        let video_url = world.upload(&key).await;
        let router = |ports, host| rotoless_api::router(ApiState::new(ports, host));
        let bare = Host { admin_token: None, legacy: LegacyApi::Off, ..world.host.clone() };
        let jobs = Arc::new(AlwaysTaken(world.ports.jobs.clone()));
        let once = Rates { reads: PerMinute::new(1), creates: PerMinute::new(1) };
        let policy = Arc::new(Policy { rates: once, ..Policy::default() });
        Self {
            bare: router(world.ports.clone(), bare),
            taken: router(Ports { jobs, ..world.ports.clone() }, world.host.clone()),
            limited: router(world.ports.clone(), Host { policy, ..world.host.clone() }),
            world,
            key,
            video_url,
        }
    }

    /// A call of the operation, by whoever may, about things that do not exist.
    fn call(&self, operation: &Operation) -> Call<'_> {
        self.keyless(operation, "job_00000000000000000000000000000000")
            .header("X-Api-Key", &self.key)
            .header("X-Admin-Token", ADMIN_TOKEN)
    }

    fn keyless(&self, operation: &Operation, job: &str) -> Call<'_> {
        let path = operation.path(&[job, "evt_00000000000000000000000000000000"]);
        self.world.call(operation.method.parse().unwrap(), &path)
    }

    /// A call about this job, by its owner.
    fn about(&self, operation: &Operation, job: &JobId) -> Call<'_> {
        self.keyless(operation, job.as_str()).key(&self.key)
    }

    async fn job(&self) -> JobId {
        self.world.job(&self.key).await
    }

    async fn completed(&self) -> JobId {
        let job = self.job().await;
        self.world.complete(&job, b"output").await;
        job
    }

    async fn draft(&self, key: &str) -> JobId {
        let order = json!({"video_url": self.world.upload(key).await, "auto_start": false});
        let reply = self.world.post("/v1/jobs").key(key).json(&order).send().await;
        reply.json["id"].as_str().unwrap().parse().unwrap()
    }

    /// The answer with this code, or whatever came instead.
    async fn provoke(&self, operation: &Operation, code: &str) -> crate::world::Reply {
        let call = || self.call(operation);
        match code {
            "missing_api_key" => self.keyless(operation, "job_x").send().await,
            "invalid_api_key" => self.keyless(operation, "job_x").key("nonsense").send().await,
            "invalid_admin_token" => self.keyless(operation, "job_x").send().await,
            "payload_too_large" => call().body(vec![b' '; 256 * 1024 + 1]).send().await,
            "invalid_request" if operation.has_body => call().body("{").send().await,
            "invalid_request" => self.bad_query(operation).send().await,
            "not_found" if operation.key.as_deref() == Some("AdminToken") || operation.tag == "Legacy" => {
                call().of(&self.bare).send().await
            }
            "not_found" => call().json(&json!({})).send().await,
            "rate_limited" => {
                let key = self.world.client("hasty", 0).await;
                let call = || self.keyless(operation, "job_x").key(&key).of(&self.limited);
                call().send().await;
                call().send().await
            }
            "unavailable" => self.with_fault(operation, Fault::Away).await,
            "internal_error" => self.with_fault(operation, Fault::Unreadable).await,
            "timeout" => {
                // The service waits for 25 s, a test need not.
                tokio::time::pause();
                let reply = self.with_fault(operation, Fault::Silent).await;
                tokio::time::resume();
                reply
            }
            "insufficient_credits" => self.without_credits(operation).await,
            "conflict" => self.in_conflict(operation).await,
            "idempotency_conflict" if operation.id == "exportJob" => {
                let job = self.completed().await;
                let call = || self.about(operation, &job).header("Idempotency-Key", "e");
                call().json(&json!({"output_format": "mov"})).send().await.ok::<serde_json::Value>();
                call().json(&json!({"output_format": "gif"})).send().await
            }
            "idempotency_conflict" => {
                let order = |format| json!({"video_url": self.video_url, "output_format": format});
                call().header("Idempotency-Key", "k").json(&order("webm")).send().await.ok::<serde_json::Value>();
                call().header("Idempotency-Key", "k").json(&order("mov")).send().await
            }
            "job_not_completed" => self.about(operation, &self.job().await).send().await,
            _ => panic!("{} documents {code}: say here how it is provoked", operation.id),
        }
    }

    fn bad_query(&self, operation: &Operation) -> Call<'_> {
        let path = format!("{}?limit=0&days=0&client_id=", operation.path(&["job_x", "evt_x"]));
        self.world.call(operation.method.parse().unwrap(), &path).key(&self.key).admin()
    }

    async fn with_fault(&self, operation: &Operation, fault: Fault) -> crate::world::Reply {
        let router = over(fault, &self.world);
        let body = match operation.id.as_str() {
            "createKey" | "grantCredits" => json!({"client_id": "acme", "credits": 1}),
            "stageWebhookSecret" | "promoteWebhookSecret" | "discardWebhookSecret" => json!({"client_id": "acme"}),
            "disableKey" | "enableKey" => json!({"key_fingerprint": "0".repeat(32)}),
            _ => json!({"video_url": self.video_url}),
        };
        let call = match operation.id.as_str() {
            // Only a query that can be read comes as far as the store.
            "getWebhookSecrets" => self.world.get("/v1/admin/webhook-secrets?client_id=acme").admin(),
            _ => self.call(operation).json(&body),
        };
        call.of(&router).send().await
    }

    async fn without_credits(&self, operation: &Operation) -> crate::world::Reply {
        let poor = format!("poor-{}", operation.id);
        let key = self.world.client(&poor, 0).await;
        let draft = self.draft(&key).await;
        let order = json!({"video_url": self.world.upload(&key).await});
        self.keyless(operation, draft.as_str()).key(&key).json(&order).send().await
    }

    async fn in_conflict(&self, operation: &Operation) -> crate::world::Reply {
        match operation.id.as_str() {
            "createJob" | "legacyProcess" => {
                let order = json!({"video_url": self.video_url});
                self.call(operation).header("Idempotency-Key", "taken").json(&order).of(&self.taken).send().await
            }
            "startJob" => self.about(operation, &self.job().await).json(&json!({"model": "human"})).send().await,
            "exportJob" => self.about(operation, &self.job().await).json(&json!({})).send().await,
            "cancelJob" => self.about(operation, &self.completed().await).send().await,
            "promoteWebhookSecret" | "discardWebhookSecret" => {
                self.call(operation).json(&json!({"client_id": "nobody"})).send().await
            }
            other => panic!("{other} documents a conflict: say here how it is provoked"),
        }
    }
}

/// G-35
#[tokio::test]
async fn every_documented_refusal_can_be_had() {
    let stage = Stage::set().await;
    let mut missed = Vec::new();
    for operation in OPERATIONS.iter() {
        for (status, code) in &operation.refusals {
            let reply = stage.provoke(operation, code).await;
            let (had, with) = (reply.status.as_u16(), reply.json["error"]["code"].as_str().unwrap_or_default());
            if (had, with) != (*status, code.as_str()) {
                missed.push(format!("{}: {status} {code}, but {had} {with}: {}", operation.id, reply.text));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

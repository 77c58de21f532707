//! What is logged of a request: lines that can be found again by any of its ids, and nothing that opens anything.

use std::sync::{Arc, Mutex};

use rotoless_api::{ApiState, Ports, router};
use rotoless_telemetry::{JsonLines, Metric, Metrics, filter, watched};
use serde_json::{Value, json};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use crate::world::{ADMIN_TOKEN, World};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn write(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let lines = self.0.clone();
        move |line| lines.lock().unwrap().push(line.to_owned())
    }

    fn take(&self) -> Vec<Value> {
        self.0.lock().unwrap().drain(..).map(|line| serde_json::from_str(&line).unwrap()).collect()
    }
}

/// G-37: at the level that tells most of what we do.
#[tokio::test]
async fn every_line_of_a_request_carries_its_ids_and_none_a_secret() {
    let lines = Lines::default();
    let wanted = |name: &str| {
        (name == "RUST_LOG").then(|| "info,rotoless_api=trace,rotoless_core=trace,rotoless_aws=trace".to_owned())
    };
    let layer = JsonLines::new(lines.write()).with_filter(filter(&wanted));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let world = World::start().await;
    let key = world.client("anna", 1000).await;
    let upload = world.upload(&key).await;
    let mut all = lines.take();
    let hook = "https://hook.example.com/?token=a-canary-in-a-query";
    let order =
        json!({"video_url": upload, "model": "light", "webhook_url": hook, "metadata": {"a": "a-canary-in-metadata"}});
    let reply = world.post("/v1/jobs").key(&key).json(&order).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let of_create = lines.take();
    assert!(of_create.len() >= 2, "{of_create:#?}");
    let request = of_create[0]["request.id"].clone();
    assert!(request.as_str().unwrap().starts_with("req_"));
    for line in &of_create {
        assert_eq!(line["request.id"], request, "{line}");
    }
    let answered = of_create.last().unwrap();
    assert_eq!(answered["message"], "answered");
    for (field, value) in [
        ("http.method", json!("POST")),
        ("http.route", json!("/v1/jobs")),
        ("http.status", json!(200)),
        ("client.id", json!("anna")),
        ("job.id", reply.json["id"].clone()),
    ] {
        assert_eq!(answered[field], value, "{field}: {answered}");
    }
    assert!(answered["duration_ms"].is_u64());
    all.extend(of_create);

    let path = format!("/v1/jobs/{}", reply.json["id"].as_str().unwrap());
    world.get(&path).key(&key).send().await;
    let of_read = lines.take();
    assert_eq!(of_read.iter().filter(|line| line["message"] == "answered").count(), 1);
    assert!(of_read.iter().any(|line| line["http.route"] == "/v1/jobs/{id}" && line["job.id"] == reply.json["id"]));
    all.extend(of_read);
    for secret in [key.as_str(), ADMIN_TOKEN, "a-canary", "X-Amz-Signature"] {
        assert!(!all.iter().any(|line| line.to_string().contains(secret)), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_job_is_counted_when_it_is_made_and_not_when_its_request_is_repeated() {
    let told = Lines::default();
    let metrics = Metrics::to("prod", told.write());
    let mut world = World::start().await;
    // The same service, its jobs counted.
    let ports = Ports { jobs: watched(world.store.clone(), metrics), ..world.ports.clone() };
    world.router = router(ApiState::new(ports, world.host.clone()));
    let key = world.client("anna", 1000).await;
    let order = json!({"video_url": world.upload(&key).await, "model": "light"});
    for _ in 0..3 {
        let reply = world.post("/v1/jobs").key(&key).header("Idempotency-Key", "one").json(&order).send().await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    let lines = told.take();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0][Metric::JobsCreated.name()], 1.0);
    assert!(lines[0][Metric::CreditsHeld.name()].as_f64().unwrap() > 0.0);
    assert_eq!((&lines[0]["client.id"], &lines[0]["job.model"]), (&json!("anna"), &json!("light")));
}

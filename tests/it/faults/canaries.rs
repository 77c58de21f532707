//! A word that nobody else says, in every input there is: it must not come back where it does not belong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use reqwest::Method;
use rotoless_contract::JobStatus;
use serde_json::json;

use super::endpoint::{Endpoint, Manner};
use super::site::Site;
use super::{CREDITS, JOB, bare};
use crate::world::client::{Client, Reply, send};
use crate::world::fleet::Fleet;
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

/// Each input has its own, so that a leak says where it came from.
fn canary(input: &str) -> String {
    format!("canary-of-{input}-3f9a")
}

/// Inputs that are secrets, or may be full of them.
const INPUTS: [&str; 13] = [
    "api-key",
    "admin-token",
    "file-name",
    "metadata",
    "prompt",
    "webhook-query",
    "webhook-user",
    "video-query",
    "idempotency-key",
    "request-id",
    "user-agent",
    "unknown-field",
    "bearer",
];

fn innocent(reply: &Reply, of: &[&str]) {
    let text = format!("{:#} {:?}", reply.json, reply.headers);
    for input in of {
        assert!(!text.contains(&canary(input)), "{input}: {text}");
    }
}

/// TA-12, G-37, G-30: at a level that tells of everything we do ourselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_comes_back_to_nobody_but_its_job_and_into_no_log() {
    let (site, hook) = (Site::start().await, Endpoint::start(Manner::Status(500)).await);
    let log = "info,rotoless=debug,rotoless_api=debug,rotoless_aws=debug,rotoless_callback=debug,rotoless_core=debug,\
               rotoless_deliver=debug,rotoless_egress=debug,rotoless_embedded=debug,rotoless_gpu_handler=debug,\
               rotoless_matting=debug,rotoless_sweep=debug";
    let mut options = Options { log, ..bare() };
    options.args.extend(Endpoint::allowed([&hook]));
    options.args.extend(["--allow-egress-dangerous".to_owned(), site.address.clone()]);
    in_a_world(options, async |world| {
        for input in INPUTS {
            world.keep_secret(canary(input));
        }
        site.serves("/missing.mp4", "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".to_owned(), Vec::new());
        let client = world.client("acme", CREDITS as f64).await;
        refused_at_the_door(&client).await;

        let clip = Clip::SMALL.make(world.scratch());
        let named = world.scratch().join(format!("{}.mp4", canary("file-name")));
        std::fs::copy(&clip, &named).unwrap();
        let url = client.upload(&named).await;
        client.upload_by_form(&named).await;
        let order = json!({
            "video_url": url, "model": "light", "webhook_url": format!("{}?token={}", hook.url(), canary("webhook-query")),
            "metadata": {"note": canary("metadata")}, "text_prompt": canary("prompt"), "surprise": canary("unknown-field"),
        });
        let request = client.request(Method::POST, "/v1/jobs").header("Idempotency-Key", canary("idempotency-key"));
        let request = request.header("X-Request-Id", canary("request-id")).header("User-Agent", canary("user-agent"));
        let good = send(request.json(&order)).await;
        innocent(&good, &["idempotency-key", "request-id", "user-agent", "webhook-user"]);
        let good = good.ok()["id"].as_str().unwrap().to_owned();
        let elsewhere = format!("{}?signature={}", site.url("/missing.mp4"), canary("video-query"));
        let lost = client.order(&elsewhere).await;
        refused_orders(&client, &url).await;

        let mut fleet = Fleet::of(world);
        fleet.hire(world).await;
        client.completed(&good, JOB).await;
        client.wait(&lost, JOB, |job| job.status == JobStatus::Failed).await;
        hook.wait("both events", JOB, |hook| hook.counts().len() == 2).await;
        let shown = client.get(&format!("/v1/jobs/{good}")).await;
        innocent(&shown, &["idempotency-key", "request-id", "user-agent", "api-key", "unknown-field"]);
        assert_eq!(shown.json["metadata"]["note"], canary("metadata"));
        innocent(&client.get(&format!("/v1/jobs/{lost}")).await, &["api-key", "idempotency-key"]);
        fleet.end(world).await;
    })
    .await;
}

/// Keys that are none.
async fn refused_at_the_door(client: &Client) {
    let wrong = Client { key: canary("api-key"), ..client.clone() };
    let reply = wrong.get("/v1/jobs").await;
    assert_eq!(reply.status, 401);
    innocent(&reply, &["api-key"]);
    let http = client.door.http();
    let admin = http.post(client.door.url("/v1/admin/keys")).header("X-Admin-Token", canary("admin-token"));
    let bearer = http.get(client.door.url("/v1/jobs")).header("Authorization", format!("Bearer {}", canary("bearer")));
    for request in [admin.json(&json!({"client_id": "x", "credits": 1})), bearer] {
        let reply = send(request).await;
        assert!(reply.status == 401 || reply.status == 403, "{reply:?}");
        innocent(&reply, &["admin-token", "bearer"]);
    }
}

/// Orders that are refused for what they contain.
async fn refused_orders(client: &Client, url: &str) {
    let user = format!("https://{}:pass@example.com/", canary("webhook-user"));
    for order in [
        json!({"video_url": url, "model": "light", "webhook_url": user}),
        json!({"video_url": format!("http://10.0.0.1/?{}", canary("video-query")), "model": "light"}),
        json!({"video_url": url, "model": "pro", "text_prompt": canary("prompt").repeat(40)}),
        json!({"video_url": url, "model": canary("prompt")}),
        json!({"video_url": url, "model": "light", "metadata": [canary("metadata")]}),
    ] {
        let reply = client.post("/v1/jobs", &order).await;
        assert!((400..500).contains(&reply.status), "{order}: {reply:?}");
        innocent(&reply, &["webhook-user", "video-query", "prompt", "metadata"]);
    }
}

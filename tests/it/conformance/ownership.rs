//! Whose job it is: a client's keys see the same, another client sees nothing, and cannot tell that there is anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use reqwest::Method;
use serde_json::{Value, json};

use super::errors::unknown_like;
use super::{no_worker, picture};
use crate::world::client::{Client, Reply, send};
use crate::world::in_a_world;
use crate::world::media::Clip;

/// Everything of an answer but what is made anew for each.
fn anonymous(mut reply: Reply) -> (u16, Value, Vec<(String, String)>) {
    reply.json["error"]["request_id"].take();
    let varies = |name: &str| ["x-request-id", "date", "x-ratelimit-remaining", "x-ratelimit-reset"].contains(&name);
    let shown = |name: &str| if varies(name) { String::new() } else { reply.header(name).to_owned() };
    let mut headers: Vec<_> = reply.headers.keys().map(|name| (name.to_string(), shown(name.as_str()))).collect();
    headers.sort_unstable();
    (reply.status, reply.json, headers)
}

async fn ask(client: &Client, method: &Method, path: &str, body: &Value) -> Reply {
    let request = client.request(method.clone(), path);
    send(if *method == Method::POST { request.json(body) } else { request }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_every_route_a_foreign_id_is_answered_exactly_as_an_unknown_one() {
    in_a_world(no_worker(), async |world| {
        let (owner, stranger) = (world.client("acme", 100.0).await, world.client("umbrella", 100.0).await);
        let video_url = owner.upload(&Clip::SMALL.make(world.scratch())).await;
        let job = owner.order(&video_url).await;
        let draft = json!({"video_url": video_url, "model": "light", "auto_start": false});
        let draft = owner.order_with(draft).await;
        let unknown = format!("job_{}", "0".repeat(32));
        let delivery = format!("evt_{}", "0".repeat(32));
        let routes = [
            (Method::GET, String::new()),
            (Method::POST, "/start".to_owned()),
            (Method::POST, "/cancel".to_owned()),
            (Method::GET, "/events".to_owned()),
            (Method::GET, "/deliveries".to_owned()),
            (Method::POST, format!("/deliveries/{delivery}/replay")),
            (Method::DELETE, String::new()),
        ];
        for (method, rest) in &routes {
            let path = |id: &str| format!("/v1/jobs/{id}{rest}");
            let expected = anonymous(ask(&stranger, method, &path(&unknown), &json!({})).await);
            assert_eq!(
                (expected.0, &expected.1["error"]["message"]),
                (404, &json!("Job not found")),
                "{method} {rest}"
            );
            for id in [&job, &draft, "job_x", &job.to_uppercase()] {
                let answer = anonymous(ask(&stranger, method, &path(id), &json!({})).await);
                assert_eq!(answer, expected, "{method} {rest} of {id}");
            }
        }
        // All of that has changed nothing.
        assert_eq!(owner.job(&job).await.status.as_str(), "pending");
        assert_eq!(owner.job(&draft).await.status.as_str(), "created");
        assert_eq!(stranger.get("/v1/jobs").await.ok()["total"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_every_field_a_foreign_upload_is_answered_exactly_as_an_unknown_one() {
    in_a_world(no_worker(), async |world| {
        let (owner, stranger) = (world.client("acme", 100.0).await, world.client("umbrella", 100.0).await);
        let clip = Clip::SMALL.make(world.scratch());
        let (video, image) = (owner.upload(&clip).await, owner.upload_by_form(&picture(world.scratch())).await);
        let own = stranger.upload(&clip).await;
        let unknown = unknown_like(&own);
        type Order = fn(&str, &str) -> Value;
        let fields: [(&str, Order); 4] = [
            (&video, |_, foreign| json!({"video_url": foreign})),
            (&image, |own, foreign| json!({"video_url": own, "bg_type": "image", "bg_image_url": foreign})),
            (&video, |own, foreign| json!({"video_url": own, "bg_type": "video", "bg_video_url": foreign})),
            (&image, |own, foreign| json!({"video_url": own, "background": {"type": "image", "image_url": foreign}})),
        ];
        for (foreign, order) in fields {
            for path in ["/v1/jobs", "/v1/estimate"] {
                let ask = async |url: &str| {
                    let mut body = order(&own, url);
                    body["model"] = json!("light");
                    anonymous(stranger.post(path, &body).await)
                };
                let expected = ask(&unknown).await;
                assert_eq!((expected.0, &expected.1["error"]["code"]), (400, &json!("invalid_request")), "{path}");
                assert_eq!(ask(foreign).await, expected, "{path}");
            }
        }
        assert_eq!(stranger.milli_credits().await, [100_000, 0, 0]);
        assert_eq!(stranger.get("/v1/jobs").await.ok()["total"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_keys_see_and_do_the_same() {
    in_a_world(no_worker(), async |world| {
        let (one, other) = (world.client("acme", 10.0).await, world.client("acme", 10.0).await);
        assert_ne!(one.key, other.key);
        let video_url = one.upload(&Clip::SMALL.make(world.scratch())).await;
        // What one has uploaded, the other orders; what he orders, the one reads and cancels.
        let id = other.order(&video_url).await;
        for path in [&format!("/v1/jobs/{id}"), "/v1/jobs", "/v1/credits"] {
            assert_eq!(one.get(path).await.ok(), other.get(path).await.ok(), "{path}");
        }
        assert_eq!(one.milli_credits().await, [20_000 - 750, 750, 0]);
        one.cancel(&id).await.ok();
        assert_eq!(other.job(&id).await.status.as_str(), "failed");
        assert_eq!(other.milli_credits().await, [20_000, 0, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_in_anothers_list_leads_to_nothing_of_his() {
    in_a_world(no_worker(), async |world| {
        let (owner, stranger) = (world.client("acme", 10.0).await, world.client("umbrella", 10.0).await);
        let video_url = owner.upload(&Clip::SMALL.make(world.scratch())).await;
        for _ in 0..3 {
            owner.order_with(json!({"video_url": video_url, "model": "light", "auto_start": false})).await;
        }
        let cursor = owner.get("/v1/jobs?limit=1").await.ok()["next_cursor"].as_str().unwrap().to_owned();
        let page = stranger.get(&format!("/v1/jobs?cursor={cursor}")).await;
        match page.status {
            200 => assert_eq!(page.json["items"], json!([])),
            _ => page.is(400, "invalid_request"),
        }
    })
    .await;
}

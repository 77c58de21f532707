//! R1-R6 and R10-R12: what client libraries read in answers, and what they send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::library::{LANGUAGES, Library};
use super::no_worker;
use super::receiver::Receiver;
use crate::world::client::Client;
use crate::world::media::Clip;
use crate::world::{Options, World, in_a_world};

async fn paid(world: &mut World) -> Client {
    world.client("acme", 100.0).await
}

/// Requests that fail, each for a reason of its own: method, path, headers, body, and what the library raises.
fn failing_requests() -> Vec<(Value, (&'static str, u16, &'static str))> {
    let raw = |method: &str, path: &str, headers: Value, body: &str| {
        let body = if body.is_empty() { Value::Null } else { json!(body) };
        json!({"method": method, "path": path, "headers": headers, "body": body})
    };
    let unknown = format!("/v1/jobs/job_{}", "0".repeat(32));
    let form = json!({"Content-Type": "multipart/form-data; boundary=b"});
    vec![
        (raw("POST", "/v1/jobs", json!({}), "{"), ("InvalidRequestError", 400, "invalid_request")),
        (raw("POST", "/v1/jobs", json!({}), "[1]"), ("InvalidRequestError", 400, "invalid_request")),
        (raw("POST", "/v1/jobs", json!({}), "null"), ("InvalidRequestError", 400, "invalid_request")),
        (raw("POST", "/v1/jobs", json!({}), "{\"video_url\":1}"), ("InvalidRequestError", 400, "invalid_request")),
        (raw("POST", "/v1/uploads", form, "no form"), ("InvalidRequestError", 400, "invalid_request")),
        (raw("GET", "/v1/jobs?limit=many", json!({}), ""), ("InvalidRequestError", 400, "invalid_request")),
        (raw("GET", &unknown, json!({}), ""), ("NotFoundError", 404, "not_found")),
        (raw("GET", "/v1/jobs/%00", json!({}), ""), ("NotFoundError", 404, "not_found")),
        (raw("GET", "/", json!({}), ""), ("NotFoundError", 404, "not_found")),
        (raw("GET", "/v2/jobs", json!({}), ""), ("NotFoundError", 404, "not_found")),
        (raw("PUT", "/v1/jobs", json!({}), ""), ("ApiError", 405, "method_not_allowed")),
        (raw("PATCH", "/health", json!({}), ""), ("ApiError", 405, "method_not_allowed")),
        (raw("POST", "/v1/jobs", json!({}), &" ".repeat(300 * 1024)), ("ApiError", 413, "payload_too_large")),
        (raw("GET", "/v1/admin/keys", json!({}), ""), ("AuthenticationError", 401, "invalid_admin_token")),
        (raw("GET", "/v1/jobs", json!({"X-Api-Key": "wrong"}), ""), ("AuthenticationError", 401, "invalid_api_key")),
        (raw("GET", "/v1/jobs", json!({"X-Api-Key": ""}), ""), ("AuthenticationError", 401, "missing_api_key")),
    ]
}

/// R1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_every_error_is_an_object_that_libraries_can_ask() {
    in_a_world(no_worker(), async |world| {
        let client = paid(world).await;
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            for (request, (class, status, code)) in failing_requests() {
                library.raises("raw", &request).is(class, status, code);
            }
        }
    })
    .await;
}

/// R2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_every_answer_can_be_parsed_as_json_also_one_that_has_nothing_to_say() {
    in_a_world(no_worker(), async |world| {
        let client = paid(world).await;
        let clip = Clip::SMALL.make(world.scratch());
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            let get = |path: &str| json!({"method": "GET", "path": path});
            for path in ["/health", "/api/pricing", "/v1/credits", "/v1/jobs"] {
                assert!(library.call("raw", &get(path)).is_object(), "{path}");
            }
            let preflight = json!({"method": "OPTIONS", "path": "/v1/jobs", "headers":
                {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}});
            assert!(library.call("raw", &preflight).is_object());
            let video_url = library.upload(&clip);
            let (id, _) = library.create(&video_url, json!({"auto_start": false}));
            let cancel = json!({"method": "POST", "path": format!("/v1/jobs/{id}/cancel")});
            assert_eq!(library.call("raw", &cancel)["status"], "failed");
        }
    })
    .await;
}

/// R3: what no route of ours has answered, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_an_answer_of_the_host_itself_keeps_its_code_and_request_id() {
    in_a_world(no_worker(), async |world| {
        let client = paid(world).await;
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            for path in ["/nowhere", "/v1", "/v1/", "/v1/jobs/", "/internal/nowhere", "/index.html", "/v1/jobs/a/b/c"] {
                let raised = library.raises("raw", &json!({"method": "GET", "path": path}));
                raised.is("NotFoundError", 404, "not_found");
            }
            let long = json!({"method": "GET", "path": format!("/v1/jobs?cursor={}", "x".repeat(60_000))});
            assert!(library.raises("raw", &long).whole["code"].is_string());
        }
    })
    .await;
}

/// R4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_upload_create_and_start_answer_200() {
    in_a_world(no_worker(), async |world| {
        let client = paid(world).await;
        let clip = Clip::SMALL.make(world.scratch());
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            let video_url = library.upload(&clip);
            let (id, created) = library.create(&video_url, json!({"auto_start": false}));
            assert_eq!((&created["success"], &created["status"]), (&json!(true), &json!("created")));
            let mut started = library.call("start_job", &json!({"job_id": id}));
            assert_eq!((&started[0], &started[1]["status"]), (&json!(id), &json!("pending")));
            assert!(started[1]["message"].take().is_string());
        }
        // The libraries take any 2xx; the number itself is promised as well.
        let video_url = client.upload_by_form(&clip).await;
        let order = json!({"video_url": video_url, "model": "light", "auto_start": false});
        let created = client.post("/v1/jobs", &order).await.ok();
        let start = format!("/v1/jobs/{}/start", created["id"].as_str().unwrap());
        client.post(&start, &json!({})).await.ok();
    })
    .await;
}

/// R5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_polling_ends_with_a_completed_job_and_with_a_cancelled_one() {
    in_a_world(Options::default(), async |world| {
        let client = paid(world).await;
        let clip = Clip::SMALL.make(world.scratch());
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            let video_url = library.upload(&clip);
            let (id, _) = library.create(&video_url, json!({}));
            let job = library.call("wait_for_completion", &json!({"job_id": id}));
            assert!(job["output_url"].as_str().is_some_and(|url| url.starts_with("http")), "{job:#}");
            assert_eq!((&job["progress"], &job["error"]), (&json!(100), &Value::Null));

            let (draft, _) = library.create(&video_url, json!({"auto_start": false}));
            client.cancel(&draft).await.ok();
            let ended = library.raises("wait_for_completion", &json!({"job_id": draft, "deadline": 5}));
            assert_eq!(
                (ended.class.as_str(), &ended.whole["job"]["error_code"]),
                ("ProcessingError", &json!("cancelled"))
            );
        }
    })
    .await;
}

/// R6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_a_failed_job_says_why_in_error_and_any_other_says_null() {
    in_a_world(no_worker(), async |world| {
        let client = paid(world).await;
        let clip = Clip::SMALL.make(world.scratch());
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            let video_url = library.upload(&clip);
            for options in [json!({"auto_start": false}), json!({})] {
                let (id, created) = library.create(&video_url, options);
                assert_eq!(created["error"], Value::Null);
                client.cancel(&id).await.ok();
                let ended = library.raises("wait_for_completion", &json!({"job_id": id, "deadline": 5}));
                assert!(ended.message.as_str().is_some_and(|text| !text.is_empty()), "{ended:?}");
            }
        }
    })
    .await;
}

/// R10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r10_the_flat_fields_that_libraries_always_send_are_enough_for_everything() {
    in_a_world(no_worker(), async |world| {
        let client = paid(world).await;
        let clip = Clip::SMALL.make(world.scratch());
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            let video_url = library.upload(&clip);
            // Nothing but the library's own defaults. This world has no weights of `original`: a draft needs none.
            let (id, job) = library.create(&video_url, json!({}));
            assert_eq!(
                (&job["background"], &job["output_format"]),
                (&json!({"type": "color", "color": "#09A246"}), &json!("webm"))
            );
            assert_eq!((&job["warnings"], &job["status"]), (&json!([]), &json!("pending")));
            client.cancel(&id).await.ok();
            let options = json!({
                "bg_type": "custom", "bg_color": [1.0, 0.5, 0.0], "output_format": "mov", "auto_start": false,
                "webhook_url": "https://example.com/hook", "metadata": {"order": 7},
            });
            let (_, job) = library.create(&video_url, options);
            assert_eq!(job["background"], json!({"type": "color", "color": "#FF8000"}));
            assert_eq!(
                (&job["webhook_url"], &job["metadata"]),
                (&json!("https://example.com/hook"), &json!({"order": 7}))
            );
        }
    })
    .await;
}

/// R11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_a_start_may_say_nothing_and_equal_creates_without_a_key_are_two_jobs() {
    in_a_world(no_worker(), async |world| {
        let client = paid(world).await;
        let clip = Clip::SMALL.make(world.scratch());
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            let video_url = library.upload(&clip);
            let (one, _) = library.create(&video_url, json!({"auto_start": false}));
            let (other, _) = library.create(&video_url, json!({"auto_start": false}));
            assert_ne!(one, other);
            assert_eq!(library.call("start_job", &json!({"job_id": one}))[1]["status"], "pending");
            // Not even a body.
            let start = json!({"method": "POST", "path": format!("/v1/jobs/{other}/start")});
            assert_eq!(library.call("raw", &start)["status"], "pending");
        }
    })
    .await;
}

/// R12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r12_what_libraries_read_at_top_level_is_there() {
    let receiver = Receiver::start().await;
    let options = Options { args: receiver.allowed(), ..Options::default() };
    in_a_world(options, async |world| {
        let clip = Clip::SMALL.make(world.scratch());
        for language in LANGUAGES {
            let name = format!("{language:?}").to_lowercase();
            let (client, secret) = world.client_with_secret(&name, 100.0).await;
            let mut library = Library::of(language, &client);
            let made = library.call("create_key", &json!({"client_id": name}));
            let mut other =
                Library::of(language, &Client { key: made["api_key"].as_str().unwrap().to_owned(), ..client.clone() });
            let listed = library.call("list_keys", &json!({}));
            let known = listed.as_array().unwrap().iter().any(|key| key["key_fingerprint"] == made["key_fingerprint"]);
            assert!(known, "{listed:#}");

            let video_url = library.upload(&clip);
            let (id, created) = library.create(&video_url, json!({"webhook_url": receiver.url(&format!("/{name}"))}));
            assert_eq!(created["job_id"], json!(id));
            let job = other.call("wait_for_completion", &json!({"job_id": id}));
            let used = library.call("usage_summary", &json!({"days": 1}));
            assert_eq!(used, json!({"total_jobs": 1, "completed_jobs": 1, "credits_used": job["credits_charged"]}));

            let events: BTreeMap<String, Value> = receiver
                .wait(&format!("/{name}"), 2)
                .await
                .into_iter()
                .map(|sent| {
                    let args = json!({"body": sent.text(), "headers": sent.headers, "secret": secret});
                    let event = library.call("parse_webhook", &args);
                    (event["event"].as_str().unwrap().to_owned(), event)
                })
                .collect();
            let (started, completed) = (&events["job.started"], &events["job.completed"]);
            assert_eq!((&started["id"], &started["status"]), (&json!(id), &json!("processing")));
            assert_eq!((&completed["id"], &completed["status"]), (&json!(id), &json!("completed")));
            assert!(completed["output_url"].as_str().is_some_and(|url| url.starts_with("http")), "{completed:#}");
        }
    })
    .await;
}

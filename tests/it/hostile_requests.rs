//! Requests from people who mean no good: each is answered with an envelope, or its connection closed where HTTP
//! allows no answer; the service's memory stays where it was, and everybody else is served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod framing;
mod patience;
mod targets;

use reqwest::Method;
use serde_json::{Value, json};

use crate::conformance::no_worker;
use crate::conformance::wire::{self, Answer, Wire};
use crate::world::client::Client;
use crate::world::media::Clip;
use crate::world::processes::Growth;
use crate::world::{World, in_a_world};

/// MiB that the service's memory may grow by, whatever it is sent.
const GROWTH: u64 = 64;

/// Fails the test unless an answer is an error in the envelope, or none.
fn is_refused(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    is_ours(answer, what);
}

/// Whatever the answer is: ours, and no 500.
fn is_ours(answer: &Answer, what: &str) {
    assert!(answer.status < 500, "{what}: {answer:?}");
    let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{what}: no request id: {answer:?}"));
    let json = answer.json();
    if answer.status >= 400 {
        assert_eq!(json["error"]["request_id"], id, "{what}: {json:#}");
        assert!(json["error"]["code"].is_string(), "{what}: {json:#}");
    }
}

/// One request on a connection of its own.
async fn send(client: &Client, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let length = format!("Content-Length: {}", body.len());
    let mut wire = Wire::connect(client).await;
    wire.send_head(method, path, &[headers, &[&length]].concat()).await;
    wire.send(body).await;
    wire.answer().await
}

/// A client of a service that has done everything once: what it needs for that is no growth.
async fn warmed_up(world: &mut World) -> (Client, Growth) {
    let client = world.client("acme", 1000.0).await;
    let clip = Clip::SMALL.make(world.scratch());
    client.upload_by_form(&clip).await;
    client.order(&client.upload(&clip).await).await;
    client.get("/v1/jobs").await.ok();
    let growth = Growth::of(world.session());
    (client, growth)
}

fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let nested = |open: &str, close: &str| format!("{{\"metadata\":{}1{}}}", open.repeat(10_000), close.repeat(10_000));
    let keys: String = (0..100_000).map(|number| format!("\"k{number}\":{number},")).collect();
    let few_keys: String = (0..10_000).map(|number| format!("\"k{number}\":0,")).collect();
    vec![
        ("10 MB of text", format!("{{\"video_url\":\"{}\"}}", "x".repeat(10_000_000)).into_bytes()),
        ("10 MB of spaces", vec![b' '; 10_000_000]),
        ("deep arrays", nested("[", "]").into_bytes()),
        ("deep objects", nested("{\"a\":", "}").into_bytes()),
        ("only open brackets", vec![b'['; 200_000]),
        ("bad UTF-8", b"{\"video_url\":\"\xff\xfe\xc0\x80\"}".to_vec()),
        ("half of a surrogate pair", b"{\"video_url\":\"\\ud800\"}".to_vec()),
        ("NUL bytes", vec![0; 1000]),
        ("a NUL in text", b"{\"video_url\":\"a\0b\"}".to_vec()),
        ("an escaped NUL in text", b"{\"video_url\":\"a\\u0000b\"}".to_vec()),
        ("the same key twice", b"{\"video_url\":\"a\",\"video_url\":\"b\"}".to_vec()),
        ("100,000 keys in metadata", format!("{{\"metadata\":{{{keys}\"z\":0}}}}").into_bytes()),
        ("10,000 keys in metadata", format!("{{\"video_url\":\"u\",\"metadata\":{{{few_keys}\"z\":0}}}}").into_bytes()),
        ("10,000 unknown fields", format!("{{{few_keys}\"video_url\":5}}").into_bytes()),
        ("a number without end", format!("{{\"bg_color\":[1{},0,0]}}", "0".repeat(200_000)).into_bytes()),
        ("a number beyond all", b"{\"bg_color\":[1e999999999,0,0]}".to_vec()),
        ("two documents", b"{}{}".to_vec()),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec()),
        ("XML", b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_sense_is_refused_wherever_it_is_sent() {
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let job = format!("/v1/jobs/job_{}", "0".repeat(32));
        let token = format!("X-Admin-Token: {}", crate::world::ADMIN_TOKEN);
        for (what, body) in bodies() {
            for path in [
                "/v1/jobs",
                "/v1/uploads",
                &format!("{job}/start"),
                "/v1/estimate",
                "/v1/admin/keys",
                "/v1/admin/credits",
            ] {
                for content_type in
                    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
                {
                    let content_type = format!("Content-Type: {content_type}");
                    let answer = send(&client, "POST", path, &[&content_type, &token], &body).await;
                    is_refused(&answer, &format!("{what} to {path} as {content_type}"));
                }
            }
        }
        growth.check(GROWTH, "bodies");
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_is_sent_twice_or_unreadable_opens_nothing() {
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let key = format!("X-Api-Key: {}", client.key);
        let long = format!("X-Long: {}", "x".repeat(20_000));
        let hundreds: Vec<String> = (0..90).map(|number| format!("X-Header-{number}: x")).collect();
        let body = b"{\"video_url\":\"u\"}";
        let json = "Content-Type: application/json";
        for headers in [
            vec![key.as_str()],
            vec!["X-Api-Key: other"],
            vec![json, json],
            vec![json, "Idempotency-Key: a", "Idempotency-Key: b"],
            vec![json, "Idempotency-Key: \u{e9}"],
            vec![json, long.as_str()],
            hundreds.iter().map(String::as_str).collect(),
        ] {
            let answer = send(&client, "POST", "/v1/jobs", &headers, body).await;
            is_refused(&answer, &format!("{headers:.100?}"));
        }
        let token = "X-Admin-Token: operator-of-the-tests";
        for headers in [vec![token, token], vec![token, "X-Admin-Token: other"], vec!["X-Admin-Token: \u{e9}"]] {
            let answer = send(&client, "GET", "/v1/admin/keys", &headers, b"").await;
            assert_eq!(answer.status, 401, "{headers:?}");
            is_refused(&answer, "admin token");
        }
        // What a client says about himself is not believed.
        let told =
            send(&client, "GET", "/v1/credits", &["X-Request-Id: mine\u{1b}[31m", "X-Forwarded-For: 127.0.0.1"], b"")
                .await;
        is_ours(&told, "request id");
        assert!(told.header("x-request-id").unwrap().starts_with("req_"));
        growth.check(GROWTH, "headers");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_name_is_never_a_path() {
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let clip = std::fs::read(world.scratch().join("clip-256x144-1.mp4")).unwrap();
        for name in [
            "../../../../tmp/rotoless-escaped.mp4",
            "/tmp/rotoless-escaped.mp4",
            "..\\..\\rotoless-escaped.mp4",
            "..",
            ".",
            "/",
            "",
            "a\0b.mp4",
            "\u{202e}4pm.exe",
            "%2e%2e%2frotoless-escaped.mp4",
            "$(touch rotoless-escaped).mp4",
            "clip.mp4; filename=\"other\"",
            &"n".repeat(10_000),
            &"🎬".repeat(2_500),
        ] {
            let (head, tail) = wire::around(name);
            let body = [head.as_bytes(), &clip, tail.as_bytes()].concat();
            let content_type = wire::form(name, b"").content_type();
            let answer = send(&client, "POST", "/v1/uploads", &[&content_type], &body).await;
            is_ours(&answer, name);
            if answer.status == 200 {
                let json = answer.json();
                let shown = json["filename"].as_str().unwrap();
                let plain = !shown.contains(['/', '\\', '\0']) && !["", ".", ".."].contains(&shown);
                assert!(plain && shown.chars().count() <= 255, "{name:?} is shown as {shown:?}");
                assert!(!json["video_url"].as_str().unwrap().contains("rotoless-escaped"), "{json:#}");
            }
        }
        growth.check(GROWTH, "file names");
        let escaped = ["/tmp/rotoless-escaped.mp4", "rotoless-escaped", "rotoless-escaped.mp4"];
        assert!(!escaped.iter().any(|path| std::path::Path::new(path).exists()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_is_never_more_than_a_name() {
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let long = format!("/v1/jobs/{}", "a/".repeat(4_000));
        for path in [
            "/v1/jobs/../admin/keys",
            "/v1/jobs/..%2fadmin%2fkeys",
            "/v1/jobs/%2e%2e/admin/keys",
            "/v1/jobs/%00",
            "/v1/jobs/%ff%fe",
            "/v1/jobs/%",
            "/v1/jobs/%zz",
            "/v1/jobs/job_%0d%0aSet-Cookie:%20a=b",
            "/v1/jobs/job_' OR 1=1",
            "/v1/jobs;a=b",
            "/v1/jobs/\u{202e}",
            "//v1/jobs",
            "/./v1/jobs",
            "/v1/jobs/.",
            "/api/download/../../etc/passwd",
            "/api/download/..%2f..%2fetc%2fpasswd",
            "/internal/",
            "/internal/../v1/admin/keys",
            "/health/",
            "/v1/admin/keys?",
            "/v1/jobs?limit=1000000000",
            "/v1/jobs?limit=%00",
            "/v1/jobs?cursor=%00%ff",
            "/v1/jobs?status='",
            "*",
            &long,
        ] {
            let mut wire = Wire::connect(&client).await;
            wire.send_head("GET", path, &[]).await;
            let answer = wire.answer().await;
            is_refused(&answer, &format!("{path:.100}"));
            assert!(answer.header("set-cookie").is_none() && answer.header("location").is_none(), "{path}");
        }
        growth.check(GROWTH, "paths");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_on_every_route_is_answered_in_json() {
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let job = format!("/v1/jobs/job_{}", "0".repeat(32));
        let long = "M".repeat(1000);
        let methods =
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "G\u{1}T", &long];
        let bodies: [Value; 3] = [json!({}), json!([]), json!({"key_fingerprint": "x", "client_id": "x", "size": -1})];
        for path in [
            "/v1/uploads",
            "/v1/jobs",
            &job,
            &format!("{job}/start"),
            &format!("{job}/cancel"),
            &format!("{job}/events"),
            &format!("{job}/deliveries"),
            "/v1/estimate",
            "/v1/credits",
            "/v1/usage/summary",
            "/v1/usage/events",
            "/v1/admin/config",
            "/v1/admin/keys",
            "/v1/admin/keys/disable",
            "/v1/admin/keys/enable",
            "/v1/admin/credits",
            "/openapi.json",
            "/api/pricing",
            "/api/upload",
            "/api/process",
            "/health",
            "/",
        ] {
            for method in methods {
                for body in &bodies {
                    let body = body.to_string();
                    let length = format!("Content-Length: {}", body.len());
                    let mut wire = Wire::connect(&client).await;
                    wire.send_head(method, path, &["Content-Type: application/json", &length]).await;
                    wire.send(body.as_bytes()).await;
                    if method == "HEAD" {
                        assert!(wire.head_answer().await.status < 500, "{method} {path}");
                    } else {
                        is_ours(&wire.answer().await, &format!("{method:.20} {path} {body}"));
                    }
                }
            }
        }
        growth.check(GROWTH, "methods");
        client.request(Method::GET, "/v1/jobs").send().await.unwrap();
    })
    .await;
}

/// The greatest upload that is taken, with all of it on the way at once as far as the service lets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_megabytes_go_through_in_constant_memory() {
    const BYTES: usize = 500_000_000;
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let clip = std::fs::read(world.scratch().join("clip-256x144-1.mp4")).unwrap();
        let (head, tail) = wire::around("long.mp4");
        // A real video, then a box of nothing up to the greatest size.
        let padding = BYTES - clip.len();
        let padding_head = [&u32::try_from(padding).unwrap().to_be_bytes()[..], b"free"].concat();
        let length = format!("Content-Length: {}", head.len() + BYTES + tail.len());
        let mut wire = Wire::connect(&client).await;
        let content_type = wire::form("", b"").content_type();
        wire.send_head("POST", "/v1/uploads", &[&content_type, &length]).await;
        assert!(wire.send(&[head.as_bytes(), &clip, &padding_head].concat()).await);
        let chunk = vec![0; 1 << 20];
        let mut left = padding - padding_head.len();
        while left > 0 {
            let now = left.min(chunk.len());
            assert!(wire.send(&chunk[..now]).await, "{left} bytes before the end");
            left -= now;
        }
        assert!(wire.send(tail.as_bytes()).await);
        let answer = wire.answer().await;
        let uploaded = answer.json();
        assert_eq!((answer.status, &uploaded["size"]), (200, &json!(BYTES)), "{uploaded:#}");
        growth.check(GROWTH, "500 MB");
        client.order(uploaded["video_url"].as_str().unwrap()).await;

        // One byte more is too much, and whoever announces it is told so.
        let more = format!("Content-Length: {}", head.len() + BYTES + 200_000);
        let mut wire = Wire::connect(&client).await;
        wire.send_head("POST", "/v1/uploads", &[&content_type, &more, "Expect: 100-continue"]).await;
        let refused = wire.answer().await;
        is_refused(&refused, "501 MB");
        assert_eq!(refused.json()["error"]["message"], "File too large");
    })
    .await;
}

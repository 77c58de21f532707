//! JSON bodies from outside: their size, depth and shape.

use axum::body::{Body, Bytes};
use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::world::World;

const LIMIT: usize = 256 * 1024;

/// G-28
#[tokio::test]
async fn a_json_body_beyond_its_cap_is_a_413_whether_its_length_was_told_or_not() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let body = |len: usize| format!("{{\"video_url\":\"{}\"}}", "x".repeat(len - "{\"video_url\":\"\"}".len()));
    for path in ["/v1/jobs", "/v1/uploads", "/v1/jobs/job_00000000000000000000000000000000/start"] {
        let told = world.post(path).key(&key).header("Content-Length", (LIMIT + 1).to_string()).body(body(LIMIT + 1));
        told.send().await.is(413, "payload_too_large");
        let pieces: Vec<_> = body(LIMIT + 1).into_bytes().chunks(1000).map(Bytes::copy_from_slice).collect();
        let untold = Body::from_stream(stream::iter(pieces).map(Ok::<_, std::io::Error>));
        world.post(path).key(&key).body(untold).send().await.is(413, "payload_too_large");
        let at_the_cap = world.post(path).key(&key).body(body(LIMIT)).send().await;
        assert!([400, 404].contains(&at_the_cap.status.as_u16()), "{}", at_the_cap.text);
    }
    let told = world.post("/v1/admin/keys").admin().body(body(LIMIT + 1)).send().await;
    told.is(413, "payload_too_large");
}

/// G-28
#[tokio::test]
async fn what_is_not_the_expected_json_is_a_400_and_never_a_panic() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let deep_array = "[".repeat(100_000);
    let deep_object = format!("{{\"metadata\":{}1{}}}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let deep_unknown = format!("{{\"x\":{}{}}}", "[".repeat(120), "]".repeat(120));
    let bodies: &[&[u8]] = &[
        b"",
        b"   ",
        b"null",
        b"true",
        b"[]",
        b"[\"https://example.com/a.mp4\"]",
        b"\"video_url\"",
        b"{",
        b"{\"video_url\":}",
        b"{\"video_url\":\"\xff\xfe\"}",
        b"\xef\xbb\xbf{}",
        b"{\"video_url\":\"a\",\"video_url\":\"b\"}",
        b"{\"video_url\":\"\\ud800\"}",
        b"{\"bg_color\":[1e999,0,0]}",
        b"{} {}",
        b"video_url=x&model=original",
        deep_array.as_bytes(),
        deep_object.as_bytes(),
        deep_unknown.as_bytes(),
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        for path in ["/v1/jobs", "/v1/uploads"] {
            let reply = world.post(path).key(&key).body(body.to_vec()).send().await;
            assert_eq!(reply.status, 400, "{shown}: {}", reply.text);
        }
        world.post("/v1/admin/credits").admin().body(body.to_vec()).send().await.is(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_named() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    for (body, param) in [
        (json!({"video_url": 5}), "video_url"),
        (json!({"video_url": "u", "auto_start": "yes"}), "auto_start"),
        (json!({"video_url": "u", "background": "green"}), "background"),
        (json!({"video_url": "u", "metadata": []}), "metadata"),
        (json!({"video_url": "u", "composition": {"canvas": {"width": -1, "height": 2}}}), "composition"),
        (json!({"video_url": "u", "model": "best"}), "model"),
        (json!({"model": "human"}), "video_url"),
    ] {
        let reply = world.post("/v1/jobs").key(&key).json(&body).send().await;
        reply.is(400, "invalid_request");
        assert_eq!(reply.param(), Some(param), "{}", reply.text);
    }
}

#[tokio::test]
async fn the_content_type_of_json_is_not_asked_but_may_not_be_told_twice() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    for content_type in
        [None, Some("application/json; charset=utf-8"), Some("text/plain"), Some("application/x-www-form-urlencoded")]
    {
        let mut call = world.post("/v1/jobs").key(&key).body("{\"video_url\":\"https://169.254.169.254/\"}");
        if let Some(content_type) = content_type {
            call = call.header("Content-Type", content_type);
        }
        let reply = call.send().await;
        assert_eq!((reply.reason(), reply.param()), (Some("url_not_allowed"), Some("video_url")), "{}", reply.text);
    }
    let twice = world.post("/v1/jobs").key(&key).header("Content-Type", "application/json");
    let twice = twice.header("Content-Type", "multipart/form-data").body("{\"video_url\":\"u\"}");
    twice.send().await.is(400, "invalid_request");
}

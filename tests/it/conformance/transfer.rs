//! R7-R9: uploads as client libraries send them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::library::{LANGUAGES, Library};
use super::no_worker;
use super::wire::{Answer, Wire};
use crate::world::client::Client;
use crate::world::in_a_world;
use crate::world::media::{self, Clip};

/// R7: the same bytes under every name and type that a client may give them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_file_is_what_its_bytes_say_whatever_its_part_is_called() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 100.0).await;
        let clip = Clip::SMALL.make(world.scratch());
        let text = world.scratch().join("text.mp4");
        std::fs::write(&text, "not a film\n".repeat(100)).unwrap();
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            for (name, content_type) in [
                ("clip.mp4", None),
                ("clip.mp4", Some("application/octet-stream")),
                ("clip.mp4", Some("text/plain")),
                ("clip.mp4", Some("video/webm")),
                ("CLIP.MP4", None),
                ("clip", None),
                ("clip.txt", None),
                ("клип №1 — \"final\".mp4", None),
            ] {
                let mut args = json!({"path": clip, "name": name});
                if let Some(content_type) = content_type {
                    args["content_type"] = json!(content_type);
                }
                let video_url = library.call("upload", &args);
                let (id, job) = library.create(video_url.as_str().unwrap(), json!({}));
                assert_eq!(job["status"], "pending");
                client.cancel(&id).await.ok();
            }
            for content_type in [json!(null), json!("video/mp4")] {
                let refused = library.raises("upload", &json!({"path": text, "content_type": content_type}));
                refused.is("InvalidRequestError", 400, "invalid_request");
                assert_eq!(refused.message, "Invalid file type");
            }
        }
    })
    .await;
}

/// A clip with a box of padding behind it: a real video of `bytes` bytes.
pub(super) fn padded(dir: &Path, bytes: u64) -> PathBuf {
    let path = dir.join("padded.mp4");
    std::fs::copy(Clip::SMALL.make(dir), &path).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let clip = file.metadata().unwrap().len();
    let padding = u32::try_from(bytes - clip).unwrap();
    std::io::Write::write_all(&mut file, &padding.to_be_bytes()).unwrap();
    std::io::Write::write_all(&mut file, b"free").unwrap();
    file.set_len(bytes).unwrap();
    path
}

/// R8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_a_big_upload_is_answered_right_after_its_last_byte() {
    const BYTES: u64 = 60_000_000;
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 100.0).await;
        let big = padded(world.scratch(), BYTES);
        assert!(media::facts(&big)["streams"].as_array().is_some_and(|streams| streams.len() == 2));
        for language in LANGUAGES {
            let mut library = Library::of(language, &client);
            let began = Instant::now();
            let video_url = library.upload(&big);
            assert!(began.elapsed() < Duration::from_secs(30), "{language:?}: {:?}", began.elapsed());
            let (_, job) = library.create(&video_url, json!({}));
            assert_eq!(job["status"], "pending");
            // Who is refused before he has sent it all sees why, and not a broken connection.
            let mut stranger = Library::of(language, &Client { key: "wrong".to_owned(), ..client.clone() });
            stranger.raises("upload", &json!({"path": big})).is("AuthenticationError", 401, "invalid_api_key");
        }
        let mut wire = Wire::connect(&client).await;
        let file = std::fs::read(&big).unwrap();
        let form = super::wire::form("padded.mp4", &file);
        wire.send_head("POST", "/v1/uploads", &[&form.content_type(), &form.content_length()]).await;
        wire.send(&form.body).await;
        let sent = Instant::now();
        let answer = wire.answer().await;
        let waited = sent.elapsed();
        println!("answered {waited:?} after the last byte");
        assert_eq!(answer.status, 200);
        // What the kernel had buffered had still to be read and stored.
        assert!(waited < Duration::from_secs(3), "answered {waited:?} after the last byte");
    })
    .await;
}

fn is_no_redirect(answer: &Answer, what: &str) {
    assert!(!(300..400).contains(&answer.status), "{what}: {answer:?}");
    assert!(answer.header("location").is_none(), "{what}: {answer:?}");
}

/// R9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_an_upload_is_never_redirected() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 100.0).await;
        let clip = std::fs::read(Clip::SMALL.make(world.scratch())).unwrap();
        let form = super::wire::form("clip.mp4", &clip);
        for method in ["POST", "PUT", "HEAD", "GET"] {
            for path in ["/v1/uploads", "/v1/uploads/", "//v1/uploads", "/v1//uploads", "/V1/uploads", "/v1/uploads?"] {
                let mut wire = Wire::connect(&client).await;
                wire.send_head(method, path, &[&form.content_type(), &form.content_length()]).await;
                wire.send(&form.body).await;
                let answer = if method == "HEAD" { wire.head_answer().await } else { wire.answer().await };
                is_no_redirect(&answer, &format!("{method} {path}"));
                let accepted = method == "POST" && path.trim_end_matches('?') == "/v1/uploads";
                assert_eq!(answer.status == 200, accepted, "{method} {path}: {answer:?}");
            }
        }
        // A client that asks first is told to go on, and then answered.
        let mut wire = Wire::connect(&client).await;
        let expect = "Expect: 100-continue".to_owned();
        wire.send_head("POST", "/v1/uploads", &[&form.content_type(), &form.content_length(), &expect]).await;
        assert_eq!(wire.head_answer().await.status, 100);
        wire.send(&form.body).await;
        let answer = wire.answer().await;
        is_no_redirect(&answer, "after 100");
        assert_eq!(answer.status, 200);
        // One without a key is told so instead, before he sends anything.
        let mut wire = Wire::connect(&client).await;
        wire.without_key()
            .send_head("POST", "/v1/uploads", &[&form.content_type(), &form.content_length(), &expect])
            .await;
        let refused = wire.answer().await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (401, &json!("missing_api_key")));
    })
    .await;
}

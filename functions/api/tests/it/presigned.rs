//! Uploads straight to the object store.

use reqwest::StatusCode;
use rotoless_contract::api::PresignReply;
use serde_json::{Value, json};

use crate::world::{BASE, CLIP, World};

async fn presign(world: &World, key: &str, content_type: &str, size: u64) -> PresignReply {
    let body = json!({"filename": "clip.mp4", "content_type": content_type, "size": size});
    world.post("/v1/uploads").key(key).json(&body).send().await.ok()
}

/// A PUT as a client makes it: the headers it was given, and the length its own library counts.
async fn put(link: &PresignReply, bytes: &'static [u8]) -> StatusCode {
    let mut request = reqwest::Client::new().put(&link.upload_url).body(bytes);
    for (name, value) in link.headers.iter().filter(|(name, _)| *name != "content-length") {
        request = request.header(name, value);
    }
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_presigned_upload_makes_a_job() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let link = presign(&world, &key, "video/mp4", CLIP.len() as u64).await;
    assert_eq!((link.success, link.method.as_str()), (true, "PUT"));
    assert_eq!(link.headers["content-type"], "video/mp4");
    assert_eq!(link.video_url, format!("{BASE}/v1/uploads/{}", link.video_id));
    assert!(link.expires_at > jiff::Timestamp::now());
    // Not yet there.
    let early = world.post("/v1/jobs").key(&key).json(&json!({"video_url": link.video_url})).send().await;
    assert_eq!(early.reason(), Some("upload_not_found"));
    assert!(put(&link, CLIP).await.is_success());
    let job = world.post("/v1/jobs").key(&key).json(&json!({"video_url": link.video_url})).send().await;
    assert_eq!(job.json["status"], "pending", "{}", job.text);
}

/// Size and type are part of the signature.
#[tokio::test]
async fn a_presigned_upload_of_another_size_or_type_is_refused_by_the_store() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let link = presign(&world, &key, "video/mp4", CLIP.len() as u64 - 1).await;
    assert!(put(&link, CLIP).await.is_client_error());
    let mut link = presign(&world, &key, "video/mp4", CLIP.len() as u64).await;
    link.headers.insert("content-type".to_owned(), "text/html".to_owned());
    assert!(put(&link, CLIP).await.is_client_error());
}

/// What the link cannot judge, the job does.
#[tokio::test]
async fn a_text_file_sent_by_a_link_for_mp4_makes_no_job() {
    let world = World::start().await;
    let key = world.client("acme", 100).await;
    let text = b"this is not a video\n";
    let link = presign(&world, &key, "video/mp4", text.len() as u64).await;
    assert!(put(&link, text).await.is_success());
    let reply = world.post("/v1/jobs").key(&key).json(&json!({"video_url": link.video_url})).send().await;
    reply.is(400, "invalid_request");
    assert_eq!(reply.reason(), Some("invalid_file_type"));
    assert_eq!(world.credits(&key).await, [100.0, 0.0, 0.0]);
}

#[tokio::test]
async fn only_announced_files_of_an_accepted_type_and_size_get_a_link() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let ask = async |content_type: &str, filename: &str, size: Value| {
        let body = json!({"filename": filename, "content_type": content_type, "size": size});
        world.post("/v1/uploads").key(&key).json(&body).send().await
    };
    for (content_type, filename, expected) in [
        ("video/mp4", "a.txt", "video/mp4"),
        ("Video/MP4; codecs=avc1", "a", "video/mp4"),
        ("video/x-matroska", "a", "video/x-matroska"),
        ("image/webp", "a", "image/webp"),
        // A Blob without a type, as the Node client sends it.
        ("application/octet-stream", "Clip.MOV", "video/quicktime"),
        ("", "a.webm", "video/webm"),
    ] {
        let link: PresignReply = ask(content_type, filename, json!(1000)).await.ok();
        assert_eq!(link.headers["content-type"], expected);
    }
    for (content_type, filename) in
        [("text/plain", "a.mp4"), ("video/3gpp", "a.3gp"), ("application/octet-stream", "a.exe"), ("", "mp4")]
    {
        let reply = ask(content_type, filename, json!(1000)).await;
        assert_eq!((reply.message(), reply.reason()), ("Invalid file type", Some("invalid_file_type")));
    }
    for (content_type, size, accepted) in [
        ("video/mp4", 500_000_000_u64, true),
        ("video/mp4", 500_000_001, false),
        ("video/mp4", u64::MAX, false),
        ("image/png", 20_000_000, true),
        ("image/png", 20_000_001, false),
    ] {
        let reply = ask(content_type, "a", json!(size)).await;
        assert_eq!(reply.status == 200, accepted, "{size}: {}", reply.text);
        if !accepted {
            assert_eq!((reply.message(), reply.reason()), ("File too large", Some("file_too_large")));
        }
    }
    for size in [json!(0), json!(-1), json!(1.5), json!("5"), json!(null)] {
        ask("video/mp4", "a.mp4", size).await.is(400, "invalid_request");
    }
}

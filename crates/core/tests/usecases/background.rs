//! The background's picture or video: the client's own upload, of the right kind, brought to the worker by the claim.

use bytes::Bytes;
use rotoless_contract::api::JobRequest;
use rotoless_contract::worker::MAX_IMAGE_BYTES;
use rotoless_contract::{ClientId, UploadId};
use rotoless_core::request::InvalidRequest;
use rotoless_core::source::{upload_key, upload_url};
use rotoless_core::usecase::SubmitError;
use serde_json::{Value, json};

use super::world::World;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01";

fn id() -> UploadId {
    UploadId::from_random([8; 16])
}

fn url() -> String {
    upload_url("https://api.example", &id())
}

fn put(world: &World, client: &ClientId, bytes: &'static [u8]) {
    world.store.tables().objects.insert(upload_key(client, &id()), Bytes::from_static(bytes));
}

/// The world's usual request with these fields laid over it.
fn request(world: &World, fields: Value) -> JobRequest {
    let mut body = serde_json::to_value(world.request()).unwrap();
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

async fn refused(world: &World, fields: Value) -> InvalidRequest {
    let outcome = world.submit().create(&world.client, &request(world, fields), None, None).await;
    assert_eq!((world.jobs(), world.messages(), world.balance().held.0), (0, 0, 0));
    match outcome {
        Err(SubmitError::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_claim_brings_the_picture_or_video_that_was_ordered() {
    for fields in [
        json!({"bg_type": "image", "bg_image_url": url()}),
        json!({"background": {"type": "image", "image_url": url(), "fit": "contain"}}),
        json!({"bg_type": "video", "bg_video_url": url()}),
        json!({"background": {"type": "video", "video_url": url()}}),
    ] {
        let world = World::new();
        put(&world, &world.client, PNG);
        let created = world.submit().create(&world.client, &request(&world, fields), None, None).await.unwrap();
        let claim = world.claimed(&created.job.id).await;
        let background = claim.background.expect("a background");
        assert_eq!(background.size_bytes, PNG.len() as u64);
        assert!(background.url.contains(&upload_key(&world.client, &id())), "{}", background.url);
        assert_ne!(claim.input.url, background.url);
    }
    let world = World::new();
    let plain = world.created().await;
    assert!(world.claimed(&plain).await.background.is_none());
}

#[tokio::test]
async fn only_ones_own_uploads_stand_behind_a_subject_and_the_field_at_fault_is_named() {
    let world = World::new();
    for (fields, param) in [
        (json!({"bg_type": "image", "bg_image_url": "https://example.com/a.png"}), "bg_image_url"),
        (json!({"bg_type": "video", "bg_video_url": "http://169.254.169.254/"}), "bg_video_url"),
        (json!({"background": {"type": "image", "image_url": "file:///etc/passwd"}}), "background.image_url"),
        (json!({"background": {"type": "video", "video_url": "x"}}), "background.video_url"),
    ] {
        let found = refused(&world, fields).await;
        assert_eq!((found.param, found.reason), (Some(param), Some("unsupported_source")));
    }
    // There is one, and it is another client's.
    put(&world, &"other".parse().unwrap(), PNG);
    let found = refused(&world, json!({"bg_type": "image", "bg_image_url": url()})).await;
    assert_eq!((found.param, found.reason), (Some("bg_image_url"), Some("upload_not_found")));
}

#[tokio::test]
async fn what_is_no_picture_is_refused_by_its_bytes_when_the_job_is_created() {
    let world = World::new();
    let ordered = json!({"background": {"type": "image", "image_url": url()}});
    for bytes in [&b""[..], b"GIF89a", b"<svg xmlns=", b"\0\0\0\x20ftypisom"] {
        put(&world, &world.client, bytes);
        let found = refused(&world, ordered.clone()).await;
        assert_eq!((found.param, found.reason), (Some("background.image_url"), Some("invalid_file_type")), "{bytes:?}");
    }
    let large = vec![0; usize::try_from(MAX_IMAGE_BYTES).unwrap() + 1];
    world.store.tables().objects.insert(upload_key(&world.client, &id()), large.into());
    assert_eq!(refused(&world, ordered).await.reason, Some("file_too_large"));
}

#[tokio::test]
async fn a_start_may_change_the_background_and_its_media_with_it() {
    let world = World::new();
    put(&world, &world.client, PNG);
    let draft = request(&world, json!({"auto_start": false, "bg_type": "image", "bg_image_url": url()}));
    let start = |fields: Value| serde_json::from_value::<JobRequest>(fields).unwrap();

    let id = world.submit().create(&world.client, &draft, None, None).await.unwrap().job.id;
    let other = start(json!({"bg_type": "video", "bg_video_url": "https://example.com/a.mp4"}));
    assert!(matches!(world.submit().start(&world.client, &id, &other).await, Err(SubmitError::Invalid(_))));
    assert_eq!(world.messages(), 0);
    world.submit().start(&world.client, &id, &start(json!({"bg_type": "green"}))).await.unwrap();
    assert!(world.claimed(&id).await.background.is_none());

    let id = world.submit().create(&world.client, &draft, None, None).await.unwrap().job.id;
    world.submit().start(&world.client, &id, &JobRequest::default()).await.unwrap();
    assert!(world.claimed(&id).await.background.is_some());
}

/// Records of before there were backgrounds of media.
#[tokio::test]
async fn a_record_without_a_background_can_still_be_read() {
    let world = World::new();
    let id = world.created().await;
    let mut stored = serde_json::to_value(world.job(&id)).unwrap();
    assert!(stored.get("background_source").is_none());
    stored.as_object_mut().unwrap().remove("background_source");
    let read: rotoless_core::record::JobRecord = serde_json::from_value(stored).unwrap();
    assert!(read.background_source.is_none());
}

//! Objects, presigned links and uploads through the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use reqwest::StatusCode;
use rotoless_core::ports::{AdapterError, ObjectInfo, Objects, PresignedPut, PutTerms, UploadError, UploadSink};

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);
const MIB: usize = 1024 * 1024;

fn body(bytes: &[u8]) -> BoxStream<'_, Result<Bytes, AdapterError>> {
    stream::iter([Ok(Bytes::copy_from_slice(bytes))]).boxed()
}

/// An HTTP client that knows nothing of ours: reqwest wants to be told whose cryptography it uses.
fn stranger() -> reqwest::Client {
    // Err: another test of this process was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn put(http: &reqwest::Client, link: &PresignedPut, changed: &[(&str, &str)], body: Vec<u8>) -> StatusCode {
    let mut request = http.put(&link.url.0).body(body);
    for (name, value) in &link.headers {
        let value = changed.iter().find(|(n, _)| n == name).map_or(value.as_str(), |(_, v)| v);
        // reqwest counts the body by itself.
        if name != "content-length" {
            request = request.header(name, value);
        }
    }
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_presigned_put_takes_what_it_is_bound_to_and_nothing_else() {
    let world = World::start().await;
    let http = stranger();
    let terms = PutTerms { content_type: Some("video/mp4".to_owned()), size_bytes: Some(5), only_if_absent: true };
    let link = world.objects.presign_put("uploads/acme/a", HOUR, &terms).await.unwrap();
    let mut names: Vec<&str> = link.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "if-none-match"]);

    assert_eq!(put(&http, &link, &[("content-type", "text/html")], b"12345".to_vec()).await, 403);
    assert_eq!(put(&http, &link, &[], b"123456".to_vec()).await, 403);
    assert_eq!(world.objects.head("uploads/acme/a").await.unwrap(), None);
    assert_eq!(put(&http, &link, &[], b"12345".to_vec()).await, 200);
    let info = ObjectInfo { size_bytes: 5, content_type: Some("video/mp4".to_owned()) };
    assert_eq!(world.objects.head("uploads/acme/a").await.unwrap(), Some(info));
    assert_eq!(put(&http, &link, &[], b"54321".to_vec()).await, 412, "only where nothing is yet");

    let other_key = PresignedPut {
        url: rotoless_core::ports::PresignedUrl(link.url.0.replace("acme/a", "acme/b")),
        ..link.clone()
    };
    assert_eq!(put(&http, &other_key, &[], b"12345".to_vec()).await, 403);
    let free = world.objects.presign_put("uploads/acme/c", HOUR, &PutTerms::default()).await.unwrap();
    assert_eq!(free.headers, []);
    assert_eq!(put(&http, &free, &[], b"anything".to_vec()).await, 200);
}

#[tokio::test]
async fn a_presigned_get_reads_one_object_under_the_name_it_was_given() {
    let world = World::start().await;
    world.objects.store("out/a", "video/webm", body(b"0123456789"), 10).await.unwrap();
    world.objects.store("out/b", "video/webm", body(b"secret"), 10).await.unwrap();
    let http = stranger();
    let link = world.objects.presign_get("out/a", HOUR, Some("My clip.webm")).await.unwrap();
    let reply = http.get(&link.0).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "video/webm");
    assert_eq!(reply.headers()["content-disposition"], "attachment; filename=\"My clip.webm\"");
    assert_eq!(reply.bytes().await.unwrap(), "0123456789");
    let part = http.get(&link.0).header("range", "bytes=2-4").send().await.unwrap();
    assert_eq!((part.status(), part.bytes().await.unwrap()), (StatusCode::PARTIAL_CONTENT, "234".into()));
    assert_eq!(http.get(link.0.replace("out/a", "out/b")).send().await.unwrap().status(), 403);
    let unnamed = world.objects.presign_get("out/a", HOUR, None).await.unwrap();
    let reply = http.get(&unnamed.0).send().await.unwrap();
    assert!(reply.status() == 200 && !reply.headers().contains_key("content-disposition"));
    assert_eq!(format!("{unnamed:?}"), "PresignedUrl");
    assert!(world.objects.presign_get("out/a", HOUR * 24 * 365, None).await.is_err(), "no link lives for a year");
}

#[tokio::test]
async fn a_range_is_read_and_never_more() {
    let world = World::start().await;
    world.objects.store("a", "x/y", body(b"0123456789"), 10).await.unwrap();
    let read = |start, len| world.objects.read("a", start, len);
    assert_eq!(read(0, 4).await.unwrap().unwrap(), "0123");
    assert_eq!(read(8, 100).await.unwrap().unwrap(), "89");
    assert_eq!(read(10, 1).await.unwrap().unwrap(), "");
    assert_eq!(read(3, 0).await.unwrap().unwrap(), "");
    assert_eq!(read(0, u64::MAX).await.unwrap().unwrap(), "0123456789");
    assert_eq!(read(u64::MAX, u64::MAX).await.unwrap().unwrap(), "");
    assert_eq!(world.objects.read("none", 0, 4).await.unwrap(), None);
    assert_eq!(world.objects.read("none", 0, 0).await.unwrap(), None);
    assert_eq!(world.objects.head("none").await.unwrap(), None);
}

#[tokio::test]
async fn deleting_a_prefix_removes_what_is_under_it_over_several_pages_and_nothing_else() {
    let world = World::start().await;
    let keys: Vec<String> = (0..1005).map(|n| format!("outputs/job/1/{n}")).collect();
    let stores = keys.iter().map(|key| world.objects.store(key, "x/y", body(b"1"), 1));
    let stored: Vec<_> = stream::iter(stores).buffer_unordered(8).collect().await;
    assert!(stored.iter().all(Result::is_ok));
    world.objects.store("outputs/job/10/kept", "x/y", body(b"1"), 1).await.unwrap();
    assert_eq!(world.objects.delete_prefix("outputs/job/1/").await.unwrap(), 1005);
    assert_eq!(world.objects.delete_prefix("outputs/job/1/").await.unwrap(), 0);
    assert_eq!(world.objects.head("outputs/job/1/0").await.unwrap(), None);
    assert!(world.objects.head("outputs/job/10/kept").await.unwrap().is_some());
}

async fn unfinished_uploads(world: &World) -> usize {
    let list = world.clients.s3.list_multipart_uploads().bucket(&world.settings.names.bucket);
    list.send().await.unwrap().uploads().len()
}

/// A body of `chunks` MiB; counts how many were asked for.
fn long_body(chunks: usize, asked: &Arc<AtomicU64>) -> BoxStream<'static, Result<Bytes, AdapterError>> {
    let asked = asked.clone();
    stream::iter(0..chunks)
        .map(move |n| {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(Bytes::from(vec![u8::try_from(n % 251).unwrap(); MIB]))
        })
        .boxed()
}

#[tokio::test]
async fn a_long_body_is_stored_in_parts_and_comes_back_byte_for_byte() {
    let world = World::start().await;
    let asked = Arc::new(AtomicU64::new(0));
    let size = 33 * MIB as u64;
    let stored = world.objects.store("uploads/long", "video/mp4", long_body(33, &asked), size).await.unwrap();
    assert_eq!(stored, size);
    let info = ObjectInfo { size_bytes: size, content_type: Some("video/mp4".to_owned()) };
    assert_eq!(world.objects.head("uploads/long").await.unwrap(), Some(info));
    for n in [0, 7, 8, 15, 16, 32] {
        let read = world.objects.read("uploads/long", (n * MIB) as u64, MIB as u64).await.unwrap().unwrap();
        assert!(read.len() == MIB && read.iter().all(|byte| usize::from(*byte) == n), "MiB {n}");
    }
}

/// At the edges of a part.
#[tokio::test]
async fn a_body_around_the_size_of_a_part_is_stored_whole() {
    let world = World::start().await;
    for size in [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB] {
        let bytes = vec![7; size];
        let stored = world.objects.store("a", "x/y", body(&bytes), size as u64).await.unwrap();
        assert_eq!(stored, size as u64);
        assert_eq!(world.objects.head("a").await.unwrap().unwrap().size_bytes, size as u64, "{size}");
    }
}

/// TA-4: the cap holds whatever the length, what came is thrown away, and the rest is not even read.
#[tokio::test]
async fn a_body_beyond_the_cap_is_cut_off_and_leaves_nothing() {
    let world = World::start().await;
    let small = world.objects.store("a", "x/y", body(b"123456"), 5).await;
    assert!(matches!(small, Err(UploadError::TooLarge)), "{small:?}");
    let asked = Arc::new(AtomicU64::new(0));
    let long = world.objects.store("a", "x/y", long_body(1000, &asked), 20 * MIB as u64).await;
    assert!(matches!(long, Err(UploadError::TooLarge)), "{long:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 21);
    assert_eq!(world.objects.head("a").await.unwrap(), None);
    eventually_none_unfinished(&world).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_or_whose_sender_leaves_is_aborted() {
    let world = World::start().await;
    let asked = Arc::new(AtomicU64::new(0));
    let broken = long_body(10, &asked).chain(stream::iter([Err("gone".into())])).boxed();
    let failed = world.objects.store("a", "x/y", broken, 1 << 40).await;
    assert!(matches!(failed, Err(UploadError::Body(_))), "{failed:?}");

    // A server drops the future when the client hangs up; here in the middle of the second part, when the upload has
    // its id. (Hung up before the id is known, it is the bucket's life cycle that removes it.)
    asked.store(0, Ordering::SeqCst);
    let hanging = long_body(10, &asked).chain(stream::pending()).boxed();
    let upload = world.objects.store("a", "x/y", hanging, 1 << 40);
    tokio::select! {
        _ = upload => panic!("the body never ends"),
        () = async { while asked.load(Ordering::SeqCst) < 10 { tokio::task::yield_now().await } } => {}
    }
    assert_eq!(world.objects.head("a").await.unwrap(), None);
    eventually_none_unfinished(&world).await;
}

async fn eventually_none_unfinished(world: &World) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while unfinished_uploads(world).await > 0 {
        assert!(std::time::Instant::now() < deadline, "an unfinished upload was left behind");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! Uploads as a form.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use rotoless_contract::UploadId;
use rotoless_contract::api::UploadReply;
use rotoless_core::ports::{AdapterError, Objects as _, UploadError, UploadSink};
use rotoless_core::source::upload_key;
use tokio::sync::Notify;

use crate::world::{BASE, BOUNDARY, CLIP, World, form_body, part};

const WEBM: &[u8] =
    b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm";
const MKV: &[u8] =
    b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x88matroska";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

/// What is stored of an upload, and as what.
async fn stored(world: &World, upload: &UploadId) -> (Bytes, String) {
    let key = upload_key(&"acme".parse().unwrap(), upload);
    let bytes = world.objects.read(&key, 0, 1 << 30).await.unwrap().unwrap();
    (bytes, world.objects.head(&key).await.unwrap().unwrap().content_type.unwrap())
}

/// R4, R7, R12
#[tokio::test]
async fn an_upload_is_stored_byte_for_byte_under_the_type_its_bytes_say() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    for (bytes, name, content_type) in [
        (CLIP, "clip.mp4", "video/mp4"),
        (CLIP, "clip.txt", "video/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "clip", "video/quicktime"),
        (b"\0\0\0\x08wide\0\0\0\x10mdat", "old.mov", "video/quicktime"),
        (WEBM, "a.mp4", "video/webm"),
        (MKV, "a.mkv", "video/x-matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "a.avi", "video/x-msvideo"),
        (PNG, "bg.jpg", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "bg.jpg", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "bg.webp", "image/webp"),
    ] {
        let reply = world.post("/v1/uploads").key(&key).form(&[part("file", Some(name), bytes)]).send().await;
        let reply: UploadReply = reply.ok();
        assert!(reply.success);
        assert_eq!((reply.filename.as_str(), reply.size), (name, bytes.len() as u64));
        assert_eq!(reply.video_url, format!("{BASE}/v1/uploads/{}", reply.video_id));
        assert_eq!(stored(&world, &reply.video_id).await, (Bytes::copy_from_slice(bytes), content_type.to_owned()));
    }
}

/// R7: neither the name nor the header of the part is believed.
#[tokio::test]
async fn a_text_file_named_mp4_is_refused_whatever_its_headers_say() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0";
    for bytes in [
        &b"this is not a video\n"[..],
        b"x",
        b"\0\0\0\0",
        b"<html>",
        b"\x1a\x45\xdf\xa3garbage",
        heic,
        b"RIFF\0\0\0\0WAVE",
    ] {
        let mut body = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"clip.mp4\"\r\nContent-Type: video/mp4\r\n\r\n").into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let call = world.post("/v1/uploads").key(&key).form(&[]).body(body);
        let reply = call.send().await;
        reply.is(400, "invalid_request");
        assert_eq!((reply.message(), reply.reason()), ("Invalid file type", Some("invalid_file_type")));
    }
}

#[tokio::test]
async fn fields_come_in_any_order_and_a_form_without_the_file_is_refused() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let (before, file, after) =
        (part("note", None, b"a\r\nb"), part("file", Some("clip.mp4"), CLIP), part("z", None, b""));
    for parts in [vec![before, file, after], vec![file, after], vec![before, after, file]] {
        let reply: UploadReply = world.post("/v1/uploads").key(&key).form(&parts).send().await.ok();
        assert_eq!(stored(&world, &reply.video_id).await.0, CLIP);
    }
    for parts in [vec![], vec![before], vec![part("files", Some("clip.mp4"), CLIP)]] {
        world.post("/v1/uploads").key(&key).form(&parts).send().await.is(400, "invalid_request");
    }
    let empty = world.post("/v1/uploads").key(&key).form(&[part("file", Some("clip.mp4"), b"")]).send().await;
    assert_eq!((empty.message(), empty.reason()), ("Invalid file type", Some("empty_file")));
}

/// G-30
#[tokio::test]
async fn a_file_name_is_only_shown() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let long = "x".repeat(300);
    for (name, shown) in [
        ("../../../etc/passwd", "passwd"),
        ("C:\\\\temp\\\\clip.mov", "clip.mov"),
        ("..", "upload"),
        (&long, &long[..255]),
    ] {
        let reply: UploadReply =
            world.post("/v1/uploads").key(&key).form(&[part("file", Some(name), CLIP)]).send().await.ok();
        assert_eq!(reply.filename, shown);
        assert_eq!(stored(&world, &reply.video_id).await.0, CLIP);
    }
}

#[tokio::test]
async fn a_file_larger_than_the_host_takes_is_told_the_other_way() {
    let world = World::with(|host, _| host.max_multipart_bytes = 1_000_000).await;
    let key = world.client("acme", 0).await;
    let mut exact = CLIP.to_vec();
    exact.resize(1_000_000, 0);
    let reply = world.post("/v1/uploads").key(&key).form(&[part("file", Some("a.mp4"), &exact)]).send().await;
    assert_eq!(reply.ok::<UploadReply>().size, 1_000_000);

    exact.push(0);
    let far = [exact.clone(), vec![0; 1_000_000]].concat();
    for bytes in [&exact, &far] {
        let body = form_body(&[part("file", Some("a.mp4"), bytes)]);
        for told in [false, true] {
            let mut call = world.post("/v1/uploads").key(&key).form(&[]).body(body.clone());
            if told {
                call = call.header("Content-Length", body.len().to_string());
            }
            let reply = call.send().await;
            reply.is(400, "invalid_request");
            assert_eq!(reply.reason(), Some("file_too_large"));
            let message = reply.message();
            assert!(message.starts_with("File too large") && message.contains("upload_url"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_background_image_is_at_most_20_mb() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let mut image = PNG.to_vec();
    image.resize(20_000_000, 0);
    let reply = world.post("/v1/uploads").key(&key).form(&[part("file", Some("bg.png"), &image)]).send().await;
    assert_eq!(reply.ok::<UploadReply>().size, 20_000_000);
    image.push(0);
    let reply = world.post("/v1/uploads").key(&key).form(&[part("file", Some("bg.png"), &image)]).send().await;
    reply.is(400, "invalid_request");
    assert_eq!((reply.message(), reply.reason()), ("File too large", Some("file_too_large")));
}

/// G-28
#[tokio::test]
async fn a_form_that_is_cut_off_or_endless_before_its_file_is_refused() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let whole = form_body(&[part("file", Some("clip.mp4"), CLIP)]);
    let endless_header = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{}", "x".repeat(300_000));
    let endless_field = form_body(&[part("note", None, &vec![b'x'; 300_000]), part("file", Some("a.mp4"), CLIP)]);
    for body in [
        whole[..whole.len() / 2].to_vec(),
        whole[..40].to_vec(),
        Vec::new(),
        vec![b'-'; 300_000],
        endless_header.into_bytes(),
        endless_field,
        form_body(&[]).repeat(2),
    ] {
        // In pieces, as from a socket.
        let pieces: Vec<_> = body.chunks(10_000).map(Bytes::copy_from_slice).map(Ok::<_, Infallible>).collect();
        let call = world.post("/v1/uploads").key(&key).form(&[]).body(Body::from_stream(stream::iter(pieces)));
        call.send().await.is(400, "invalid_request");
    }
    for content_type in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=other"]
    {
        let call = world.post("/v1/uploads").key(&key).header("Content-Type", content_type).body(whole.clone());
        call.send().await.is(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_form_in_pieces_of_any_size_is_the_same_upload() {
    let world = World::start().await;
    let key = world.client("acme", 0).await;
    let file = [&CLIP[..5000], BOUNDARY.as_bytes(), b"\r\n--", &CLIP[5000..6000]].concat();
    let body = form_body(&[part("file", Some("clip.mp4"), &file)]);
    for size in [1, 7, 61, 4096] {
        let pieces: Vec<_> = body.chunks(size).map(Bytes::copy_from_slice).map(Ok::<_, Infallible>).collect();
        let call = world.post("/v1/uploads").key(&key).form(&[]).body(Body::from_stream(stream::iter(pieces)));
        let reply: UploadReply = call.send().await.ok();
        assert_eq!(stored(&world, &reply.video_id).await.0, file);
    }
}

/// Takes nothing until it may, then everything.
struct Patient {
    may: Notify,
    taken: AtomicU64,
}

#[async_trait]
impl UploadSink for Patient {
    async fn store(
        &self,
        _: &str,
        _: &str,
        mut body: BoxStream<'_, Result<Bytes, AdapterError>>,
        _: u64,
    ) -> Result<u64, UploadError> {
        self.may.notified().await;
        while let Some(chunk) = body.next().await {
            self.taken.fetch_add(chunk.map_err(UploadError::Body)?.len() as u64, Ordering::SeqCst);
        }
        Ok(self.taken.load(Ordering::SeqCst))
    }
}

/// 200 MB go through, and never more than a few pieces wait in memory.
#[tokio::test]
async fn an_upload_is_read_only_as_fast_as_it_is_stored() {
    const PIECE: usize = 64 * 1024;
    const PIECES: u64 = 3200;
    let sink = Arc::new(Patient { may: Notify::new(), taken: AtomicU64::new(0) });
    let world = World::with(|_, ports| ports.uploads = sink.clone()).await;
    let key = world.client("acme", 0).await;
    let (sent, ahead) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n");
    let head = Bytes::from([head.as_bytes(), &CLIP[..PIECE]].concat());
    let zeros = Bytes::from(vec![0; PIECE]);
    let pieces = {
        let (sent, ahead, sink) = (sent.clone(), ahead.clone(), sink.clone());
        stream::iter(0..PIECES).map(move |_| {
            let sent = sent.fetch_add(PIECE as u64, Ordering::SeqCst) + PIECE as u64;
            ahead.fetch_max(sent - sink.taken.load(Ordering::SeqCst), Ordering::SeqCst);
            zeros.clone()
        })
    };
    let tail = Bytes::from(format!("\r\n--{BOUNDARY}--\r\n"));
    let body = stream::once(async { head }).chain(pieces).chain(stream::once(async { tail })).map(Ok::<_, Infallible>);
    let call = world.post("/v1/uploads").key(&key).form(&[]).body(Body::from_stream(body));
    let release = async {
        // The reading has come as far as it will: it waits for the sink.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(sent.load(Ordering::SeqCst) <= 4 * PIECE as u64);
        sink.may.notify_one();
    };
    let (reply, ()) = tokio::join!(call.send(), release);
    assert_eq!(reply.ok::<UploadReply>().size, (PIECES + 1) * PIECE as u64);
    assert!(ahead.load(Ordering::SeqCst) <= 6 * PIECE as u64, "{ahead:?}");
}

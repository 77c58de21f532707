//! S3: presigned URLs, conditional writes, ranges, uploads in parts, and that nothing half-done is ever visible.

use super::checks;
use super::stack::{Stack, unique};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use md5::{Digest, Md5};
use reqwest::StatusCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A client, a bucket, and a plain HTTP client for presigned URLs.
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) bucket: String,
    http: reqwest::Client,
    /// What has to live as long as the client.
    _host: Option<Stack>,
}

impl AsRef<Target> for Target {
    fn as_ref(&self) -> &Target {
        self
    }
}

const FIVE_MIB: usize = 5 * 1024 * 1024;

impl Target {
    pub(super) async fn embedded() -> Self {
        let stack = Stack::start().await;
        let (client, bucket) = (stack.clients.s3.clone(), stack.embedded.names.media_bucket.clone());
        Self::new(client, bucket, Some(stack))
    }

    pub(super) fn new(client: Client, bucket: String, host: Option<Stack>) -> Self {
        // Fails if another test of this process was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self { client, bucket, http, _host: host }
    }

    async fn put(&self, key: &str, body: impl Into<ByteStream>) {
        self.client.put_object().bucket(&self.bucket).key(key).body(body.into()).send().await.unwrap();
    }

    /// The object's bytes; `None` if there is no such object.
    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => Some(object.body.collect().await.unwrap().to_vec()),
            Err(error) => {
                let error = error.into_service_error();
                assert!(error.is_no_such_key(), "{error:?}");
                None
            }
        }
    }

    async fn presigned_get(&self, key: &str, valid: PresigningConfig) -> String {
        let signed = self.client.get_object().bucket(&self.bucket).key(key).presigned(valid).await.unwrap();
        signed.uri().to_owned()
    }

    /// A PUT of exactly so many bytes of `video/mp4`.
    async fn presigned_put(&self, key: &str, bytes: i64) -> PresignedRequest {
        let put = self.client.put_object().bucket(&self.bucket).key(key).content_length(bytes);
        put.content_type("video/mp4").presigned(valid_for(60)).await.unwrap()
    }

    async fn send_put(&self, signed: &PresignedRequest, kind: Option<&str>, body: Vec<u8>) -> StatusCode {
        let mut request = self.http.put(signed.uri()).body(body);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        request.send().await.unwrap().status()
    }
}

fn valid_for(seconds: u64) -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(seconds)).unwrap()
}

fn key(name: &str) -> String {
    format!("uploads/{}/{name}", unique("k"))
}

/// Bytes that differ from place to place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from((i * 31 + i / 251) % 256).unwrap()).collect()
}

checks!(
    Target, super::Target::embedded;
    an_object_comes_back_with_its_headers_and_goes_when_deleted,
    a_presigned_get_works_until_it_expires_or_is_changed,
    a_presigned_put_takes_the_signed_size_and_type_and_nothing_else,
    a_conditional_put_never_replaces_and_of_many_at_once_one_wins,
    a_conditional_get_saves_the_transfer,
    a_range_is_served_in_part_and_one_outside_is_refused,
    an_upload_in_parts_appears_when_completed,
    an_upload_in_parts_that_is_aborted_or_wrong_leaves_nothing,
    an_upload_cut_half_way_leaves_nothing,
    a_body_that_fails_its_checksum_leaves_nothing_and_replaces_nothing,
    any_text_is_a_key,
    keys_are_listed_in_order_by_prefix_and_page,
    an_overwritten_object_is_never_seen_in_between,
);

async fn an_object_comes_back_with_its_headers_and_goes_when_deleted(t: &Target) {
    let key = key("video.mp4");
    let body = pattern(300_000);
    let put = t.client.put_object().bucket(&t.bucket).key(&key).body(body.clone().into());
    let put = put.content_type("video/mp4").cache_control("no-store").metadata("job", "job_1");
    let put = put.content_disposition("attachment; filename=\"a.mp4\"").send().await.unwrap();
    let etag = format!("\"{}\"", hex::encode(Md5::digest(&body)));
    assert_eq!(put.e_tag(), Some(etag.as_str()));

    let head = t.client.head_object().bucket(&t.bucket).key(&key).send().await.unwrap();
    assert_eq!((head.content_length(), head.e_tag()), (Some(300_000), Some(etag.as_str())));
    assert_eq!((head.content_type(), head.cache_control()), (Some("video/mp4"), Some("no-store")));
    assert_eq!(head.content_disposition(), Some("attachment; filename=\"a.mp4\""));
    assert_eq!(head.metadata().unwrap()["job"], "job_1");
    assert_eq!(t.get(&key).await, Some(body));

    for _ in 0..2 {
        t.client.delete_object().bucket(&t.bucket).key(&key).send().await.unwrap();
        assert_eq!(t.get(&key).await, None);
    }
    let head = t.client.head_object().bucket(&t.bucket).key(&key).send().await;
    assert!(head.unwrap_err().into_service_error().is_not_found());
}

async fn a_presigned_get_works_until_it_expires_or_is_changed(t: &Target) {
    let (mine, other) = (key("mine"), key("other"));
    t.put(&mine, b"mine".to_vec()).await;
    t.put(&other, b"other".to_vec()).await;
    let fetch = async |url: String| {
        let answer = t.http.get(url).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap())
    };
    let url = t.presigned_get(&mine, valid_for(60)).await;
    assert_eq!(fetch(url.clone()).await, (StatusCode::OK, "mine".into()));

    let long_ago = PresigningConfig::builder().start_time(SystemTime::now() - Duration::from_secs(3600));
    let expired = t.presigned_get(&mine, long_ago.expires_in(Duration::from_secs(60)).build().unwrap()).await;
    let (path, query) = url.split_once('?').unwrap();
    let changed = [
        expired,
        url.replace(&mine, &other),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
        url.replace("X-Amz-Signature=", "X-Amz-Signature=0"),
        format!("{url}&response-content-type=text%2Fhtml"),
        format!("{path}?{}", query.replace("X-Amz-Signature", "X-Amz-Signatures")),
        path.to_owned(),
    ];
    for url in changed {
        let (status, body) = fetch(url.clone()).await;
        assert!(status == StatusCode::FORBIDDEN || status == StatusCode::BAD_REQUEST, "{status} for {url}");
        assert!(!body.windows(4).any(|bytes| bytes == b"mine") || status.is_client_error());
    }
    let put_through_a_get = t.http.put(&url).body("x").send().await.unwrap().status();
    assert_eq!(put_through_a_get, StatusCode::FORBIDDEN);
    assert_eq!(t.get(&mine).await.unwrap(), b"mine");
}

async fn a_presigned_put_takes_the_signed_size_and_type_and_nothing_else(t: &Target) {
    let key = key("video.mp4");
    let signed = t.presigned_put(&key, 1000).await;
    for (kind, bytes) in [
        (Some("video/mp4"), 999),
        (Some("video/mp4"), 1001),
        (Some("text/html"), 1000),
        (None, 1000),
        (Some("video/mp4"), 0),
    ] {
        let status = t.send_put(&signed, kind, pattern(bytes)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{kind:?} {bytes}");
        assert_eq!(t.get(&key).await, None);
    }
    assert_eq!(t.send_put(&signed, Some("video/mp4"), pattern(1000)).await, StatusCode::OK);
    assert_eq!(t.get(&key).await, Some(pattern(1000)));
    let head = t.client.head_object().bucket(&t.bucket).key(&key).send().await.unwrap();
    assert_eq!(head.content_type(), Some("video/mp4"));
}

async fn a_conditional_put_never_replaces_and_of_many_at_once_one_wins(t: &Target) {
    let put = |key: &str, body: String| {
        let put = t.client.put_object().bucket(&t.bucket).key(key).if_none_match("*");
        put.body(body.into_bytes().into()).send()
    };
    let manifest = key("manifest.json");
    put(&manifest, "first".to_owned()).await.unwrap();
    let error = put(&manifest, "second".to_owned()).await.unwrap_err();
    assert_eq!(error.raw_response().map(|raw| raw.status().as_u16()), Some(412));
    assert_eq!(error.into_service_error().code(), Some("PreconditionFailed"));
    assert_eq!(t.get(&manifest).await.unwrap(), b"first");

    let raced = key("manifest.json");
    let puts = (0..20).map(|i| put(&raced, format!("writer {i}")));
    let ended = futures::future::join_all(puts).await;
    let winners: Vec<usize> = ended.iter().enumerate().filter(|(_, put)| put.is_ok()).map(|(i, _)| i).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(t.get(&raced).await.unwrap(), format!("writer {}", winners[0]).as_bytes());
    for error in ended.into_iter().filter_map(Result::err) {
        // 409 is how S3 refuses a writer that raced, 412 one that came later.
        assert!(matches!(error.raw_response().map(|raw| raw.status().as_u16()), Some(409 | 412)), "{error:?}");
    }
}

async fn a_conditional_get_saves_the_transfer(t: &Target) {
    let key = key("o");
    t.put(&key, b"body".to_vec()).await;
    let etag = format!("\"{}\"", hex::encode(Md5::digest(b"body")));
    let url = t.presigned_get(&key, valid_for(60)).await;
    let ask = async |header: &str, value: &str| t.http.get(&url).header(header, value).send().await.unwrap().status();
    assert_eq!(ask("if-none-match", &etag).await, StatusCode::NOT_MODIFIED);
    assert_eq!(ask("if-none-match", "\"other\"").await, StatusCode::OK);
    assert_eq!(ask("if-match", &etag).await, StatusCode::OK);
    assert_eq!(ask("if-match", "\"other\"").await, StatusCode::PRECONDITION_FAILED);
}

async fn a_range_is_served_in_part_and_one_outside_is_refused(t: &Target) {
    let key = key("o");
    let body = pattern(200_000);
    t.put(&key, body.clone()).await;
    let url = t.presigned_get(&key, valid_for(60)).await;
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=65535-65537", 65_535..65_538),
        ("bytes=199990-", 199_990..200_000),
        ("bytes=199990-999999", 199_990..200_000),
        ("bytes=-5", 199_995..200_000),
    ] {
        let answer = t.http.get(&url).header("range", range).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let content_range = format!("bytes {}-{}/200000", expected.start, expected.end - 1);
        assert_eq!(answer.headers()["content-range"], content_range.as_str());
        assert_eq!(answer.headers()["content-length"], expected.len().to_string().as_str());
        assert_eq!(answer.bytes().await.unwrap(), &body[expected], "{range}");
    }
    let outside = t.http.get(&url).header("range", "bytes=200000-").send().await.unwrap();
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let whole = t.http.get(&url).send().await.unwrap();
    assert_eq!((whole.status(), &whole.headers()["accept-ranges"]), (StatusCode::OK, &"bytes".parse().unwrap()));
}

/// An upload with the parts given, not completed: its id and what a completion names.
async fn upload_parts(t: &Target, key: &str, parts: &[Vec<u8>]) -> (String, Vec<CompletedPart>) {
    let created = t.client.create_multipart_upload().bucket(&t.bucket).key(key).content_type("video/webm");
    let id = created.send().await.unwrap().upload_id.unwrap();
    let mut completed = Vec::new();
    for (number, body) in (1..).zip(parts) {
        // By presigned URL and a plain client, as a worker does.
        let part = t.client.upload_part().bucket(&t.bucket).key(key).upload_id(&id).part_number(number);
        let part = part.content_length(i64::try_from(body.len()).unwrap()).presigned(valid_for(60)).await.unwrap();
        let answer = t.http.put(part.uri()).body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
        completed.push(CompletedPart::builder().part_number(number).e_tag(etag).build());
    }
    (id, completed)
}

async fn complete(
    t: &Target,
    key: &str,
    id: &str,
    parts: Vec<CompletedPart>,
) -> Result<Option<String>, aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadError> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = t.client.complete_multipart_upload().bucket(&t.bucket).key(key).upload_id(id);
    let completed = complete.multipart_upload(parts).send().await;
    completed.map(|done| done.e_tag).map_err(aws_sdk_s3::error::SdkError::into_service_error)
}

async fn an_upload_in_parts_appears_when_completed(t: &Target) {
    let key = key("output.webm");
    let (first, second) = (pattern(FIVE_MIB), b"the rest".to_vec());
    let (id, parts) = upload_parts(t, &key, &[first.clone(), second.clone()]).await;
    assert_eq!(t.get(&key).await, None);
    let listed = t.client.list_parts().bucket(&t.bucket).key(&key).upload_id(&id).send().await.unwrap();
    let sizes: Vec<_> = listed.parts().iter().filter_map(|part| part.size()).collect();
    assert_eq!(sizes, [5_242_880, 8]);

    let digests = [&first, &second].map(|part| Md5::digest(part).to_vec()).concat();
    let etag = format!("\"{}-2\"", hex::encode(Md5::digest(digests)));
    assert_eq!(complete(t, &key, &id, parts).await.unwrap(), Some(etag));
    assert_eq!(t.get(&key).await, Some([first, second].concat()));
    let head = t.client.head_object().bucket(&t.bucket).key(&key).send().await.unwrap();
    assert_eq!(head.content_type(), Some("video/webm"));
}

async fn an_upload_in_parts_that_is_aborted_or_wrong_leaves_nothing(t: &Target) {
    let key = key("output.webm");
    let (id, parts) = upload_parts(t, &key, &[b"too small".to_vec(), b"the rest".to_vec()]).await;
    let error = complete(t, &key, &id, parts.clone()).await.unwrap_err();
    assert_eq!(error.code(), Some("EntityTooSmall"), "{error:?}");
    let backwards = parts.iter().rev().cloned().collect();
    assert_eq!(complete(t, &key, &id, backwards).await.unwrap_err().code(), Some("InvalidPartOrder"));
    let wrong = CompletedPart::builder().part_number(1).e_tag("\"00000000000000000000000000000000\"").build();
    assert_eq!(complete(t, &key, &id, vec![wrong]).await.unwrap_err().code(), Some("InvalidPart"));
    assert_eq!(t.get(&key).await, None);

    t.client.abort_multipart_upload().bucket(&t.bucket).key(&key).upload_id(&id).send().await.unwrap();
    assert_eq!(complete(t, &key, &id, parts).await.unwrap_err().code(), Some("NoSuchUpload"));
    let open = t.client.list_multipart_uploads().bucket(&t.bucket).prefix(&key).send().await.unwrap();
    assert!(open.uploads().is_empty());
    assert_eq!(t.get(&key).await, None);
}

async fn an_upload_cut_half_way_leaves_nothing(t: &Target) {
    let key = key("video.mp4");
    let signed = t.presigned_put(&key, 2_000_000).await;
    let half =
        futures::stream::iter([Ok(pattern(1_000_000)), Err(std::io::Error::other("the client's disk went away"))]);
    let request = t.http.put(signed.uri()).header("content-type", "video/mp4").header("content-length", "2000000");
    let cut = request.body(reqwest::Body::wrap_stream(half)).send().await;
    assert!(cut.is_err() || !cut.unwrap().status().is_success());
    assert_eq!(t.get(&key).await, None);
    assert_eq!(t.send_put(&signed, Some("video/mp4"), pattern(2_000_000)).await, StatusCode::OK);
    assert_eq!(t.get(&key).await.map(|body| body.len()), Some(2_000_000));
}

async fn a_body_that_fails_its_checksum_leaves_nothing_and_replaces_nothing(t: &Target) {
    let (absent, present) = (key("absent"), key("present"));
    t.put(&present, b"as it was".to_vec()).await;
    for key in [&absent, &present] {
        let put = || t.client.put_object().bucket(&t.bucket).key(key).body(b"changed on the way".to_vec().into());
        let error = put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some("BadDigest"), "{error:?}");
        let error = put().checksum_crc32("AAAAAA==").send().await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some("BadDigest"), "{error:?}");
    }
    assert_eq!(t.get(&absent).await, None);
    assert_eq!(t.get(&present).await.unwrap(), b"as it was");
}

async fn any_text_is_a_key(t: &Target) {
    let base = key("keys");
    let keys = ["a", "a/b", "a/../c", "../../etc/passwd", "a//b", "a b+c&d=e?f#g%2F", "naïve 雪 🎬", ".hidden", "a/"];
    let mut keys: Vec<String> = keys.iter().map(|key| format!("{base}/{key}")).collect();
    keys.push(format!("{base}/{}", "x".repeat(1023 - base.len())));
    for key in &keys {
        t.put(key, key.clone().into_bytes()).await;
    }
    for key in &keys {
        assert_eq!(t.get(key).await.as_deref(), Some(key.as_bytes()));
        let answer = t.http.get(t.presigned_get(key, valid_for(60)).await).send().await.unwrap();
        // A client may resolve dots in a path before it sends it; then the signature is of another key.
        if !key.contains("..") {
            assert_eq!(answer.bytes().await.unwrap(), key.as_bytes());
        }
    }
    let long = format!("{base}/{}", "x".repeat(1024 - base.len()));
    let error = t.client.put_object().bucket(&t.bucket).key(long).body(b"x".to_vec().into()).send().await.unwrap_err();
    assert_eq!(error.into_service_error().code(), Some("KeyTooLongError"));
}

async fn keys_are_listed_in_order_by_prefix_and_page(t: &Target) {
    let base = key("list");
    for n in [3, 1, 2, 10] {
        t.put(&format!("{base}/{n:02}"), b"x".to_vec()).await;
    }
    t.put(&format!("{base}-other"), b"x".to_vec()).await;
    let (mut seen, mut token, mut pages) = (Vec::new(), None, 0);
    loop {
        let list = t.client.list_objects_v2().bucket(&t.bucket).prefix(format!("{base}/")).max_keys(3);
        let page = list.set_continuation_token(token).send().await.unwrap();
        pages += 1;
        seen.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["01", "02", "03", "10"].map(|n| format!("{base}/{n}")));
    assert_eq!(pages, 2);
}

async fn an_overwritten_object_is_never_seen_in_between(t: &Target) {
    let key = key("o");
    let body = |n: usize| vec![u8::try_from(n).unwrap(); 100_000 + n];
    t.put(&key, body(0)).await;
    let writes = async {
        for n in 1..10 {
            t.put(&key, body(n)).await;
        }
    };
    let reads = async {
        for _ in 0..20 {
            let seen = t.get(&key).await.expect("the object is always there");
            assert_eq!(seen, body(seen.len() - 100_000));
        }
    };
    futures::join!(writes, reads);
}

/// For targets that outlive the test.
pub(super) async fn delete(target: Arc<Target>) {
    let Target { client, bucket, .. } = &*target;
    let open = client.list_multipart_uploads().bucket(bucket).send().await.unwrap();
    for upload in open.uploads() {
        let abort = client.abort_multipart_upload().bucket(bucket).set_key(upload.key.clone());
        abort.set_upload_id(upload.upload_id.clone()).send().await.unwrap();
    }
    loop {
        let page = client.list_objects_v2().bucket(bucket).send().await.unwrap();
        if page.contents().is_empty() {
            break;
        }
        for object in page.contents() {
            client.delete_object().bucket(bucket).set_key(object.key.clone()).send().await.unwrap();
        }
    }
    client.delete_bucket().bucket(bucket).send().await.unwrap();
}

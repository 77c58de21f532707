//! Uploads in parts.
//!
//! Invariant: until the one transaction of `complete`, nothing of an upload is visible and nothing of it is lost: a
//! completion that fails or is cut short can be tried again.

use super::blobs::Written;
use super::bucket::{Bucket, Incoming, precondition, timestamp};
use super::checksums;
use super::index::{Checksums, Headers, Object, Part, Upload};
use crate::now_ms;
use md5::{Digest, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Checksum, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

/// Every part but the last must have this size, as on S3.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;
const MAX_PART_NUMBER: i32 = 10_000;

pub(crate) async fn create(
    bucket: &Bucket,
    input: CreateMultipartUploadInput,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let upload = Upload {
        id: crate::random_hex(),
        key: input.key.clone(),
        headers: Headers {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            user: input.metadata.unwrap_or_default().into_iter().collect(),
        },
        created_ms: now_ms(),
    };
    let id = upload.id.clone();
    bucket.on_index(move |index| index.create_upload(&upload)).await?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..Default::default()
    }))
}

pub(crate) async fn upload_part(
    bucket: &Bucket,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let announced = checksums::announced(&req.headers, req.input.checksum_algorithm.as_ref());
    let UploadPartInput { body, key, upload_id, part_number, content_length, content_md5, .. } = req.input;
    if !(1..=MAX_PART_NUMBER).contains(&part_number) {
        return Err(s3_error!(InvalidArgument, "part numbers go from 1 to {MAX_PART_NUMBER}"));
    }
    let given = Checksum {
        checksum_crc32: req.input.checksum_crc32,
        checksum_crc32c: req.input.checksum_crc32c,
        checksum_crc64nvme: req.input.checksum_crc64nvme,
        checksum_sha1: req.input.checksum_sha1,
        checksum_sha256: req.input.checksum_sha256,
        checksum_type: None,
    };
    let id = upload_id.clone();
    bucket.on_index(move |index| index.upload(&id, &key)).await?;
    let incoming = Incoming { body, content_length, content_md5, announced, given, trailers: req.trailing_headers };
    let Written { blob, size, md5, checksums } = bucket.receive(incoming).await?;
    let etag = hex::encode(md5);
    let part = Part { number: part_number, blob: blob.name(), size, etag: etag.clone(), modified_ms: now_ms() };
    bucket.commit(blob, move |index| index.put_part(&upload_id, &part)).await?;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(ETag::Strong(etag)),
        checksum_crc32: checksums.checksum_crc32,
        checksum_crc32c: checksums.checksum_crc32c,
        checksum_crc64nvme: checksums.checksum_crc64nvme,
        checksum_sha1: checksums.checksum_sha1,
        checksum_sha256: checksums.checksum_sha256,
        ..Default::default()
    }))
}

pub(crate) async fn complete(
    bucket: &Bucket,
    input: CompleteMultipartUploadInput,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let CompleteMultipartUploadInput { key, upload_id, multipart_upload, if_match, if_none_match, .. } = input;
    let precondition = precondition(if_match, if_none_match)?;
    let (id, wanted_key) = (upload_id.clone(), key.clone());
    let (upload, stored) =
        bucket.on_index(move |index| Ok((index.upload(&id, &wanted_key)?, index.parts(&id)?))).await?;
    let asked = multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let parts = choose(&asked, &stored)?;

    let mut blob = bucket.blobs.create(Default::default()).await.map_err(S3Error::internal_error)?;
    let mut digests = Md5::new();
    for part in &parts {
        blob.append_blob(&bucket.blobs, &part.blob).await.map_err(S3Error::internal_error)?;
        digests.update(hex::decode(&part.etag).map_err(S3Error::internal_error)?);
    }
    let written = blob.finish().await.map_err(S3Error::internal_error)?;
    // S3's tag of an object made of parts: the digest of their digests, and how many there were.
    let etag = format!("{}-{}", hex::encode(digests.finalize()), parts.len());
    let object = Object {
        key: key.clone(),
        blob: written.blob.name(),
        size: written.size,
        etag: etag.clone(),
        modified_ms: now_ms(),
        headers: upload.headers,
        checksums: Checksums::default(),
    };
    bucket.commit(written.blob, move |index| index.complete(&upload_id, &object, &precondition)).await?;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(key),
        e_tag: Some(ETag::Strong(etag)),
        ..Default::default()
    }))
}

/// The stored parts a completion asks for: in ascending order, unchanged since, each but the last large enough.
fn choose(asked: &[CompletedPart], stored: &[Part]) -> S3Result<Vec<Part>> {
    let mut chosen: Vec<Part> = Vec::with_capacity(asked.len());
    for part in asked {
        let number = part.part_number.ok_or_else(|| s3_error!(InvalidPart))?;
        let found = stored.iter().find(|stored| stored.number == number).ok_or_else(|| s3_error!(InvalidPart))?;
        if part.e_tag.as_ref().is_some_and(|tag| tag.value() != found.etag) {
            return Err(s3_error!(InvalidPart));
        }
        if let Some(previous) = chosen.last() {
            if previous.number >= number {
                return Err(s3_error!(InvalidPartOrder));
            }
            if previous.size < MIN_PART_BYTES {
                return Err(s3_error!(EntityTooSmall));
            }
        }
        chosen.push(found.clone());
    }
    if chosen.is_empty() {
        return Err(s3_error!(MalformedXML, "a completion names at least one part"));
    }
    Ok(chosen)
}

pub(crate) async fn abort(
    bucket: &Bucket,
    input: AbortMultipartUploadInput,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let AbortMultipartUploadInput { key, upload_id, .. } = input;
    let blobs = bucket
        .on_index(move |index| {
            index.upload(&upload_id, &key)?;
            index.abort(&upload_id)
        })
        .await?;
    bucket.blobs.remove(blobs).await;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub(crate) async fn list_parts(bucket: &Bucket, input: ListPartsInput) -> S3Result<S3Response<ListPartsOutput>> {
    let (id, key) = (input.upload_id.clone(), input.key.clone());
    let parts = bucket
        .on_index(move |index| {
            index.upload(&id, &key)?;
            index.parts(&id)
        })
        .await?;
    let listed = |part: Part| s3s::dto::Part {
        part_number: Some(part.number),
        size: Some(part.size as i64),
        e_tag: Some(ETag::Strong(part.etag)),
        last_modified: Some(timestamp(part.modified_ms)),
        ..Default::default()
    };
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(false),
        parts: Some(parts.into_iter().map(listed).collect()),
        ..Default::default()
    }))
}

pub(crate) async fn list_uploads(
    bucket: &Bucket,
    input: ListMultipartUploadsInput,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let prefix = input.prefix.clone().unwrap_or_default();
    let uploads = bucket.on_index(move |index| index.uploads(&prefix)).await?;
    let listed = |upload: Upload| MultipartUpload {
        key: Some(upload.key),
        upload_id: Some(upload.id),
        initiated: Some(timestamp(upload.created_ms)),
        ..Default::default()
    };
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix,
        is_truncated: Some(false),
        uploads: Some(uploads.into_iter().map(listed).collect()),
        ..Default::default()
    }))
}

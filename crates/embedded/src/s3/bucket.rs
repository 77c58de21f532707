//! The bucket's operations, as `s3s` hands them over: parsed, authenticated, one method each.
//!
//! Owns: what the service needs of S3, and no more; an operation missing here is answered `NotImplemented`.
//! Does not own: signatures and XML (`s3s`), bytes (`blobs`), keys and conditions (`index`).

use super::blobs::{Blobs, NewBlob, Uncommitted, Written};
use super::checksums;
use super::index::{Headers, Index, IndexError, Object, Precondition};
use super::multipart;
use crate::disk::OnDisk;
use crate::now_ms;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};
use std::ops::Range as ByteRange;
use std::time::{Duration, UNIX_EPOCH};

/// The largest body of one PUT or part, as on S3.
const MAX_BODY_BYTES: i64 = 5 * 1024 * 1024 * 1024;
const MAX_LISTED: i32 = 1000;

/// One bucket on the file system. Clones share it.
#[derive(Clone)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) index: OnDisk<Index>,
    pub(crate) blobs: Blobs,
}

impl From<IndexError> for S3Error {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::PreconditionFailed => s3_error!(PreconditionFailed),
            IndexError::NoSuchUpload => s3_error!(NoSuchUpload),
            IndexError::Database(_) | IndexError::Row(_) | IndexError::Aborted(_) => S3Error::internal_error(error),
        }
    }
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn head_bucket(&self, _: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.put(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.get(req.input).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.head(req.input).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.delete(vec![req.input.key]).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let Delete { objects, quiet } = req.input.delete;
        let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        self.delete(keys.clone()).await?;
        let deleted = |key| DeletedObject { key: Some(key), ..Default::default() };
        let deleted = (quiet != Some(true)).then(|| keys.into_iter().map(deleted).collect());
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.list(req.input).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        multipart::create(self, req.input).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        multipart::upload_part(self, req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        multipart::complete(self, req.input).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        multipart::abort(self, req.input).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        multipart::list_parts(self, req.input).await
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        multipart::list_uploads(self, req.input).await
    }
}

impl Bucket {
    async fn put(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let announced = checksums::announced(&req.headers, req.input.checksum_algorithm.as_ref());
        let PutObjectInput { body, key, content_length, content_md5, if_match, if_none_match, .. } = req.input;
        let given = Checksum {
            checksum_crc32: req.input.checksum_crc32,
            checksum_crc32c: req.input.checksum_crc32c,
            checksum_crc64nvme: req.input.checksum_crc64nvme,
            checksum_sha1: req.input.checksum_sha1,
            checksum_sha256: req.input.checksum_sha256,
            checksum_type: None,
        };
        let headers = Headers {
            content_type: req.input.content_type,
            content_encoding: req.input.content_encoding,
            content_disposition: req.input.content_disposition,
            content_language: req.input.content_language,
            cache_control: req.input.cache_control,
            user: req.input.metadata.unwrap_or_default().into_iter().collect(),
        };
        let precondition = precondition(if_match, if_none_match)?;
        self.on_index({
            // Before the body, to spare the client sending it in vain; the answer that counts comes at the commit.
            let (key, precondition) = (key.clone(), precondition.clone());
            move |index| index.check(&key, &precondition)
        })
        .await?;

        let incoming = Incoming { body, content_length, content_md5, announced, given, trailers: req.trailing_headers };
        let written = self.receive(incoming).await?;
        let etag = hex::encode(written.md5);
        let object = Object {
            key,
            blob: written.blob.name(),
            size: written.size,
            etag: etag.clone(),
            modified_ms: now_ms(),
            headers,
            checksums: checksums::stored(&written.checksums),
        };
        self.commit(written.blob, move |index| index.put(&object, &precondition)).await?;
        let Checksum { checksum_crc32, checksum_crc32c, checksum_crc64nvme, checksum_sha1, checksum_sha256, .. } =
            written.checksums;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc32,
            checksum_crc32c,
            checksum_crc64nvme,
            checksum_sha1,
            checksum_sha256,
            ..Default::default()
        }))
    }

    async fn get(&self, input: GetObjectInput) -> S3Result<S3Response<GetObjectOutput>> {
        let object = self.object(input.key).await?;
        let modified = timestamp(object.modified_ms);
        check_conditions(&object, &input.if_match, &input.if_none_match)?;
        let (range, content_range) = match input.range {
            None => (0..object.size, None),
            Some(range) => {
                let ByteRange { start, end } = range.check(object.size)?;
                // An empty suffix of an empty object: nothing to name a range of.
                let header = (start < end).then(|| format!("bytes {start}-{}/{}", end - 1, object.size));
                (start..end, Some(header.ok_or_else(|| s3_error!(InvalidRange))?))
            }
        };
        let whole = range == (0..object.size);
        let content_length = Some((range.end - range.start) as i64);
        let body = self.blobs.read(&object.blob, range).await.map_err(S3Error::internal_error)?;
        let sums = if whole && input.checksum_mode.is_some() { object.checksums } else { Default::default() };
        let headers = object.headers;
        Ok(S3Response::new(GetObjectOutput {
            body: Some(body),
            accept_ranges: Some("bytes".to_owned()),
            content_length,
            content_range,
            last_modified: Some(modified),
            e_tag: Some(ETag::Strong(object.etag)),
            content_type: headers.content_type,
            content_encoding: headers.content_encoding,
            content_disposition: headers.content_disposition,
            content_language: headers.content_language,
            cache_control: headers.cache_control,
            metadata: Some(headers.user.into_iter().collect()),
            checksum_crc32: sums.crc32,
            checksum_crc32c: sums.crc32c,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_sha1: sums.sha1,
            checksum_sha256: sums.sha256,
            ..Default::default()
        }))
    }

    async fn head(&self, input: HeadObjectInput) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.object(input.key).await?;
        check_conditions(&object, &input.if_match, &input.if_none_match)?;
        let sums = if input.checksum_mode.is_some() { object.checksums } else { Default::default() };
        let headers = object.headers;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(object.size as i64),
            last_modified: Some(timestamp(object.modified_ms)),
            e_tag: Some(ETag::Strong(object.etag)),
            content_type: headers.content_type,
            content_encoding: headers.content_encoding,
            content_disposition: headers.content_disposition,
            content_language: headers.content_language,
            cache_control: headers.cache_control,
            metadata: Some(headers.user.into_iter().collect()),
            checksum_crc32: sums.crc32,
            checksum_crc32c: sums.crc32c,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_sha1: sums.sha1,
            checksum_sha256: sums.sha256,
            ..Default::default()
        }))
    }

    async fn delete(&self, keys: Vec<String>) -> S3Result<()> {
        let blobs = self.on_index(move |index| index.delete(&keys)).await?;
        self.blobs.remove(blobs).await;
        Ok(())
    }

    async fn list(&self, input: ListObjectsV2Input) -> S3Result<S3Response<ListObjectsV2Output>> {
        if input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented, "listing with a delimiter"));
        }
        let max = input.max_keys.unwrap_or(MAX_LISTED).clamp(0, MAX_LISTED);
        let after = match &input.continuation_token {
            Some(token) => decode_token(token)?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let prefix = input.prefix.clone().unwrap_or_default();
        // One more than asked for tells whether there is more.
        let limit = usize::try_from(max).unwrap_or_default() + 1;
        let mut objects = self.on_index(move |index| index.list(&prefix, &after, limit)).await?;
        let more = objects.len() == limit;
        objects.truncate(limit - 1);
        let next = objects.last().filter(|_| more).map(|last| STANDARD.encode(&last.key));
        let listed = |object: Object| s3s::dto::Object {
            key: Some(object.key),
            size: Some(object.size as i64),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(timestamp(object.modified_ms)),
            ..Default::default()
        };
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(self.name.clone()),
            prefix: input.prefix,
            max_keys: Some(max),
            key_count: i32::try_from(objects.len()).ok(),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            is_truncated: Some(more),
            next_continuation_token: next,
            contents: Some(objects.into_iter().map(listed).collect()),
            ..Default::default()
        }))
    }

    async fn object(&self, key: String) -> S3Result<Object> {
        if let Some(object) = self.on_index(move |index| index.get(&key)).await? {
            return Ok(object);
        }
        // Without its files the store is away, whatever the index says: nobody is told that an object is gone.
        if self.blobs.are_there().await { Err(s3_error!(NoSuchKey)) } else { Err(s3_error!(InternalError)) }
    }

    pub(crate) async fn on_index<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Index) -> Result<T, IndexError> + Send + 'static,
    ) -> S3Result<T> {
        Ok(self.index.run(work).await?)
    }

    /// Does the write that names `blob`, and deletes the files it unnames.
    ///
    /// The file goes along with the write: a caller that hangs up in between takes neither with it.
    pub(crate) async fn commit(
        &self,
        blob: Uncommitted,
        write: impl FnOnce(&mut Index) -> Result<Vec<String>, IndexError> + Send + 'static,
    ) -> S3Result<()> {
        let unnamed = self
            .on_index(move |index| {
                let unnamed = write(index)?;
                blob.committed();
                Ok(unnamed)
            })
            .await?;
        self.blobs.remove(unnamed).await;
        Ok(())
    }

    /// Takes in a request's body and checks it against everything its sender said about it.
    pub(crate) async fn receive(&self, incoming: Incoming) -> S3Result<Written> {
        let Incoming { body, content_length, content_md5, announced, given, trailers } = incoming;
        let body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
        // Without a length said (and signed) beforehand a body would have no bound.
        let length = content_length.ok_or_else(|| s3_error!(MissingContentLength))?;
        if length > MAX_BODY_BYTES {
            return Err(s3_error!(EntityTooLarge));
        }
        let length = u64::try_from(length).map_err(|_| s3_error!(InvalidRequest))?;
        let hasher = checksums::hasher(&given, announced);
        let mut blob: NewBlob = self.blobs.create(hasher).await.map_err(S3Error::internal_error)?;
        blob.append_body(body, length).await?;
        let written = blob.finish().await.map_err(S3Error::internal_error)?;
        let trailers = trailers.as_ref().and_then(TrailingHeaders::take).unwrap_or_default();
        checksums::verify(&written.checksums, &given, &trailers)?;
        if let Some(expected) = content_md5 {
            let expected = STANDARD.decode(expected).map_err(|_| s3_error!(InvalidDigest))?;
            if expected != written.md5 {
                return Err(s3_error!(BadDigest));
            }
        }
        Ok(written)
    }
}

/// A body and what its sender says of it.
pub(crate) struct Incoming {
    pub(crate) body: Option<StreamingBlob>,
    pub(crate) content_length: Option<i64>,
    pub(crate) content_md5: Option<String>,
    pub(crate) announced: Vec<checksums::Algorithm>,
    pub(crate) given: Checksum,
    pub(crate) trailers: Option<TrailingHeaders>,
}

pub(crate) fn precondition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<Precondition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Precondition::None),
        (None, Some(ETagCondition::Any)) => Ok(Precondition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Precondition::Present),
        (Some(ETagCondition::ETag(tag)), None) => Ok(Precondition::HasEtag(tag.into_value())),
        // As on S3.
        (_, Some(_)) => Err(s3_error!(NotImplemented, "If-None-Match of a write takes * alone")),
    }
}

fn check_conditions(
    object: &Object,
    if_match: &Option<ETagCondition>,
    if_none_match: &Option<ETagCondition>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.value() == object.etag,
    };
    if if_match.as_ref().is_some_and(|condition| !is(condition)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if if_none_match.as_ref().is_some_and(is) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

pub(crate) fn timestamp(ms: i64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default())).into()
}

fn decode_token(token: &str) -> S3Result<String> {
    let key = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of ours"))
}

//! Uploads that come through the service: a body of unknown length, in constant memory.
//!
//! Owns: parts and their sizes, the byte cap, the wait for a silent sender. Does not own: who may upload.
//!
//! Invariants: at most one part is in memory; the object exists only once the whole body came and was within the
//! cap; whatever breaks off (the future may be dropped as well) aborts the multipart upload, and the bucket's rule
//! removes what even that misses.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use rotoless_core::ports::{AdapterError, StoreError, UploadError, UploadSink};
use tokio::runtime::Handle;

use super::S3Objects;
use crate::error::{Effect, classify};

/// Bytes of every part but the last. S3 asks for 5 MiB at least; 10 000 parts of 8 MiB are 80 GB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// A sender that is silent for longer has gone.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// The sender was silent for too long.
#[derive(Debug, thiserror::Error)]
#[error("no byte came for {} s", LONGEST_SILENCE.as_secs())]
struct Silent;

/// S3 answered without the id of the upload it began.
#[derive(Debug, thiserror::Error)]
#[error("no upload id")]
struct NoUploadId;

/// The body, counted and cut into parts.
struct Parts<'a> {
    body: BoxStream<'a, Result<Bytes, AdapterError>>,
    /// What came of the next part so far.
    pending: BytesMut,
    ended: bool,
    read_bytes: u64,
    max_bytes: u64,
}

impl Parts<'_> {
    /// The next part: [`PART_BYTES`] long, or shorter at the end. Empty when there is nothing more.
    async fn next(&mut self) -> Result<Bytes, UploadError> {
        while !self.ended && self.pending.len() < PART_BYTES {
            let next = tokio::time::timeout(LONGEST_SILENCE, self.body.next()).await;
            match next.map_err(|_| UploadError::Body(Silent.into()))? {
                None => self.ended = true,
                Some(Err(e)) => return Err(UploadError::Body(e)),
                Some(Ok(chunk)) => {
                    self.read_bytes += chunk.len() as u64;
                    if self.read_bytes > self.max_bytes {
                        return Err(UploadError::TooLarge);
                    }
                    self.pending.extend_from_slice(&chunk);
                }
            }
        }
        let len = self.pending.len().min(PART_BYTES);
        Ok(self.pending.split_to(len).freeze())
    }

    fn is_over(&self) -> bool {
        self.ended && self.pending.is_empty()
    }
}

#[async_trait]
impl UploadSink for S3Objects {
    async fn store(
        &self,
        key: &str,
        content_type: &str,
        body: BoxStream<'_, Result<Bytes, AdapterError>>,
        max_bytes: u64,
    ) -> Result<u64, UploadError> {
        let mut parts = Parts { body, pending: BytesMut::new(), ended: false, read_bytes: 0, max_bytes };
        let first = parts.next().await?;
        if parts.is_over() {
            let put = self.client.put_object().bucket(&self.bucket).key(key).content_type(content_type);
            put.body(first.into()).send().await.map_err(|e| classify(e, Effect::Change).error)?;
            return Ok(parts.read_bytes);
        }
        let upload = Multipart::begin(self, key, content_type).await?;
        let mut completed = vec![upload.put(1, first).await?];
        while !parts.is_over() {
            let part = parts.next().await?;
            if !part.is_empty() {
                completed.push(upload.put(completed.len() + 1, part).await?);
            }
        }
        upload.complete(completed).await?;
        Ok(parts.read_bytes)
    }
}

/// A multipart upload that is aborted when dropped before it is complete.
struct Multipart {
    client: aws_sdk_s3::Client,
    bucket: String,
    key: String,
    upload_id: String,
    complete: bool,
}

impl Multipart {
    /// Begins it on a task of its own: if the caller is dropped before S3 answers, the answer is dropped there, and
    /// with it the upload. Otherwise nobody would know its id.
    async fn begin(objects: &S3Objects, key: &str, content_type: &str) -> Result<Self, StoreError> {
        let (client, bucket, key) = (objects.client.clone(), objects.bucket.clone(), key.to_owned());
        let create = client.create_multipart_upload().bucket(&bucket).key(&key).content_type(content_type);
        let begun = tokio::spawn(async move {
            let reply = create.send().await.map_err(|e| classify(e, Effect::Change).error)?;
            let upload_id = reply.upload_id.ok_or_else(|| StoreError::Unavailable(NoUploadId.into()))?;
            Ok(Self { client, bucket, key, upload_id, complete: false })
        });
        begun.await.map_err(|e| StoreError::Unavailable(e.into()))?
    }

    async fn put(&self, number: usize, part: Bytes) -> Result<CompletedPart, StoreError> {
        let number = i32::try_from(number).map_err(|e| StoreError::Rejected(e.into()))?;
        let upload = self.client.upload_part().bucket(&self.bucket).key(&self.key);
        let reply = upload
            .upload_id(&self.upload_id)
            .part_number(number)
            .body(part.into())
            .send()
            .await
            .map_err(|e| classify(e, Effect::Change).error)?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(reply.e_tag)
            // The SDK's own checksum of the part: S3 compares it with what it stored.
            .set_checksum_crc32(reply.checksum_crc32)
            .build())
    }

    async fn complete(mut self, parts: Vec<CompletedPart>) -> Result<(), StoreError> {
        let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(&self.key);
        complete
            .upload_id(&self.upload_id)
            .multipart_upload(all)
            .send()
            .await
            .map_err(|e| classify(e, Effect::Change).error)?;
        self.complete = true;
        Ok(())
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if self.complete {
            return;
        }
        // The sender may be gone and this very future with it, so nobody waits for the abort.
        let Ok(runtime) = Handle::try_current() else { return };
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key);
        let abort = abort.upload_id(&self.upload_id);
        runtime.spawn(async move {
            if let Err(e) = abort.send().await {
                tracing::warn!(error = %classify(e, Effect::Change).error, "an unfinished upload was not aborted");
            }
        });
    }
}

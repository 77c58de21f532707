//! Uploads, outputs and manifests, in S3.
//!
//! Owns: reading and deleting by prefix, presigned links, uploads that come through the service (`upload`).
//! Does not own: which keys there are (contract, core), retention on AWS (life cycle rules of the bucket).
//!
//! The role needs `s3:ListBucket` besides the object rights: without it S3 answers 403 where there is no object.

mod disposition;
mod header;
mod upload;

pub use header::HeaderProbe;

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::{Bytes, BytesMut};
use rotoless_core::ports::{ObjectInfo, Objects, PresignedPut, PresignedUrl, PutTerms, StoreError};

use crate::AwsClients;
use crate::error::{Effect, classify};

/// One bucket.
#[derive(Debug, Clone)]
pub struct S3Objects {
    client: aws_sdk_s3::Client,
    presigner: aws_sdk_s3::Client,
    bucket: String,
}

/// The store sent more than was asked for.
#[derive(Debug, thiserror::Error)]
#[error("more bytes than were asked for")]
struct TooMany;

/// Some objects could not be deleted.
#[derive(Debug, thiserror::Error)]
#[error("{count} objects were not deleted, the first for {code}")]
struct NotDeleted {
    count: usize,
    code: String,
}

impl S3Objects {
    /// The bucket of this name.
    #[must_use]
    pub fn new(clients: &AwsClients, bucket: impl Into<String>) -> Self {
        Self { client: clients.s3.clone(), presigner: clients.s3_presign.clone(), bucket: bucket.into() }
    }
}

#[async_trait]
impl Objects for S3Objects {
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(reply) => {
                // Absent or negative would be S3's fault; 0 makes every later check refuse the object.
                let size_bytes = reply.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
                Ok(Some(ObjectInfo { size_bytes, content_type: reply.content_type }))
            }
            Err(e) if e.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(e) => Err(classify(e, Effect::None).error),
        }
    }

    async fn read(&self, key: &str, start: u64, len: u64) -> Result<Option<Bytes>, StoreError> {
        if len == 0 {
            return Ok(self.head(key).await?.map(|_| Bytes::new()));
        }
        // No object is longer than 2^63 bytes, and some servers read positions as signed.
        let [first, last] = [start, start.saturating_add(len - 1)].map(|at| at.min(i64::MAX as u64));
        let range = format!("bytes={first}-{last}");
        let mut body = match self.client.get_object().bucket(&self.bucket).key(key).range(range).send().await {
            Ok(reply) => reply.body,
            Err(e) if e.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(None),
            Err(e) if is_past_the_end(&e) => return Ok(Some(Bytes::new())),
            Err(e) => return Err(classify(e, Effect::None).error),
        };
        let mut read = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|e| StoreError::Unavailable(e.into()))?;
            // A store that ignores the range must not fill our memory.
            if (read.len() + chunk.len()) as u64 > len {
                return Err(StoreError::Corrupt { what: "object range", source: TooMany.into() });
            }
            read.extend_from_slice(&chunk);
        }
        Ok(Some(read.freeze()))
    }

    async fn presign_get(&self, key: &str, life: Duration, filename: Option<&str>) -> Result<PresignedUrl, StoreError> {
        let get = self.presigner.get_object().bucket(&self.bucket).key(key);
        let get = get.set_response_content_disposition(filename.map(disposition::attachment));
        let signed = get.presigned(lasting(life)?).await.map_err(|e| classify(e, Effect::None).error)?;
        Ok(PresignedUrl(signed.uri().to_owned()))
    }

    async fn presign_put(&self, key: &str, life: Duration, terms: &PutTerms) -> Result<PresignedPut, StoreError> {
        let size = terms.size_bytes.map(i64::try_from).transpose().map_err(|e| StoreError::Rejected(e.into()))?;
        let put = self
            .presigner
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_content_type(terms.content_type.clone())
            .set_content_length(size)
            .set_if_none_match(terms.only_if_absent.then(|| "*".to_owned()));
        let signed = put.presigned(lasting(life)?).await.map_err(|e| classify(e, Effect::None).error)?;
        let headers = signed
            .headers()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Ok(PresignedPut { url: PresignedUrl(signed.uri().to_owned()), headers })
    }

    async fn list_prefix(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let page = request.send().await.map_err(|e| classify(e, Effect::None).error)?;
        let object = |object: &aws_sdk_s3::types::Object| {
            Some((object.key()?.to_owned(), u64::try_from(object.size()?).unwrap_or(0)))
        };
        Ok(page.contents().iter().filter_map(object).collect())
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, StoreError> {
        let mut deleted = 0;
        let mut position: Option<String> = None;
        loop {
            let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let page =
                list.set_continuation_token(position).send().await.map_err(|e| classify(e, Effect::None).error)?;
            let keys: Vec<&str> = page.contents().iter().filter_map(|object| object.key()).collect();
            self.delete(&keys).await?;
            deleted += keys.len() as u64;
            position = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
            if position.is_none() {
                return Ok(deleted);
            }
        }
    }
}

impl S3Objects {
    /// One page of keys, at most a thousand: S3's limit for both listing and deleting.
    async fn delete(&self, keys: &[&str]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let rejected = |e: aws_sdk_s3::error::BuildError| StoreError::Rejected(e.into());
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(*key).build());
        let objects = objects.collect::<Result<Vec<_>, _>>().map_err(rejected)?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(rejected)?;
        let request = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let reply = request.send().await.map_err(|e| classify(e, Effect::Change).error)?;
        match reply.errors() {
            [] => Ok(()),
            [first, ..] => {
                let code = first.code().unwrap_or_default().to_owned();
                Err(StoreError::Unavailable(NotDeleted { count: reply.errors().len(), code }.into()))
            }
        }
    }
}

fn lasting(life: Duration) -> Result<PresigningConfig, StoreError> {
    PresigningConfig::expires_in(life).map_err(|e| StoreError::Rejected(e.into()))
}

/// 416: the range begins at or after the end. The SDK has no variant for it.
fn is_past_the_end(failure: &SdkError<GetObjectError, HttpResponse>) -> bool {
    failure.raw_response().is_some_and(|raw| raw.status().as_u16() == 416)
}

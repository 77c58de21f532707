//! The object store.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::{AdapterError, StoreError};
use crate::header::{Header, HeaderError};

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size_bytes: u64,
    /// Media type as stored.
    pub content_type: Option<String>,
}

/// A link that carries its own right. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignedUrl(pub String);

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresignedUrl")
    }
}

/// A presigned PUT: the link, and headers that must be sent as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresignedPut {
    /// The link.
    pub url: PresignedUrl,
    /// Signed headers, lower-case names.
    pub headers: Vec<(String, String)>,
}

/// What a presigned PUT is bound to.
#[derive(Debug, Clone, Default)]
pub struct PutTerms {
    /// Signed `Content-Type`.
    pub content_type: Option<String>,
    /// Signed `Content-Length`.
    pub size_bytes: Option<u64>,
    /// Signed `If-None-Match: *`: only where nothing is yet.
    pub only_if_absent: bool,
}

/// The object store, as far as the control plane needs it.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Size and type, or `None` where there is nothing.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError>;
    /// Bytes `start..start+len` (fewer at the end), or `None` where there is nothing.
    async fn read(&self, key: &str, start: u64, len: u64) -> Result<Option<Bytes>, StoreError>;
    /// A link to read an object; `filename` is what a browser saves it as.
    async fn presign_get(&self, key: &str, life: Duration, filename: Option<&str>) -> Result<PresignedUrl, StoreError>;
    /// A link to write an object.
    async fn presign_put(&self, key: &str, life: Duration, terms: &PutTerms) -> Result<PresignedPut, StoreError>;
    /// Keys and sizes of what lies under a prefix, at most a thousand.
    async fn list_prefix(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError>;
    /// Removes everything under a prefix; returns how many objects.
    async fn delete_prefix(&self, prefix: &str) -> Result<u64, StoreError>;
}

/// Why an upload through the service left nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The body is longer than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// The body broke off, or nothing came for too long.
    #[error("the body could not be read")]
    Body(#[source] AdapterError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes an upload that comes through the service, in constant memory.
#[async_trait]
pub trait UploadSink: Send + Sync {
    /// Stores the whole body under `key` and returns its size in bytes. The object exists only on `Ok`.
    async fn store(
        &self,
        key: &str,
        content_type: &str,
        body: BoxStream<'_, Result<Bytes, AdapterError>>,
        max_bytes: u64,
    ) -> Result<u64, UploadError>;
}

/// Why the early probe gave no header.
#[derive(Debug, thiserror::Error)]
pub enum SourceProbeError {
    /// The bytes are not an acceptable video.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The store failed, or the probe took too long.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The early probe: the header of an upload, by a few ranged reads.
#[async_trait]
pub trait SourceProbe: Send + Sync {
    /// The header of the object `key` of `size_bytes` bytes.
    async fn read_header(&self, key: &str, size_bytes: u64) -> Result<Header, SourceProbeError>;
}

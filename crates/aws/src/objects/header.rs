//! The early probe: an upload's header by a few ranged reads.
//!
//! The parsers are synchronous, the store is not: they run on a blocking thread that waits for each block.

use std::io;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rotoless_core::header::{BlockReader, Header, HeaderError, read_header};
use rotoless_core::ports::{Objects, SourceProbe, SourceProbeError, StoreError};
use tokio::runtime::Handle;

use super::S3Objects;

/// All blocks together must arrive within this time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(8);

/// Reads headers of objects in one bucket.
#[derive(Debug, Clone)]
pub struct HeaderProbe {
    objects: S3Objects,
}

impl HeaderProbe {
    /// Over the bucket of `objects`.
    #[must_use]
    pub const fn new(objects: S3Objects) -> Self {
        Self { objects }
    }
}

/// The object vanished while it was read.
#[derive(Debug, thiserror::Error)]
#[error("the object is gone")]
struct Gone;

/// The blocking thread ended without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the probe ended early")]
struct EndedEarly;

#[async_trait]
impl SourceProbe for HeaderProbe {
    async fn read_header(&self, key: &str, size_bytes: u64) -> Result<Header, SourceProbeError> {
        let (objects, key, runtime) = (self.objects.clone(), key.to_owned(), Handle::current());
        let deadline = Instant::now() + PROBE_TIMEOUT;
        let probing = tokio::task::spawn_blocking(move || {
            let block = |start, len| {
                if Instant::now() >= deadline {
                    return Err(io::Error::from(io::ErrorKind::TimedOut));
                }
                match runtime.block_on(objects.read(&key, start, len)) {
                    Ok(Some(bytes)) => Ok(bytes),
                    Ok(None) => Err(io::Error::other(StoreError::Unavailable(Gone.into()))),
                    Err(err) => Err(io::Error::other(err)),
                }
            };
            read_header(BlockReader::new(block, size_bytes), size_bytes)
        });
        match probing.await {
            Ok(Ok(header)) => Ok(header),
            Ok(Err(HeaderError::Io(err))) => Err(SourceProbeError::Store(store_error(err))),
            Ok(Err(err)) => Err(SourceProbeError::Header(err)),
            Err(_) => Err(SourceProbeError::Store(StoreError::Unavailable(EndedEarly.into()))),
        }
    }
}

/// What the store said, as it went through the parser.
fn store_error(err: io::Error) -> StoreError {
    if err.kind() == io::ErrorKind::TimedOut {
        return StoreError::Timeout { maybe_applied: false, source: err.into() };
    }
    match err.downcast::<StoreError>() {
        Ok(store) => store,
        Err(other) => StoreError::Unavailable(other.into()),
    }
}

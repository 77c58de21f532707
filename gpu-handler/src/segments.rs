//! Finished segments in the object store, by way of links that the control plane makes one by one.
//!
//! Owns: the calls for it from the engine's thread, which blocks, to the runtime. Does not own: what a segment is, and
//! what happens without one (`rotoless_matting::segments`). Invariant: no call outlasts the attempt's stop.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rotoless_contract::worker::{ClaimReply, SegmentsReply, SegmentsRequest, attempt_path};
use rotoless_matting::segments::{SegmentStore, SegmentStoreError, Stored};
use secrecy::SecretString;
use tokio::runtime::Handle;

use crate::attempt::{Attempt, Ended, MAX_PUT_BYTES};
use crate::control::{CallError, Control};
use crate::kept::digest;
use crate::links::{Link, Links};
use crate::live::{Live, StopCause};
use crate::transfer::{Transfer, TransferError, Verified};

/// A call that does not go through is given up after this long: the work goes on without.
const PATIENCE: Duration = Duration::from_secs(20);

/// A segment is moved within this time, or not at all: a frame must be finished every two minutes, and the work waits for
/// a segment that is fetched.
const MOVE: Duration = Duration::from_secs(100);

/// The segments of an attempt's run.
pub(crate) struct RemoteSegments {
    runtime: Handle,
    live: Arc<Live>,
    links: Arc<Links>,
    control: Control,
    transfer: Transfer,
    path: String,
    secret: SecretString,
}

impl std::fmt::Debug for RemoteSegments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteSegments").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a segment was not moved.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the attempt was asked to stop: {}", .0.as_str())]
    Stopped(StopCause),
    #[error("the control plane gave no link")]
    Call(#[from] CallError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("the segment was not moved in {} s", MOVE.as_secs())]
    Slow,
    #[error("the segment is not there")]
    Missing,
    #[error("the segment has {0} bytes, more than one PUT carries")]
    TooLarge(u64),
    #[error("the segment cannot be read")]
    Unreadable,
}

impl From<StopCause> for Trouble {
    fn from(cause: StopCause) -> Self {
        Self::Stopped(cause)
    }
}

impl RemoteSegments {
    /// Those of an attempt. On a thread of the runtime.
    pub(crate) fn of(attempt: &Attempt<'_>) -> Self {
        let ClaimReply { job_id, attempt: number, report_secret, .. } = attempt.claim;
        Self {
            runtime: Handle::current(),
            live: Arc::clone(attempt.live),
            links: Arc::clone(attempt.links),
            control: attempt.control.clone(),
            transfer: attempt.transfer.clone(),
            path: attempt_path(job_id, *number, "segments"),
            secret: report_secret.clone(),
        }
    }

    /// On the engine's thread.
    fn within<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        self.runtime.block_on(async { tokio::time::timeout(MOVE, work).await.unwrap_or(Err(Trouble::Slow)) })
    }

    async fn ask(&self, plan: &str, read: Option<u32>, write: Option<u32>) -> Result<SegmentsReply, Trouble> {
        let request = SegmentsRequest { plan: plan.to_owned(), read, write };
        let until = Instant::now() + PATIENCE;
        let call = self.control.call_until(&self.secret, &self.path, &request, || until);
        Ok(self.live.unless_stopped(call).await??)
    }

    async fn download(&self, plan: &str, index: u32, file: &Path) -> Result<(), Trouble> {
        let Some(source) = self.ask(plan, Some(index), None).await?.read else { return Err(Trouble::Missing) };
        let max_bytes = source.size_bytes;
        let link = Link::new(&self.links, &self.live, |_| source.clone());
        Ok(self.live.unless_stopped(self.transfer.download(&link, max_bytes, file)).await??)
    }

    async fn upload(&self, plan: &str, index: u32, file: &Path) -> Result<Stored, Trouble> {
        let (size_bytes, sha256) = match self.live.unless_stopped(digest(file.to_owned())).await? {
            Ok(found) => found,
            Err(Ended::Stopped(cause)) => return Err(cause.into()),
            Err(_) => return Err(Trouble::Unreadable),
        };
        if size_bytes > MAX_PUT_BYTES {
            return Err(Trouble::TooLarge(size_bytes));
        }
        let Some(target) = self.ask(plan, None, Some(index)).await?.write else { return Err(Trouble::Missing) };
        let link = Link::new(&self.links, &self.live, |_| target.clone());
        let verified = Verified { size_bytes, sha256: &sha256 };
        match self.live.unless_stopped(self.transfer.upload(&link, file, &verified)).await? {
            Ok(()) => Ok(Stored::New),
            // Somebody else's, or our own earlier try, whose answer was lost.
            Err(TransferError::Status(412)) => Ok(Stored::WasThere),
            Err(error) => Err(error.into()),
        }
    }
}

impl SegmentStore for RemoteSegments {
    fn finished(&self, plan: &str) -> Result<BTreeSet<u32>, SegmentStoreError> {
        let reply = self.runtime.block_on(self.ask(plan, None, None));
        Ok(reply.map_err(failed("cannot ask for the segments"))?.finished.into_iter().collect())
    }

    fn fetch(&self, plan: &str, index: u32, file: &Path) -> Result<(), SegmentStoreError> {
        let moved = self.within(self.download(plan, index, file));
        moved.map_err(failed("cannot fetch a segment"))
    }

    fn store(&self, plan: &str, index: u32, file: &Path) -> Result<Stored, SegmentStoreError> {
        let moved = self.within(self.upload(plan, index, file));
        let stored = moved.map_err(failed("cannot store a segment"))?;
        self.live.segment_stored();
        Ok(stored)
    }
}

fn failed(what: &'static str) -> impl FnOnce(Trouble) -> SegmentStoreError {
    move |trouble| SegmentStoreError { what, source: trouble.into() }
}

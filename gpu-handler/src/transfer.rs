//! Objects over presigned URLs: the source comes, the output goes, the manifest is committed.
//!
//! Owns: byte caps, least rates and the tries of one transfer. Does not own: what a failure means for the job.
//! Invariants: no more bytes are read than were announced; every try begins at byte 0; what was uploaded has the
//! digest that was verified; a URL never appears in an error.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use reqwest::header::{CONTENT_LENGTH, IF_NONE_MATCH};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use rotoless_contract::worker::{Download, Upload};
use rotoless_egress::{Egress, FetchError, FetchLimits};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::io::ReaderStream;

use crate::backoff::Backoff;
use crate::detail::shown;
use crate::links::Link;
use crate::net::{self, PlainHttp, UrlError};
use crate::timing::Timing;

/// Bytes read from disk at a time while uploading.
const CHUNK_BYTES: usize = 256 * 1024;

/// Why an object was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error("the object does not exist")]
    NotFound,
    #[error("the object is larger than the {announced} bytes that were announced")]
    Larger { announced: u64 },
    #[error("the object ended after {got} of {announced} bytes")]
    Short { got: u64, announced: u64 },
    /// The link has ended, or never was good.
    #[error("the store refused the link")]
    Refused,
    #[error("the store answered with status {0}")]
    Status(u16),
    #[error("the transfer was slower than {0} bytes a second")]
    TooSlow(u64),
    #[error("the store cannot be reached")]
    Transport(#[source] reqwest::Error),
    #[error("the address of the object cannot be used")]
    Address(#[from] UrlError),
    #[error("a signed header cannot be sent")]
    Header,
    #[error("the file is not the one that was verified")]
    Altered,
    #[error("the URL could not be fetched")]
    Unreachable(#[source] FetchError),
    #[error("the local file failed")]
    Disk(#[from] io::Error),
}

impl TransferError {
    /// Whether the same transfer, begun anew, may succeed.
    const fn passes(&self) -> bool {
        match self {
            // S3: 408 slow client, 409 a racing conditional write, 429 and 5xx have it rest.
            Self::Status(status) => matches!(status, 408 | 409 | 429 | 500..),
            Self::Short { .. } | Self::TooSlow(_) | Self::Transport(_) => true,
            Self::Unreachable(error) => error.may_pass(),
            Self::NotFound
            | Self::Larger { .. }
            | Self::Refused
            | Self::Address(_)
            | Self::Header
            | Self::Altered
            | Self::Disk(_) => false,
        }
    }
}

impl From<reqwest::Error> for TransferError {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}

/// What became of the conditional PUT of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// It is there, and it is ours.
    Written,
    /// One is there, and it may be ours: an earlier try had no answer.
    Unsure,
    /// One is there, and it cannot be ours.
    Taken,
}

/// Moves objects.
#[derive(Debug, Clone)]
pub(crate) struct Transfer {
    http: Client,
    /// For URLs that clients gave.
    egress: Egress,
    plain: PlainHttp,
    timing: Timing,
}

impl Transfer {
    pub(crate) const fn new(http: Client, egress: Egress, plain: PlainHttp, timing: Timing) -> Self {
        Self { http, egress, plain, timing }
    }

    /// The same over new connections.
    pub(crate) fn renewed(&self) -> Result<Self, reqwest::Error> {
        Ok(Self { http: net::client()?, ..self.clone() })
    }

    /// Writes the object to `target`, which holds it whole when this succeeds.
    ///
    /// Of an external object at most `max_bytes` are read, whatever was announced.
    pub(crate) async fn download(
        &self,
        link: &Link<'_, Download>,
        max_bytes: u64,
        target: &Path,
    ) -> Result<(), TransferError> {
        let mut tries = self.tries();
        loop {
            let (mut source, generation) = link.now();
            if source.external {
                source.size_bytes = source.size_bytes.min(max_bytes);
            }
            match self.download_once(&source, target).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.after(error, link, generation).await?,
            }
        }
    }

    async fn download_once(&self, source: &Download, target: &Path) -> Result<(), TransferError> {
        if source.external {
            return self.fetch(source, target).await;
        }
        let url = self.plain.admit(&source.url)?;
        let announced = source.size_bytes;
        let answer = timeout(self.timing.rate_window, self.http.get(url).send()).await;
        let response = answer.map_err(|_| self.too_slow())??;
        let mut response = expect_success(response).await?;
        if response.content_length().is_some_and(|length| length > announced) {
            return Err(TransferError::Larger { announced });
        }
        let mut file = BufWriter::with_capacity(CHUNK_BYTES, File::create(target).await?);
        let mut rate = self.rate();
        let mut got: u64 = 0;
        loop {
            let chunk = match timeout_at(rate.window_ends, response.chunk()).await {
                Err(_) => {
                    rate.turn(got)?;
                    continue;
                }
                Ok(chunk) => chunk?,
            };
            let Some(chunk) = chunk else { break };
            got += chunk.len() as u64;
            if got > announced {
                return Err(TransferError::Larger { announced });
            }
            file.write_all(&chunk).await?;
        }
        if got < announced {
            return Err(TransferError::Short { got, announced });
        }
        file.flush().await?;
        Ok(())
    }

    /// Somebody else's file, by the egress rules: of unknown size, at most what was announced.
    async fn fetch(&self, source: &Download, target: &Path) -> Result<(), TransferError> {
        let mut file = BufWriter::with_capacity(CHUNK_BYTES, File::create(target).await?);
        let limits = FetchLimits {
            bytes: source.size_bytes,
            window: self.timing.rate_window,
            least_bytes: self.timing.least_rate.saturating_mul(self.timing.rate_window.as_millis() as u64) / 1000,
            ..FetchLimits::of_bytes(source.size_bytes)
        };
        match self.egress.fetch(&source.url, &limits, &mut file).await {
            Ok(_) => Ok(()),
            Err(FetchError::TooLarge(announced)) => Err(TransferError::Larger { announced }),
            Err(FetchError::Sink(error)) => Err(TransferError::Disk(error)),
            Err(error @ (FetchError::Egress(_) | FetchError::Status(_) | FetchError::TooSlow)) => {
                Err(TransferError::Unreachable(error))
            }
        }
    }

    /// Sends the file, whose size and digest are those that verification found.
    pub(crate) async fn upload(
        &self,
        link: &Link<'_, Upload>,
        file: &Path,
        verified: &Verified<'_>,
    ) -> Result<(), TransferError> {
        let mut tries = self.tries();
        loop {
            let (target, generation) = link.now();
            match self.upload_once(&target, file, verified).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.after(error, link, generation).await?,
            }
        }
    }

    async fn upload_once(&self, target: &Upload, file: &Path, verified: &Verified<'_>) -> Result<(), TransferError> {
        let file = File::open(file).await?;
        if file.metadata().await?.len() != verified.size_bytes {
            return Err(TransferError::Altered);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let digest = Arc::new(Mutex::new(Sha256::new()));
        let body = {
            let (sent, digest) = (Arc::clone(&sent), Arc::clone(&digest));
            ReaderStream::with_capacity(file, CHUNK_BYTES).inspect_ok(move |chunk| {
                digest.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            })
        };
        // Without a length the body would be sent in chunks, which S3 refuses.
        let request = self.put(target)?.header(CONTENT_LENGTH, verified.size_bytes).body(Body::wrap_stream(body));
        let answer = request.send();
        tokio::pin!(answer);
        let mut rate = self.rate();
        let response = loop {
            match timeout_at(rate.window_ends, &mut answer).await {
                Err(_) => rate.turn(sent.load(Ordering::Relaxed))?,
                Ok(response) => break response?,
            }
        };
        expect_success(response).await?;
        let digest = digest.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
        if hex::encode(digest) == verified.sha256 { Ok(()) } else { Err(TransferError::Altered) }
    }

    /// Commits the run's output, unless it is committed already.
    pub(crate) async fn commit(&self, link: &Link<'_, Upload>, manifest: &[u8]) -> Result<Commit, TransferError> {
        let mut tries = self.tries();
        let mut earlier_unanswered = false;
        loop {
            let (target, generation) = link.now();
            let error = match self.commit_once(&target, manifest).await {
                Ok(()) => return Ok(Commit::Written),
                Err(TransferError::Status(412)) if earlier_unanswered => return Ok(Commit::Unsure),
                Err(TransferError::Status(412)) => return Ok(Commit::Taken),
                Err(error) => error,
            };
            // 403, 409 and 429 say that nothing was written; a 5xx, a timeout, a broken connection do not.
            earlier_unanswered |= !matches!(error, TransferError::Refused | TransferError::Status(400..=499));
            tries.after(error, link, generation).await?;
        }
    }

    async fn commit_once(&self, target: &Upload, manifest: &[u8]) -> Result<(), TransferError> {
        let mut request = self.put(target)?;
        if !target.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(IF_NONE_MATCH.as_str())) {
            request = request.header(IF_NONE_MATCH, "*");
        }
        let answer = timeout(self.timing.call, request.body(manifest.to_vec()).send()).await;
        expect_success(answer.map_err(|_| self.too_slow())??).await.map(drop)
    }

    fn put(&self, target: &Upload) -> Result<RequestBuilder, TransferError> {
        let mut request = self.http.put(self.plain.admit(&target.url)?);
        for (name, value) in &target.headers {
            let name: reqwest::header::HeaderName = name.parse().map_err(|_| TransferError::Header)?;
            // Both are set by the client itself from the URL and the body.
            if name == reqwest::header::HOST || name == CONTENT_LENGTH {
                continue;
            }
            let value: reqwest::header::HeaderValue = value.parse().map_err(|_| TransferError::Header)?;
            request = request.header(name, value);
        }
        Ok(request)
    }

    fn tries(&self) -> Tries {
        let Timing { retry_first, retry_cap, transfer_tries, .. } = self.timing;
        Tries { left: transfer_tries, renewed: false, backoff: Backoff::new(retry_first, retry_cap) }
    }

    fn rate(&self) -> Rate {
        let Timing { rate_window, least_rate, .. } = self.timing;
        Rate { window: rate_window, least_rate, window_ends: Instant::now() + rate_window, counted: 0 }
    }

    const fn too_slow(&self) -> TransferError {
        TransferError::TooSlow(self.timing.least_rate)
    }
}

/// What verification found of the file that is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verified<'a> {
    pub(crate) size_bytes: u64,
    pub(crate) sha256: &'a str,
}

async fn expect_success(response: Response) -> Result<Response, TransferError> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND => Err(TransferError::NotFound),
        StatusCode::FORBIDDEN => Err(TransferError::Refused),
        // A link ends with the credentials that signed it, and that S3 says in another way.
        StatusCode::BAD_REQUEST if says(response, b"<Code>ExpiredToken</Code>").await => Err(TransferError::Refused),
        StatusCode::BAD_REQUEST => Err(TransferError::Status(400)),
        status => Err(TransferError::Status(status.as_u16())),
    }
}

/// Bytes of a refusal that are read.
const REFUSAL_BYTES: usize = 4096;
/// A refusal is short: whoever drips one is not waited for.
const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// Whether the first bytes of an answer contain this code.
async fn says(mut response: Response, code: &[u8]) -> bool {
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() < REFUSAL_BYTES {
            let Ok(Some(chunk)) = response.chunk().await else { break };
            bytes.extend_from_slice(&chunk[..chunk.len().min(REFUSAL_BYTES)]);
        }
    };
    // What came until then is judged.
    let _ = timeout(REFUSAL_TIME, read).await;
    bytes.windows(code.len()).any(|window| window == code)
}

/// The tries of one transfer.
struct Tries {
    left: u32,
    /// A refused link was replaced: the next refusal is not one of age.
    renewed: bool,
    backoff: Backoff,
}

impl Tries {
    /// Waits for the next try, or gives the error back when there is none or none would help.
    /// A refused link is replaced, once: stores judge a link when a transfer begins, so that a fresh one is good.
    async fn after<T>(
        &mut self,
        error: TransferError,
        link: &Link<'_, T>,
        generation: u64,
    ) -> Result<(), TransferError> {
        self.left = self.left.saturating_sub(1);
        if matches!(error, TransferError::Refused) && self.left > 0 && !self.renewed {
            self.renewed = true;
            tracing::info!("the store refused a link, asking for a fresh one");
            return if link.is_fresher_than(generation).await { Ok(()) } else { Err(error) };
        }
        if self.left == 0 || !error.passes() {
            return Err(error);
        }
        tracing::debug!(error = shown(&error), "transfer failed, trying again");
        tokio::time::sleep(self.backoff.wait(None)).await;
        Ok(())
    }
}

/// The least rate of a transfer, judged window by window.
struct Rate {
    window: Duration,
    least_rate: u64,
    window_ends: Instant,
    /// Bytes counted when the window began.
    counted: u64,
}

impl Rate {
    /// Ends a window: `total` bytes went over by now.
    fn turn(&mut self, total: u64) -> Result<(), TransferError> {
        let least = self.least_rate.saturating_mul(self.window.as_millis() as u64) / 1000;
        if total - self.counted < least {
            return Err(TransferError::TooSlow(self.least_rate));
        }
        self.counted = total;
        self.window_ends += self.window;
        Ok(())
    }
}

//! What the use cases need of the world. A function's ports are its rights: keep them narrow.

mod books;
mod drain;
mod listing;
mod objects;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use rotoless_contract::queue::QueueMessage;
use rotoless_contract::{ClientId, JobId, UploadId};

pub use self::books::Books;
pub use self::drain::{Eventcounts, Started, Starter};
pub use self::listing::{InvalidCursor, JobPage, ListCursor, ListQuery};
pub use self::objects::{
    ObjectInfo, Objects, PresignedPut, PresignedUrl, PutTerms, SourceProbe, SourceProbeError, UploadError, UploadSink,
};
use crate::ledger::{Balance, Cause, Movement};
use crate::rate::{Bucket, Meter, PerMinute};
use crate::record::{AttemptRecord, DeliveryRecord, IdempotencyRecord, JobRecord, KeyRecord};
use crate::signing::Signing;
use crate::usage::{CallRecord, DayUsage, Tally};
use crate::wake::{Backlog, Memory, Outstanding};

/// A dependency failed. Classified by the adapter; nobody reads its text to decide.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Too many requests.
    #[error("throttled")]
    Throttled(#[source] AdapterError),
    /// Another transaction touched the same item at the same time; nothing was applied.
    #[error("transaction conflict")]
    Conflict(#[source] AdapterError),
    /// No answer in time.
    #[error("timed out")]
    Timeout {
        /// The change may have been applied.
        maybe_applied: bool,
        /// What the adapter saw.
        #[source]
        source: AdapterError,
    },
    /// Refused connection, 5xx.
    #[error("unavailable")]
    Unavailable(#[source] AdapterError),
    /// What is stored cannot be read.
    #[error("stored {what} is not readable")]
    Corrupt {
        /// Which kind of item.
        what: &'static str,
        /// What the adapter saw.
        #[source]
        source: AdapterError,
    },
    /// A fault of ours: rights, names, limits.
    #[error("request was not accepted")]
    Rejected(#[source] AdapterError),
}

/// The adapter's own error.
pub type AdapterError = Box<dyn std::error::Error + Send + Sync>;

/// Whether the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No.
    Never,
    /// Soon, with jitter.
    Backoff,
}

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Throttled(_) | Self::Conflict(_) | Self::Timeout { .. } | Self::Unavailable(_) => Retry::Backoff,
            Self::Corrupt { .. } | Self::Rejected(_) => Retry::Never,
        }
    }
}

/// Why a [`Change`] was not applied. Except for `Store`, nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The job is no longer at the version that was judged: read it again and judge anew.
    #[error("the job changed meanwhile")]
    Stale,
    /// The balance does not cover the movement.
    #[error("not enough credits")]
    InsufficientCredits,
    /// The cause moved credits before.
    #[error("the cause is in the ledger already")]
    AlreadyInLedger,
    /// The idempotency key is taken.
    #[error("the idempotency key is taken")]
    KeyTaken,
    /// The client has as many open holds as it may have.
    #[error("too many open holds")]
    TooManyOpen,
    /// An upload that the job would be made from is being removed, or was.
    #[error("an upload is gone")]
    UploadGone,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One change of one job with everything that must happen with it: applied whole or not at all.
#[derive(Debug, Clone)]
pub struct Change {
    /// The job after it. Its version is the expected one plus one; 1 means that it must not exist yet.
    pub job: JobRecord,
    /// Credits that move, and why.
    pub money: Option<(Cause, Movement)>,
    /// The most open holds that the client may have with this one, where it opens one.
    pub max_open: Option<u32>,
    /// Uploads that the job begins to need, or needs no more. Each once.
    pub uploads: Vec<UploadUse>,
    /// The attempts that begin or end. Each once.
    pub attempts: Vec<AttemptRecord>,
    /// The webhook event that it causes, or whose state it changes.
    pub delivery: Option<DeliveryRecord>,
    /// The promise that it keeps; must not exist yet, or have ended.
    pub idempotency: Option<IdempotencyRecord>,
    /// What it adds to the client's counters of the day.
    pub tally: Tally,
    /// The request that asked for it, where that is kept as a usage event.
    pub call: Option<CallRecord>,
}

impl Change {
    /// A change of the job alone.
    #[must_use]
    pub fn of(job: JobRecord) -> Self {
        Self {
            job,
            money: None,
            max_open: None,
            uploads: Vec::new(),
            attempts: Vec::new(),
            delivery: None,
            idempotency: None,
            tally: Tally::default(),
            call: None,
        }
    }
}

/// A job begins to need an upload, or needs it no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadUse {
    /// The upload.
    pub upload: UploadId,
    /// Begins.
    pub begins: bool,
}

impl fmt::Debug for JobRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRecord")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Jobs: the truth of what is owed.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// The job as last committed (a consistent read).
    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError>;
    /// Applies a change whole, or not at all.
    async fn commit(&self, change: Change) -> Result<(), CommitError>;
    /// Some of a client's jobs. May lag behind commits.
    async fn list(&self, query: &ListQuery) -> Result<JobPage, StoreError>;
    /// The first `limit` jobs that wait for a worker, about in the order in which they came. May lag behind commits.
    async fn line(&self, limit: u32) -> Result<Vec<JobId>, StoreError>;
    /// Takes an upload out of use, for ever, unless a job that has not ended needs it: `true` when it is out of use.
    /// Judged by the commits themselves ([`Change::uploads`]): it lags behind none, and after it none needs the upload.
    async fn retire_upload(&self, upload: &UploadId) -> Result<bool, StoreError>;
    /// Jobs whose `due_at` is not after `now`, earliest first. May lag behind commits.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError>;
    /// One attempt of a job.
    async fn attempt(
        &self,
        id: &JobId,
        attempt: rotoless_contract::Attempt,
    ) -> Result<Option<AttemptRecord>, StoreError>;
}

/// Credits outside of jobs.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// The client's credits (a consistent read); zero for one who never had any.
    async fn balance(&self, client: &ClientId) -> Result<Balance, StoreError>;
    /// Adds credits, once for each `grant_id`.
    ///
    /// # Errors
    /// [`CommitError::AlreadyInLedger`] when the grant happened before.
    async fn grant(
        &self,
        client: &ClientId,
        grant_id: &str,
        amount: rotoless_contract::MilliCredits,
        note: Option<&str>,
        now: Timestamp,
    ) -> Result<(), CommitError>;
}

/// Whether the books are right.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Whether what the client has, holds and used adds up to what was granted. True at any moment, so a read that lags
    /// behind will do; true of a client that never had credits.
    async fn adds_up(&self, client: &ClientId) -> Result<bool, StoreError>;
}

/// What came of presenting a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// No key that opens anything.
    Unknown,
    /// The key opens, but its bucket is empty.
    Limited(Meter),
    /// The key opens.
    Admitted {
        /// Whose key it is.
        client: ClientId,
        /// Its bucket after the token was taken.
        meter: Meter,
    },
}

/// API keys.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Who presents the key with this fingerprint and hash, for one token of a bucket of his: identity, rate limit
    /// and the key's count of calls in one conditional write, whatever comes of it.
    async fn enter(
        &self,
        fingerprint: &str,
        hash: &str,
        bucket: Bucket,
        rate: PerMinute,
        now: Timestamp,
    ) -> Result<Entry, StoreError>;
    /// A token of a bucket that callers without a key share; the bucket as `Err` where it has none.
    async fn enter_open(
        &self,
        bucket: Bucket,
        rate: PerMinute,
        now: Timestamp,
    ) -> Result<Result<Meter, Meter>, StoreError>;
    /// The key with this fingerprint.
    async fn key(&self, fingerprint: &str) -> Result<Option<KeyRecord>, StoreError>;
    /// Adds a key.
    async fn add(&self, key: &KeyRecord) -> Result<(), StoreError>;
    /// Enables or disables; `false` when there is no such key.
    async fn set_enabled(&self, fingerprint: &str, enabled: bool) -> Result<bool, StoreError>;
    /// All keys, oldest first.
    async fn list(&self) -> Result<Vec<KeyRecord>, StoreError>;
}

/// Which generations of clients' webhook secrets are in use.
#[async_trait]
pub trait Signings: Send + Sync {
    /// The client's (a consistent read); the default for one who never rotated.
    async fn signing(&self, client: &ClientId) -> Result<Signing, StoreError>;
    /// Changes them, on condition of the version before.
    ///
    /// # Errors
    /// [`CommitError::Stale`] when another change was first.
    async fn commit_signing(&self, client: &ClientId, signing: &Signing) -> Result<(), CommitError>;
}

/// What clients used.
#[async_trait]
pub trait Usage: Send + Sync {
    /// Keeps a request, and counts it on its day.
    async fn record_call(&self, client: &ClientId, call: &CallRecord) -> Result<(), StoreError>;
    /// The counters of the days from `first` to `last`, oldest first; days without use are left out.
    async fn days(&self, client: &ClientId, first: Date, last: Date) -> Result<Vec<DayUsage>, StoreError>;
    /// The newest requests, newest first.
    async fn calls(&self, client: &ClientId, limit: u32) -> Result<Vec<CallRecord>, StoreError>;
}

/// Signs of life of workers.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// A worker was heard of.
    async fn seen(&self, now: Timestamp) -> Result<(), StoreError>;
    /// When one was heard of last.
    async fn last_seen(&self) -> Result<Option<Timestamp>, StoreError>;
}

/// Promises made to clients who retry.
#[async_trait]
pub trait Promises: Send + Sync {
    /// The record, also one whose time is over (a consistent read).
    async fn promise(&self, scope: &str) -> Result<Option<IdempotencyRecord>, StoreError>;
}

/// Webhook events waiting to be sent. They are written, and changed, with their job: [`Jobs::commit`].
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// Events whose next try is not after `now`, earliest first. May lag behind commits.
    async fn due_deliveries(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<(JobId, rotoless_contract::DeliveryId)>, StoreError>;
    /// One event (a consistent read).
    async fn delivery(
        &self,
        job: &JobId,
        id: &rotoless_contract::DeliveryId,
    ) -> Result<Option<DeliveryRecord>, StoreError>;
    /// All events of a job, oldest first.
    async fn deliveries_of(&self, job: &JobId) -> Result<Vec<DeliveryRecord>, StoreError>;
    /// Changes an event alone, on condition of its version (`record.version - 1`): leases it for a try.
    async fn commit_delivery(&self, record: &DeliveryRecord) -> Result<(), CommitError>;
}

/// Sends one webhook. The only port that talks to strangers.
#[async_trait]
pub trait WebhookSender: Send + Sync {
    /// One exchange, bounded in time and in bytes read.
    async fn send(&self, request: WebhookRequest) -> SendOutcome;
}

/// A signed webhook, ready to be sent.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// Where.
    pub url: String,
    /// Header names and values, `Content-Type` included.
    pub headers: Vec<(&'static str, String)>,
    /// The exact bytes that were signed.
    pub body: Bytes,
}

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The endpoint answered.
    Answered {
        /// Its status.
        status: u16,
        /// Its `Retry-After` in seconds.
        retry_after: Option<u64>,
    },
    /// It did not, or may not be asked: a few words for the client, without addresses of ours.
    NotSent(&'static str),
}

/// Which URLs of clients may be opened at all: what can be told without a look-up. Whoever opens one judges again.
pub trait UrlPolicy: Send + Sync {
    /// In a few words for the client why this one may not.
    ///
    /// # Errors
    /// The words.
    fn check(&self, url: &str) -> Result<(), String>;
}

/// The queue of work.
#[async_trait]
pub trait WorkQueue: Send + Sync {
    /// Sends one message; the client is the fair-queue group.
    async fn send(&self, message: &QueueMessage, client: &ClientId) -> Result<(), StoreError>;
}

/// What waits in the queue of work.
#[async_trait]
pub trait Waiting: Send + Sync {
    /// Its counts, which may lag by a minute.
    async fn backlog(&self) -> Result<Backlog, StoreError>;
}

/// Makes workers exist. A wake is a hint: losing, doubling or throwing it away changes latency, never correctness.
#[async_trait]
pub trait Waker: Send + Sync {
    /// Asks for `n` sessions. Called after what they are for is visible in the queue, never before.
    async fn wake(&self, n: u32) -> Result<(), StoreError>;

    /// What was asked for and has not become a session, and the workers there are.
    async fn outstanding(&self) -> Result<Outstanding, StoreError>;

    /// Throws away the wakes that have not become a session. How many it were, where that is known.
    async fn purge(&self) -> Result<u32, StoreError>;

    /// Allows no worker any more until a person does.
    async fn stop(&self) -> Result<(), StoreError>;
}

/// What [`crate::wake::decide`] remembers. Two that remember at once do no harm: the later one wins.
#[async_trait]
pub trait WakeMemory: Send + Sync {
    /// As it was last remembered; the default before that.
    async fn recall(&self) -> Result<Memory, StoreError>;
    /// Replaces it.
    async fn remember(&self, memory: &Memory) -> Result<(), StoreError>;
}

/// The time.
pub trait Clock: Send + Sync {
    /// Now, to the millisecond.
    fn now(&self) -> Timestamp;
}

/// Randomness for ids, keys and tokens.
pub trait Entropy: Send + Sync {
    /// 256 random bits.
    fn bits(&self) -> [u8; 32];

    /// 128 random bits.
    fn id_bits(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&self.bits()[..16]);
        id
    }
}

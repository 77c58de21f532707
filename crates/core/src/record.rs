//! What is stored: the job, its attempts, its webhook deliveries, keys, idempotency records.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use rotoless_contract::api::{DeliveryAttempt, JobRequest, TrailEntry};
use rotoless_contract::job::EventState;
use rotoless_contract::manifest::MatteInfo;
use rotoless_contract::media::{InputInfo, OutputInfo, Quality};
use rotoless_contract::webhook::EventKind;
use rotoless_contract::worker::{ReportReply, Stage};
use rotoless_contract::{Attempt, ClientId, DeliveryId, Job, JobId, JobSpec, MilliCredits, Run, UploadId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lifecycle::JobState;

/// A job as stored.
#[derive(Clone, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job.
    pub id: JobId,
    /// Whose.
    pub client: ClientId,
    /// Grows by one with every commit; each commit is conditional on it.
    pub version: u64,
    /// What the rules know.
    pub state: JobState,
    /// What the client sent, for a later start with overrides. Unknown fields are dropped.
    pub request: JobRequest,
    /// What was ordered.
    pub spec: JobSpec,
    /// Where the source is.
    pub source: Source,
    /// Where the background's picture or video is, when the order has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_source: Option<Source>,
    /// Where events go.
    pub webhook_url: Option<String>,
    /// The client's own data.
    pub metadata: Option<Map<String, Value>>,
    /// What the client should know.
    pub warnings: Vec<String>,
    /// The price list of the current run.
    pub pricing_version: String,
    /// Milli-credits a second, of the current run.
    pub rate: MilliCredits,
    /// Seconds of output that the hold, or the charge, pays for.
    pub billed_seconds: u64,
    /// Proves a claim; made anew for each run.
    pub claim_token: Option<ClaimToken>,
    /// When the job was created.
    pub created_at: Timestamp,
    /// When anything last changed.
    pub updated_at: Timestamp,
    /// When the current run was started.
    pub queued_at: Option<Timestamp>,
    /// When a message of the current run was last known to be sent.
    pub enqueued_at: Option<Timestamp>,
    /// Messages of the current run sent by the sweep.
    pub resends: u32,
    /// When the run's first attempt began.
    pub started_at: Option<Timestamp>,
    /// When the run ended.
    pub completed_at: Option<Timestamp>,
    /// What the worker is doing.
    pub stage: Option<Stage>,
    /// Frames matted and frames in all, of the current attempt.
    pub frames: Option<(u64, u64)>,
    /// When the current attempt began to matte.
    pub matting_since: Option<Timestamp>,
    /// The source as measured.
    pub input: Option<InputInfo>,
    /// The output.
    pub output: Option<StoredOutput>,
    /// The matte, kept beside the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matte: Option<MatteInfo>,
    /// Of an export: the job that it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported: Option<Exported>,
    /// The engine's own doubts.
    pub quality: Option<Quality>,
    /// What became of the events of this job.
    pub events: BTreeMap<String, EventState>,
    /// The greatest `seq` of the current attempt's heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_beat: Option<u64>,
    /// The last report that changed anything, to answer its repetition.
    pub last_report: Option<AnsweredReport>,
    /// When the sweep must look at the job; none once it has ended.
    pub due_at: Option<Timestamp>,
    /// The sweep could not repair the job: it lets others go first. Any other change ends that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postponed: Option<Postponed>,
    /// Its changes of state, oldest first.
    #[serde(default)]
    pub trail: Vec<TrailEntry>,
    /// Set once its client has deleted it: from then on nobody is shown it.
    #[serde(default)]
    pub deletion: Option<Deletion>,
}

/// What an export is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The job whose matte it uses.
    pub from: JobId,
    /// That matte.
    pub matte: MatteInfo,
}

/// A job that the sweep could not repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postponed {
    /// Not before then.
    pub until: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// When it was due at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A job that its client has deleted: what is left is what the ledger refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When.
    pub at: Timestamp,
    /// Its media were removed. A worker that had a link may have written since.
    pub media_removed: bool,
}

impl JobRecord {
    /// Whether this client may know of it.
    #[must_use]
    pub fn is_shown_to(&self, client: &ClientId) -> bool {
        self.client == *client && self.deletion.is_none()
    }

    /// The uploads that must not go while the job is as it is: those it is made from, until it has ended.
    #[must_use]
    pub fn needed_uploads(&self) -> Vec<&UploadId> {
        if self.state.status().is_terminal() {
            return Vec::new();
        }
        let sources = std::iter::once(&self.source).chain(&self.background_source);
        let mut uploads: Vec<&UploadId> = sources.filter_map(Source::upload).map(|(upload, _)| upload).collect();
        uploads.dedup();
        uploads
    }
}

/// A claim token in the store. Not shown by `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimToken(pub String);

impl fmt::Debug for ClaimToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimToken")
    }
}

/// Where a job's source is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Source {
    /// One of the client's own uploads.
    Upload {
        /// The upload.
        upload_id: UploadId,
        /// Its object key.
        key: String,
        /// Its size.
        size_bytes: u64,
    },
    /// Somebody else's URL, fetched by the worker.
    External {
        /// The URL. May carry secrets: never logged.
        url: String,
    },
}

impl Source {
    /// The upload and its object key, where it is one.
    #[must_use]
    pub fn upload(&self) -> Option<(&UploadId, &str)> {
        match self {
            Self::Upload { upload_id, key, .. } => Some((upload_id, key)),
            Self::External { .. } => None,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload { upload_id, size_bytes, .. } => f
                .debug_struct("Upload")
                .field("upload_id", upload_id)
                .field("size_bytes", size_bytes)
                .finish_non_exhaustive(),
            Self::External { .. } => f.debug_struct("External").finish_non_exhaustive(),
        }
    }
}

/// A run's output as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredOutput {
    /// Object key.
    pub key: String,
    /// What verification found.
    pub info: OutputInfo,
}

/// A report and what it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredReport {
    /// Whose.
    pub attempt: Attempt,
    /// SHA-256 of its body, hex.
    pub digest: String,
    /// The answer.
    pub reply: ReportReply,
}

/// One claim of a job, for history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Its number.
    pub attempt: Attempt,
    /// The run it belongs to.
    pub run: Run,
    /// Who claimed.
    pub worker_id: String,
    /// The execution provider.
    pub provider: String,
    /// When.
    pub claimed_at: Timestamp,
    /// When it ended, as far as known.
    pub ended_at: Option<Timestamp>,
    /// How it ended: `completed`, `lapsed`, `abandoned`, `cancelled` or a failure reason.
    pub outcome: Option<String>,
}

/// A webhook event and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// The same on every retry.
    pub id: DeliveryId,
    /// The job.
    pub job_id: JobId,
    /// Whose.
    pub client: ClientId,
    /// What happened.
    pub event: EventKind,
    /// Grows by one with every event of the job.
    pub sequence: u32,
    /// When it happened.
    pub created_at: Timestamp,
    /// Where it goes.
    pub url: String,
    /// The job as it was then, without links.
    pub data: Box<Job>,
    /// What became of it.
    pub state: EventState,
    /// Tries so far.
    pub tries: u32,
    /// The next try; none once sent or given up.
    pub due_at: Option<Timestamp>,
    /// What the last try met, for the client: `status 500`, `timeout`, …
    pub last_result: Option<String>,
    /// The newest tries, oldest first.
    #[serde(default)]
    pub attempts: Vec<DeliveryAttempt>,
    /// Grows by one with every commit.
    pub version: u64,
}

/// An API key as stored: never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Names the key: the first half of its hash.
    pub key_fingerprint: String,
    /// SHA-256 of the key, hex.
    pub key_hash: String,
    /// Whose.
    pub client_id: ClientId,
    /// For the operator's memory.
    pub note: Option<String>,
    /// Whether it opens anything.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last opened something.
    pub last_used_at: Option<Timestamp>,
    /// Requests that it opened.
    pub calls: u64,
}

/// A client's promise-bound request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// Client and key.
    pub scope: String,
    /// SHA-256 over the canonical request, hex.
    pub digest: String,
    /// The job it made.
    pub job_id: JobId,
    /// When the promise ends. Judged in code: the store deletes late.
    pub expires_at: Timestamp,
}

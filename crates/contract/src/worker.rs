//! The worker's protocol: claim, heartbeat, probed, report. Internal and signed ([`crate::signature`]).
//!
//! `POST /internal/v1/jobs/{id}/claim` is signed with the fleet key and carries the claim token of the queue
//! message. `POST /internal/v1/jobs/{id}/attempts/{n}/{heartbeat|probed|segments|report}` are signed with the secret
//! that the claim's answer gave for this attempt alone. Refusals use the public error envelope; the
//! `reason` of a 409 is one of [`Refusal`].

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::credits::MilliCredits;
use crate::ids::{Attempt, JobId, Run};
use crate::media::InputInfo;
use crate::queue::expose;
use crate::spec::{JobSpec, OutputFormat, UnknownName, named};

/// Greatest body of any worker call or answer, in bytes.
pub const MAX_WORKER_BODY_BYTES: usize = 256 * 1024;

/// Path of the claim of a job.
#[must_use]
pub fn claim_path(job: &JobId) -> String {
    format!("/internal/v1/jobs/{job}/claim")
}

/// Path of a call of one attempt; `call` is `heartbeat`, `probed`, `segments` or `report`.
#[must_use]
pub fn attempt_path(job: &JobId, attempt: Attempt, call: &str) -> String {
    format!("/internal/v1/jobs/{job}/attempts/{attempt}/{call}")
}

/// Asks for the right to work on a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// Schema version: 1.
    pub v: u32,
    /// The run named by the queue message.
    pub run: Run,
    /// The token of the queue message.
    #[serde(serialize_with = "expose")]
    pub claim_token: SecretString,
    /// Who asks: a label for logs, at most 128 characters.
    pub worker_id: String,
    /// The execution provider that will run the model: `cpu`, `cuda`, `tensorrt`.
    pub provider: String,
}

/// The right to work on a job until the lease ends, and all that is needed for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClaimReply {
    /// The job.
    pub job_id: JobId,
    /// The run.
    pub run: Run,
    /// The fencing token.
    pub attempt: Attempt,
    /// The lease ends this long after now unless a heartbeat extends it.
    pub lease_seconds: u32,
    /// Wall time after which the attempt must have ended.
    pub deadline_seconds: u32,
    /// The links last this long from now at least, as far as the one who made them knows; a heartbeat gets fresh ones.
    /// None from a control plane that makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links_last_seconds: Option<u32>,
    /// What to do.
    pub spec: JobSpec,
    /// Where the source is.
    pub input: Download,
    /// Where the picture or video of the background is, when the order has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Download>,
    /// The matte of the exported job: no model is to be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_matte: Option<KeptMatte>,
    /// Where the matte goes, when it is to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_matte: Option<Upload>,
    /// Where the output goes.
    pub output: Upload,
    /// Where the manifest goes; the PUT is conditional (`If-None-Match: *`).
    pub manifest: Upload,
    /// Signs this attempt's calls.
    #[serde(serialize_with = "expose")]
    pub report_secret: SecretString,
    /// What may be worked on.
    pub limits: MediaLimits,
    /// Finished segments may be kept ([`SegmentsRequest`]). None from a control plane that keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentTerms>,
}

/// How a job is cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTerms {
    /// Length of a segment in seconds of video.
    pub seconds: u32,
}

/// The matte of an earlier job of the same source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptMatte {
    /// Where it is.
    pub download: Download,
    /// Of its bytes, hex: another one is not used.
    pub sha256: String,
    /// Of the source that it was made of, hex.
    pub source_sha256: String,
    /// The output format of that job.
    pub made_for: OutputFormat,
}

/// Where a worker reads from: a presigned GET or, for `external`, somebody else's URL.
#[derive(Clone, Serialize, Deserialize)]
pub struct Download {
    /// The URL. Never logged.
    pub url: String,
    /// Size of the object; of an external one the most that is read.
    pub size_bytes: u64,
    /// Given by a user: opened by the egress rules and by nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// A presigned PUT.
#[derive(Clone, Serialize, Deserialize)]
pub struct Upload {
    /// Object key, for the manifest.
    pub key: String,
    /// The URL. Never logged.
    pub url: String,
    /// Headers that are part of the signature and must be sent as they are.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Greatest picture for a background, in bytes.
pub const MAX_IMAGE_BYTES: u64 = 20 * 1000 * 1000;

/// What a worker accepts of a source. Enforced on what is decoded, not on what headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaLimits {
    /// Greatest size of the source in bytes.
    pub max_bytes: u64,
    /// Greatest width and height in px.
    pub max_side: u32,
    /// Greatest length in ms.
    pub max_duration_ms: u64,
    /// Greatest frame rate.
    pub max_fps: u32,
}

impl Default for MediaLimits {
    fn default() -> Self {
        Self { max_bytes: 500 * 1000 * 1000, max_side: 4096, max_duration_ms: 30 * 60 * 1000, max_fps: 120 }
    }
}

named! {
    /// What an attempt is doing.
    Stage {
        /// Fetching the source.
        Download = "download",
        /// Measuring the source.
        Probe = "probe",
        /// Decode, model, encode.
        Matte = "matte",
        /// Decoding its own output.
        Verify = "verify",
        /// Sending the output.
        Upload = "upload",
    }
}

/// A sign of life. Extends the lease.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeartbeatRequest {
    /// What the attempt is doing.
    pub stage: Stage,
    /// Frames matted so far.
    pub frames_done: u64,
    /// Frames in all, 0 while unknown.
    pub frames_total: u64,
    /// Grows with every heartbeat of the attempt. One that is not above all before it was seen already, or overtaken: it
    /// extends nothing. None from a worker that does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The attempt's links have ended, or soon will: answer with fresh ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_links: bool,
}

impl HeartbeatRequest {
    /// Where an attempt is, and nothing else.
    #[must_use]
    pub const fn at(stage: Stage, frames_done: u64, frames_total: u64) -> Self {
        Self { stage, frames_done, frames_total, seq: None, fresh_links: false }
    }
}

/// The answer to a sign of life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Stop, clean up, delete the message: the job is no longer wanted.
    pub cancel: bool,
    /// The lease ends this long after now.
    pub lease_seconds: u32,
    /// What was asked for with `fresh_links`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<FreshLinks>,
}

/// Links that replace those of the claim, for the same objects.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FreshLinks {
    /// They last this long from now at least.
    pub last_seconds: u32,
    /// Where the source is, while it may still be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Download>,
    /// Where the background's picture or video is, while it may still be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Download>,
    /// Where the exported job's matte is, while it may still be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_matte: Option<Download>,
    /// Where the matte goes, when it is to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_matte: Option<Upload>,
    /// Where the output goes.
    pub output: Upload,
    /// Where the manifest goes; the PUT is conditional.
    pub manifest: Upload,
}

/// The source as measured, before any model runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbedRequest {
    /// The measured source.
    pub input: InputInfo,
    /// Its length in ms, which the hold is adjusted to.
    pub duration_ms: u64,
}

/// Go ahead: the hold covers this much output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbedReply {
    /// Seconds of output that the hold pays for; the attempt stops beyond them.
    pub paid_seconds: u64,
    /// What is held now.
    pub held: MilliCredits,
}

/// Most segments of a run; their numbers are below it.
pub const MAX_SEGMENTS: u32 = 1000;

/// Asks for the segments of the attempt's run that are finished, and for links to one of them. Changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsRequest {
    /// Stands for everything that decides what is in the segments: 32 lower-case hexadecimal digits. Workers that
    /// would make others of the same source do not see each other's.
    pub plan: String,
    /// The segment to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u32>,
    /// The segment to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<u32>,
}

impl SegmentsRequest {
    /// Whether it can be meant: a plan's name makes part of an object's.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        self.plan.len() == 32
            && self.plan.as_bytes().iter().all(is_hex)
            && self.read.is_none_or(|index| index < MAX_SEGMENTS)
            && self.write.is_none_or(|index| index < MAX_SEGMENTS)
    }
}

/// The finished segments, and the links that were asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SegmentsReply {
    /// Their numbers, in ascending order.
    pub finished: Vec<u32>,
    /// Where the one to be read is, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Download>,
    /// Where the one to be written goes; the PUT is conditional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<Upload>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ReportRequest {
    /// The output is uploaded and its manifest written.
    Completed {
        /// SHA-256 of the manifest's bytes, lower-case hex.
        manifest_sha256: String,
    },
    /// The attempt failed.
    Failed {
        /// Why; decides whether another attempt is made.
        reason: FailureReason,
        /// Details for the operator, at most 1000 characters.
        detail: String,
    },
    /// The host goes away; the attempt does not count.
    Abandoned {
        /// Details for the operator, at most 1000 characters.
        detail: String,
    },
}

/// What the report led to. A repeated report gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    /// The job's status now, in public words.
    pub status: crate::job::JobStatus,
    /// The message is of no more use: delete it. Otherwise leave it for another attempt.
    pub delete_message: bool,
}

named! {
    /// Why a worker's call was refused with 409.
    Refusal {
        /// The job has ended: delete the message.
        Terminal = "terminal",
        /// The message belongs to an older run or the job is a draft: delete the message.
        Superseded = "superseded",
        /// Another attempt holds the lease: leave the message, try after `retry_after_seconds`.
        Leased = "leased",
        /// A later attempt exists: stop quietly, touch nothing.
        StaleAttempt = "stale_attempt",
        /// The same report was made before with another content.
        Contradiction = "contradiction",
        /// The manifest or what it names is missing or does not fit.
        BadManifest = "bad_manifest",
    }
}

named! {
    /// Why a job failed. Why a request failed is another question: `error.code` of its answer.
    FailureReason {
        /// Not a video, damaged, or no video stream.
        InvalidMedia = "invalid_media",
        /// The background's picture or video is none, or damaged.
        InvalidBackground = "invalid_background",
        /// Too long, too large, too many frames a second.
        LimitExceeded = "limit_exceeded",
        /// The balance does not cover the measured length.
        InsufficientCredits = "insufficient_credits",
        /// The upload is gone.
        SourceMissing = "source_missing",
        /// A URL given by the client could not be fetched, or may not be.
        SourceUnreachable = "source_unreachable",
        /// The model's weights are not on the worker.
        ModelUnavailable = "model_unavailable",
        /// The options ask for what the engine cannot do.
        UnsupportedOptions = "unsupported_options",
        /// The output did not hold its own check.
        VerificationFailed = "verification_failed",
        /// A fault of ours: disk, memory, a tool, the network.
        InternalError = "internal_error",
        /// The attempt ran past its deadline.
        TimedOut = "timed_out",
        /// Attempts ended without any report.
        WorkerLost = "worker_lost",
        /// The client cancelled.
        Cancelled = "cancelled",
        /// The job reached its greatest age.
        Expired = "expired",
    }
}

impl FailureReason {
    /// Whether another attempt of the same run may succeed.
    #[must_use]
    pub const fn retryable(self) -> bool {
        match self {
            Self::VerificationFailed | Self::InternalError | Self::TimedOut | Self::WorkerLost => true,
            Self::InvalidMedia
            | Self::InvalidBackground
            | Self::LimitExceeded
            | Self::InsufficientCredits
            | Self::SourceMissing
            | Self::SourceUnreachable
            | Self::ModelUnavailable
            | Self::UnsupportedOptions
            | Self::Cancelled
            | Self::Expired => false,
        }
    }

    /// The sentence that clients show (`job.error`).
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::InvalidMedia => "The file is not a readable video",
            Self::InvalidBackground => "The background is not a readable picture or video",
            Self::LimitExceeded => "The video exceeds the limits of this service",
            Self::InsufficientCredits => "Not enough credits to process this video",
            Self::SourceMissing => "The source video is no longer available",
            Self::SourceUnreachable => "A file could not be fetched from its URL",
            Self::ModelUnavailable => "The model is not installed on the worker",
            Self::UnsupportedOptions => "This combination of options is not supported",
            Self::VerificationFailed => "The output did not pass its check",
            Self::InternalError => "Processing failed",
            Self::TimedOut => "Processing took too long",
            Self::WorkerLost => "Processing was interrupted too often",
            Self::Cancelled => "Cancelled",
            Self::Expired => "The job expired before it could be processed",
        }
    }
}

//! The job as clients see it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::credits::Credits;
use crate::ids::JobId;
use crate::media::{InputInfo, OutputInfo, Quality};
use crate::spec::{Background, Composition, Model, OutputFormat, UnknownName, named};
use crate::worker::{FailureReason, Stage};

named! {
    /// Where a job is. Clients poll until `completed` or `failed`: cancelled and expired jobs are `failed`.
    JobStatus {
        /// A draft.
        Created = "created",
        /// Queued.
        Pending = "pending",
        /// A worker has it.
        Processing = "processing",
        /// The output is there.
        Completed = "completed",
        /// Ended without an output; `error_code` tells why.
        Failed = "failed",
    }
}

impl JobStatus {
    /// Whether the run has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Failed => true,
            Self::Created | Self::Pending | Self::Processing => false,
        }
    }
}

named! {
    /// What became of the job's credits.
    BillingStatus {
        /// Held.
        Reserved = "reserved",
        /// Captured.
        Charged = "charged",
        /// Given back.
        Released = "released",
        /// Costs nothing.
        NotRequired = "not_required",
    }
}

named! {
    /// What became of a webhook event.
    EventState {
        /// Still to be delivered.
        Pending = "pending",
        /// The endpoint answered 2xx.
        Sent = "sent",
        /// Given up; can be replayed.
        Failed = "failed",
    }
}

/// A job in the public API and in webhooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// The job's id.
    pub id: JobId,
    /// The same, under the name some clients read.
    pub job_id: JobId,
    /// Where it is.
    pub status: JobStatus,
    /// 0..100, never falling within a run.
    #[cfg_attr(feature = "openapi", schema(maximum = 100))]
    pub progress: u8,
    /// Presigned link, made anew on each read; null until completed.
    #[cfg_attr(feature = "openapi", schema(format = "uri"))]
    pub output_url: Option<String>,
    /// A sentence when failed, null otherwise.
    pub error: Option<String>,
    /// When the job was created.
    pub created_at: Timestamp,
    /// Length of the output in seconds.
    pub duration_seconds: Option<f64>,
    /// What became of its credits.
    pub billing_status: Option<BillingStatus>,
    /// Where events go.
    pub webhook_url: Option<String>,
    /// What became of its events.
    pub webhook_events: BTreeMap<String, EventState>,

    /// Which model role.
    pub model: Model,
    /// Container and codecs.
    pub output_format: OutputFormat,
    /// What stands behind the subject.
    pub background: Background,
    /// Canvas and placement.
    pub composition: Option<Composition>,
    /// Subjects in words.
    pub text_prompt: Option<String>,
    /// The job whose matte this one uses: it is an export, made without a model and without credits.
    pub exported_from: Option<JobId>,
    /// Until when exports can be made of a completed job, unless its upload is deleted before.
    pub exportable_until: Option<Timestamp>,
    /// The client's own data, echoed.
    pub metadata: Option<Map<String, Value>>,
    /// What the worker is doing.
    pub stage: Option<Stage>,
    /// Jobs before this one, while pending and known.
    pub queue_position: Option<u32>,
    /// Expected seconds to the end, while processing and known.
    pub eta_seconds: Option<u64>,
    /// When the current run's first attempt began.
    pub started_at: Option<Timestamp>,
    /// When the run ended.
    pub completed_at: Option<Timestamp>,
    /// When anything last changed.
    pub updated_at: Timestamp,
    /// Credits held now.
    pub credits_held: Credits,
    /// Credits taken.
    pub credits_charged: Credits,
    /// Seconds paid for.
    pub billed_seconds: Option<u64>,
    /// The price list that applies.
    pub pricing_version: String,
    /// Why it failed.
    pub error_code: Option<FailureReason>,
    /// Whether starting it again may help.
    pub error_retryable: Option<bool>,
    /// Claims by workers, over all runs.
    pub attempts: u32,
    /// The source as measured.
    pub input: Option<InputInfo>,
    /// The output as verified.
    pub output: Option<JobOutput>,
    /// The engine's own doubts.
    pub quality: Option<Quality>,
    /// What the client should know.
    pub warnings: Vec<String>,
}

/// The output in the public job: what was verified, and until when it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobOutput {
    /// What verification found.
    #[serde(flatten)]
    pub info: OutputInfo,
    /// When the output is deleted.
    pub expires_at: Timestamp,
}

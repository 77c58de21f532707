//! Jobs: what is ordered, what is answered.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::credits::Credits;
use crate::ids::{Attempt, DeliveryId, JobId, Run};
use crate::job::{EventState, Job, JobStatus};
use crate::spec::{Fit, Model, OutputFormat};
use crate::webhook::EventKind;
use crate::worker::FailureReason;

/// Body of `POST /v1/jobs` and, without `video_url`, of `POST /v1/jobs/{id}/start`. Unknown fields are ignored,
/// and named in `warnings` of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobRequest {
    /// An upload's URL or a public URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 2048, examples("https://example.com/clip.mp4")))]
    pub video_url: Option<String>,
    /// Which model role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Model>, default = "original"))]
    pub model: Option<String>,
    /// `transparent`, `green`, `white`, `black`, `blue`, `custom` = `color`, `image`, `video`, `blur`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::BackgroundName>))]
    pub bg_type: Option<String>,
    /// Colour as three numbers or `#RGB`/`#RRGGBB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::ColorInput>))]
    pub bg_color: Option<Value>,
    /// For `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 2048))]
    pub bg_image_url: Option<String>,
    /// For `video`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 2048))]
    pub bg_video_url: Option<String>,
    /// Wins over the flat fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundRequest>,
    /// Container and codecs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<OutputFormat>, default = "webm"))]
    pub output_format: Option<String>,
    /// Subjects in words, for `pro`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 500))]
    pub text_prompt: Option<String>,
    /// Where events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::PublicUrl>))]
    pub webhook_url: Option<String>,
    /// `false` makes a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(default = true))]
    pub auto_start: Option<bool>,
    /// Echoed on the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Canvas and placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composition: Option<CompositionRequest>,
    /// Everything else that was sent.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(ignore))]
    pub unknown: Map<String, Value>,
}

/// `background` of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackgroundRequest {
    /// As `bg_type`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::BackgroundName))]
    pub kind: String,
    /// As `bg_color`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::ColorInput>))]
    pub color: Option<Value>,
    /// As `bg_image_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 2048))]
    pub image_url: Option<String>,
    /// As `bg_video_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 2048))]
    pub video_url: Option<String>,
    /// How image and video are fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(default = "cover"))]
    pub fit: Option<Fit>,
    /// Everything else that was sent.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(ignore))]
    pub unknown: Map<String, Value>,
}

/// `composition` of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompositionRequest {
    /// The canvas.
    pub canvas: Canvas,
    /// The placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground: Option<ForegroundPlacement>,
}

/// Canvas size in px.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Canvas {
    /// Even, 16..4096.
    #[cfg_attr(feature = "openapi", schema(minimum = 16, maximum = 4096, multiple_of = 2))]
    #[serde(deserialize_with = "crate::number::whole")]
    pub width: u32,
    /// Even, 16..4096.
    #[cfg_attr(feature = "openapi", schema(minimum = 16, maximum = 4096, multiple_of = 2))]
    #[serde(deserialize_with = "crate::number::whole")]
    pub height: u32,
}

/// Where the foreground sits on the canvas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForegroundPlacement {
    /// One of nine places; default `center`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::spec::Anchor>, default = "center"))]
    pub anchor: Option<String>,
    /// 1 = as large as fits; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0.01, maximum = 16, default = 1))]
    pub scale: Option<f64>,
    /// Offset in px.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<PixelOffset>,
}

/// An offset in px, x to the right, y down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PixelOffset {
    /// To the right.
    #[serde(default, deserialize_with = "crate::number::whole")]
    #[cfg_attr(feature = "openapi", schema(minimum = -8192, maximum = 8192, default = 0))]
    pub x: i32,
    /// Down.
    #[serde(default, deserialize_with = "crate::number::whole")]
    #[cfg_attr(feature = "openapi", schema(minimum = -8192, maximum = 8192, default = 0))]
    pub y: i32,
}

/// Answer of create, start and cancel: the whole job and four fields that clients read first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobReply {
    /// Always `true`.
    pub success: bool,
    /// One sentence.
    pub message: String,
    /// The job (`id`, `job_id`, `status`, …).
    #[serde(flatten)]
    pub job: Job,
}

/// Answer of `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobList {
    /// Newest first.
    pub items: Vec<Job>,
    /// The same, under the name some clients read.
    pub jobs: Vec<Job>,
    /// Jobs in all that match.
    pub total: u64,
    /// As asked for.
    pub limit: u32,
    /// As asked for.
    pub offset: u32,
    /// Whether more follow.
    pub has_more: bool,
    /// Where to go on.
    pub next_cursor: Option<String>,
}

/// Answer of `DELETE /v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletedReply {
    /// Always `true`.
    pub success: bool,
    /// The job that is no more.
    pub id: JobId,
    /// The same, under the name some clients read.
    pub job_id: JobId,
    /// Always `true`.
    pub deleted: bool,
}

/// Answer of `POST /v1/estimate`: what a job of the same body would cost. Nothing was created or held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EstimateReply {
    /// Always `true`.
    pub success: bool,
    /// Which model role.
    pub model: Model,
    /// Container and codecs.
    pub output_format: OutputFormat,
    /// Length of the source as its header says; null where the header says nothing.
    pub duration_seconds: Option<f64>,
    /// Seconds that would be paid for: the length rounded up, or the longest allowed where it is not known.
    pub billed_seconds: u64,
    /// What would be held, and charged on completion.
    pub credits: Credits,
    /// What the balance has now.
    pub available: Credits,
    /// Whether it covers the hold.
    pub sufficient: bool,
    /// Seconds from the start of work to the end, at the pace of the client's own last jobs of this model; null
    /// before there are any.
    pub expected_seconds: Option<u64>,
    /// The price list.
    pub pricing_version: String,
    /// What the client should know.
    pub warnings: Vec<String>,
}

/// Answer of `GET /v1/jobs/{id}/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobTrail {
    /// The job.
    pub job_id: JobId,
    /// What happened, oldest first; of a long history the newest 100.
    pub items: Vec<TrailEntry>,
}

/// One change of a job's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrailEntry {
    /// When.
    pub at: Timestamp,
    /// The state from then on.
    pub status: JobStatus,
    /// The run, once the job was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub run: Option<Run>,
    /// The attempt, while one works or when one gave the job back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub attempt: Option<Attempt>,
    /// Why the job failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub error_code: Option<FailureReason>,
}

/// Answer of `GET /v1/jobs/{id}/deliveries`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryList {
    /// The job.
    pub job_id: JobId,
    /// Its webhook events, oldest first.
    pub items: Vec<DeliveryInfo>,
}

/// A webhook event and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryInfo {
    /// The same on every try, and on a replay.
    pub delivery_id: DeliveryId,
    /// What happened.
    pub event: EventKind,
    /// Grows by one with every event of the job.
    pub sequence: u32,
    /// What became of it.
    pub status: EventState,
    /// Where it goes.
    pub url: String,
    /// When it happened.
    pub created_at: Timestamp,
    /// Tries so far, since the event or its last replay.
    pub tries: u32,
    /// The next try; null once sent or given up.
    pub next_attempt_at: Option<Timestamp>,
    /// The tries, oldest first; of many the newest 20.
    pub attempts: Vec<DeliveryAttempt>,
}

/// One try to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryAttempt {
    /// When it ended.
    pub at: Timestamp,
    /// What the endpoint answered; null where it did not.
    pub status_code: Option<u16>,
    /// A few words: `status 500`, `timed out`, …
    pub result: String,
}

/// Answer of `POST /v1/jobs/{id}/deliveries/{delivery_id}/replay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayReply {
    /// Always `true`.
    pub success: bool,
    /// One sentence.
    pub message: String,
    /// The event, due now.
    #[serde(flatten)]
    pub delivery: DeliveryInfo,
}

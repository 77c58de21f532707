//! Bodies of the public routes other than the job itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::credits::Credits;
use crate::ids::{ClientId, JobId, UploadId};
use crate::job::{Job, JobStatus};
use crate::spec::Fit;

/// Body of `POST /v1/jobs` and, without `video_url`, of `POST /v1/jobs/{id}/start`: as clients send it,
/// not yet validated. Unknown fields are kept so that they can be named in `warnings[]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// An upload's URL or a public URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_url: Option<String>,
    /// A [`crate::Model`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `transparent`, `green`, `white`, `black`, `blue`, `custom` = `color`, `image`, `video`, `blur`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bg_type: Option<String>,
    /// Colour as three numbers or `#RGB`/`#RRGGBB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bg_color: Option<Value>,
    /// For `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bg_image_url: Option<String>,
    /// For `video`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bg_video_url: Option<String>,
    /// Wins over the flat fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundRequest>,
    /// An [`crate::OutputFormat`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<String>,
    /// Subjects in words, for `pro`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_prompt: Option<String>,
    /// Where events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// `false` makes a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_start: Option<bool>,
    /// Echoed on the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Canvas and placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composition: Option<CompositionRequest>,
    /// Everything else that was sent.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// `background` of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackgroundRequest {
    /// As `bg_type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// As `bg_color`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Value>,
    /// As `bg_image_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// As `bg_video_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_url: Option<String>,
    /// How image and video are fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// Everything else that was sent.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// `composition` of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompositionRequest {
    /// The canvas.
    pub canvas: Canvas,
    /// The placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground: Option<ForegroundPlacement>,
}

/// Canvas size in px.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvas {
    /// Even, 16..4096.
    pub width: u32,
    /// Even, 16..4096.
    pub height: u32,
}

/// Where the foreground sits on the canvas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ForegroundPlacement {
    /// An [`crate::spec::Anchor`]; default `center`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// 1 = as large as fits; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Offset in px.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<PixelOffset>,
}

/// An offset in px, x to the right, y down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelOffset {
    /// To the right.
    #[serde(default)]
    pub x: i32,
    /// Down.
    #[serde(default)]
    pub y: i32,
}

/// Answer of create, start and cancel: the whole job and four fields that clients read first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Answer of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadReply {
    /// Always `true`.
    pub success: bool,
    /// The upload's id.
    pub video_id: UploadId,
    /// What to give to `POST /v1/jobs`.
    pub video_url: String,
    /// As sent, without any path.
    pub filename: String,
    /// Bytes.
    pub size: u64,
}

/// Body of `POST /v1/uploads` as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignRequest {
    /// The file's name.
    pub filename: String,
    /// Its media type.
    pub content_type: String,
    /// Its size in bytes; bound into the signature.
    pub size: u64,
}

/// Answer of `POST /v1/uploads` as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PresignReply {
    /// Always `true`.
    pub success: bool,
    /// The upload's id.
    pub video_id: UploadId,
    /// Presigned.
    pub upload_url: String,
    /// `PUT`.
    pub method: String,
    /// Headers that must be sent as they are.
    pub headers: BTreeMap<String, String>,
    /// What to give to `POST /v1/jobs`.
    pub video_url: String,
    /// When `upload_url` ends.
    pub expires_at: Timestamp,
}

/// Answer of `GET /v1/credits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditsReply {
    /// Can be held.
    pub available: Credits,
    /// Reserved for jobs.
    pub held: Credits,
    /// Taken.
    pub used: Credits,
}

/// Answer of `GET /api/download/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadReply {
    /// Always `true`.
    pub success: bool,
    /// The job.
    pub job_id: JobId,
    /// Its status.
    pub status: JobStatus,
    /// Presigned.
    pub download_url: String,
    /// Container and codecs.
    pub output_format: crate::OutputFormat,
}

/// Body of `POST /v1/admin/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateKeyRequest {
    /// Whose key.
    pub client_id: ClientId,
    /// For the operator's memory.
    #[serde(default)]
    pub note: Option<String>,
    /// Credits to grant with it.
    #[serde(default)]
    pub credits: Option<Credits>,
}

/// Answer of `POST /v1/admin/keys`: the only time the key is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateKeyReply {
    /// Always `true`.
    pub success: bool,
    /// The key. Stored only as a hash.
    pub api_key: String,
    /// Signs this client's webhooks. The same for all keys of a client.
    pub webhook_secret: String,
    /// The rest, as in the list.
    #[serde(flatten)]
    pub key: KeyInfo,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Names the key to the operator.
    pub key_fingerprint: String,
    /// Whose key.
    pub client_id: ClientId,
    /// For the operator's memory.
    pub note: Option<String>,
    /// Whether it opens anything.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Answer of `GET /v1/admin/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// Oldest first.
    pub items: Vec<KeyInfo>,
}

/// Body of `POST /v1/admin/keys/disable` and `/enable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRef {
    /// Which key.
    pub key_fingerprint: String,
}

/// Answer of `POST /v1/admin/keys/disable` and `/enable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySwitched {
    /// Always `true`.
    pub success: bool,
    /// Which key.
    pub key_fingerprint: String,
    /// What it is now.
    pub enabled: bool,
}

/// Body of `POST /v1/admin/credits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRequest {
    /// To whom.
    pub client_id: ClientId,
    /// How much.
    pub credits: Credits,
    /// Makes the grant happen once however often it is sent; 1..128 of `A-Z a-z 0-9 _ -`.
    #[serde(default)]
    pub grant_id: Option<String>,
    /// For the operator's memory.
    #[serde(default)]
    pub note: Option<String>,
}

/// Answer of `POST /v1/admin/credits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantReply {
    /// Always `true`.
    pub success: bool,
    /// To whom.
    pub client_id: ClientId,
    /// Names the grant.
    pub grant_id: String,
    /// The balance after it.
    #[serde(flatten)]
    pub balance: CreditsReply,
}

/// Answer of `GET /api/pricing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PricingReply {
    /// By the name of the [`crate::Model`].
    pub model_pricing_credits_per_minute: BTreeMap<String, Credits>,
    /// Money for a second of `original`; 0 where the operator grants credits and sells none.
    pub price_per_second_cents: f64,
    /// Credits that can be bought together; empty where none are sold.
    pub packages: Vec<CreditPackage>,
    /// Names the price list.
    pub pricing_version: String,
}

/// Credits that can be bought together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreditPackage {
    /// How many.
    pub credits: Credits,
    /// For how much money, in cents.
    pub price_cents: u64,
}

/// Answer of `GET /health`: always 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReply {
    /// Whether everything that is owed can be kept now.
    pub status: HealthStatus,
    /// What was looked at.
    pub checks: HealthChecks,
}

/// The service in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// All of it answers.
    Healthy,
    /// Something it needs does not.
    Degraded,
}

/// What was looked at. The first three names are those that clients know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthChecks {
    /// This answer itself.
    pub api: bool,
    /// Whether jobs are given to workers on RunPod.
    pub runpod_configured: bool,
    /// The object store answers. The name is older than the store.
    pub r2_configured: bool,
    /// The same.
    pub s3_configured: bool,
    /// The queue of work answers.
    pub queue: bool,
    /// The database answers.
    pub database: bool,
    /// When a worker was last heard of.
    pub worker_last_seen: Option<Timestamp>,
    /// Of the program.
    pub version: String,
}

//! The operator's keys, grants and configuration.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CreditsReply, PricingReply};
use crate::credits::Credits;
use crate::ids::ClientId;
use crate::spec::{Model, OutputFormat};

/// Body of `POST /v1/admin/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateKeyRequest {
    /// Whose key.
    pub client_id: ClientId,
    /// For the operator's memory.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_length = 500))]
    pub note: Option<String>,
    /// Credits to grant with it.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>, minimum = 0, maximum = 1_000_000_000, multiple_of = 0.001))]
    pub credits: Option<Credits>,
}

/// Answer of `POST /v1/admin/keys`: the only time the key is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// When it last opened something.
    pub last_used_at: Option<Timestamp>,
    /// Requests that it opened.
    pub calls: u64,
}

/// Answer of `GET /v1/admin/keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyList {
    /// Oldest first.
    pub items: Vec<KeyInfo>,
}

/// Body of `POST /v1/admin/keys/disable` and `/enable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyRef {
    /// Which key.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9a-fA-F]{32}$"))]
    pub key_fingerprint: String,
}

/// Answer of `POST /v1/admin/keys/disable` and `/enable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GrantRequest {
    /// To whom.
    pub client_id: ClientId,
    /// How much.
    #[cfg_attr(feature = "openapi", schema(value_type = f64, minimum = 0.001, maximum = 1_000_000_000, multiple_of = 0.001))]
    pub credits: Credits,
    /// Makes the grant happen once however often it is sent; 1..128 of `A-Z a-z 0-9 _ -`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{1,128}$"))]
    pub grant_id: Option<String>,
    /// For the operator's memory.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_length = 500))]
    pub note: Option<String>,
}

/// Answer of `POST /v1/admin/credits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// Answer of `GET /v1/admin/config`: how the service is set up, and no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigReply {
    /// What is accepted.
    pub limits: ConfigLimits,
    /// The models.
    pub models: Vec<ConfigModel>,
    /// The output formats.
    pub output_formats: Vec<OutputFormat>,
    /// Prices.
    pub pricing: PricingReply,
    /// What the service runs on, by part.
    pub backends: BTreeMap<String, String>,
    /// Of the program and of the price list.
    pub versions: BTreeMap<String, String>,
    /// URL of the service as clients reach it.
    pub public_base_url: String,
    /// Whether the legacy routes are `off`, `keyed` or `open`.
    pub legacy_api: String,
}

/// What is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigLimits {
    /// Greatest file, bytes.
    pub max_bytes: u64,
    /// Greatest file sent through the service as a form, bytes.
    pub max_multipart_bytes: u64,
    /// Greatest background image, bytes.
    pub max_image_bytes: u64,
    /// Greatest JSON body, bytes.
    pub max_json_bytes: u64,
    /// Greatest width and height of a video in px.
    pub max_side: u32,
    /// Greatest length of a video in seconds.
    pub max_duration_seconds: u64,
    /// Greatest frame rate.
    pub max_fps: u32,
    /// Reads a minute and key.
    pub reads_per_minute: u32,
    /// Creates a minute and key.
    pub creates_per_minute: u32,
    /// How long uploads are kept, seconds.
    pub upload_retention_seconds: u64,
    /// How long outputs are kept, seconds.
    pub output_retention_seconds: u64,
    /// Greatest age of a job before it fails as expired, seconds.
    pub max_job_age_seconds: u64,
    /// How long an idempotency key is remembered, seconds.
    pub idempotency_seconds: u64,
}

/// A model and whether the workers have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigModel {
    /// Its role.
    pub name: Model,
    /// Whether a job of it would be accepted.
    pub available: bool,
    /// Its price.
    pub credits_per_minute: Credits,
}

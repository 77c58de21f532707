//! Answers to whoever asks, without a key.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credits::Credits;
use crate::ids::JobId;
use crate::job::JobStatus;

/// Answer of `GET /api/download/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// Answer of `GET /api/pricing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PricingReply {
    /// By the name of the model.
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreditPackage {
    /// How many.
    pub credits: Credits,
    /// For how much money, in cents.
    pub price_cents: u64,
}

/// Answer of `GET /health`: always 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HealthReply {
    /// Whether everything that is owed can be kept now.
    pub status: HealthStatus,
    /// What was looked at.
    pub checks: HealthChecks,
}

/// The service in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// All of it answers.
    Healthy,
    /// Something it needs does not.
    Degraded,
}

/// What was looked at. The first three names are those that clients know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

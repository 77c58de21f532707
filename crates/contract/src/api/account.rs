//! A client's own credits and usage.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::credits::Credits;
use crate::ids::JobId;
use crate::spec::Model;

/// Answer of `GET /v1/credits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreditsReply {
    /// Can be held.
    pub available: Credits,
    /// Reserved for jobs.
    pub held: Credits,
    /// Taken.
    pub used: Credits,
}

/// Answer of `GET /v1/usage/summary`. Days are those of UTC; a day counts what happened on it, so a job that was
/// created on one day and completed on the next is counted on each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageSummary {
    /// As asked for.
    pub days: u32,
    /// Begin of the first day.
    pub from: Timestamp,
    /// Now.
    pub to: Timestamp,
    /// The sums, at the top level, where clients read them.
    #[serde(flatten)]
    pub sums: UsageTotals,
    /// The same.
    pub totals: UsageTotals,
    /// Each day, oldest first, days without use included.
    pub daily: Vec<UsageDay>,
    /// By the name of the model; models without use are not named.
    pub by_model: BTreeMap<Model, ModelUsage>,
}

/// Sums over some days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageTotals {
    /// Jobs created.
    pub total_jobs: u64,
    /// Runs that completed.
    pub completed_jobs: u64,
    /// Runs that failed, were cancelled, or expired.
    pub failed_jobs: u64,
    /// Requests that are kept as usage events: all but reads.
    pub total_calls: u64,
    /// Credits charged.
    pub credits_used: Credits,
    /// Seconds of output charged for.
    pub seconds_processed: u64,
}

/// One day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageDay {
    /// The day, UTC.
    pub date: Date,
    /// Jobs created.
    pub jobs: u64,
    /// Runs that completed.
    pub completed: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Credits charged.
    pub credits_used: Credits,
    /// Seconds of output charged for.
    pub seconds: u64,
}

/// What one model was used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelUsage {
    /// Jobs created.
    pub jobs: u64,
    /// Runs that completed.
    pub completed: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Credits charged.
    pub credits_used: Credits,
    /// Seconds of output charged for.
    pub seconds: u64,
}

/// Answer of `GET /v1/usage/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageEvents {
    /// Newest first.
    pub items: Vec<UsageEvent>,
    /// The same, under the name some clients read.
    pub events: Vec<UsageEvent>,
}

/// One request that was not a mere read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageEvent {
    /// Names the event.
    pub id: String,
    /// When it was answered.
    pub timestamp: Timestamp,
    /// HTTP method.
    pub method: String,
    /// The route, with ids in their places.
    pub path: String,
    /// HTTP status of the answer.
    pub status_code: u16,
    /// The job that it was about.
    pub job_id: Option<JobId>,
    /// That job's model.
    pub model: Option<Model>,
    /// Credits that this request's job holds or was charged; 0 for other requests.
    pub credits: Credits,
    /// `X-Request-Id` of the answer.
    pub request_id: String,
    /// Time to the answer in ms.
    pub latency_ms: u64,
}

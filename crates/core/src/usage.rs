//! What a client used: counters of a day, and the requests behind them.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rotoless_contract::job::JobStatus;
use rotoless_contract::{JobId, MilliCredits, Model};
use serde::{Deserialize, Serialize};

use crate::lifecycle::JobState;
use crate::record::JobRecord;

/// What one change adds to a day's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs created.
    pub jobs: u64,
    /// Runs completed.
    pub completed: u64,
    /// Runs failed.
    pub failed: u64,
    /// Charged.
    pub credits: MilliCredits,
    /// Seconds charged for.
    pub seconds: u64,
}

impl Tally {
    /// Nothing happened that counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a change of `before` into `after` counts for.
    #[must_use]
    pub fn of(before: &JobState, after: &JobRecord) -> Self {
        let mut tally = Self { jobs: u64::from(after.version == 1), ..Self::default() };
        if before.status() == after.state.status() {
            return tally;
        }
        match after.state.status() {
            JobStatus::Completed => {
                tally.completed = 1;
                tally.credits = after.state.hold.charged();
                tally.seconds = after.billed_seconds;
            }
            JobStatus::Failed => tally.failed = 1,
            JobStatus::Created | JobStatus::Pending | JobStatus::Processing => {}
        }
        tally
    }
}

/// The counters of one client's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayUsage {
    /// The day, UTC.
    pub date: Date,
    /// Requests kept as events.
    pub calls: u64,
    /// By model.
    pub models: Vec<(Model, Tally)>,
}

/// A request that was not a mere read, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Of the answer.
    pub request_id: String,
    /// When it was answered, or for a create: accepted.
    pub at: Timestamp,
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
    /// Time to the answer in ms.
    pub latency_ms: u64,
}

/// A request under way that will be kept as a usage event.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Of the answer.
    pub request_id: String,
    /// HTTP method.
    pub method: String,
    /// The route, with ids in their places.
    pub path: String,
    /// When it came.
    pub began: Timestamp,
}

impl Caller {
    /// The event, once the request has its answer.
    #[must_use]
    pub fn record(&self, at: Timestamp, status_code: u16, job: Option<&JobRecord>) -> CallRecord {
        CallRecord {
            request_id: self.request_id.clone(),
            at,
            method: self.method.clone(),
            path: self.path.clone(),
            status_code,
            job_id: job.map(|job| job.id.clone()),
            model: job.map(|job| job.spec.model),
            latency_ms: u64::try_from(at.duration_since(self.began).as_millis()).unwrap_or(0),
        }
    }
}

/// The day of a moment, UTC.
#[must_use]
pub fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

//! Webhook events as customers receive them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::DeliveryId;
use crate::job::Job;
use crate::spec::{UnknownName, named};
use std::fmt;
use std::str::FromStr;

named! {
    /// What happened to a job.
    EventKind {
        /// A worker took the job.
        Started = "job.started",
        /// The output is there.
        Completed = "job.completed",
        /// The job ended without an output.
        Failed = "job.failed",
    }
}

/// The body of a webhook. Order is not promised: `sequence` and the job's own state tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookEvent {
    /// What happened.
    pub event: EventKind,
    /// The same on every retry of this event.
    pub delivery_id: DeliveryId,
    /// When it happened.
    pub created_at: Timestamp,
    /// Grows by one with every event of the job.
    pub sequence: u32,
    /// The whole job as it was then.
    pub data: Job,
}

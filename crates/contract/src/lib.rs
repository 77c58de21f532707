//! Wire types of the service: what crosses a process border, and nothing else.
//!
//! Owns: the public API's bodies ([`api`], [`job`], [`error`]), the queue message and the wake ([`queue`]),
//! the worker's protocol ([`worker`], [`awake`], [`manifest`]), webhook events ([`webhook`]) and every signature
//! ([`signature`]). Does not own: rules (crate `rotoless-core`), I/O of any kind.
//!
//! Invariants: amounts are integers of milli-credits ([`credits::MilliCredits`]) and become decimals only in
//! public bodies ([`credits::Credits`]); ids contain no `.` (it separates the parts of a signed text).
#![deny(missing_docs)]

pub mod api;
pub mod awake;
pub mod credits;
pub mod error;
pub mod ids;
pub mod job;
pub mod manifest;
pub mod media;
mod number;
pub mod prompt;
pub mod queue;
#[cfg(feature = "openapi")]
pub(crate) mod schema;
pub mod signature;
pub mod spec;
pub mod webhook;
pub mod worker;

pub use credits::{Credits, MilliCredits};
pub use error::{ErrorBody, ErrorCode, ErrorEnvelope};
pub use ids::{Attempt, ClientId, DeliveryId, JobId, Run, UploadId, WorkerId};
pub use job::{BillingStatus, Job, JobStatus};
pub use spec::{Background, JobSpec, Model, OutputFormat};

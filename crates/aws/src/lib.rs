//! The one set of adapters of the control plane's ports, over the AWS SDK.
//!
//! Owns: the layout of the tables ([`Store`]), the object store ([`S3Objects`]), the queue of work ([`SqsQueue`]),
//! the classification of SDK failures, the clients and their settings ([`config`], [`AwsClients`]), the system's
//! clock and randomness ([`system`]), the wakers ([`wakers`]), RunPod's API ([`runpod`]), what calls cost
//! ([`CallMeter`]). Does not own: rules
//! (crate `rotoless-core`), the embedded AWS of one machine, which these same adapters reach by endpoint URLs.
//!
//! Invariants: every change of a job is one `TransactWriteItems`; the text of a failure decides nothing; retries of
//! DynamoDB are ours alone, those of S3 and SQS the SDK's alone.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]

mod clients;
pub mod config;
mod error;
mod meter;
mod objects;
mod queue;
mod retry;
pub mod runpod;
mod store;
pub mod system;
pub mod wakers;

pub use clients::{AwsClients, http_client};
pub use config::{Endpoints, Names, Settings};
pub use meter::{CallMeter, Calls};
pub use objects::{HeaderProbe, S3Objects};
pub use queue::SqsQueue;
pub use store::Store;

//! The worker: an SQS session, one attempt at a time.
//!
//! ```text
//! receive ─ claim ─ download ─ probe ─ hold ─ matte ─ upload ─ manifest ─ report ─ delete      session, attempt
//!             └──────────── heartbeat: lease, message, clocks, stop flag ────┘                  pulse
//! ```
//! Owns: the order of these steps and what is done when one of them fails. Does not own: the rules of a job's life
//! (the control plane's), the picture (`rotoless-matting`).
//! Invariants: the worker knows one queue and one secret, everything else comes with the claim's answer; outputs come
//! before the manifest, the manifest before the report, the report before the delete, so that a death at any instant
//! delays a job and neither loses nor doubles it; the wall clock decides nothing.
#![deny(missing_docs)]

mod ailment;
mod attempt;
mod backoff;
mod clock;
mod config;
mod connect;
mod control;
mod detail;
mod drain;
mod engine;
mod fitness;
mod handed;
mod kept;
mod life;
mod links;
mod live;
mod matting;
mod net;
mod process;
mod pulse;
mod queue;
mod run;
mod runpod;
mod segments;
mod session;
mod sessions;
mod test_input;
#[cfg(test)]
mod tests;
mod timing;
mod transfer;

pub use crate::ailment::Ailment;
pub use crate::config::{Config, ConfigError, KEYS, Key, StaticCredentials};
pub use crate::fitness::Unfit;
pub use crate::handed::{HandedMessage, HandedWorker};
pub use crate::life::{NotHealthy, check as check_health};
pub use crate::process::{ParentError, WorkDirError, die_with_parent};
pub use crate::run::{RunError, run};
pub use crate::runpod::RunPod;
pub use crate::sessions::{SESSION_KEYS, Sessions, Start};
pub use crate::test_input::{TestAnswer, TestInput, TestInputError, test_session};

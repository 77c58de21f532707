//! RunPod: a worker whose sessions are started by jobs of a serverless endpoint.
//!
//! Its protocol is not published; this follows what the published Python worker (1.12) does on the wire, and differs
//! where that loses results, wakes or money. A job is a wake and carries nothing: whatever its input says, it starts
//! one session, which serves at most one message of the queue. What RunPod hears of it is one line.
//!
//! ```text
//! fitness ─ warm-up ─ take ─ session ─ done ─ take ─ …      session
//!              └──── heartbeat, clocks: a thread ────┘      heartbeat
//! ```

mod client;
mod env;
mod heartbeat;
mod session;
mod stops;

use std::time::Duration;

use self::client::Client;
pub use self::env::RunPod;
#[cfg(test)]
pub(crate) use self::session::serve_sleeper;
pub(crate) use self::session::{Answer, receive_wait, serve};
use crate::detail::shown;
use crate::run::RunError;

/// How long the end of an unfit worker may be put off by saying so.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Tells RunPod why this worker takes no job. It ends either way.
pub(crate) async fn say_unhealthy(platform: &RunPod, error: &RunError) {
    match Client::new(platform.clone()) {
        Ok(client) => client.unhealthy(error.check(), &shown(error), LAST_WORDS).await,
        Err(error) => tracing::warn!(error = shown(&error), "RunPod is not told"),
    }
}

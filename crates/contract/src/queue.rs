//! The queue message ("there is work") and the wake ("let a worker exist").

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::ids::{JobId, Run};

/// Version of the queue message this code writes. Readers accept it and the one before it.
pub const MESSAGE_VERSION: u32 = 1;

/// A durable hint that a run of a job waits for a worker. It may be lost, doubled or late.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueueMessage {
    /// Schema version.
    pub v: u32,
    /// The job.
    pub job_id: JobId,
    /// The run that was started; a claim for another run is refused.
    pub run: Run,
    /// Proves that the claimer read this message; found nowhere else but in the job's row.
    #[serde(serialize_with = "expose")]
    pub claim_token: SecretString,
}

/// A wake names no job: losing, doubling or reordering wakes changes latency, never correctness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// Schema version.
    pub v: u32,
    /// When it was posted, Unix seconds: a session whose wake is old does not wait for long. Readers do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
}

pub(crate) fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

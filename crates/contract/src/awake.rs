//! What a worker that drains the queue says of itself, so that whoever sends a message knows whether somebody is there
//! to take it: `POST /internal/v1/workers/{id}/{awake|asleep}`, signed with the fleet key ([`crate::signature`]).
//!
//! A control plane of a version before answers 404: the worker then drains without being counted, and whoever sends
//! starts another one, which is dearer and not wrong. Later fields are optional on both sides.

use serde::{Deserialize, Serialize};

use crate::ids::WorkerId;

/// Version of these calls.
pub const AWAKE_VERSION: u32 = 1;

/// Path of a call of one worker's life; `call` is `awake` or `asleep`.
#[must_use]
pub fn worker_path(worker: &WorkerId, call: &str) -> String {
    format!("/internal/v1/workers/{worker}/{call}")
}

/// I am there, and will not go before I have looked whether there is anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwakeRequest {
    /// Schema version: 1.
    pub v: u32,
    /// Only says that it is still so. One that went to sleep meanwhile, or was forgotten, is not woken by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
}

/// Counted as awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwakeReply {
    /// How many messages were announced so far. What it was before the worker's look at the queue is what
    /// [`AsleepRequest::seq`] has to say.
    pub seq: u64,
    /// Counted for so long from now, unless renewed.
    pub awake_seconds: u32,
}

/// I looked, and there was nothing. May I go?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsleepRequest {
    /// Schema version: 1.
    pub v: u32,
    /// What [`AwakeReply::seq`] was before the look. None: it goes in any case, because its host does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// Whether it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsleepReply {
    /// `false`: a message was announced since. Be awake again, and look again.
    pub asleep: bool,
}

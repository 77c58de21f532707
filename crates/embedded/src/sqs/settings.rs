//! A queue's settings, and their form as SQS attributes (strings in a map).

use super::error::SqsError;
use crate::template::{ACCOUNT_ID, QueueSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// AWS raised the limit from 256 KiB to this in 2025.
pub(crate) const MAX_MESSAGE_BYTES: u32 = 1024 * 1024;
/// Longest visibility timeout, and longest time a message may be held after its receive, in seconds.
pub(crate) const MAX_VISIBILITY_SECONDS: u32 = 12 * 3600;
pub(crate) const MAX_DELAY_SECONDS: u32 = 900;
pub(crate) const MAX_WAIT_SECONDS: u32 = 20;

/// All times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueSettings {
    pub(crate) visibility_seconds: u32,
    pub(crate) retention_seconds: u32,
    pub(crate) receive_wait_seconds: u32,
    pub(crate) delay_seconds: u32,
    pub(crate) max_message_bytes: u32,
    pub(crate) redrive: Option<Redrive>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redrive {
    /// Name of the dead-letter queue.
    pub(crate) to: String,
    pub(crate) max_receive_count: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            visibility_seconds: 30,
            retention_seconds: 4 * 24 * 3600,
            receive_wait_seconds: 0,
            delay_seconds: 0,
            max_message_bytes: MAX_MESSAGE_BYTES,
            redrive: None,
        }
    }
}

impl From<&QueueSpec> for QueueSettings {
    fn from(spec: &QueueSpec) -> Self {
        Self {
            visibility_seconds: spec.visibility_seconds,
            retention_seconds: spec.retention_seconds,
            receive_wait_seconds: spec.receive_wait_seconds,
            delay_seconds: spec.delay_seconds,
            max_message_bytes: MAX_MESSAGE_BYTES,
            redrive: spec
                .redrive
                .as_ref()
                .map(|r| Redrive { to: r.dead_letter_queue.clone(), max_receive_count: r.max_receive_count }),
        }
    }
}

impl QueueSettings {
    /// Applies attributes as `CreateQueue` and `SetQueueAttributes` carry them.
    pub(crate) fn apply(&mut self, attributes: &BTreeMap<String, String>) -> Result<(), SqsError> {
        for (name, value) in attributes {
            match name.as_str() {
                "VisibilityTimeout" => {
                    self.visibility_seconds = number("VisibilityTimeout", value, 0..=MAX_VISIBILITY_SECONDS)?;
                }
                "MessageRetentionPeriod" => {
                    self.retention_seconds = number("MessageRetentionPeriod", value, 60..=1_209_600)?;
                }
                "ReceiveMessageWaitTimeSeconds" => {
                    self.receive_wait_seconds = number("ReceiveMessageWaitTimeSeconds", value, 0..=MAX_WAIT_SECONDS)?;
                }
                "DelaySeconds" => self.delay_seconds = number("DelaySeconds", value, 0..=MAX_DELAY_SECONDS)?,
                "MaximumMessageSize" => {
                    self.max_message_bytes = number("MaximumMessageSize", value, 1024..=MAX_MESSAGE_BYTES)?;
                }
                "RedrivePolicy" => self.redrive = redrive_policy(value)?,
                _ => return Err(SqsError::InvalidAttributeName(name.clone())),
            }
        }
        Ok(())
    }

    /// The settings as attributes.
    pub(crate) fn attributes(&self) -> BTreeMap<&'static str, String> {
        let mut all = BTreeMap::from([
            ("VisibilityTimeout", self.visibility_seconds.to_string()),
            ("MessageRetentionPeriod", self.retention_seconds.to_string()),
            ("ReceiveMessageWaitTimeSeconds", self.receive_wait_seconds.to_string()),
            ("DelaySeconds", self.delay_seconds.to_string()),
            ("MaximumMessageSize", self.max_message_bytes.to_string()),
        ]);
        if let Some(redrive) = &self.redrive {
            let policy = serde_json::json!({
                "deadLetterTargetArn": arn(&redrive.to), "maxReceiveCount": redrive.max_receive_count,
            });
            all.insert("RedrivePolicy", policy.to_string());
        }
        all
    }
}

/// The queue's Amazon resource name on this machine.
pub(crate) fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:us-east-1:{ACCOUNT_ID}:{queue}")
}

/// The queue's name in an ARN of [`arn`]'s form, whatever the region.
pub(crate) fn queue_of_arn(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        ("arn", "aws", "sqs", _region, _account, queue, None) => Some(queue),
        _ => None,
    }
}

fn number(name: &'static str, value: &str, allowed: RangeInclusive<u32>) -> Result<u32, SqsError> {
    value.parse().ok().filter(|n| allowed.contains(n)).ok_or(SqsError::InvalidAttributeValue(name))
}

fn redrive_policy(value: &str) -> Result<Option<Redrive>, SqsError> {
    const INVALID: SqsError = SqsError::InvalidAttributeValue("RedrivePolicy");
    if value.is_empty() {
        return Ok(None);
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Policy {
        dead_letter_target_arn: String,
        /// A number, or a number in a string: AWS takes both.
        max_receive_count: serde_json::Value,
    }
    let policy: Policy = serde_json::from_str(value).map_err(|_| INVALID)?;
    let to = queue_of_arn(&policy.dead_letter_target_arn).ok_or(INVALID)?.to_owned();
    let count = policy.max_receive_count.to_string();
    let max_receive_count = number("RedrivePolicy", count.trim_matches('"'), 1..=1000)?;
    Ok(Some(Redrive { to, max_receive_count }))
}

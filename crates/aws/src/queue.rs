//! The queue of work, on SQS.
//!
//! Owns: how a message is written. Does not own: receiving (the worker does), wakes.

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use rotoless_contract::ClientId;
use rotoless_contract::queue::QueueMessage;
use rotoless_core::ports::{StoreError, Waiting, WorkQueue};
use rotoless_core::wake::Backlog;

use crate::error::{Effect, classify};

/// The queue of work.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl SqsQueue {
    /// The queue at this URL.
    #[must_use]
    pub fn new(client: aws_sdk_sqs::Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }
}

#[async_trait]
impl Waiting for SqsQueue {
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let [visible, in_flight] = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let reply = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(visible.clone())
            .attribute_names(in_flight.clone())
            .send()
            .await
            .map_err(|e| classify(e, Effect::None).error)?;
        let count = |name| {
            let text = reply.attributes.as_ref().and_then(|all| all.get(&name)).map(String::as_str).unwrap_or_default();
            text.parse()
                .map_err(|e: std::num::ParseIntError| StoreError::Corrupt { what: "message count", source: e.into() })
        };
        Ok(Backlog { visible: count(visible)?, in_flight: count(in_flight)? })
    }
}

#[async_trait]
impl WorkQueue for SqsQueue {
    async fn send(&self, message: &QueueMessage, client: &ClientId) -> Result<(), StoreError> {
        let body = serde_json::to_string(message).map_err(|e| StoreError::Rejected(e.into()))?;
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            // A fair queue: one client's thousand messages do not stand before another's one.
            .message_group_id(client.as_str())
            .send()
            .await
            .map_err(|e| classify(e, Effect::Change).error)?;
        Ok(())
    }
}

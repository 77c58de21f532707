//! The event source mapping: receives messages, hands them to the worker's function, deletes what it did.
//!
//! As Lambda's: a message is in flight for as long as its queue says; of an answered batch those are deleted that the
//! answer does not name; of one that failed, none.

use std::time::{Duration, Instant};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use serde_json::{Map, Value, json};

use super::deployment::{Deployment, WORKER};
use super::runtime_api::Outcome;

/// A message that is let go is visible again within this time.
const SOON: Duration = Duration::from_secs(30);

/// What one poll of the queue led to.
#[derive(Debug)]
pub(crate) struct Polled {
    /// Names of the messages that were handed over.
    pub(crate) messages: Vec<String>,
    /// Names of those that were not done.
    pub(crate) failed: Vec<String>,
    pub(crate) outcome: Outcome,
}

impl Deployment {
    /// Waits for a message, and hands over as many as there are, `most` at most.
    pub(crate) async fn poll(&self, most: i32) -> Polled {
        let time = self.function(WORKER).time;
        self.poll_for(most, time, time).await
    }

    /// The same with another time limit: the one that the function is told, and the one after which it is killed.
    pub(crate) async fn poll_for(&self, most: i32, told: Duration, time: Duration) -> Polled {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(polled) = self.poll_once(most, told, time).await {
                return polled;
            }
            assert!(Instant::now() < deadline, "no message came within {SOON:?}");
        }
    }

    /// The same, if there is a message.
    pub(crate) async fn poll_once(&self, most: i32, told: Duration, time: Duration) -> Option<Polled> {
        let batch = self.receive(most).await;
        if batch.is_empty() {
            return None;
        }
        let messages: Vec<String> = batch.iter().map(|message| message.message_id().unwrap().to_owned()).collect();
        let event = json!({"Records": batch.iter().map(|message| self.record(message)).collect::<Vec<_>>()});
        let outcome = self.function(WORKER).invoke_for(&event, told, time).await;
        let failed = match &outcome {
            Outcome::Answered(answer) => failures(answer, &messages),
            Outcome::Failed(_) | Outcome::Ended | Outcome::TimedOut => messages.clone(),
        };
        for message in batch.iter().filter(|message| !failed.iter().any(|id| Some(id.as_str()) == message.message_id()))
        {
            let receipt = message.receipt_handle().unwrap();
            let delete = self.clients.sqs.delete_message().queue_url(self.queue()).receipt_handle(receipt);
            delete.send().await.unwrap();
        }
        Some(Polled { messages, failed, outcome })
    }

    pub(crate) fn queue(&self) -> &str {
        &self.embedded.names.jobs_queue_url
    }

    /// Until there are as many as asked for, or no more for a moment.
    async fn receive(&self, most: i32) -> Vec<Message> {
        let mut batch = Vec::new();
        while batch.len() < usize::try_from(most).unwrap() {
            let receive = self.clients.sqs.receive_message().queue_url(self.queue()).wait_time_seconds(1);
            let receive = receive.message_system_attribute_names(MessageSystemAttributeName::All);
            let more = receive.send().await.unwrap().messages.unwrap_or_default();
            if more.is_empty() {
                break;
            }
            batch.extend(more);
        }
        batch
    }

    fn record(&self, message: &Message) -> Value {
        let attributes = message.attributes.iter().flatten();
        let attributes: Map<_, _> =
            attributes.map(|(name, value)| (name.as_str().to_owned(), value.clone().into())).collect();
        let name = self.queue().rsplit('/').next().unwrap();
        json!({
            "messageId": message.message_id, "receiptHandle": message.receipt_handle, "body": message.body,
            "attributes": attributes, "messageAttributes": {}, "md5OfBody": message.md5_of_body,
            "eventSource": "aws:sqs", "eventSourceARN": format!("arn:aws:sqs:{}:{}:{name}", super::REGION, super::ACCOUNT),
            "awsRegion": super::REGION,
        })
    }
}

/// An answer that is not of this form, or names what was not handed over, fails the whole batch.
fn failures(answer: &Value, messages: &[String]) -> Vec<String> {
    let named = |failures: &Vec<Value>| {
        let ids = failures.iter().map(|failure| failure["itemIdentifier"].as_str().map(str::to_owned));
        ids.collect::<Option<Vec<String>>>()
    };
    let failed = answer["batchItemFailures"].as_array().and_then(named);
    failed.filter(|failed| failed.iter().all(|id| messages.contains(id))).unwrap_or_else(|| messages.to_vec())
}

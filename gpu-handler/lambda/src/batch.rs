//! What SQS hands over, and the partial answer: the shapes of Lambda's event source mapping, as far as they are needed.

use rotoless_gpu_handler::HandedMessage;
use serde::{Deserialize, Serialize};

/// An event of SQS.
#[derive(Debug, Deserialize)]
pub(crate) struct Batch {
    #[serde(rename = "Records")]
    pub(crate) records: Vec<Record>,
}

/// A message of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    message_id: String,
    receipt_handle: String,
    body: String,
}

impl Record {
    /// Its name, and what the worker is handed.
    pub(crate) fn message(self) -> (String, HandedMessage) {
        let Self { message_id, receipt_handle, body } = self;
        (message_id.clone(), HandedMessage { id: message_id, body, receipt: receipt_handle })
    }
}

/// Those that were not done: they stay in the queue, and all others are deleted.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Answer {
    #[serde(rename = "batchItemFailures")]
    failures: Vec<Failure>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Failure {
    #[serde(rename = "itemIdentifier")]
    id: String,
}

impl Answer {
    pub(crate) fn failed(&mut self, id: String) {
        self.failures.push(Failure { id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_sqs_is_read_and_the_answer_names_what_was_not_done() {
        let batch: Batch = serde_json::from_str(include_str!("../../../events/sqs-jobs.json")).unwrap();
        let ids: Vec<String> = batch.records.into_iter().map(|record| record.message().0).collect();
        assert_eq!(ids.len(), 2);
        let mut answer = Answer::default();
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"batchItemFailures":[]}"#);
        answer.failed(ids[1].clone());
        let expected = format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{}"}}]}}"#, ids[1]);
        assert_eq!(serde_json::to_string(&answer).unwrap(), expected);
    }
}

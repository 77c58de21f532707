//! Our SQS: standard queues of one machine, on SQLite.
//!
//! Owns: the operations as callers' SDKs speak them (awsJson 1.0), long polls, and misbehaviour on purpose for
//! tests ([`Chaos`]). Does not own: the socket and the signature check (`endpoint`), which queues there are
//! (`bootstrap`). Differences from AWS that callers could see: counts are exact, a move task ends before its call
//! returns, there are no FIFO queues, policies, tags or encryption settings.
//! Invariant: a call that was answered is on the disk.

mod chaos;
mod checks;
mod error;
mod settings;
mod store;
mod wire;

pub use chaos::Chaos;
pub(crate) use error::SqsError;
pub(crate) use settings::QueueSettings;

use crate::disk::OnDisk;
use crate::{now_ms, random_hex};
use chaos::Dice;
use serde_json::{Value, json};
use settings::{MAX_VISIBILITY_SECONDS, MAX_WAIT_SECONDS, arn, queue_of_arn};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Receive, Received, Store};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wire::{
    Batch, BatchFailure, BatchResult, BatchSuccess, Change, ChangeMessageVisibility, CreateQueue, DeleteMessage,
    GetQueueAttributes, ListQueues, Message, MessageAttribute, Outgoing, QueueName, QueueUrl, ReceiveMessage,
    SendMessage, Sent, SetQueueAttributes, StartMessageMoveTask, Target,
};

/// The queues of one data directory. Clones share them.
#[derive(Clone)]
pub(crate) struct Sqs {
    store: OnDisk<Store>,
    /// Woken when a message may have become visible earlier than a waiting receive expects.
    arrivals: Arc<Notify>,
    /// What queue URLs start with, up to the account number.
    base_url: Arc<str>,
    /// Turns true when the host shuts down: long polls end at once.
    stopping: watch::Receiver<bool>,
}

impl Sqs {
    pub(crate) fn open(
        path: &Path,
        base_url: &str,
        chaos: Option<Chaos>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, rusqlite::Error> {
        let store = Store::open(path, Dice::new(chaos))?;
        Ok(Self { store: OnDisk::new(store), arrivals: Arc::new(Notify::new()), base_url: base_url.into(), stopping })
    }

    /// Answers the operation named after `AmazonSQS.` with the JSON of its output.
    pub(crate) async fn call(&self, operation: &str, body: &[u8]) -> Result<Value, SqsError> {
        match operation {
            "CreateQueue" => self.create_queue(serde_json::from_slice(body)?).await,
            "GetQueueUrl" => self.get_queue_url(serde_json::from_slice(body)?).await,
            "ListQueues" => self.list_queues(serde_json::from_slice(body)?).await,
            "DeleteQueue" => self.delete_queue(serde_json::from_slice(body)?).await,
            "PurgeQueue" => self.purge_queue(serde_json::from_slice(body)?).await,
            "GetQueueAttributes" => self.get_queue_attributes(serde_json::from_slice(body)?).await,
            "SetQueueAttributes" => self.set_queue_attributes(serde_json::from_slice(body)?).await,
            "SendMessage" => self.send_message(serde_json::from_slice(body)?).await,
            "SendMessageBatch" => self.send_message_batch(serde_json::from_slice(body)?).await,
            "ReceiveMessage" => self.receive_message(serde_json::from_slice(body)?).await,
            "DeleteMessage" => self.delete_message(serde_json::from_slice(body)?).await,
            "DeleteMessageBatch" => self.delete_message_batch(serde_json::from_slice(body)?).await,
            "ChangeMessageVisibility" => self.change_visibility(serde_json::from_slice(body)?).await,
            "ChangeMessageVisibilityBatch" => self.change_visibility_batch(serde_json::from_slice(body)?).await,
            "StartMessageMoveTask" => self.start_message_move_task(serde_json::from_slice(body)?).await,
            other => Err(SqsError::UnsupportedOperation(other.to_owned())),
        }
    }

    pub(crate) fn queue_url(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.base_url, crate::template::ACCOUNT_ID)
    }

    /// Creates the queue, or gives an existing one these settings.
    pub(crate) async fn put_queue(&self, name: &str, settings: QueueSettings) -> Result<(), SqsError> {
        let name = name.to_owned();
        self.on_store(move |store, now| store.put_queue(&name, &settings, now)).await
    }

    /// Deletes messages older than their queue's retention; how many.
    pub(crate) async fn expire(&self) -> Result<u64, SqsError> {
        self.on_store(Store::expire_all).await
    }

    async fn on_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store, i64) -> Result<T, SqsError> + Send + 'static,
    ) -> Result<T, SqsError> {
        self.store.run(move |store| work(store, now_ms())).await
    }

    async fn create_queue(&self, request: CreateQueue) -> Result<Value, SqsError> {
        checks::queue_name(&request.queue_name)?;
        let name = request.queue_name.clone();
        self.on_store(move |store, now| {
            let mut wanted = QueueSettings::default();
            wanted.apply(&request.attributes)?;
            match store.queue(&request.queue_name) {
                Err(SqsError::QueueDoesNotExist) => store.put_queue(&request.queue_name, &wanted, now),
                Err(error) => Err(error),
                Ok(existing) => {
                    // Only the attributes named in the request have to agree.
                    let (wanted, existing) = (wanted.attributes(), existing.settings.attributes());
                    let differs = |name: &&&'static str| {
                        request.attributes.contains_key(**name) && wanted.get(*name) != existing.get(*name)
                    };
                    match wanted.keys().find(differs) {
                        Some(name) => Err(SqsError::QueueNameExists(name)),
                        None => Ok(()),
                    }
                }
            }
        })
        .await?;
        Ok(json!({ "QueueUrl": self.queue_url(&name) }))
    }

    async fn get_queue_url(&self, request: QueueName) -> Result<Value, SqsError> {
        let name = request.queue_name.clone();
        self.on_store(move |store, _| store.queue(&name).map(|_| ())).await?;
        Ok(json!({ "QueueUrl": self.queue_url(&request.queue_name) }))
    }

    async fn list_queues(&self, request: ListQueues) -> Result<Value, SqsError> {
        let names = self.on_store(move |store, _| store.queue_names(&request.queue_name_prefix)).await?;
        let urls: Vec<String> = names.iter().map(|name| self.queue_url(name)).collect();
        Ok(json!({ "QueueUrls": urls }))
    }

    async fn delete_queue(&self, request: QueueUrl) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        self.on_store(move |store, _| store.delete_queue(&queue)).await?;
        Ok(json!({}))
    }

    async fn purge_queue(&self, request: QueueUrl) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        self.on_store(move |store, _| store.purge(&queue)).await?;
        Ok(json!({}))
    }

    async fn get_queue_attributes(&self, request: GetQueueAttributes) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        let name = queue.clone();
        let (stored, depth) =
            self.on_store(move |store, now| Ok((store.queue(&name)?, store.depth(&name, now)?))).await?;
        let mut all = stored.settings.attributes();
        all.insert("QueueArn", arn(&queue));
        all.insert("CreatedTimestamp", (stored.created_ms / 1000).to_string());
        all.insert("LastModifiedTimestamp", (stored.modified_ms / 1000).to_string());
        all.insert("ApproximateNumberOfMessages", depth.visible.to_string());
        all.insert("ApproximateNumberOfMessagesNotVisible", depth.in_flight.to_string());
        all.insert("ApproximateNumberOfMessagesDelayed", depth.delayed.to_string());
        all.retain(|name, _| wanted(&request.attribute_names, name));
        Ok(json!({ "Attributes": all }))
    }

    async fn set_queue_attributes(&self, request: SetQueueAttributes) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        self.on_store(move |store, now| {
            let mut settings = store.queue(&queue)?.settings;
            settings.apply(&request.attributes)?;
            store.put_queue(&queue, &settings, now)
        })
        .await?;
        Ok(json!({}))
    }

    async fn send_message(&self, request: SendMessage) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        let answer = self
            .on_store(move |store, now| {
                let settings = store.queue(&queue)?.settings;
                let checked = checks::message(request.message, settings.max_message_bytes)?;
                store.send(&queue, &[checked.message], now)?;
                Ok(checked.answer)
            })
            .await?;
        self.arrivals.notify_waiters();
        Ok(serde_json::to_value(answer)?)
    }

    async fn send_message_batch(&self, request: Batch<Outgoing>) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        checks::batch(&request.entries)?;
        let result = self
            .on_store(move |store, now| {
                let settings = store.queue(&queue)?.settings;
                let (mut successful, mut failed, mut messages, mut bytes) = (vec![], vec![], vec![], 0);
                for entry in request.entries {
                    match checks::message(entry.body, settings.max_message_bytes) {
                        Ok(checked) => {
                            bytes += checked.bytes;
                            messages.push(checked.message);
                            successful.push(Sent { id: Some(entry.id), ..checked.answer });
                        }
                        Err(error) => failed.push(failure(entry.id, &error)),
                    }
                }
                checks::batch_bytes(bytes)?;
                store.send(&queue, &messages, now)?;
                Ok(BatchResult { successful, failed })
            })
            .await?;
        self.arrivals.notify_waiters();
        Ok(serde_json::to_value(result)?)
    }

    async fn receive_message(&self, request: ReceiveMessage) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        let max = checks::within("MaxNumberOfMessages", request.max_number_of_messages.unwrap_or(1), 1, 10)? as usize;
        let visibility = request
            .visibility_timeout
            .map(|s| checks::within("VisibilityTimeout", s, 0, MAX_VISIBILITY_SECONDS))
            .transpose()?;
        let wait = match request.wait_time_seconds {
            Some(seconds) => checks::within("WaitTimeSeconds", seconds, 0, MAX_WAIT_SECONDS)?,
            None => {
                let name = queue.clone();
                self.on_store(move |store, _| Ok(store.queue(&name)?.settings.receive_wait_seconds)).await?
            }
        };
        let received = self.poll(&queue, max, visibility, Duration::from_secs(wait.into())).await?;
        let messages = received.into_iter().map(|m| message(m, &request)).collect::<Result<Vec<_>, _>>()?;
        Ok(if messages.is_empty() { json!({}) } else { json!({ "Messages": messages }) })
    }

    /// Receives, waiting up to `wait` for a first message.
    async fn poll(
        &self,
        queue: &str,
        max: usize,
        visibility: Option<u32>,
        wait: Duration,
    ) -> Result<Vec<Received>, SqsError> {
        let deadline = Instant::now() + wait;
        let mut stopping = self.stopping.clone();
        loop {
            // Registered before looking, so that a message sent in between wakes this receive.
            let arrival = self.arrivals.notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let name = queue.to_owned();
            let (Receive { received, redriven }, next_visible_in) = self
                .on_store(move |store, now| {
                    let receive = store.receive(&name, max, visibility, now)?;
                    Ok((receive, store.next_visible(&name, now)?.map(|at| at - now)))
                })
                .await?;
            if redriven {
                self.arrivals.notify_waiters();
            }
            if !received.is_empty() || Instant::now() >= deadline {
                return Ok(received);
            }
            let next_visible = next_visible_in
                .and_then(|ms| u64::try_from(ms).ok())
                .map_or(deadline, |ms| deadline.min(Instant::now() + Duration::from_millis(ms)));
            tokio::select! {
                () = arrival => {}
                () = tokio::time::sleep_until(next_visible) => {}
                // It turned true, or whoever could turn it is gone.
                _ = stopping.changed() => return Ok(received),
            }
        }
    }

    async fn delete_message(&self, request: DeleteMessage) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        let receipt = checks::receipt(&request.target.receipt_handle)?;
        self.on_store(move |store, _| store.delete(&queue, &receipt)).await?;
        Ok(json!({}))
    }

    async fn delete_message_batch(&self, request: Batch<Target>) -> Result<Value, SqsError> {
        self.batch(request, |store, queue, target, _| store.delete(queue, &checks::receipt(&target.receipt_handle)?))
            .await
    }

    async fn change_visibility(&self, request: ChangeMessageVisibility) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        self.on_store(move |store, now| change(store, &queue, &request.change, now)).await?;
        self.arrivals.notify_waiters();
        Ok(json!({}))
    }

    async fn change_visibility_batch(&self, request: Batch<Change>) -> Result<Value, SqsError> {
        let answer = self.batch(request, |store, queue, body, now| change(store, queue, &body, now)).await?;
        self.arrivals.notify_waiters();
        Ok(answer)
    }

    /// Does `each` for every entry, reporting one by one.
    async fn batch<E: Send + 'static>(
        &self,
        request: Batch<E>,
        each: impl Fn(&mut Store, &str, E, i64) -> Result<(), SqsError> + Send + 'static,
    ) -> Result<Value, SqsError> {
        let queue = queue_of_url(&request.queue_url)?;
        checks::batch(&request.entries)?;
        let result = self
            .on_store(move |store, now| {
                store.queue(&queue)?;
                let (mut successful, mut failed) = (vec![], vec![]);
                for entry in request.entries {
                    match each(store, &queue, entry.body, now) {
                        Ok(()) => successful.push(BatchSuccess { id: entry.id }),
                        Err(error) => failed.push(failure(entry.id, &error)),
                    }
                }
                Ok(BatchResult { successful, failed })
            })
            .await?;
        Ok(serde_json::to_value(result)?)
    }

    async fn start_message_move_task(&self, request: StartMessageMoveTask) -> Result<Value, SqsError> {
        let unknown =
            || SqsError::ResourceNotFound("The resource that you specified for the SourceArn does not exist.");
        let source = queue_of_arn(&request.source_arn).ok_or_else(unknown)?.to_owned();
        let destination = match &request.destination_arn {
            Some(arn) => Some(queue_of_arn(arn).ok_or_else(unknown)?.to_owned()),
            None => None,
        };
        let moved = self
            .on_store(move |store, now| match store.move_all(&source, destination.as_deref(), now) {
                Err(SqsError::QueueDoesNotExist) => Err(unknown()),
                other => other,
            })
            .await?;
        self.arrivals.notify_waiters();
        tracing::info!(queue.moved = moved, "moved messages out of a dead-letter queue");
        Ok(json!({ "TaskHandle": random_hex() }))
    }
}

fn change(store: &mut Store, queue: &str, change: &Change, now: i64) -> Result<(), SqsError> {
    let seconds = change.visibility_timeout.ok_or(SqsError::MissingParameter("VisibilityTimeout"))?;
    let seconds = checks::within("VisibilityTimeout", seconds, 0, MAX_VISIBILITY_SECONDS)?;
    store.change_visibility(queue, &checks::receipt(&change.receipt_handle)?, seconds, now)
}

fn failure(id: String, error: &SqsError) -> BatchFailure {
    BatchFailure { id, sender_fault: error.is_callers_fault(), code: error.code(), message: error.to_string() }
}

fn message(received: Received, request: &ReceiveMessage) -> Result<Message, SqsError> {
    let mut attributes = BTreeMap::from([
        ("SenderId", crate::template::ACCOUNT_ID.to_owned()),
        ("SentTimestamp", received.sent_ms.to_string()),
        ("ApproximateReceiveCount", received.receive_count.to_string()),
        ("ApproximateFirstReceiveTimestamp", received.first_received_ms.to_string()),
    ]);
    attributes.extend(received.group_id.map(|group| ("MessageGroupId", group)));
    attributes.retain(|name, _| {
        wanted(&request.attribute_names, name) || wanted(&request.message_system_attribute_names, name)
    });
    let mut message_attributes: BTreeMap<String, MessageAttribute> = serde_json::from_str(&received.attributes)?;
    message_attributes.retain(|name, _| wanted(&request.message_attribute_names, name));
    Ok(Message {
        message_id: received.message_id,
        receipt_handle: checks::receipt_handle(&received.receipt),
        md5_of_body: checks::md5_of_body(&received.body),
        md5_of_attributes: checks::md5_of_attributes(&message_attributes)?,
        body: received.body,
        attributes,
        message_attributes,
    })
}

/// Whether a list of names, `All` or prefixes (`trace.*`) asks for `name`.
fn wanted(names: &[String], name: &str) -> bool {
    names.iter().any(|asked| match asked.strip_suffix(".*") {
        Some(prefix) => name.starts_with(prefix),
        None => asked == "All" || asked == name,
    })
}

/// The queue's name is the URL's last segment; which host and port the caller knows us by does not matter.
fn queue_of_url(url: &str) -> Result<String, SqsError> {
    let name = url.rsplit('/').next().unwrap_or_default();
    checks::queue_name(name).map_err(|_| SqsError::QueueDoesNotExist)?;
    Ok(name.to_owned())
}

/// The body of an error, as SDKs read it.
pub(crate) fn error_body(error: &SqsError) -> Value {
    json!({ "__type": format!("com.amazonaws.sqs#{}", error.shape()), "message": error.to_string() })
}

//! SQS: visibility, receipts, redrive, delays, long polls, batches.

use super::checks;
use super::stack::{Stack, eventually, unique};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A client, and the queues made with it.
pub(super) struct Target {
    pub(super) client: Client,
    made: Mutex<Vec<String>>,
    /// What has to live as long as the client.
    _host: Option<Stack>,
}

impl AsRef<Target> for Target {
    fn as_ref(&self) -> &Target {
        self
    }
}

impl Target {
    pub(super) async fn embedded() -> Self {
        let stack = Stack::start().await;
        Self::new(stack.clients.sqs.clone(), Some(stack))
    }

    pub(super) fn new(client: Client, host: Option<Stack>) -> Self {
        Self { client, made: Mutex::new(Vec::new()), _host: host }
    }

    /// A new queue's URL.
    async fn queue(&self, attributes: &[(QueueAttributeName, &str)]) -> String {
        let mut create = self.client.create_queue().queue_name(unique("rotoless-conformance"));
        for (name, value) in attributes {
            create = create.attributes(name.clone(), *value);
        }
        let url = create.send().await.unwrap().queue_url.unwrap();
        self.made.lock().unwrap().push(url.clone());
        url
    }

    async fn send(&self, queue: &str, body: &str) {
        self.client.send_message().queue_url(queue).message_body(body).send().await.unwrap();
    }

    /// Up to ten messages, waiting up to `wait` seconds for the first.
    async fn receive(&self, queue: &str, wait: i32) -> Vec<Message> {
        let receive = self.client.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(wait);
        let receive = receive.message_system_attribute_names(MessageSystemAttributeName::All);
        receive.message_attribute_names("All").send().await.unwrap().messages.unwrap_or_default()
    }

    /// One message, which must come.
    async fn receive_one(&self, queue: &str) -> Message {
        let mut messages = self.receive(queue, 10).await;
        assert_eq!(messages.len(), 1);
        messages.remove(0)
    }

    async fn change_visibility(
        &self,
        queue: &str,
        message: &Message,
        seconds: i32,
    ) -> Result<(), aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError> {
        let change = self.client.change_message_visibility().queue_url(queue).visibility_timeout(seconds);
        let changed = change.set_receipt_handle(message.receipt_handle.clone()).send().await;
        changed.map(|_| ()).map_err(aws_sdk_sqs::error::SdkError::into_service_error)
    }

    async fn delete_message(&self, queue: &str, message: &Message) {
        let delete = self.client.delete_message().queue_url(queue);
        delete.set_receipt_handle(message.receipt_handle.clone()).send().await.unwrap();
    }
}

fn receive_count(message: &Message) -> &str {
    &message.attributes().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount]
}

const ONE_SECOND: &[(QueueAttributeName, &str)] = &[(QueueAttributeName::VisibilityTimeout, "1")];

checks!(
    Target, super::Target::embedded;
    a_message_arrives_as_it_was_sent_and_is_gone_when_deleted,
    a_message_in_flight_is_invisible_until_its_timeout_and_then_has_a_new_receipt,
    a_stale_receipt_cannot_extend_visibility,
    visibility_can_be_extended_and_given_up,
    only_a_message_in_flight_can_be_extended_by_a_receipt_that_is_one,
    a_message_received_too_often_goes_to_the_dead_letter_queue_and_can_be_sent_back,
    a_delayed_message_comes_late_and_not_early,
    a_long_poll_wakes_when_a_message_is_sent,
    a_short_poll_of_an_empty_queue_answers_at_once,
    batches_report_each_entry_and_refuse_wrong_ones_whole,
    a_queue_that_does_not_exist_is_a_typed_error,
    a_message_too_long_or_not_text_is_refused,
    a_standard_queue_takes_a_group_id,
    creating_a_queue_again_is_the_same_queue_unless_its_settings_differ,
    attributes_count_messages_by_state,
);

async fn a_message_arrives_as_it_was_sent_and_is_gone_when_deleted(t: &Target) {
    let queue = t.queue(ONE_SECOND).await;
    let body = "{\"job\":\"job_1\",\"name\":\"naïve 雪 🎬\"}\n";
    let trace = MessageAttributeValue::builder().data_type("String").string_value("abc").build().unwrap();
    let send = t.client.send_message().queue_url(&queue).message_body(body).message_attributes("trace", trace);
    let sent = send.send().await.unwrap();
    let message = t.receive_one(&queue).await;
    assert_eq!((message.body(), message.message_id()), (Some(body), sent.message_id()));
    assert_eq!(message.md5_of_body(), sent.md5_of_message_body());
    assert_eq!(message.md5_of_message_attributes(), sent.md5_of_message_attributes());
    assert_eq!(message.message_attributes().unwrap()["trace"].string_value(), Some("abc"));
    assert_eq!(receive_count(&message), "1");
    t.delete_message(&queue, &message).await;
    assert!(t.receive(&queue, 2).await.is_empty());
}

async fn a_message_in_flight_is_invisible_until_its_timeout_and_then_has_a_new_receipt(t: &Target) {
    let queue = t.queue(&[(QueueAttributeName::VisibilityTimeout, "2")]).await;
    t.send(&queue, "work").await;
    let first = t.receive_one(&queue).await;
    let received = Instant::now();
    assert!(t.receive(&queue, 0).await.is_empty());
    let second = t.receive_one(&queue).await;
    assert!(received.elapsed() > Duration::from_millis(1500), "{:?}", received.elapsed());
    assert_eq!(first.message_id(), second.message_id());
    assert_ne!(first.receipt_handle(), second.receipt_handle());
    assert_eq!(receive_count(&second), "2");
}

async fn a_stale_receipt_cannot_extend_visibility(t: &Target) {
    let queue = t.queue(ONE_SECOND).await;
    t.send(&queue, "work").await;
    let stale = t.receive_one(&queue).await;
    let current = t.receive_one(&queue).await;
    t.change_visibility(&queue, &stale, 600).await.unwrap_err();
    t.change_visibility(&queue, &current, 0).await.unwrap();
    let again = t.receive_one(&queue).await;
    assert_eq!(again.message_id(), stale.message_id());
}

async fn visibility_can_be_extended_and_given_up(t: &Target) {
    let queue = t.queue(ONE_SECOND).await;
    t.send(&queue, "work").await;
    let message = t.receive_one(&queue).await;
    t.change_visibility(&queue, &message, 30).await.unwrap();
    assert!(t.receive(&queue, 2).await.is_empty());
    t.change_visibility(&queue, &message, 0).await.unwrap();
    let waited = Instant::now();
    assert_eq!(receive_count(&t.receive_one(&queue).await), "2");
    assert!(waited.elapsed() < Duration::from_secs(5));
}

async fn only_a_message_in_flight_can_be_extended_by_a_receipt_that_is_one(t: &Target) {
    let queue = t.queue(&[]).await;
    t.send(&queue, "work").await;
    let message = t.receive_one(&queue).await;
    let garbage = Message::builder().receipt_handle("not a receipt").build();
    let error = t.change_visibility(&queue, &garbage, 10).await.unwrap_err();
    assert!(error.is_receipt_handle_is_invalid(), "{error:?}");
    let too_long = t.change_visibility(&queue, &message, 43_201).await.unwrap_err();
    assert_eq!(too_long.code(), Some("InvalidParameterValue"), "{too_long:?}");

    t.change_visibility(&queue, &message, 0).await.unwrap();
    let visible = t.change_visibility(&queue, &message, 10).await.unwrap_err();
    assert!(visible.is_message_not_inflight(), "{visible:?}");
    let message = t.receive_one(&queue).await;
    t.delete_message(&queue, &message).await;
    let deleted = t.change_visibility(&queue, &message, 10).await.unwrap_err();
    assert_eq!(deleted.code(), Some("InvalidParameterValue"), "{deleted:?}");
    // Deleting twice is not an error.
    t.delete_message(&queue, &message).await;
}

async fn a_message_received_too_often_goes_to_the_dead_letter_queue_and_can_be_sent_back(t: &Target) {
    let dead_letters = t.queue(&[]).await;
    let asked = t.client.get_queue_attributes().queue_url(&dead_letters);
    let asked = asked.attribute_names(QueueAttributeName::QueueArn).send().await.unwrap();
    let arn = asked.attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
    let policy = format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":\"2\"}}");
    let queue = t.queue(&[(QueueAttributeName::RedrivePolicy, &policy)]).await;
    t.send(&queue, "poison").await;
    for count in ["1", "2"] {
        let message = t.receive_one(&queue).await;
        assert_eq!(receive_count(&message), count);
        t.change_visibility(&queue, &message, 0).await.unwrap();
    }
    let dead = eventually(Duration::from_secs(20), async || {
        assert!(t.receive(&queue, 0).await.is_empty());
        t.receive(&dead_letters, 1).await.into_iter().next()
    })
    .await;
    assert_eq!(dead.body(), Some("poison"));
    t.change_visibility(&dead_letters, &dead, 0).await.unwrap();

    t.client.start_message_move_task().source_arn(&arn).send().await.unwrap();
    let back = eventually(Duration::from_secs(30), async || t.receive(&queue, 1).await.into_iter().next()).await;
    assert_eq!(back.body(), Some("poison"));
    assert!(t.receive(&dead_letters, 0).await.is_empty());
}

async fn a_delayed_message_comes_late_and_not_early(t: &Target) {
    let queue = t.queue(&[]).await;
    let sent = Instant::now();
    t.client.send_message().queue_url(&queue).message_body("later").delay_seconds(2).send().await.unwrap();
    assert!(t.receive(&queue, 0).await.is_empty());
    t.receive_one(&queue).await;
    assert!(sent.elapsed() > Duration::from_millis(1500), "{:?}", sent.elapsed());
    let too_late = t.client.send_message().queue_url(&queue).message_body("never").delay_seconds(901).send().await;
    assert_eq!(too_late.unwrap_err().into_service_error().code(), Some("InvalidParameterValue"));
}

async fn a_long_poll_wakes_when_a_message_is_sent(t: &Target) {
    let queue = t.queue(&[(QueueAttributeName::ReceiveMessageWaitTimeSeconds, "20")]).await;
    let client = t.client.clone();
    let (url, started) = (queue.clone(), Instant::now());
    // The queue's own waiting time counts when the call names none.
    let waiting = tokio::spawn(async move { client.receive_message().queue_url(url).send().await.unwrap() });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!waiting.is_finished());
    t.send(&queue, "wake up").await;
    assert_eq!(waiting.await.unwrap().messages().len(), 1);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

async fn a_short_poll_of_an_empty_queue_answers_at_once(t: &Target) {
    let queue = t.queue(&[]).await;
    let started = Instant::now();
    assert!(t.receive(&queue, 0).await.is_empty());
    assert!(started.elapsed() < Duration::from_secs(2));
    let started = Instant::now();
    assert!(t.receive(&queue, 1).await.is_empty());
    assert!(started.elapsed() > Duration::from_millis(900));
}

async fn batches_report_each_entry_and_refuse_wrong_ones_whole(t: &Target) {
    let queue = t.queue(&[]).await;
    let entry =
        |id: &str, body: &str| SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap();
    let send = |entries: Vec<_>| t.client.send_message_batch().queue_url(&queue).set_entries(Some(entries)).send();
    let ten = (0..10).map(|i| entry(&format!("id-{i}"), &format!("body {i}"))).collect();
    let sent = send(ten).await.unwrap();
    assert_eq!((sent.successful().len(), sent.failed().len()), (10, 0));
    let sent = send(vec![entry("good", "text"), entry("bad", "\u{1}")]).await.unwrap();
    assert_eq!((sent.successful()[0].id(), sent.failed()[0].id()), ("good", "bad"));
    assert_eq!((sent.failed()[0].code(), sent.failed()[0].sender_fault()), ("InvalidMessageContents", true));

    let code = async |entries| send(entries).await.unwrap_err().into_service_error().code().unwrap().to_owned();
    assert_eq!(code(vec![]).await, "AWS.SimpleQueueService.EmptyBatchRequest");
    let eleven = (0..11).map(|i| entry(&format!("{i}"), "x")).collect();
    assert_eq!(code(eleven).await, "AWS.SimpleQueueService.TooManyEntriesInBatchRequest");
    let twice = vec![entry("same", "x"), entry("same", "y")];
    assert_eq!(code(twice).await, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct");
    assert_eq!(code(vec![entry("not an id!", "x")]).await, "AWS.SimpleQueueService.InvalidBatchEntryId");
    let half = "x".repeat(600_000);
    assert_eq!(code(vec![entry("a", &half), entry("b", &half)]).await, "AWS.SimpleQueueService.BatchRequestTooLong");

    let received = Mutex::new(Vec::new());
    eventually(Duration::from_secs(20), async || {
        let more = t.receive(&queue, 1).await;
        let mut received = received.lock().unwrap();
        received.extend(more);
        (received.len() == 11).then_some(())
    })
    .await;
    let received = received.into_inner().unwrap();
    let entry = |(i, message): (usize, &Message)| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(format!("{i}"));
        entry.set_receipt_handle(message.receipt_handle.clone()).build().unwrap()
    };
    for chunk in received.chunks(10) {
        let delete = t.client.delete_message_batch().queue_url(&queue);
        let deleted = delete.set_entries(Some(chunk.iter().enumerate().map(entry).collect())).send().await.unwrap();
        assert_eq!((deleted.successful().len(), deleted.failed().len()), (chunk.len(), 0));
    }
}

async fn a_queue_that_does_not_exist_is_a_typed_error(t: &Target) {
    let queue = t.queue(&[]).await;
    let absent = format!("{}-absent", queue.trim_end_matches(char::is_alphanumeric));
    let error = t.client.send_message().queue_url(&absent).message_body("x").send().await.unwrap_err();
    assert!(error.into_service_error().is_queue_does_not_exist());
    let error = t.client.receive_message().queue_url(&absent).send().await.unwrap_err();
    assert!(error.into_service_error().is_queue_does_not_exist());
    let error = t.client.get_queue_url().queue_name(unique("absent")).send().await.unwrap_err();
    assert!(error.into_service_error().is_queue_does_not_exist());
    let name = queue.rsplit('/').next().unwrap();
    let found = t.client.get_queue_url().queue_name(name).send().await.unwrap();
    assert_eq!(found.queue_url(), Some(queue.as_str()));
}

async fn a_message_too_long_or_not_text_is_refused(t: &Target) {
    let queue = t.queue(&[]).await;
    let send = async |body: String| {
        let sent = t.client.send_message().queue_url(&queue).message_body(body).send().await;
        sent.map(|_| ()).map_err(|error| error.into_service_error())
    };
    send("x".repeat(1024 * 1024)).await.unwrap();
    assert_eq!(send("x".repeat(1024 * 1024 + 1)).await.unwrap_err().code(), Some("InvalidParameterValue"));
    assert!(send("\u{0}".to_owned()).await.unwrap_err().is_invalid_message_contents());
    assert_eq!(send(String::new()).await.unwrap_err().code(), Some("MissingParameter"));
}

async fn a_standard_queue_takes_a_group_id(t: &Target) {
    let queue = t.queue(&[]).await;
    let send = t.client.send_message().queue_url(&queue).message_body("x").message_group_id("acct_1");
    send.send().await.unwrap();
    let message = t.receive_one(&queue).await;
    let group = message.attributes().unwrap().get(&MessageSystemAttributeName::MessageGroupId);
    assert_eq!(group.map(String::as_str), Some("acct_1"));
}

async fn creating_a_queue_again_is_the_same_queue_unless_its_settings_differ(t: &Target) {
    let queue = t.queue(ONE_SECOND).await;
    let name = queue.rsplit('/').next().unwrap();
    let again = |timeout: &str| {
        let create = t.client.create_queue().queue_name(name);
        create.attributes(QueueAttributeName::VisibilityTimeout, timeout).send()
    };
    assert_eq!(again("1").await.unwrap().queue_url(), Some(queue.as_str()));
    let error = again("2").await.unwrap_err().into_service_error();
    assert!(error.is_queue_name_exists(), "{error:?}");
    let set = t.client.set_queue_attributes().queue_url(&queue);
    set.attributes(QueueAttributeName::VisibilityTimeout, "2").send().await.unwrap();
    let invalid = t.client.set_queue_attributes().queue_url(&queue);
    let invalid = invalid.attributes(QueueAttributeName::VisibilityTimeout, "43201").send().await.unwrap_err();
    assert_eq!(invalid.into_service_error().code(), Some("InvalidAttributeValue"));
}

async fn attributes_count_messages_by_state(t: &Target) {
    let queue = t.queue(&[]).await;
    for body in ["a", "b", "c"] {
        t.send(&queue, body).await;
    }
    t.client.send_message().queue_url(&queue).message_body("late").delay_seconds(900).send().await.unwrap();
    let receive = t.client.receive_message().queue_url(&queue).max_number_of_messages(1).wait_time_seconds(5);
    assert_eq!(receive.send().await.unwrap().messages().len(), 1);
    // On AWS the counts are approximate and settle within about a minute.
    eventually(Duration::from_secs(90), async || {
        let get = t.client.get_queue_attributes().queue_url(&queue).attribute_names(QueueAttributeName::All);
        let all = get.send().await.unwrap().attributes.unwrap();
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ]
        .map(|name| all[&name].as_str());
        (counts == ["2", "1", "1"]).then_some(())
    })
    .await;
    t.client.purge_queue().queue_url(&queue).send().await.unwrap();
}

/// For targets that outlive the test.
pub(super) async fn delete(target: Arc<Target>) {
    let made = target.made.lock().unwrap().clone();
    for queue in made {
        target.client.delete_queue().queue_url(queue).send().await.unwrap();
    }
}

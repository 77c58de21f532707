//! The queue of work.

use rotoless_contract::Run;
use rotoless_contract::queue::{MESSAGE_VERSION, QueueMessage};
use rotoless_core::ports::{Waiting as _, WorkQueue};
use secrecy::ExposeSecret;

use crate::records::{client, job_id};
use crate::world::World;

#[tokio::test]
async fn a_message_arrives_as_it_was_sent_and_is_counted() {
    let world = World::start().await;
    assert_eq!(world.queue.backlog().await.unwrap().visible, 0);
    for n in 1..=3 {
        let message = QueueMessage {
            v: MESSAGE_VERSION,
            job_id: job_id(n),
            run: Run::FIRST,
            claim_token: format!("token {n}").into(),
        };
        world.queue.send(&message, &client("acme")).await.unwrap();
    }
    assert_eq!(world.queue.backlog().await.unwrap().visible, 3);
    let url = &world.settings.names.jobs_queue_url;
    let received = world.clients.sqs.receive_message().queue_url(url).max_number_of_messages(1).send().await.unwrap();
    let body = received.messages()[0].body().unwrap();
    let message: QueueMessage = serde_json::from_str(body).unwrap();
    assert_eq!(message.v, MESSAGE_VERSION);
    assert!(message.claim_token.expose_secret().starts_with("token "));
    assert_eq!(world.queue.backlog().await.unwrap().visible, 2);
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_a_fault_of_ours() {
    let world = World::start().await;
    let url = format!("{}-none", world.settings.names.jobs_queue_url);
    let queue = rotoless_aws::SqsQueue::new(world.clients.sqs.clone(), url);
    let failure = queue.backlog().await.unwrap_err();
    assert!(matches!(failure, rotoless_core::ports::StoreError::Rejected(_)), "{failure:?}");
}

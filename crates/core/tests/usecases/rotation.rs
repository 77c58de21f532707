//! Rotation of a client's webhook secret while events are on their way.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::SignedDuration;
use rotoless_contract::signature::{sign_standard_webhook, sign_webhook, webhook_secret};
use rotoless_core::ports::{Clock as _, SendOutcome, Signings as _, WebhookRequest, WebhookSender};
use rotoless_core::signing::{OVERLAP, Signing};

use super::world::World;

/// Keeps what it was sent; answers with this status.
struct Recorder(Mutex<Vec<WebhookRequest>>, u16);

#[async_trait]
impl WebhookSender for Recorder {
    async fn send(&self, request: WebhookRequest) -> SendOutcome {
        self.0.lock().unwrap().push(request);
        SendOutcome::Answered { status: self.1, retry_after: None }
    }
}

fn header<'a>(request: &'a WebhookRequest, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
}

/// The one event that a new job causes, as it is sent now.
async fn sent(world: &World) -> WebhookRequest {
    let id = world.created().await;
    world.claimed(&id).await;
    let recorder = Arc::new(Recorder(Mutex::default(), 200));
    let deliver = world.deliver(recorder.clone());
    deliver.tick().await.unwrap();
    let request = recorder.0.lock().unwrap().pop().unwrap();
    assert!(recorder.0.lock().unwrap().is_empty());
    request
}

/// Which of the first generations signed where: main header, previous header, Standard Webhooks' header.
fn signers(world: &World, request: &WebhookRequest) -> (Option<u32>, Option<u32>, Vec<u32>) {
    let timestamp = header(request, "x-webhook-timestamp").unwrap();
    let (id, seconds) = (header(request, "webhook-id").unwrap(), header(request, "webhook-timestamp").unwrap());
    let secret = |generation| webhook_secret(&world.master, &world.client, generation);
    let of = |value: Option<&str>| {
        let value = value?;
        assert_eq!(value.len(), "sha256=".len() + 64, "verifiers refuse another length");
        (0..4).find(|generation| sign_webhook(&secret(*generation), timestamp, &request.body) == value)
    };
    let standard = |text: &str| {
        let (id, seconds) = (id.parse().unwrap(), seconds.parse().unwrap());
        (0..4).find(|g| sign_standard_webhook(&secret(*g), &id, seconds, &request.body) == text).unwrap()
    };
    let all = header(request, "webhook-signature").unwrap().split(' ').map(standard).collect();
    (of(header(request, "x-webhook-signature")), of(header(request, "x-webhook-signature-previous")), all)
}

/// G-25
#[tokio::test]
async fn a_receiver_that_tries_both_secrets_accepts_every_event_of_a_rotation() {
    let world = World::new();
    let change = async |signing: Signing| world.store.commit_signing(&world.client, &signing).await.unwrap();
    assert_eq!(signers(&world, &sent(&world).await), (Some(0), None, vec![0]));

    let staged = world.store.signing(&world.client).await.unwrap().stage();
    change(staged.clone()).await;
    assert_eq!(signers(&world, &sent(&world).await), (Some(0), None, vec![0, 1]));

    change(staged.promote(world.clock.now()).unwrap()).await;
    assert_eq!(signers(&world, &sent(&world).await), (Some(1), Some(0), vec![1, 0]));
    world.pass(OVERLAP.as_secs() - 10);
    assert_eq!(signers(&world, &sent(&world).await), (Some(1), Some(0), vec![1, 0]));
    world.pass(SignedDuration::from_secs(10).as_secs());
    assert_eq!(signers(&world, &sent(&world).await), (Some(1), None, vec![1]));
}

/// G-25, TD-10: the tries of one event, each signed as the rotation stands then, under one id.
#[tokio::test]
async fn an_event_that_is_tried_throughout_a_rotation_is_signed_as_it_stands_at_each_try() {
    let world = World::new();
    let change = async |signing: Signing| world.store.commit_signing(&world.client, &signing).await.unwrap();
    let recorder = Arc::new(Recorder(Mutex::default(), 500));
    let deliver = world.deliver(recorder.clone());
    let tried = async || {
        let due = world.store.tables().deliveries.values().find_map(|event| event.due_at).unwrap();
        world.pass(due.duration_since(world.clock.now()).as_secs().max(0) + 1);
        assert_eq!(deliver.tick().await.unwrap().retried, 1);
        let request = recorder.0.lock().unwrap().last().unwrap().clone();
        signers(&world, &request)
    };
    let id = world.created().await;
    world.claimed(&id).await;
    assert_eq!(tried().await, (Some(0), None, vec![0]));
    let staged = world.store.signing(&world.client).await.unwrap().stage();
    change(staged.clone()).await;
    // A receiver that knows the old secret alone accepts until the promotion, one that knows the new one from then on.
    assert_eq!(tried().await, (Some(0), None, vec![0, 1]));
    change(staged.promote(world.clock.now()).unwrap()).await;
    for _ in 0..4 {
        assert_eq!(tried().await, (Some(1), Some(0), vec![1, 0]));
    }
    // A day later the old one has ended, whatever is still tried.
    world.pass(OVERLAP.as_secs());
    assert_eq!(tried().await, (Some(1), None, vec![1]));
    let sent = recorder.0.lock().unwrap();
    assert!(sent.iter().all(|one| header(one, "webhook-id") == header(&sent[0], "webhook-id")));
    assert!(sent.iter().all(|one| one.body == sent[0].body), "what happened does not change");
}

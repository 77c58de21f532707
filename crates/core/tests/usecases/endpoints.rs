//! Endpoints that answer late, in another order, or read every byte; and clients who cancel or delete meanwhile.

use std::sync::Arc;

use rotoless_contract::api::JobRequest;
use rotoless_contract::job::EventState;
use rotoless_contract::worker::FailureReason;
use rotoless_core::ports::SendOutcome;
use serde_json::{Value, json};

use super::receiver::{Receiver, status};
use super::world::World;

/// G-21, TD-8: what the endpoint took, and answered when nobody listened any more, comes again under the same id.
#[tokio::test]
async fn an_event_whose_answer_came_too_late_comes_again_under_its_id() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    let receiver = Arc::new(Receiver::new(&world, [SendOutcome::NotSent("timeout")], status(200)));
    let deliver = world.deliver(receiver.clone());
    assert_eq!(deliver.tick().await.unwrap().retried, 1);
    world.pass(10);
    assert_eq!(deliver.tick().await.unwrap().sent, 1);
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].event.delivery_id, seen[1].event.delivery_id);
    assert_eq!(world.events(&id)[0].last_result, None);
    world.pass(3600);
    assert!(deliver.tick().await.unwrap().is_idle());
}

/// G-26, TD-9: the later event arrives first, and both say where they belong.
#[tokio::test]
async fn a_completion_that_overtakes_the_start_still_carries_the_higher_number() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let receiver = Arc::new(Receiver::new(&world, [status(503)], status(200)));
    let deliver = world.deliver(receiver.clone());
    assert_eq!(deliver.tick().await.unwrap().retried, 1);
    let digest = world.finish_work(&claim);
    world.report_completed(&claim, &digest).await.unwrap();
    assert_eq!(deliver.tick().await.unwrap().sent, 1, "the completion does not wait for the start");
    world.pass(60);
    assert_eq!(deliver.tick().await.unwrap().sent, 1);
    let said: Vec<_> = receiver.seen().iter().map(|one| (one.event.sequence, one.event.data.status.as_str())).collect();
    assert_eq!(said, [(1, "processing"), (2, "completed"), (1, "processing")]);
    assert_eq!(world.job(&id).events.values().collect::<Vec<_>>(), [&EventState::Sent; 2]);
}

/// G-22, TD-12: the receiver checks the signature over the bytes as they came, then finds its own data in them.
#[tokio::test]
async fn metadata_of_any_characters_and_numbers_comes_back_as_it_was_under_a_signature_that_holds() {
    let world = World::new();
    let metadata = json!({
        "text": "Zürich 東京 👩\u{200d}🔬 \u{202e}rtl \u{0}\u{1}\u{7f}\u{2028} \"quoted\" \\ </script> %2e",
        "\u{0}": null,
        "big": u64::MAX,
        "small": i64::MIN,
        "float": 0.1,
        "tiny": 5e-324,
        "nested": [[], {}, [true, false, null]],
    });
    let Value::Object(fields) = &metadata else { unreachable!("an object") };
    let request = JobRequest { metadata: Some(fields.clone()), ..world.request() };
    let id = world.submit().create(&world.client, &request, None, None).await.unwrap().job.id;
    world.claimed(&id).await;
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    assert_eq!(world.deliver(receiver.clone()).tick().await.unwrap().sent, 1);
    assert_eq!(serde_json::to_value(&receiver.seen()[0].event.data.metadata).unwrap(), metadata);
}

/// G-21, G-41, TD-13: a job deleted between two tries. The event tells what was, holds no link, and comes to an end.
#[tokio::test]
async fn an_event_whose_job_is_deleted_between_two_tries_is_sent_without_a_link_and_ends() {
    for answer in [200, 404] {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        let digest = world.finish_work(&claim);
        world.report_completed(&claim, &digest).await.unwrap();
        let receiver = Arc::new(Receiver::new(&world, [status(500), status(500)], status(answer)));
        let deliver = world.deliver(receiver.clone());
        assert_eq!(deliver.tick().await.unwrap().retried, 2);
        world.deleter().delete(&world.client, &id).await.unwrap();
        for _ in 0..100 {
            world.pass(3600);
            deliver.tick().await.unwrap();
            world.sweep().await;
        }
        let seen = receiver.seen();
        assert!(seen[2..].iter().all(|one| one.event.data.output_url.is_none()), "a link to what is gone");
        let state = if answer == 200 { EventState::Sent } else { EventState::Failed };
        assert!(world.events(&id).iter().all(|event| event.state == state && event.due_at.is_none()), "{answer}");
        assert!(world.job(&id).deletion.unwrap().media_removed);
    }
}

/// G-14, TW-11: a cancel before, between and after all calls of a worker that does its work to the end. One wins.
#[tokio::test]
async fn a_cancel_at_any_moment_of_the_work_wins_or_loses_whole() {
    for moment in 0..=6 {
        let world = World::new();
        let id = world.created().await;
        let cancel = async |at: usize| {
            if at == moment {
                let _ = world.canceller().cancel(&world.client, &id).await;
            }
        };
        cancel(0).await;
        if let Ok(claim) = world.try_claim(&id).await {
            cancel(1).await;
            let _ = world.probed(&claim, 3000).await;
            cancel(2).await;
            let _ = world.heartbeat(&claim, 45, 90).await;
            cancel(3).await;
            world.upload_output(&claim);
            cancel(4).await;
            let digest = world.finish_work(&claim);
            cancel(5).await;
            let _ = world.report_completed(&claim, &digest).await;
            cancel(6).await;
        }
        world.pass(3600);
        world.sweep().await;
        let job = world.job(&id);
        let (used, reason) = match job.state.phase {
            rotoless_core::lifecycle::Phase::Failed { reason } => (0, Some(reason)),
            _ => (super::world::PRICE.0, None),
        };
        assert_eq!(reason, (moment < 6).then_some(FailureReason::Cancelled), "cancelled at {moment}");
        assert_eq!((world.balance().used.0, world.balance().held.0), (used, 0));
        assert_eq!(job.output.is_some(), reason.is_none());
        assert!(world.try_claim(&id).await.is_err(), "nobody brings it back");
    }
}

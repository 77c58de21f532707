//! Delivery: at least once, on a schedule, each endpoint for itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use rotoless_contract::JobId;
use rotoless_contract::api::JobRequest;
use rotoless_contract::job::EventState;
use rotoless_contract::worker::{FailureReason, ReportRequest};
use rotoless_core::ports::SendOutcome;
use rotoless_core::usecase::Delivered;

use super::receiver::{Receiver, status};
use super::store::{Call, When};
use super::world::World;

const SILENT: SendOutcome = SendOutcome::NotSent("timeout");

/// A job with one event waiting: `job.started`.
async fn started(world: &World) -> JobId {
    let id = world.created().await;
    world.claimed(&id).await;
    id
}

async fn started_at(world: &World, url: &str) -> JobId {
    let request = JobRequest { webhook_url: Some(url.to_owned()), ..world.request() };
    let id = world.submit().create(&world.client, &request, None, None).await.unwrap().job.id;
    world.claimed(&id).await;
    id
}

/// Ticks once a second of virtual time, as long as an event waits; at most for three days.
async fn run(world: &World, receiver: &Arc<Receiver>) {
    let deliver = world.deliver(receiver.clone());
    for _ in 0..3 * 24 * 3600 {
        let waits = world.store.tables().deliveries.values().filter_map(|event| event.due_at).min();
        let Some(due) = waits else { return };
        let now = rotoless_core::ports::Clock::now(&*world.clock);
        world.pass(due.duration_since(now).as_secs().max(0) + 1);
        deliver.tick().await.unwrap();
    }
    panic!("never ends");
}

/// G-21, G-22, TD-1.
#[tokio::test]
async fn an_event_that_met_three_500s_arrives_with_the_same_id_and_a_fresh_signature() {
    let world = World::new();
    let id = started(&world).await;
    let receiver = Arc::new(Receiver::new(&world, [status(500), status(500), status(500)], status(200)));
    run(&world, &receiver).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|one| one.event.delivery_id == seen[0].event.delivery_id && one.event.data.id == id));
    assert!(seen.windows(2).all(|two| two[0].signed_at < two[1].signed_at && two[0].signature != two[1].signature));
    let event = &world.events(&id)[0];
    assert_eq!((event.state, event.tries, event.due_at), (EventState::Sent, 4, None));
    assert_eq!(world.job(&id).events["job.started"], EventState::Sent);
}

/// G-21, G-24, TD-1.
#[tokio::test]
async fn an_endpoint_that_fails_for_a_day_is_tried_eight_times_and_the_event_kept_as_failed() {
    let world = World::new();
    let id = started(&world).await;
    let receiver = Arc::new(Receiver::new(&world, [], status(500)));
    run(&world, &receiver).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 8);
    let hours = seen[7].signed_at.duration_since(seen[0].signed_at).as_hours();
    assert!((18..=27).contains(&hours), "{hours}");
    for (two, wait) in seen.windows(2).zip([5, 30, 300, 1800, 7200, 21_600, 50_400]) {
        let waited = two[1].signed_at.duration_since(two[0].signed_at).as_secs();
        assert!((wait * 8 / 10..=wait * 12 / 10 + 2).contains(&waited), "{waited} instead of {wait}");
    }
    let event = &world.events(&id)[0];
    assert_eq!((event.state, event.last_result.as_deref()), (EventState::Failed, Some("status 500")));
    assert_eq!(world.job(&id).events["job.started"], EventState::Failed);
}

/// G-24, TD-6.
#[tokio::test]
async fn only_2xx_is_success_and_only_410_ends_it_at_once() {
    for (answer, state) in [
        (status(200), EventState::Sent),
        (status(204), EventState::Sent),
        (status(299), EventState::Sent),
        (status(410), EventState::Failed),
        (status(101), EventState::Pending),
        (status(302), EventState::Pending),
        (status(404), EventState::Pending),
        (status(429), EventState::Pending),
        (status(600), EventState::Pending),
        (SILENT, EventState::Pending),
    ] {
        let world = World::new();
        let id = started(&world).await;
        let receiver = Arc::new(Receiver::new(&world, [], answer.clone()));
        world.deliver(receiver).tick().await.unwrap();
        assert_eq!(world.events(&id)[0].state, state, "{answer:?}");
    }
}

/// G-24, TD-5.
#[tokio::test]
async fn retry_after_is_honoured_between_once_and_twice_the_wait() {
    for (asked, waited) in [(0, 5), (7, 7), (30, 10), (1_000_000_000, 10), (u64::MAX, 10)] {
        let world = World::new();
        let id = started(&world).await;
        let answer = SendOutcome::Answered { status: 429, retry_after: Some(asked) };
        world.deliver(Arc::new(Receiver::new(&world, [], answer))).tick().await.unwrap();
        let event = &world.events(&id)[0];
        assert_eq!(event.due_at.unwrap().duration_since(event.created_at).as_secs(), waited);
    }
}

/// G-26, TD-9.
#[tokio::test]
async fn an_event_tells_the_job_as_it_was_with_a_link_that_works_now() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let digest = world.finish_work(&claim);
    world.report_completed(&claim, &digest).await.unwrap();
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    assert_eq!(world.deliver(receiver.clone()).tick().await.unwrap().sent, 2);
    let mut seen = receiver.seen();
    seen.sort_by_key(|one| one.event.sequence);
    let said: Vec<_> = seen.iter().map(|one| (one.event.sequence, one.event.data.status.as_str())).collect();
    assert_eq!(said, [(1, "processing"), (2, "completed")]);
    assert_eq!(seen[0].event.data.output_url, None);
    let link = seen[1].event.data.output_url.clone().unwrap();
    assert!(link.contains(&claim.output.key), "{link}");
    assert_eq!(world.job(&id).events.values().collect::<Vec<_>>(), [&EventState::Sent; 2]);
}

/// G-21, D0–D2, TD-11.
#[tokio::test]
async fn one_fault_anywhere_in_a_tick_loses_no_event_and_repeats_it_at_most_once() {
    for when in [When::Before, When::After] {
        for nth in 0.. {
            let world = World::new();
            let id = started(&world).await;
            let receiver = Arc::new(Receiver::new(&world, [], status(200)));
            let deliver = world.deliver(receiver.clone());
            let before = world.store.tables().calls.len();
            world.fail_call(nth, when);
            for _ in 0..3 {
                let _ = deliver.tick().await;
                world.pass(61);
            }
            let seen = receiver.seen();
            assert!((1..=2).contains(&seen.len()), "call {nth} {when:?}: {} copies", seen.len());
            assert_eq!(seen.iter().map(|one| &one.event.delivery_id).collect::<BTreeSet<_>>().len(), 1);
            assert_eq!(world.events(&id)[0].state, EventState::Sent, "call {nth} {when:?}");
            assert_eq!(world.job(&id).events["job.started"], EventState::Sent, "call {nth} {when:?}");
            if world.store.tables().calls.len() <= before + nth {
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_event_that_is_never_recorded_is_given_up_in_the_end() {
    let world = World::new();
    let id = started(&world).await;
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    let deliver = world.deliver(receiver.clone());
    for _ in 0..16 {
        world.down(Call::Commit);
        assert_eq!(deliver.tick().await.unwrap().failed, 1);
        world.pass(61);
    }
    world.all_up();
    assert_eq!(deliver.tick().await.unwrap().given_up, 1);
    assert_eq!((receiver.seen().len(), world.events(&id)[0].state), (16, EventState::Failed));
}

/// G-21, TD-11.
#[tokio::test]
async fn two_ticks_at_once_send_once() {
    let world = World::new();
    let id = started(&world).await;
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    let (deliver, quicker) = (world.deliver(receiver.clone()), world.deliver(receiver.clone()));
    world.store.intrude(async move { assert_eq!(quicker.tick().await.unwrap().sent, 1) });
    assert_eq!(deliver.tick().await.unwrap(), Delivered::default());
    assert_eq!((receiver.seen().len(), world.events(&id)[0].tries), (1, 1));
}

#[tokio::test]
async fn a_heartbeat_between_sending_and_recording_is_not_lost_and_neither_is_the_record() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    let deliver = world.deliver(receiver.clone());
    // The first commit is the lease; the second one is the record.
    let (quicker, beat) = (world.clone(), claim.clone());
    world.store.intrude(async move {
        let (world, claim) = (quicker.clone(), beat);
        quicker.store.intrude(async move {
            let _ = world.heartbeat(&claim, 45, 90).await.unwrap();
        });
    });
    assert_eq!(deliver.tick().await.unwrap().sent, 1);
    assert_eq!(world.job(&id).state.progress, 47);
    assert_eq!(world.job(&id).events["job.started"], EventState::Sent);
    assert_eq!(receiver.seen().len(), 1);
}

/// G-23, TD-2.
#[tokio::test]
async fn a_slow_endpoint_delays_only_itself() {
    let world = World::new();
    for _ in 0..4 {
        started_at(&world, "https://slow.example/in").await;
    }
    let fast = started_at(&world, "https://fast.example/in").await;
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    let deliver = world.deliver(receiver.clone());
    let tick = tokio::spawn(async move { deliver.tick().await.unwrap() });
    // The slow exchanges wait for ever, and the fast endpoint has its event all the same.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.events(&fast)[0].state, EventState::Sent);
    assert!(!tick.is_finished());
    assert_eq!(receiver.seen().iter().filter(|one| one.url.contains("slow")).count(), 2, "two at once");
    // Meanwhile its time runs out: what it has not been sent stays due.
    world.pass(11);
    receiver.slow.add_permits(4);
    assert_eq!(tick.await.unwrap(), Delivered { sent: 3, ..Delivered::default() });
    assert!(receiver.most_in_flight() <= 3);
    assert_eq!(world.deliver(receiver.clone()).tick().await.unwrap().sent, 2);
}

/// G-23: a circuit.
#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_asked_twice_and_its_other_events_wait_untried() {
    let world = World::new();
    for _ in 0..10 {
        started_at(&world, "https://dead.example/in").await;
    }
    let receiver = Arc::new(Receiver::new(&world, [], SILENT));
    let done = world.deliver(receiver.clone()).tick().await.unwrap();
    assert_eq!(done, Delivered { retried: 2, postponed: 8, ..Delivered::default() });
    assert_eq!(receiver.seen().len(), 2);
    // It comes back: nothing was lost, and no try was spent.
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    world.pass(60);
    assert_eq!(world.deliver(receiver.clone()).tick().await.unwrap().sent, 10);
}

/// G-21, G-23.
#[tokio::test]
async fn an_endpoint_that_is_dead_for_days_leaves_no_event_waiting() {
    let world = World::new();
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(started_at(&world, "https://dead.example/in").await);
    }
    let receiver = Arc::new(Receiver::new(&world, [], SILENT));
    run(&world, &receiver).await;
    for id in ids {
        let event = &world.events(&id)[0];
        assert_eq!(event.state, EventState::Failed);
        assert!(event.last_result.is_some());
    }
}

#[tokio::test]
async fn an_event_of_an_old_run_does_not_speak_for_the_new_one() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let receiver = Arc::new(Receiver::new(&world, [status(500)], status(200)));
    world.deliver(receiver.clone()).tick().await.unwrap();
    let reason = FailureReason::InvalidMedia;
    world.report(&claim, &ReportRequest::Failed { reason, detail: String::new() }).await.unwrap();
    world.pass(1);
    world.submit().start(&world.client, &id, &JobRequest::default()).await.unwrap();
    world.claimed(&id).await;
    // Only the old run's `job.started` is due and delivered; the new one's is not.
    world.store.tables().deliveries.retain(|_, event| event.sequence != 2);
    let newest = world.events(&id).last().unwrap().clone();
    world.store.tables().deliveries.get_mut(&(id.clone(), newest.id)).unwrap().due_at = None;
    world.pass(10);
    assert_eq!(world.deliver(receiver).tick().await.unwrap().sent, 1);
    assert_eq!(world.job(&id).events["job.started"], EventState::Pending);
    assert_eq!(world.events(&id)[0].state, EventState::Sent);
}

/// TD-13.
#[tokio::test]
async fn an_event_outlives_its_job() {
    let world = World::new();
    let id = world.created().await;
    world.canceller().cancel(&world.client, &id).await.unwrap();
    world.store.tables().jobs.remove(&id);
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    assert_eq!(world.deliver(receiver.clone()).tick().await.unwrap().sent, 1);
    assert_eq!(world.events(&id)[0].state, EventState::Sent);
    assert_eq!(receiver.seen()[0].event.data.status.as_str(), "failed");
}

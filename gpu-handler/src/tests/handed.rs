//! Messages that are handed over, each with a turn of limited length.

use std::time::{Duration, Instant};

use rotoless_contract::worker::{FailureReason, Refusal, ReportRequest};

use super::engine::Script;
use super::world::{CLAIM_TOKEN, Event, On, Twist, World};
use crate::ailment::Ailment;
use crate::handed::{HandedMessage, HandedWorker};
use crate::run::RunError;

const ENDLESS: Script = Script::Frames(1_000_000, Duration::from_millis(5));
/// More than any test of these takes.
const LONG: Duration = Duration::from_secs(900);
/// As short as turns can be.
const SHORT: Duration = Duration::from_secs(7);

/// Hands the world's message over.
async fn hand(world: &World, worker: &HandedWorker, whole: Duration, left: Duration) -> Result<bool, RunError> {
    let id = "message".to_owned();
    let receipt = world.change(|shared| {
        shared.receipt += 1;
        shared.receipt.to_string()
    });
    let body = world.change(|shared| shared.message.clone()).unwrap();
    assert!(body.contains(CLAIM_TOKEN));
    worker.serve(HandedMessage { id, body, receipt }, whole, Instant::now() + left).await
}

#[tokio::test]
async fn a_message_that_was_done_is_deleted_and_kept_in_flight_until_then() {
    let world = World::start().await;
    let served = world.worker(Script::Frames(3, Duration::ZERO));
    let worker = HandedWorker::over(served.worker);
    assert!(hand(&world, &worker, LONG, LONG).await.unwrap());
    let events = world.log.all();
    assert_eq!(events[0], Event::Extend, "before anything else: the queue's own timeout is as long as a turn");
    assert_eq!(events.last(), Some(&Event::Delete));
}

/// G-10
#[tokio::test]
async fn a_message_of_a_leased_job_is_let_go_and_wants_to_come_again() {
    let world = World::start().await;
    world.twist(On::Claim, Twist::Refuse(Refusal::Leased));
    let served = world.worker(ENDLESS);
    let worker = HandedWorker::over(served.worker);
    assert!(!hand(&world, &worker, LONG, LONG).await.unwrap());
    assert_eq!(world.events(), [Event::Claim, Event::Release(17)]);
}

/// TW-4
#[tokio::test]
async fn a_message_that_is_somebody_elses_is_not_begun() {
    let world = World::start().await;
    world.twist(On::Extend, Twist::Stale);
    let served = world.worker(ENDLESS);
    let worker = HandedWorker::over(served.worker);
    assert!(!hand(&world, &worker, LONG, LONG).await.unwrap());
    assert_eq!(world.events(), []);
}

#[tokio::test]
async fn nothing_is_begun_in_what_is_left_of_a_turn() {
    let world = World::start().await;
    let served = world.worker(ENDLESS);
    let worker = HandedWorker::over(served.worker);
    assert!(!hand(&world, &worker, LONG, Duration::from_secs(100)).await.unwrap());
    assert_eq!(world.events(), [Event::Release(0)]);
}

/// TW-12, G-05: an attempt that a turn cuts short is given back in time. Where it left nothing, it counts.
#[tokio::test]
async fn an_attempt_is_given_back_before_its_turn_ends_and_counts_if_it_left_nothing() {
    for (script, counts) in [(ENDLESS, true), (Script::SegmentAndOn, false)] {
        let world = World::start().await;
        world.change(|shared| shared.segments = true);
        let served = world.worker(script);
        let worker = HandedWorker::over(served.worker);
        let began = Instant::now();
        assert!(!hand(&world, &worker, SHORT, SHORT).await.unwrap());
        assert!(began.elapsed() < SHORT, "{:?}", began.elapsed());
        match &world.reports()[..] {
            [ReportRequest::Failed { reason: FailureReason::TimedOut, detail }] if counts => {
                assert!(detail.contains("not one segment"), "{detail}");
            }
            [ReportRequest::Abandoned { .. }] if !counts => {}
            other => panic!("{other:?}"),
        }
        assert!(matches!(world.events().last(), Some(Event::Release(_))), "{:?}", world.events());
    }
}

#[tokio::test]
async fn a_process_whose_engine_hangs_is_told_to_end_and_the_message_is_free() {
    let world = World::start().await;
    let served = world.worker(Script::Deaf(Duration::from_secs(20)));
    let worker = HandedWorker::over(served.worker);
    let began = Instant::now();
    let outcome = hand(&world, &worker, SHORT, SHORT).await;
    assert!(matches!(outcome, Err(RunError::Ailing(Ailment::EngineHung))), "{outcome:?}");
    assert!(began.elapsed() < SHORT, "{:?}", began.elapsed());
    assert!(matches!(world.events().last(), Some(Event::Release(_))), "{:?}", world.events());
}

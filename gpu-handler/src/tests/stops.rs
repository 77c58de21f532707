//! What stops an attempt, and what is done about it.

use std::time::{Duration, Instant};

use rotoless_contract::JobStatus;
use rotoless_contract::worker::{FailureReason, Refusal, ReportReply, ReportRequest};

use super::engine::Script;
use super::world::{Event, On, Twist, World, quick};
use crate::ailment::Ailment;
use crate::clock::Clock;
use crate::session::{SessionEnd, SessionError};
use crate::timing::Timing;

/// Longer than any test waits.
const ENDLESS: Script = Script::Frames(1_000_000, Duration::from_millis(5));

fn reason(report: &ReportRequest) -> Option<FailureReason> {
    if let ReportRequest::Failed { reason, .. } = report { Some(*reason) } else { None }
}

fn nothing_was_committed(world: &World) {
    assert_eq!(world.count(&Event::Upload) + world.count(&Event::Manifest), 0, "{:?}", world.events());
}

/// G-10, TW-2: the loser of two deliveries stops at its next heartbeat and touches nothing.
#[tokio::test]
async fn a_stale_attempt_stops_at_its_next_heartbeat_and_touches_nothing() {
    let world = World::start().await;
    world.change(|shared| shared.lease_seconds = 3);
    world.twist(On::Heartbeat, Twist::Refuse(Refusal::StaleAttempt));
    let served = world.worker(ENDLESS);
    assert!(matches!(served.worker.session().await.unwrap(), SessionEnd::Handled { .. }));
    nothing_was_committed(&world);
    assert!(world.reports().is_empty());
    assert_eq!(world.events().last(), Some(&Event::Matte), "no release, no delete");
    assert_eq!(served.left_on_disk(), Vec::<String>::new());
}

/// G-14, TW-11
#[tokio::test]
async fn a_cancelled_job_stops_within_a_heartbeat_and_its_message_goes() {
    for twist in [Twist::Cancel, Twist::Refuse(Refusal::Terminal)] {
        let world = World::start().await;
        world.change(|shared| shared.lease_seconds = 3);
        world.twist(On::Heartbeat, twist);
        let began = Instant::now();
        world.worker(ENDLESS).worker.session().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
        nothing_was_committed(&world);
        assert!(world.reports().is_empty());
        assert_eq!(world.events().last(), Some(&Event::Delete));
    }
}

/// TW-4: a receipt that went stale is somebody else's message, not a failure.
#[tokio::test]
async fn a_stale_receipt_ends_the_attempt_quietly() {
    let world = World::start().await;
    world.change(|shared| shared.visibility_seconds = 3);
    world.twist(On::Extend, Twist::Stale);
    let timing = Timing { visibility: Duration::from_secs(3), ..quick() };
    world.worker_with(ENDLESS, Clock::default(), timing).worker.session().await.unwrap();
    assert_eq!(world.count(&Event::Extend), 1);
    nothing_was_committed(&world);
    assert!(world.reports().is_empty());
    assert_eq!(world.events().last(), Some(&Event::Matte), "no release, no delete");
}

/// TW-3: a job may take longer than the visibility of its message.
#[tokio::test]
async fn the_message_is_kept_while_the_work_goes_on_and_no_longer() {
    let world = World::start().await;
    world.change(|shared| shared.visibility_seconds = 3);
    let timing = Timing { visibility: Duration::from_secs(3), ..quick() };
    let served = world.worker_with(Script::Frames(50, Duration::from_millis(60)), Clock::default(), timing);
    served.worker.session().await.unwrap();
    assert!(world.count(&Event::Extend) >= 3);
    assert!(matches!(world.log.all()[..], [.., Event::Report(_), Event::Delete]), "{:?}", world.log.all());
    assert_eq!(world.count(&Event::Receive), 1);
}

/// G-11: while the control plane is away the work goes on, until the lease must have ended.
#[tokio::test]
async fn an_attempt_ends_quietly_once_its_lease_must_have_ended() {
    let world = World::start().await;
    world.change(|shared| shared.lease_seconds = 3);
    for _ in 0..1000 {
        world.twist(On::Heartbeat, Twist::Fail(503));
    }
    let began = Instant::now();
    world.worker(ENDLESS).worker.session().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(2900), "it gave up early: {:?}", began.elapsed());
    assert!(world.count(&Event::Heartbeat) >= 3, "it tried only {} times", world.count(&Event::Heartbeat));
    nothing_was_committed(&world);
    assert!(world.reports().is_empty());
    assert_eq!(world.count(&Event::Delete), 0);
}

/// G-11: an outage shorter than the lease costs nothing.
#[tokio::test]
async fn a_missed_heartbeat_is_made_good() {
    let world = World::start().await;
    world.change(|shared| shared.lease_seconds = 3);
    world.twist(On::Heartbeat, Twist::Fail(503));
    world.worker(Script::Frames(50, Duration::from_millis(60))).worker.session().await.unwrap();
    assert_eq!(world.change(|shared| shared.report.clone()).unwrap().1.status, JobStatus::Completed);
    assert!(world.count(&Event::Heartbeat) >= 3);
}

#[tokio::test]
async fn an_attempt_past_its_deadline_is_reported_as_timed_out() {
    let world = World::start().await;
    world.change(|shared| shared.deadline_seconds = 1);
    world.worker(ENDLESS).worker.session().await.unwrap();
    assert_eq!(world.reports().iter().map(reason).collect::<Vec<_>>(), [Some(FailureReason::TimedOut)]);
    nothing_was_committed(&world);
    // Back to pending: the next attempt comes soon.
    assert_eq!(world.events().last(), Some(&Event::Release(2)));
}

#[tokio::test]
async fn an_engine_without_a_new_frame_is_taken_for_stalled() {
    let world = World::start().await;
    let timing = Timing { stalled: Duration::from_millis(300), ..quick() };
    world.worker_with(Script::Stall, Clock::default(), timing).worker.session().await.unwrap();
    assert_eq!(world.reports().iter().map(reason).collect::<Vec<_>>(), [Some(FailureReason::TimedOut)]);
    nothing_was_committed(&world);
}

/// An engine that ignores its stop flag costs the process, and the job is reported before.
#[tokio::test]
async fn an_engine_that_does_not_stop_ends_the_worker_after_the_report() {
    let world = World::start().await;
    world.change(|shared| shared.deadline_seconds = 1);
    let served = world.worker(Script::Deaf(Duration::from_secs(30)));
    let began = Instant::now();
    let error = served.worker.session().await.unwrap_err();
    assert!(matches!(error, SessionError::Ailing(Ailment::EngineHung)));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(world.reports().iter().map(reason).collect::<Vec<_>>(), [Some(FailureReason::TimedOut)]);
}

/// TW-12: early in the work the host's end means: let another one begin at once.
#[tokio::test]
async fn a_worker_asked_to_end_early_gives_the_job_back_at_once() {
    let world = World::start().await;
    let served = world.worker(ENDLESS);
    let (end, ()) = tokio::join!(served.worker.session(), async {
        world.until(|events| events.contains(&Event::Matte)).await;
        served.ask.ask();
    });
    assert!(matches!(end.unwrap(), SessionEnd::Handled { .. }));
    assert!(matches!(world.reports()[..], [ReportRequest::Abandoned { .. }]));
    assert_eq!(world.events().last(), Some(&Event::Release(0)), "after the report, or the next claim finds the lease");
    nothing_was_committed(&world);
    assert_eq!(served.worker.session().await.unwrap(), SessionEnd::Idle, "nothing is received any more");
    assert_eq!(world.count(&Event::Receive), 1);
}

/// TW-12: near the end it finishes.
#[tokio::test]
async fn a_worker_asked_to_end_late_finishes_what_it_has() {
    let world = World::start().await;
    let served = world.worker(Script::Frames(20, Duration::from_millis(50)));
    let (end, ()) = tokio::join!(served.worker.session(), async {
        world.until(|events| events.contains(&Event::Matte)).await;
        // Its pace is known after the first frame.
        tokio::time::sleep(Duration::from_millis(300)).await;
        served.ask.ask();
    });
    end.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Completed { .. }]));
    assert_eq!(world.events().last(), Some(&Event::Delete));
}

/// The promise of a pace is not believed for ever.
#[tokio::test]
async fn a_worker_asked_to_end_does_not_work_on_past_its_cap() {
    let world = World::start().await;
    let timing = Timing { finish_cap: Duration::from_millis(500), ..quick() };
    let served = world.worker_with(Script::Frames(200, Duration::from_millis(50)), Clock::default(), timing);
    let (end, ()) = tokio::join!(served.worker.session(), async {
        world.until(|events| events.contains(&Event::Matte)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        served.ask.ask();
    });
    end.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Abandoned { .. }]));
}

/// G-13, TW-6: a poison video harms only its job.
#[tokio::test]
async fn a_panic_fails_the_job_and_the_next_one_succeeds() {
    let world = World::start().await;
    let ended = ReportReply { status: JobStatus::Failed, delete_message: true };
    world.change(|shared| shared.reply_to_failure = ended);
    let served = world.worker(Script::PanicOnce);
    served.worker.session().await.unwrap();
    assert_eq!(world.reports().iter().map(reason).collect::<Vec<_>>(), [Some(FailureReason::InternalError)]);
    assert_eq!(world.events().last(), Some(&Event::Delete), "the control plane said so");
    assert_eq!(served.left_on_disk(), Vec::<String>::new());
    world.change(|shared| shared.report = None);
    world.enqueue();
    served.worker.session().await.unwrap();
    assert!(matches!(world.reports().last(), Some(ReportRequest::Completed { .. })));
}

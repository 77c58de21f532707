//! Links that end before the attempt does.

use std::time::{Duration, Instant};

use aws_smithy_async::time::SharedTimeSource;
use rotoless_contract::worker::{FailureReason, Refusal, ReportRequest};

use super::engine::Script;
use super::world::{Event, On, Twist, World, quick};
use crate::clock::{Clock, WrongClock};
use crate::timing::Timing;

const FRAMES: Script = Script::Frames(3, Duration::ZERO);

fn is_completed(world: &World) -> bool {
    matches!(world.reports()[..], [ReportRequest::Completed { .. }])
}

fn failed(world: &World) -> FailureReason {
    match &world.reports()[..] {
        [ReportRequest::Failed { reason, .. }] => *reason,
        other => panic!("{other:?}"),
    }
}

/// TW-9, G-11: wherever they end, the same attempt goes on with fresh ones, and does nothing a second time but that
/// transfer.
#[tokio::test]
async fn links_that_end_are_replaced_by_a_heartbeat_and_the_attempt_goes_on() {
    for twist in [Twist::EndLinks, Twist::EndSession] {
        for on in [On::Download, On::Upload, On::Manifest] {
            let world = World::start().await;
            world.twist(on, twist);
            let began = Instant::now();
            let served = world.worker(FRAMES);
            served.worker.session().await.unwrap();
            assert!(is_completed(&world), "{on:?}: {:?}", world.events());
            assert_eq!(world.change(|shared| shared.links_given), 1, "{on:?}");
            let twice = |call| usize::from(on == call) + 1;
            assert_eq!(world.count(&Event::Download), twice(On::Download));
            assert_eq!(world.count(&Event::Upload), twice(On::Upload));
            assert_eq!(world.count(&Event::Manifest), twice(On::Manifest));
            assert_eq!((world.count(&Event::Claim), world.count(&Event::Matte)), (1, 1));
            assert!(began.elapsed() < Duration::from_secs(10), "a heartbeat was sent at once, not when it was due");
            assert_eq!(served.left_on_disk(), Vec::<String>::new());
        }
    }
}

/// TW-9: in the middle of an upload the connection breaks first, and the next try is refused.
#[tokio::test]
async fn links_that_end_in_the_middle_of_an_upload_cost_a_try_and_no_attempt() {
    let world = World::start().await;
    world.twist(On::Upload, Twist::Fail(503));
    world.twist(On::Upload, Twist::EndLinks);
    world.worker(FRAMES).worker.session().await.unwrap();
    assert!(is_completed(&world));
    assert_eq!((world.count(&Event::Upload), world.change(|shared| shared.links_given)), (3, 1));
}

/// TW-9: the one that asks is answered by an outage first, and asks again.
#[tokio::test]
async fn links_are_asked_for_until_the_control_plane_answers() {
    let world = World::start().await;
    world.twist(On::Upload, Twist::EndLinks);
    for status in [503, 500] {
        world.twist(On::Heartbeat, Twist::Fail(status));
    }
    world.worker(FRAMES).worker.session().await.unwrap();
    assert!(is_completed(&world));
    assert_eq!((world.count(&Event::Heartbeat), world.twists_left()), (3, 0));
}

/// TW-9: what refuses a fresh link does not refuse it for its age.
#[tokio::test]
async fn a_fresh_link_that_is_refused_fails_the_attempt() {
    for on in [On::Download, On::Upload, On::Manifest] {
        let world = World::start().await;
        for _ in 0..2 {
            world.twist(on, Twist::Fail(403));
        }
        world.worker(FRAMES).worker.session().await.unwrap();
        assert_eq!(failed(&world), FailureReason::InternalError);
        assert_eq!((world.change(|shared| shared.links_given), world.twists_left()), (1, 0), "{on:?}");
    }
}

/// G-39: a control plane of the version before answers the heartbeat, and gives none.
#[tokio::test]
async fn a_control_plane_that_makes_no_links_is_not_asked_for_ever() {
    let world = World::start().await;
    world.change(|shared| shared.gives_links = false);
    world.twist(On::Upload, Twist::EndLinks);
    let began = Instant::now();
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(failed(&world), FailureReason::InternalError);
    assert!((1..=3).contains(&world.count(&Event::Heartbeat)));
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// TW-9, G-20: half of what they last has passed by the worker's own stopwatch, whatever its clock says.
#[tokio::test]
async fn links_are_replaced_before_they_end_whatever_the_hosts_clock_says() {
    for wrong in [0, -86_400, 86_400] {
        let world = World::start().await;
        world.change(|shared| (shared.lease_seconds, shared.links_last_seconds) = (3, Some(2)));
        let clock = Clock::over(SharedTimeSource::new(WrongClock(wrong)));
        let served = world.worker_with(Script::Frames(50, Duration::from_millis(60)), clock, quick());
        // A host with a wrong clock is refused by the queue first.
        if served.worker.session().await.is_err() {
            served.worker.session().await.unwrap();
        }
        assert!(is_completed(&world), "{wrong}: {:?}", world.log.all());
        // The fresh ones last for longer than the test.
        assert_eq!(world.change(|shared| shared.links_given), 1);
        assert_eq!((world.count(&Event::Upload), world.count(&Event::Manifest)), (1, 1), "none was refused");
    }
}

/// G-14, G-10: whoever waits for links hears that the job is over, or somebody else's, and stops.
#[tokio::test]
async fn an_attempt_that_waits_for_links_stops_when_it_must() {
    for (on, twist, deletes) in [
        (On::Upload, Twist::Cancel, true),
        (On::Manifest, Twist::Cancel, true),
        (On::Upload, Twist::Refuse(Refusal::StaleAttempt), false),
        (On::Manifest, Twist::Refuse(Refusal::StaleAttempt), false),
        (On::Download, Twist::Refuse(Refusal::Terminal), true),
    ] {
        let world = World::start().await;
        world.twist(on, Twist::EndLinks);
        world.twist(On::Heartbeat, twist);
        world.worker(FRAMES).worker.session().await.unwrap();
        assert!(world.reports().is_empty(), "{on:?} {twist:?}");
        assert!(world.change(|shared| shared.manifest.is_none()));
        assert_eq!(world.count(&Event::Delete), usize::from(deletes), "{on:?} {twist:?}");
    }
}

/// TW-9: the control plane is away for good: the attempt ends with its lease and says nothing.
#[tokio::test]
async fn an_attempt_that_waits_for_links_ends_with_its_lease() {
    let world = World::start().await;
    world.change(|shared| shared.lease_seconds = 3);
    world.twist(On::Manifest, Twist::EndLinks);
    for _ in 0..1000 {
        world.twist(On::Heartbeat, Twist::Fail(503));
    }
    let timing = Timing { call: Duration::from_secs(1), ..quick() };
    world.worker_with(FRAMES, Clock::default(), timing).worker.session().await.unwrap();
    assert!(world.reports().is_empty() && world.count(&Event::Delete) == 0, "{:?}", world.events());
}

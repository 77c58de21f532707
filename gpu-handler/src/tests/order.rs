//! The order of the steps, and what lost answers do to it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_smithy_async::time::SharedTimeSource;
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::worker::ReportRequest;

use super::engine::Script;
use super::world::{Event, On, Twist, World, quick};
use crate::clock::{Clock, JumpingClock, WrongClock};
use crate::session::SessionEnd;

const FRAMES: Script = Script::Frames(3, Duration::ZERO);

/// The events of a job without trouble.
fn whole(report: ReportRequest) -> Vec<Event> {
    use Event::{Claim, Delete, Download, Manifest, Matte, Probe, Probed, Receive, Report, Upload};
    vec![Receive, Claim, Download, Probe, Probed, Matte, Upload, Manifest, Report(report), Delete]
}

fn completed(world: &World) -> ReportRequest {
    let manifest_sha256 = world.change(|shared| sha256_hex(shared.manifest.as_ref().unwrap()));
    ReportRequest::Completed { manifest_sha256 }
}

/// G-11: whatever dies in between, the step before it is already durable.
#[tokio::test]
async fn output_then_manifest_then_report_then_delete() {
    let world = World::start().await;
    let served = world.worker(FRAMES);
    let end = served.worker.session().await.unwrap();
    assert!(matches!(end, SessionEnd::Handled { .. }));
    assert_eq!(world.events(), whole(completed(&world)));
    let manifest = world.stored_manifest();
    assert_eq!((&manifest.job_id, manifest.attempt.get()), (&world.job, 1));
    assert_eq!(manifest.output_key, "outputs/x/1/1/output.webm");
    assert_eq!(world.change(|shared| sha256_hex(shared.output.as_ref().unwrap())), manifest.output.sha256);
    assert_eq!(served.left_on_disk(), Vec::<String>::new());
    assert_eq!(served.worker.session().await.unwrap(), SessionEnd::Idle);
}

/// G-19: the same report again, one effect.
#[tokio::test]
async fn a_report_whose_answer_was_lost_is_repeated_unchanged() {
    let world = World::start().await;
    world.twist(On::Report, Twist::LoseReply);
    world.twist(On::Report, Twist::Fail(503));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(world.reports(), vec![completed(&world); 3]);
    assert_eq!(world.events().last(), Some(&Event::Delete));
    assert_eq!(world.twists_left(), 0);
}

/// G-10: a lost answer to the manifest's PUT looks like somebody else's manifest, and is not.
#[tokio::test]
async fn a_manifest_whose_put_had_no_answer_is_recognised_as_ours() {
    let world = World::start().await;
    world.twist(On::Manifest, Twist::LoseReply);
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(world.count(&Event::Manifest), 2);
    assert_eq!(world.reports(), vec![completed(&world)]);
    assert_eq!(world.count(&Event::Delete), 1);
}

/// G-10
#[tokio::test]
async fn a_run_that_somebody_else_committed_is_left_alone() {
    let world = World::start().await;
    world.change(|shared| shared.manifest = Some("another attempt's".into()));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(world.events().last(), Some(&Event::Manifest), "{:?}", world.events());
    assert!(world.reports().is_empty());
}

/// G-10: unsure whose manifest it is, the worker asks; the answer decides.
#[tokio::test]
async fn a_doubtful_manifest_that_is_not_ours_ends_quietly() {
    let world = World::start().await;
    world.change(|shared| shared.manifest = Some("another attempt's".into()));
    world.twist(On::Manifest, Twist::Fail(500));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(world.reports().len(), 1);
    assert_eq!(world.count(&Event::Delete), 0);
}

/// G-20, TR-8: a day off in either direction costs one refused call to either server, and nothing else.
#[tokio::test]
async fn a_clock_that_is_a_day_off_costs_one_signature() {
    for wrong in [-86_400, 86_400] {
        let world = World::start().await;
        let host = SharedTimeSource::new(WrongClock(wrong));
        let served = world.worker_with(FRAMES, Clock::over(host), quick());
        assert!(served.worker.session().await.is_err(), "the queue refused the signature");
        served.worker.session().await.unwrap();
        assert_eq!(world.events(), whole(completed(&world)));
        assert_eq!(world.change(|shared| shared.refused_signatures), 2, "the queue's first, the control plane's first");
    }
}

/// G-20, TR-8, TW-13: the host's clock jumps in the middle of an attempt, whichever call comes next: that call is
/// signed anew, and nothing is repeated or ended early.
#[tokio::test]
async fn a_clock_that_jumps_in_the_middle_of_an_attempt_costs_one_signature() {
    for jump in [-86_400, -360, 360, 86_400] {
        for moment in [Event::Claim, Event::Download, Event::Probed, Event::Matte, Event::Heartbeat, Event::Manifest] {
            let world = World::start().await;
            world.change(|shared| shared.lease_seconds = 3);
            let clock = JumpingClock::default();
            let host = SharedTimeSource::new(clock.clone());
            // Long enough for a heartbeat.
            let script = Script::Frames(30, Duration::from_millis(50));
            let served = world.worker_with(script, Clock::over(host), quick());
            let (end, ()) = tokio::join!(served.worker.session(), async {
                world.until(|events| events.contains(&moment)).await;
                clock.0.store(jump, Ordering::SeqCst);
            });
            end.unwrap();
            let what = format!("{jump} s at {moment:?}");
            assert_eq!(world.reports(), [completed(&world)], "{what}: {:?}", world.log.all());
            assert_eq!((world.count(&Event::Claim), world.count(&Event::Matte)), (1, 1), "{what}");
            assert_eq!(world.events().last(), Some(&Event::Delete), "{what}");
            // The control plane's first, or that and the queue's, by whichever thread of the worker.
            let refused = world.change(|shared| shared.refused_signatures);
            assert!((1..=4).contains(&refused), "{what}: {refused}");
        }
    }
}

/// K1: the lease was given and the worker does not know; nobody acts on it.
#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_not_acted_upon() {
    let world = World::start().await;
    world.twist(On::Claim, Twist::LoseReply);
    world.twist(On::Claim, Twist::Refuse(rotoless_contract::worker::Refusal::Leased));
    let end = world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(end, SessionEnd::Passed);
    assert_eq!(world.events(), [Event::Receive, Event::Claim, Event::Claim, Event::Release(17)]);
}

/// G-04: no model runs before the hold covers the measured length.
#[tokio::test]
async fn a_job_that_cannot_be_paid_ends_before_the_model_runs() {
    let world = World::start().await;
    world.twist(On::Probed, Twist::Fail(402));
    world.worker(FRAMES).worker.session().await.unwrap();
    use Event::{Claim, Delete, Download, Probe, Probed, Receive};
    assert_eq!(world.events(), [Receive, Claim, Download, Probe, Probed, Delete]);
}

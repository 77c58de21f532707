//! The store misbehaves.

use std::time::Duration;

use rotoless_contract::spec::{Background, Fit};
use rotoless_contract::worker::{FailureReason, ReportRequest};

use super::engine::Script;
use super::world::{Event, On, SOURCE, Twist, World, quick};
use crate::clock::Clock;
use crate::timing::Timing;

const FRAMES: Script = Script::Frames(3, Duration::ZERO);

fn failed(world: &World) -> (FailureReason, String) {
    match &world.reports()[..] {
        [ReportRequest::Failed { reason, detail }] => (*reason, detail.clone()),
        other => panic!("{other:?}"),
    }
}

/// G-28: not a byte more than announced is kept, and the worker does not wait for the end.
#[tokio::test]
async fn a_source_larger_than_announced_is_cut_off() {
    let world = World::start().await;
    world.twist(On::Download, Twist::TooLong);
    world.worker(FRAMES).worker.session().await.unwrap();
    let (reason, detail) = failed(&world);
    assert_eq!(reason, FailureReason::InternalError);
    assert!(detail.contains(&SOURCE.len().to_string()), "{detail}");
    assert_eq!(world.count(&Event::Probe), 0);
}

/// G-28: a byte now and then is not progress.
#[tokio::test]
async fn a_dripping_source_is_given_up() {
    let world = World::start().await;
    for _ in 0..4 {
        world.twist(On::Download, Twist::Drip);
    }
    let timing = Timing { rate_window: Duration::from_millis(100), ..quick() };
    world.worker_with(FRAMES, Clock::default(), timing).worker.session().await.unwrap();
    assert_eq!(failed(&world).0, FailureReason::InternalError);
    assert_eq!(world.count(&Event::Download), 4);
}

/// TW-10
#[tokio::test]
async fn a_transfer_that_broke_begins_anew_from_its_first_byte() {
    let world = World::start().await;
    world.twist(On::Download, Twist::Fail(503));
    world.twist(On::Download, Twist::Cut);
    world.twist(On::Upload, Twist::Fail(500));
    world.twist(On::Manifest, Twist::Fail(409));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Completed { .. }]));
    assert_eq!((world.count(&Event::Download), world.count(&Event::Upload)), (3, 2));
    assert_eq!(world.twists_left(), 0);
    let manifest = world.stored_manifest();
    assert_eq!(world.change(|shared| shared.output.as_ref().unwrap().len()) as u64, manifest.output.size_bytes);
}

#[tokio::test]
async fn a_missing_source_is_named_and_not_asked_for_again() {
    let world = World::start().await;
    world.twist(On::Download, Twist::Fail(404));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(failed(&world).0, FailureReason::SourceMissing);
    assert_eq!(world.count(&Event::Download), 1);
}

#[tokio::test]
async fn the_background_is_fetched_whole_before_the_engine_begins() {
    for (url, is_image) in [("picture", true), ("video", false)] {
        let world = World::start().await;
        let (url, fit) = (url.to_owned(), Fit::Cover);
        let background = if is_image {
            Background::Image { image_url: url, fit }
        } else {
            Background::Video { video_url: url, fit }
        };
        world.change(|shared| shared.background = background);
        world.worker(FRAMES).worker.session().await.unwrap();
        assert!(matches!(world.reports()[..], [ReportRequest::Completed { .. }]));
        assert_eq!((world.count(&Event::Download), world.count(&Event::Background)), (2, 1));
    }
}

#[tokio::test]
async fn a_file_that_no_order_asked_for_is_not_fetched() {
    let world = World::start().await;
    world.change(|shared| shared.background = Background::Blur);
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(failed(&world).0, FailureReason::LimitExceeded);
    assert_eq!(world.count(&Event::Download), 1);
}

/// G-15: what is committed is what was verified, even when the disk changed it in between.
#[tokio::test]
async fn a_file_that_changed_after_its_check_is_not_committed() {
    let world = World::start().await;
    world.worker(Script::Spoil).worker.session().await.unwrap();
    assert_eq!(failed(&world).0, FailureReason::VerificationFailed);
    assert_eq!(world.count(&Event::Manifest), 0);
}

#[tokio::test]
async fn an_upload_that_never_succeeds_fails_the_attempt_without_a_manifest() {
    let world = World::start().await;
    for _ in 0..4 {
        world.twist(On::Upload, Twist::Fail(503));
    }
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(failed(&world).0, FailureReason::InternalError);
    assert_eq!((world.count(&Event::Upload), world.count(&Event::Manifest)), (4, 0));
}

/// G-37: presigned URLs are secrets, users' addresses nobody's business.
#[tokio::test]
async fn a_report_of_failure_holds_no_address() {
    let refused = World::start().await;
    for _ in 0..2 {
        refused.twist(On::Download, Twist::Fail(403));
    }
    refused.worker(FRAMES).worker.session().await.unwrap();
    let damaged = World::start().await;
    damaged.worker(Script::Invalid).worker.session().await.unwrap();
    for world in [refused, damaged] {
        let (_, detail) = failed(&world);
        assert!(!detail.contains("://") && !detail.contains("canary"), "{detail}");
    }
}

/// What the client may see of warnings is bounded; so is the manifest.
#[tokio::test]
async fn a_flood_of_warnings_does_not_reach_the_manifest() {
    let world = World::start().await;
    world.worker(FRAMES).worker.session().await.unwrap();
    let manifest = world.stored_manifest();
    assert_eq!((manifest.warnings.len(), manifest.warnings[0].len()), (32, 300));
}

/// G-27: somebody else's file comes by the egress rules, whatever its size turns out to be.
#[tokio::test]
async fn a_source_of_somebody_elses_is_fetched_by_the_egress_rules() {
    let world = World::start().await;
    let url = format!("{}/store/source?X-Amz-Signature=canary0", world.origin);
    world.change(|shared| shared.external = Some(url));
    world.twist(On::Download, Twist::Fail(503));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Completed { .. }]), "{:?}", world.reports());
    assert_eq!(world.count(&Event::Download), 2);
}

/// G-27: no address but a public one, and the report tells no address.
#[tokio::test]
async fn a_source_at_an_address_of_ours_is_never_asked_for() {
    for url in ["https://169.254.169.254/latest/meta-data", "https://localhost/", "http://127.0.0.1:1/a.mp4"] {
        let world = World::start().await;
        world.change(|shared| shared.external = Some(url.to_owned()));
        world.worker(FRAMES).worker.session().await.unwrap();
        let (reason, detail) = failed(&world);
        assert_eq!(reason, FailureReason::SourceUnreachable, "{url}");
        assert!(!detail.contains("169.254") && !detail.contains("latest"), "{detail}");
        assert_eq!((world.count(&Event::Download), world.count(&Event::Probe)), (0, 0));
    }
}

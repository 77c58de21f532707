//! The matte beside the output.

use std::time::Duration;

use rotoless_contract::OutputFormat;
use rotoless_contract::manifest::MatteInfo;
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::worker::{FailureReason, ReportRequest};

use super::engine::Script;
use super::world::{Event, SOURCE, World};

const FRAMES: Script = Script::Frames(3, Duration::ZERO);

fn place(world: &World, event: &Event) -> usize {
    let events = world.events();
    events.iter().position(|other| other == event).unwrap_or_else(|| panic!("no {event:?} in {events:?}"))
}

/// G-11: the manifest names nothing that is not stored.
#[tokio::test]
async fn a_matte_that_is_to_be_kept_is_stored_before_the_manifest_names_it() {
    let world = World::start().await;
    world.change(|shared| shared.keeps_matte = true);
    let served = world.worker(FRAMES);
    served.worker.session().await.unwrap();
    let kept = MatteInfo {
        key: "outputs/x/1/1/matte.mkv".to_owned(),
        size_bytes: 4,
        sha256: sha256_hex(b"gray"),
        source_sha256: sha256_hex(SOURCE),
        made_for: OutputFormat::Webm,
    };
    assert_eq!(world.stored_manifest().matte, Some(kept));
    assert_eq!(world.change(|shared| shared.matte.clone()).unwrap().as_ref(), b"gray");
    assert!(place(&world, &Event::KeepMatte) < place(&world, &Event::Manifest));
    assert_eq!(served.left_on_disk(), Vec::<String>::new());
}

#[tokio::test]
async fn an_export_is_made_of_the_matte_that_was_kept() {
    let world = World::start().await;
    world.change(|shared| shared.kept_matte = Some(sha256_hex(SOURCE)));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert!(place(&world, &Event::ReuseMatte) < place(&world, &Event::Manifest));
    assert_eq!(world.stored_manifest().matte, None);
}

/// A video of somebody else's is fetched again for an export, and may be another by then.
#[tokio::test]
async fn a_source_that_has_changed_is_not_put_behind_the_matte_of_the_old_one() {
    let world = World::start().await;
    world.change(|shared| (shared.kept_matte, shared.matte_source) = (Some(sha256_hex(SOURCE)), sha256_hex(b"old")));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert!(!world.events().contains(&Event::ReuseMatte));
    let reports = world.reports();
    assert!(
        matches!(reports.as_slice(), [ReportRequest::Failed { reason: FailureReason::SourceMissing, .. }]),
        "{reports:?}"
    );
}

#[tokio::test]
async fn a_matte_that_is_not_the_one_that_was_kept_is_not_used() {
    let world = World::start().await;
    world.change(|shared| shared.kept_matte = Some(sha256_hex(b"another")));
    world.worker(FRAMES).worker.session().await.unwrap();
    assert!(!world.events().contains(&Event::ReuseMatte));
    let reports = world.reports();
    let [ReportRequest::Failed { reason: FailureReason::InternalError, detail }] = reports.as_slice() else {
        panic!("{reports:?}");
    };
    assert!(detail.contains("matte"), "{detail}");
}

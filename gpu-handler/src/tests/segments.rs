//! Finished segments, by links that the control plane makes.

use super::engine::Script;
use super::world::{Event, On, Twist, World};

fn frames(world: &World) -> u64 {
    world.stored_manifest().output.frames
}

/// G-11: what one attempt stored the next one finds.
#[tokio::test]
async fn a_segment_is_stored_once_and_found_by_the_next_attempt() {
    let world = World::start().await;
    world.change(|shared| shared.segments = true);
    world.worker(Script::Segment).worker.session().await.unwrap();
    assert_eq!(frames(&world), 1);
    let stored: Vec<_> = world.events().into_iter().filter(|event| matches!(event, Event::StoreSegment(_))).collect();
    assert_eq!(stored, [Event::StoreSegment(0)]);
    world.change(|shared| (shared.manifest, shared.report) = (None, None));
    world.enqueue();
    world.worker(Script::Segment).worker.session().await.unwrap();
    assert_eq!(frames(&world), 2);
}

/// G-39: a control plane that has never heard of segments, and one that does not answer for them.
#[tokio::test]
async fn a_job_needs_nobody_to_keep_its_segments() {
    let world = World::start().await;
    world.worker(Script::Segment).worker.session().await.unwrap();
    assert_eq!(frames(&world), 99);
    let world = World::start().await;
    world.change(|shared| shared.segments = true);
    world.twist(On::Segments, Twist::Fail(404));
    world.worker(Script::Segment).worker.session().await.unwrap();
    assert_eq!(frames(&world), 98);
}

//! What one client can take from the others, and for nothing.

use std::sync::Arc;

use rotoless_contract::MilliCredits;
use rotoless_contract::worker::Refusal;
use rotoless_core::policy::Policy;
use rotoless_core::usecase::{CallError, SubmitError};

use super::world::{PRICE, World};

fn limited(most: u32) -> World {
    let mut world = World::new();
    world.policy = Arc::new(Policy { max_open_jobs: most, ..Policy::default() });
    world
}

/// G-36: as many as the operator allows wait or are at work, and each end makes room for one.
#[tokio::test]
async fn a_client_has_no_more_jobs_under_way_than_he_may() {
    let world = limited(3);
    let jobs = [world.created().await, world.created().await, world.created().await];
    let refused = world.create_with("k", "d").await.unwrap_err();
    assert!(matches!(refused, SubmitError::TooManyJobs), "{refused:?}");
    assert_eq!((world.jobs(), world.balance().held), (3, MilliCredits(3 * PRICE.0)));
    // Completed, failed, cancelled: each makes room. Not so a draft, which waits for nobody.
    let claim = world.claimed(&jobs[0]).await;
    assert!(matches!(world.create_with("k", "d").await, Err(SubmitError::TooManyJobs)), "at work is under way");
    let digest = world.finish_work(&claim);
    let _ = world.report_completed(&claim, &digest).await.unwrap();
    let next = world.create_with("k", "d").await.unwrap().job.id;
    assert!(world.create_with("k", "d").await.unwrap().replayed, "what was accepted is not refused");
    world.canceller().cancel(&world.client, &next).await.unwrap();
    let draft = rotoless_contract::api::JobRequest { auto_start: Some(false), ..world.request() };
    let draft = world.submit().create(&world.client, &draft, None, None).await.unwrap().job.id;
    world.created().await;
    let started = world.submit().start(&world.client, &draft, &Default::default()).await;
    assert!(matches!(started, Err(SubmitError::TooManyJobs)), "{started:?}");
    world.canceller().cancel(&world.client, &jobs[1]).await.unwrap();
    world.submit().start(&world.client, &draft, &Default::default()).await.unwrap();
}

/// TA-6: jobs that are cancelled before a worker comes cost no work at all: their messages lead to nothing.
#[tokio::test]
async fn a_loop_of_create_and_cancel_leaves_workers_nothing_to_do() {
    create_and_cancel(1000).await;
}

/// TA-6
#[tokio::test]
#[ignore = "soak"]
async fn ten_thousand_times_create_and_cancel_leave_workers_nothing_to_do() {
    create_and_cancel(10_000).await;
}

async fn create_and_cancel(rounds: u32) {
    let world = World::new();
    for round in 0..rounds {
        let id = world.created().await;
        world.canceller().cancel(&world.client, &id).await.unwrap();
        if round % 100 == 0 {
            let claim = world.try_claim(&id).await.unwrap_err();
            assert!(matches!(claim, CallError::Refused { refusal: Refusal::Terminal, .. }), "{claim:?}");
        }
    }
    assert_eq!((world.balance().held.0, world.balance().used.0), (0, 0));
    assert_eq!(world.sweep().await.seen, 0, "nothing is left to look at");
}

/// TA-6, G-36: who cancels just before the end works for nothing with as many workers at once as he may have jobs, and
/// each of them hears of it with its next heartbeat.
#[tokio::test]
async fn who_cancels_before_the_end_holds_no_more_workers_than_he_may_have_jobs() {
    let world = limited(3);
    for _ in 0..200 {
        let mut at_work = Vec::new();
        while let Ok(created) = world.submit().create(&world.client, &world.request(), None, None).await {
            at_work.push(world.claimed(&created.job.id).await);
        }
        assert_eq!(at_work.len(), 3, "leases at the same time");
        for claim in &at_work {
            world.canceller().cancel(&world.client, &claim.job_id).await.unwrap();
            assert!(world.heartbeat(claim, 89, 90).await.unwrap().cancel);
        }
    }
    assert_eq!((world.balance().held.0, world.balance().used.0), (0, 0));
}

//! What the holder of an attempt says, and what a client's cancel does to it.

use rotoless_contract::worker::{FailureReason, Refusal, ReportRequest};
use rotoless_contract::{JobStatus, MilliCredits};
use rotoless_core::lifecycle::Phase;
use rotoless_core::usecase::{CallError, CancelError};

use super::store::When;
use super::world::{PRICE, World, manifest};

fn refusal<T: std::fmt::Debug>(result: Result<T, CallError>) -> Refusal {
    match result {
        Err(CallError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn failed(reason: FailureReason) -> ReportRequest {
    ReportRequest::Failed { reason, detail: "line one\nline two".to_owned() }
}

/// G-03, G-19, TR-2.
#[tokio::test]
async fn a_report_made_twice_is_answered_twice_and_charged_once() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let digest = world.finish_work(&claim);
    let replies = [
        world.report_completed(&claim, &digest).await.unwrap(),
        world.report_completed(&claim, &digest).await.unwrap(),
    ];
    assert_eq!(replies[0], replies[1]);
    assert!(replies[0].delete_message && replies[0].status == JobStatus::Completed);
    assert_eq!((world.balance().used, world.balance().held.0), (PRICE, 0));
    let kinds: Vec<_> = world.events(&id).into_iter().map(|event| (event.sequence, event.event.as_str())).collect();
    assert_eq!(kinds, [(1, "job.started"), (2, "job.completed")]);
    assert_eq!(refusal(world.report(&claim, &failed(FailureReason::InternalError)).await), Refusal::Contradiction);
}

/// G-19, TR-1, K5.
#[tokio::test]
async fn a_report_whose_answer_was_lost_is_answered_when_it_is_made_again() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let digest = world.finish_work(&claim);
    // Job, manifest, head, attempt, then the commit.
    world.fail_call(4, When::After);
    assert!(matches!(world.report_completed(&claim, &digest).await, Err(CallError::Store(_))));
    assert_eq!(world.report_completed(&claim, &digest).await.unwrap().status, JobStatus::Completed);
    assert_eq!(world.balance().used, PRICE);
}

/// G-19, TR-2.
#[tokio::test]
async fn two_equal_reports_at_the_same_instant_are_charged_once() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let digest = world.finish_work(&claim);
    let quicker = (world.clone(), claim.clone(), digest.clone());
    world.store.intrude(async move {
        let _ = quicker.0.report_completed(&quicker.1, &quicker.2).await.unwrap();
    });
    assert_eq!(world.report_completed(&claim, &digest).await.unwrap().status, JobStatus::Completed);
    assert_eq!(world.balance().used, PRICE);
}

/// G-10, G-19, TR-5, TW-13.
#[tokio::test]
async fn a_report_of_an_old_attempt_changes_nothing() {
    let world = World::new();
    let id = world.created().await;
    let old = world.claimed(&id).await;
    world.pass_lease();
    let new = world.claimed(&id).await;
    let digest = world.finish_work(&old);
    let before = world.job(&id).version;
    assert_eq!(refusal(world.report_completed(&old, &digest).await), Refusal::StaleAttempt);
    assert_eq!(refusal(world.report(&old, &failed(FailureReason::InvalidMedia)).await), Refusal::StaleAttempt);
    assert_eq!(
        refusal(world.report(&old, &ReportRequest::Abandoned { detail: String::new() }).await),
        Refusal::StaleAttempt
    );
    assert_eq!((world.job(&id).version, world.job(&id).state.attempts), (before, new.attempt.get()));
}

/// G-15, TR-9.
#[tokio::test]
async fn a_completion_that_its_manifest_does_not_bear_out_is_refused() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    assert_eq!(refusal(world.report_completed(&claim, "0").await), Refusal::BadManifest, "no manifest");
    let digest = world.put_manifest(&claim, &manifest(&claim, 3000));
    assert_eq!(refusal(world.report_completed(&claim, &digest).await), Refusal::BadManifest, "no output");
    world.upload_output(&claim);
    assert_eq!(refusal(world.report_completed(&claim, &"0".repeat(64)).await), Refusal::BadManifest, "digest");
    assert_eq!((world.balance().used.0, world.job(&id).state.status()), (0, JobStatus::Processing));
    assert_eq!(world.report_completed(&claim, &digest).await.unwrap().status, JobStatus::Completed);
}

#[tokio::test]
async fn an_attempt_cannot_report_the_output_of_another_as_its_own() {
    let world = World::new();
    let id = world.created().await;
    let first = world.claimed(&id).await;
    world.pass_lease();
    let second = world.claimed(&id).await;
    // The first one, thought dead, wrote its manifest after all.
    let digest = world.finish_work(&first);
    assert_eq!(refusal(world.report_completed(&second, &digest).await), Refusal::BadManifest);
    world.pass_lease();
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal, "adopted once the lease has ended");
    assert_eq!(world.balance().used, PRICE);
}

/// G-04, TR-10.
#[tokio::test]
async fn the_charge_follows_the_output_and_never_exceeds_the_hold() {
    for (output_ms, charged) in [(1, 750), (1000, 750), (1001, 1500), (3000, 2250), (3_600_000, 2250)] {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        let digest = world.finish_work_of(&claim, output_ms);
        world.report_completed(&claim, &digest).await.unwrap();
        assert_eq!(world.balance().used, MilliCredits(charged), "{output_ms} ms");
    }
}

/// G-04.
#[tokio::test]
async fn the_hold_follows_the_measured_length() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let reply = world.probed(&claim, 10_500).await.unwrap();
    assert_eq!((reply.paid_seconds, reply.held), (11, MilliCredits(8250)));
    assert_eq!(world.balance().held, MilliCredits(8250));
    // The same measurement again, for instance because the answer was lost.
    assert_eq!(world.probed(&claim, 10_500).await.unwrap().held, MilliCredits(8250));
    // Another one is a contradiction: the source is measured once an attempt.
    assert_eq!(refusal(world.probed(&claim, 2_000).await), Refusal::Contradiction);
    assert_eq!(world.balance().held, MilliCredits(8250));
    // The next attempt measures for itself.
    world.pass_lease();
    let next = world.claimed(&id).await;
    assert_eq!(world.probed(&next, 2_000).await.unwrap().held, MilliCredits(1500));
    assert_eq!(world.balance().held, MilliCredits(1500));
}

#[tokio::test]
async fn a_video_longer_than_the_balance_fails_before_any_work() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let refused = world.probed(&claim, 1_800_000).await;
    assert!(matches!(refused, Err(CallError::InsufficientCredits)), "{refused:?}");
    assert_eq!(world.job(&id).state.phase, Phase::Failed { reason: FailureReason::InsufficientCredits });
    assert_eq!((world.balance().held.0, world.balance().used.0), (0, 0));
    assert_eq!(world.attempt(&id, 1).outcome.as_deref(), Some("insufficient_credits"));
    assert!(world.heartbeat(&claim, 0, 0).await.unwrap().cancel);
}

/// G-12.
#[tokio::test]
async fn a_retryable_failure_is_tried_three_times() {
    let world = World::new();
    let id = world.created().await;
    for n in 1..=3 {
        let claim = world.claimed(&id).await;
        let reply = world.report(&claim, &failed(FailureReason::InternalError)).await.unwrap();
        assert_eq!(reply.delete_message, n == 3);
        let again = world.report(&claim, &failed(FailureReason::InternalError)).await.unwrap();
        assert_eq!(again, reply);
    }
    assert_eq!(world.job(&id).state.phase, Phase::Failed { reason: FailureReason::InternalError });
    assert_eq!(world.balance().held.0, 0);
}

#[tokio::test]
async fn a_failure_that_no_attempt_can_mend_ends_the_job_at_once() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    assert!(world.report(&claim, &failed(FailureReason::InvalidMedia)).await.unwrap().delete_message);
    assert_eq!((world.job(&id).state.status(), world.balance().held.0), (JobStatus::Failed, 0));
    assert_eq!(world.attempt(&id, 1).outcome.as_deref(), Some("invalid_media"));
}

/// G-11.
#[tokio::test]
async fn an_abandoned_attempt_does_not_count() {
    let world = World::new();
    let id = world.created().await;
    for n in 1..=5 {
        let claim = world.claimed(&id).await;
        assert_eq!(claim.attempt.get(), n);
        let reply = world.report(&claim, &ReportRequest::Abandoned { detail: "SIGTERM".to_owned() }).await.unwrap();
        assert_eq!((reply.status, reply.delete_message), (JobStatus::Pending, false));
    }
    assert_eq!(world.job(&id).state.attempts_in_run, 0);
}

/// G-16.
#[tokio::test]
async fn heartbeats_extend_the_lease_and_progress_never_falls() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let mut last = 0;
    for (done, total) in [(10, 90), (45, 90), (20, 90), (0, 0), (90, 90), (900, 90)] {
        world.pass(100);
        assert!(!world.heartbeat(&claim, done, total).await.unwrap().cancel);
        let progress = world.job(&id).state.progress;
        assert!(last <= progress && progress < 100, "{last} then {progress}");
        last = progress;
    }
    assert_eq!(last, 95);
    assert_eq!(world.sweep().await.lapsed, 0);
    world.pass_lease();
    let next = world.claimed(&id).await;
    world.heartbeat(&next, 1, 90).await.unwrap();
    assert_eq!(world.job(&id).state.progress, 95, "nor does a new attempt set it back");
}

/// G-14, TW-11.
#[tokio::test]
async fn a_cancel_that_is_quicker_than_the_completion_wins() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let digest = world.finish_work(&claim);
    let (quicker, job) = (world.clone(), id.clone());
    world.store.intrude(async move {
        quicker.canceller().cancel(&quicker.client, &job).await.unwrap();
    });
    assert_eq!(refusal(world.report_completed(&claim, &digest).await), Refusal::Terminal);
    let job = world.job(&id);
    assert_eq!(job.state.phase, Phase::Failed { reason: FailureReason::Cancelled });
    assert!(job.output.is_none());
    assert_eq!((world.balance().used.0, world.balance().held.0), (0, 0));
    assert!(world.heartbeat(&claim, 1, 2).await.unwrap().cancel);
    assert_eq!(world.attempt(&id, 1).outcome.as_deref(), Some("cancelled"));
}

/// G-14, TW-11.
#[tokio::test]
async fn a_completion_that_is_quicker_than_the_cancel_wins() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let digest = world.finish_work(&claim);
    let quicker = world.clone();
    world.store.intrude(async move {
        let _ = quicker.report_completed(&claim, &digest).await.unwrap();
    });
    let cancelled = world.canceller().cancel(&world.client, &id).await;
    assert!(matches!(cancelled, Err(CancelError::Completed)), "{cancelled:?}");
    assert_eq!((world.job(&id).state.status(), world.balance().used), (JobStatus::Completed, PRICE));
}

#[tokio::test]
async fn a_cancelled_job_is_claimed_by_nobody_and_cancelled_again_by_anybody() {
    let world = World::new();
    let id = world.created().await;
    world.canceller().cancel(&world.client, &id).await.unwrap();
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal);
    let version = world.job(&id).version;
    world.canceller().cancel(&world.client, &id).await.unwrap();
    assert_eq!((world.job(&id).version, world.balance().held.0), (version, 0));
    assert_eq!(world.events(&id).len(), 1);
}

/// G-16, G-19, TR-3: the first one that is valid stands; what comes after it moves nothing.
#[tokio::test]
async fn of_reports_out_of_order_the_first_valid_one_stands() {
    for failed_first in [true, false] {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        let digest = world.finish_work(&claim);
        if failed_first {
            world.report(&claim, &failed(FailureReason::InvalidMedia)).await.unwrap();
            assert_eq!(refusal(world.report_completed(&claim, &digest).await), Refusal::Contradiction);
        } else {
            world.report_completed(&claim, &digest).await.unwrap();
            assert_eq!(
                refusal(world.report(&claim, &failed(FailureReason::InvalidMedia)).await),
                Refusal::Contradiction
            );
        }
        let before = world.job(&id);
        assert!(world.heartbeat(&claim, 1, 90).await.unwrap().cancel, "progress after the end");
        assert_eq!(refusal(world.probed(&claim, 60_000).await), Refusal::Terminal);
        let after = world.job(&id);
        assert_eq!((after.version, after.state.progress), (before.version, before.state.progress));
        let used = if failed_first { MilliCredits(0) } else { PRICE };
        assert_eq!((world.balance().used, world.balance().held.0), (used, 0));
    }
}

/// G-11, G-19, K8, TW-13, TR-1: a worker that slept through another's completion, and wakes.
#[tokio::test]
async fn a_worker_frozen_through_anothers_completion_changes_nothing_when_it_wakes() {
    let world = World::new();
    let id = world.created().await;
    let frozen = world.claimed(&id).await;
    world.pass(600);
    world.sweep().await;
    let other = world.claimed(&id).await;
    let digest = world.finish_work(&other);
    world.report_completed(&other, &digest).await.unwrap();
    let before = world.job(&id);

    assert_eq!(refusal(world.probed(&frozen, 3000).await), Refusal::StaleAttempt);
    assert_eq!(refusal(world.heartbeat(&frozen, 90, 90).await), Refusal::StaleAttempt);
    world.upload_output(&frozen);
    let late = world.put_manifest(&frozen, &manifest(&frozen, 1000));
    assert_eq!(refusal(world.report_completed(&frozen, &late).await), Refusal::StaleAttempt);
    assert_eq!(world.job(&id).version, before.version);
    assert_eq!(world.job(&id).output.unwrap().key, other.output.key);
    assert_eq!(world.balance().used, PRICE);
}

//! What comes of what a worker says: once, however often and however late it is said.

use futures::future::join_all;
use rotoless_contract::JobStatus;
use rotoless_contract::worker::{FailureReason, HeartbeatRequest, ReportRequest, Stage};
use rotoless_core::ports::Books as _;

use crate::world::{PRICE, World};

/// G-03, G-19, TR-2: over the real store, where commits conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_report_five_times_at_once_gets_five_equal_answers_and_one_capture() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let report = world.finish_work(&claim).await;
    let call = world.attempt_call(&claim, "report", &report);
    let replies = join_all((0..5).map(|_| world.send(&call))).await;
    for reply in &replies {
        assert_eq!((reply.status.as_u16(), reply), (200, &replies[0]));
    }
    assert_eq!(replies[0].body["status"], "completed");
    let balance = world.balance().await;
    assert_eq!((balance.used, balance.held.0), (PRICE, 0));
    let rows = world.store.ledger(&"acme".parse().unwrap()).await.unwrap();
    assert_eq!(rows.len(), 3, "granted, held, captured: {rows:?}");
}

/// G-10, TW-2: one message at two workers, at the same instant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_claims_at_once_one_gets_the_lease_and_the_others_are_told_when_to_come_again() {
    let world = World::new().await;
    let id = world.job().await;
    let call = world.claim_call(&id).await;
    let replies = join_all((0..5).map(|_| world.send(&call))).await;
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 4), "{replies:?}");
    for reply in lost {
        assert_eq!(reply.refusal(), (409, "leased"));
        let wait: u32 = reply.retry_after.as_ref().unwrap().parse().unwrap();
        assert!((120..=121).contains(&wait), "{wait}");
    }
    assert_eq!(world.record(&id).await.state.attempts, 1);
}

/// G-19, TR-3, K5, K6: the answers of the table, after the end as well.
#[tokio::test]
async fn a_report_after_the_end_is_answered_as_before_or_refused_and_has_no_effect() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let completed = world.finish_work(&claim).await;
    let first = world.send(&world.attempt_call(&claim, "report", &completed)).await;
    let version = world.record(&id).await.version;
    world.pass(60);
    // The same words signed anew are the same report.
    assert_eq!(world.send(&world.attempt_call(&claim, "report", &completed)).await, first);
    let failed = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: String::new() };
    assert_eq!(world.send(&world.attempt_call(&claim, "report", &failed)).await.refusal(), (409, "contradiction"));
    let beat = HeartbeatRequest::at(Stage::Matte, 1, 10);
    let reply = world.send(&world.attempt_call(&claim, "heartbeat", &beat)).await;
    assert_eq!((reply.status.as_u16(), &reply.body["cancel"]), (200, &serde_json::json!(true)));
    // The message that was not deleted comes again.
    assert_eq!(world.send(&world.claim_call(&id).await).await.refusal(), (409, "terminal"));
    let job = world.record(&id).await;
    assert_eq!((job.version, job.state.status()), (version, JobStatus::Completed));
    assert_eq!(world.balance().await.used, PRICE);
}

/// G-15, TR-9: a digest is not a manifest.
#[tokio::test]
async fn a_completion_without_its_manifest_is_refused_and_the_attempt_goes_on() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    for manifest_sha256 in [String::new(), "0".repeat(64), "../../x".to_owned()] {
        let report = ReportRequest::Completed { manifest_sha256 };
        assert_eq!(world.send(&world.attempt_call(&claim, "report", &report)).await.refusal(), (409, "bad_manifest"));
    }
    assert_eq!(world.balance().await.used.0, 0);
    let report = world.finish_work(&claim).await;
    assert_eq!(world.send(&world.attempt_call(&claim, "report", &report)).await.status, 200);
}

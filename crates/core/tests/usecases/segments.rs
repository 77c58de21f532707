//! Finished segments: seen by the attempts of their run, by nobody else, and gone with the run.

use bytes::Bytes;
use rotoless_contract::manifest::segment_key;
use rotoless_contract::worker::{ClaimReply, FailureReason, Refusal, ReportRequest, SegmentsReply, SegmentsRequest};
use rotoless_core::usecase::CallError;

use super::store::Call;
use super::world::World;

const PLAN: &str = "0123456789abcdef0123456789abcdef";

fn request(read: Option<u32>, write: Option<u32>) -> SegmentsRequest {
    SegmentsRequest { plan: PLAN.to_owned(), read, write }
}

impl World {
    async fn segments(&self, claim: &ClaimReply, request: &SegmentsRequest) -> Result<SegmentsReply, CallError> {
        self.calls().segments(&claim.job_id, claim.attempt, request).await
    }

    fn store_segment(&self, claim: &ClaimReply, index: u32) {
        let key = segment_key(&claim.job_id, claim.run, PLAN, index);
        self.store.tables().objects.insert(key, Bytes::from_static(b"a segment"));
    }

    fn stored_segments(&self) -> usize {
        self.store.tables().objects.keys().filter(|key| key.starts_with("segments/")).count()
    }
}

/// G-11: what an attempt that died has finished is there for the next one.
#[tokio::test]
async fn the_next_attempt_of_a_run_sees_what_the_last_one_finished() {
    let world = World::new();
    let id = world.created().await;
    let first = world.claimed(&id).await;
    assert_eq!(first.segments.unwrap().seconds, 10);
    let reply = world.segments(&first, &request(Some(0), Some(0))).await.unwrap();
    assert!(reply.finished.is_empty() && reply.read.is_none());
    assert_eq!(reply.write.unwrap().key, segment_key(&id, first.run, PLAN, 0));
    for index in [0, 2, 11] {
        world.store_segment(&first, index);
    }
    world.pass_lease();
    let second = world.claimed(&id).await;
    let reply = world.segments(&second, &request(Some(11), None)).await.unwrap();
    assert_eq!(reply.finished, [0, 2, 11]);
    assert_eq!(reply.read.unwrap().size_bytes, 9);
    assert!(reply.write.is_none());
    let other = SegmentsRequest { plan: PLAN.replace('0', "1"), ..request(Some(0), None) };
    let reply = world.segments(&second, &other).await.unwrap();
    assert!(reply.finished.is_empty() && reply.read.is_none(), "segments of another plan are shown");
}

/// G-10, G-18: neither who was overtaken nor whose job has ended.
#[tokio::test]
async fn a_stale_attempt_gets_no_segment_and_no_link() {
    let world = World::new();
    let id = world.created().await;
    let old = world.claimed(&id).await;
    world.pass_lease();
    let new = world.claimed(&id).await;
    let refused = world.segments(&old, &request(None, Some(1))).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused { refusal: Refusal::StaleAttempt, .. }), "{refused:?}");
    world.canceller().cancel(&world.client, &id).await.unwrap();
    let refused = world.segments(&new, &request(None, Some(1))).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused { refusal: Refusal::Terminal, .. }), "{refused:?}");
}

/// G-30: a plan's name becomes part of an object's.
#[tokio::test]
async fn a_plan_that_would_lead_elsewhere_is_refused() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    for plan in ["", "../../../uploads", "0123456789ABCDEF0123456789ABCDEF", "0123456789abcdef0123456789abcde/"] {
        let refused =
            world.segments(&claim, &SegmentsRequest { plan: plan.to_owned(), ..request(None, Some(0)) }).await;
        assert!(matches!(refused, Err(CallError::Implausible(_))), "{plan}: {refused:?}");
    }
    let refused = world.segments(&claim, &request(None, Some(1000))).await;
    assert!(matches!(refused, Err(CallError::Implausible(_))), "{refused:?}");
}

/// G-41: they are copies of a client's video.
#[tokio::test]
async fn segments_go_when_their_run_ends() {
    for completes in [true, false] {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        world.probed(&claim, 25_000).await.unwrap();
        world.store_segment(&claim, 0);
        if completes {
            let digest = world.finish_work_of(&claim, 25_000);
            world.report_completed(&claim, &digest).await.unwrap();
        } else {
            let report = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: String::new() };
            world.report(&claim, &report).await.unwrap();
        }
        assert_eq!(world.stored_segments(), 0, "completes: {completes}");
    }
}

/// G-41: of a job that was cancelled nobody removes them before, but the bucket's lifecycle.
#[tokio::test]
async fn segments_go_with_their_job() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.store_segment(&claim, 0);
    world.deleter().delete(&world.client, &id).await.unwrap();
    assert_eq!(world.stored_segments(), 0);
}

/// G-11: a failure that another attempt may mend keeps them.
#[tokio::test]
async fn segments_stay_while_another_attempt_may_come() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.probed(&claim, 25_000).await.unwrap();
    world.store_segment(&claim, 0);
    let report = ReportRequest::Failed { reason: FailureReason::TimedOut, detail: String::new() };
    world.report(&claim, &report).await.unwrap();
    assert_eq!(world.stored_segments(), 1);
}

/// G-03: the report has counted by then.
#[tokio::test]
async fn segments_that_cannot_be_removed_do_not_fail_the_report() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.probed(&claim, 25_000).await.unwrap();
    let digest = world.finish_work_of(&claim, 25_000);
    world.down(Call::DeletePrefix);
    assert!(world.report_completed(&claim, &digest).await.unwrap().delete_message);
}

//! Heartbeats: each counts once, and fresh links go to whoever holds the attempt and asks.

use rotoless_contract::worker::{ClaimReply, HeartbeatReply, HeartbeatRequest, Refusal, Stage};
use rotoless_contract::{JobId, JobStatus};
use rotoless_core::usecase::CallError;

use super::store::{Call, When};
use super::world::World;

impl World {
    async fn beat(&self, claim: &ClaimReply, seq: u64, stage: Stage) -> Result<HeartbeatReply, CallError> {
        let beat = HeartbeatRequest { seq: Some(seq), fresh_links: true, ..HeartbeatRequest::at(stage, 1, 90) };
        self.calls().heartbeat(&claim.job_id, claim.attempt, &beat).await
    }

    fn presigned(&self) -> usize {
        self.store.tables().calls.iter().filter(|call| **call == Call::Presign).count()
    }

    async fn at_work(&self) -> (JobId, ClaimReply) {
        let id = self.created().await;
        let claim = self.claimed(&id).await;
        (id, claim)
    }
}

/// TW-9: to the same objects as the claim's; to the source only while it may still be fetched.
#[tokio::test]
async fn fresh_links_lead_where_the_claims_did() {
    let world = World::new();
    let (_, claim) = world.at_work().await;
    assert!(claim.links_last_seconds.is_some_and(|seconds| (600..=3600).contains(&seconds)));
    let links = world.beat(&claim, 1, Stage::Download).await.unwrap().links.unwrap();
    assert_eq!((&links.output.key, &links.manifest.key), (&claim.output.key, &claim.manifest.key));
    assert_eq!(links.input.unwrap().size_bytes, claim.input.size_bytes);
    assert!(links.background.is_none());
    for (seq, stage) in [(2, Stage::Probe), (3, Stage::Matte), (4, Stage::Verify), (5, Stage::Upload)] {
        let links = world.beat(&claim, seq, stage).await.unwrap().links.unwrap();
        assert!(links.input.is_none() && links.background.is_none(), "{stage}");
        assert!(links.last_seconds >= 900);
    }
    let unasked = HeartbeatRequest { seq: Some(6), ..HeartbeatRequest::at(Stage::Upload, 1, 90) };
    assert!(world.calls().heartbeat(&claim.job_id, claim.attempt, &unasked).await.unwrap().links.is_none());
}

/// TW-9, G-18: an attempt that was overtaken, cancelled, or that counts no heartbeats gets none.
#[tokio::test]
async fn links_are_made_for_the_holder_of_the_attempt_and_for_nobody_else() {
    let world = World::new();
    let (id, old) = world.at_work().await;
    world.pass_lease();
    let new = world.claimed(&id).await;
    let made = world.presigned();
    let refused = world.beat(&old, 99, Stage::Download).await.unwrap_err();
    assert!(matches!(refused, CallError::Refused { refusal: Refusal::StaleAttempt, .. }), "{refused:?}");
    let uncounted = HeartbeatRequest { fresh_links: true, ..HeartbeatRequest::at(Stage::Download, 0, 0) };
    assert!(world.calls().heartbeat(&id, new.attempt, &uncounted).await.unwrap().links.is_none());
    world.canceller().cancel(&world.client, &id).await.unwrap();
    let told = world.beat(&new, 1, Stage::Download).await.unwrap();
    assert!(told.cancel && told.links.is_none());
    assert_eq!(world.presigned(), made, "nothing was signed for any of them");
}

/// G-19, G-18: what the store has seen revives no ended lease and gets no link, however fresh its signature is.
#[tokio::test]
async fn a_heartbeat_that_is_replayed_extends_nothing_and_gets_no_links() {
    let world = World::new();
    let (id, claim) = world.at_work().await;
    assert!(world.beat(&claim, 5, Stage::Download).await.unwrap().links.is_some());
    let (made, version) = (world.presigned(), world.job(&id).version);
    world.pass(100);
    for seq in [5, 4, 1, 0] {
        let told = world.beat(&claim, seq, Stage::Upload).await.unwrap();
        assert_eq!((told.cancel, told.lease_seconds, told.links.is_none()), (false, 20, true), "{seq}");
    }
    let uncounted = HeartbeatRequest { fresh_links: true, ..HeartbeatRequest::at(Stage::Download, 0, 0) };
    let told = world.calls().heartbeat(&id, claim.attempt, &uncounted).await.unwrap();
    assert_eq!((told.lease_seconds, told.links.is_none()), (20, true), "who counts does not stop to count");
    world.pass(21);
    assert_eq!(world.beat(&claim, 5, Stage::Upload).await.unwrap().lease_seconds, 0);
    assert_eq!((world.job(&id).version, world.presigned()), (version, made));
    assert_eq!(world.sweep().await.lapsed, 1, "the lease has ended");
    // The next attempt counts from the beginning.
    let next = world.claimed(&id).await;
    assert_eq!(world.beat(&next, 1, Stage::Download).await.unwrap().lease_seconds, 120);
}

/// G-19: a word of the worker's that was not heard yet still counts, if nobody took the job meanwhile.
#[tokio::test]
async fn a_heartbeat_that_is_late_and_new_keeps_a_lease_that_nobody_took() {
    let world = World::new();
    let (id, claim) = world.at_work().await;
    world.beat(&claim, 1, Stage::Matte).await.unwrap();
    world.pass_lease();
    assert_eq!(world.beat(&claim, 2, Stage::Matte).await.unwrap().lease_seconds, 120);
    assert_eq!(world.sweep().await.lapsed, 0);
    assert_eq!(world.job(&id).state.status(), JobStatus::Processing);
}

/// TW-9: a fault at any call of it, before or after its effect: asked again, with the next number, it is answered.
#[tokio::test]
async fn links_whose_answer_was_lost_are_given_when_they_are_asked_for_again() {
    for when in [When::Before, When::After] {
        for nth in 0..5 {
            let world = World::new();
            let (_, claim) = world.at_work().await;
            world.fail_call(nth, when);
            assert!(world.beat(&claim, 1, Stage::Download).await.is_err(), "call {nth}");
            assert!(world.beat(&claim, 2, Stage::Download).await.unwrap().links.is_some(), "call {nth}");
        }
    }
}

/// G-19: the same heartbeat twice at the same instant: one is answered with links.
#[tokio::test]
async fn of_two_equal_heartbeats_at_the_same_instant_one_gets_the_links() {
    let world = World::new();
    let (_, claim) = world.at_work().await;
    let (quicker, same) = (world.clone(), claim.clone());
    world.store.intrude(async move {
        assert!(quicker.beat(&same, 1, Stage::Matte).await.unwrap().links.is_some());
    });
    let told = world.beat(&claim, 1, Stage::Matte).await.unwrap();
    assert_eq!((told.links.is_none(), told.lease_seconds), (true, 120));
}

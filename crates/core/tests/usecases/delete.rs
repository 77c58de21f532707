//! Deletion: marked first, so that a crash at any call leaves a job that the sweep finishes.

use rotoless_core::lifecycle::Phase;
use rotoless_core::usecase::{Delete, DeleteError, SubmitError};

use super::store::{Call, When};
use super::world::World;

impl World {
    pub(super) fn deleter(&self) -> Delete {
        Delete {
            jobs: self.store.clone(),
            objects: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
        }
    }

    fn objects(&self) -> usize {
        self.store.tables().objects.len()
    }
}

/// G-41: whichever call is the last that this process makes.
#[tokio::test]
async fn a_deletion_that_a_crash_interrupts_is_finished_by_the_sweep() {
    for when in [When::Before, When::After] {
        for n in 0..6 {
            let world = World::new();
            let id = world.created().await;
            let claim = world.claimed(&id).await;
            let digest = world.finish_work(&claim);
            world.report_completed(&claim, &digest).await.unwrap();
            world.fail_call(n, when);
            let deleted = world.deleter().delete(&world.client, &id).await;
            if deleted.is_err() && world.job(&id).deletion.is_none() {
                assert!(world.objects() > 0, "nothing happened, so nothing is gone");
                continue;
            }
            world.pass(1);
            world.sweep().await;
            assert_eq!(world.objects(), 0, "call {n} {when:?}");
            let job = world.job(&id);
            assert!(job.deletion.unwrap().media_removed && job.metadata.is_none() && job.webhook_url.is_none());
            assert!(matches!(job.state.phase, Phase::Completed), "what was paid stays paid");
        }
    }
}

/// A worker's link outlives the deletion: what it writes then is removed by a later look, and then nothing is due.
#[tokio::test]
async fn what_a_worker_writes_after_the_deletion_is_removed_too() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.deleter().delete(&world.client, &id).await.unwrap();
    assert_eq!(world.balance().held.0, 0);
    assert!(world.heartbeat(&claim, 1, 90).await.unwrap().cancel);
    world.upload_output(&claim);
    world.pass(3 * 3600);
    assert_eq!(world.sweep().await.erased, 1);
    assert_eq!((world.objects(), world.job(&id).due_at), (0, None));
    assert_eq!(world.sweep().await.seen, 0);
}

#[tokio::test]
async fn a_job_is_deleted_once_by_its_owner_alone_and_nothing_begins_again() {
    let world = World::new();
    let id = world.created().await;
    let stranger = world.other_client();
    assert!(matches!(stranger.deleter().delete(&stranger.client, &id).await, Err(DeleteError::UnknownJob)));
    world.deleter().delete(&world.client, &id).await.unwrap();
    assert!(matches!(world.deleter().delete(&world.client, &id).await, Err(DeleteError::UnknownJob)));
    let start = world.submit().start(&world.client, &id, &world.request()).await;
    assert!(start.is_err());
    assert!(world.try_claim_with("anything", &id).await.is_err());
    assert_eq!((world.events(&id).len(), world.job(&id).due_at), (0, None));
}

/// The store is away for the media: the client is answered, and the sweep comes again until they are gone.
#[tokio::test]
async fn a_store_that_is_away_delays_the_removal_and_loses_nothing() {
    let world = World::new();
    let id = world.created().await;
    world.down(Call::DeletePrefix);
    world.deleter().delete(&world.client, &id).await.unwrap();
    assert_eq!(world.sweep().await.failed, 1);
    world.all_up();
    world.pass(15);
    assert_eq!((world.sweep().await.erased, world.objects()), (1, 0));
}

/// G-41: an upload goes with the last job that needs it. No index is asked, so that none can be behind.
#[tokio::test]
async fn an_upload_goes_with_the_last_job_that_needs_it() {
    let world = World::new();
    let (first, second) = (world.created().await, world.created().await);
    world.deleter().delete(&world.client, &first).await.unwrap();
    assert_eq!(world.objects(), 1, "the second needs it");
    world.deleter().delete(&world.client, &second).await.unwrap();
    assert_eq!(world.objects(), 0);
    let late = world.submit().create(&world.client, &world.request(), None, None).await.unwrap_err();
    assert!(matches!(&late, SubmitError::Invalid(invalid) if invalid.reason == Some("upload_not_found")), "{late:?}");
}

/// G-41, G-08: a job is accepted, and then its upload is there; or the upload goes, and then no job is accepted.
#[tokio::test]
async fn a_create_and_a_deletion_at_the_same_instant_leave_no_job_without_its_upload() {
    // The deletion is quicker: between the look at the upload and the commit.
    let world = World::new();
    let first = world.created().await;
    let (quicker, id) = (world.clone(), first.clone());
    world.store.intrude(async move { quicker.deleter().delete(&quicker.client, &id).await.unwrap() });
    let late = world.submit().create(&world.client, &world.request(), None, None).await.unwrap_err();
    assert!(matches!(late, SubmitError::Invalid(_)), "{late:?}");
    assert_eq!((world.jobs(), world.balance().held.0, world.objects()), (1, 0, 0));
    // The create is quicker: just before the mark.
    let world = World::new();
    let first = world.created().await;
    let quicker = world.clone();
    world.store.intrude(async move {
        quicker.created().await;
    });
    world.deleter().delete(&world.client, &first).await.unwrap();
    assert_eq!((world.jobs(), world.objects()), (2, 1));
}

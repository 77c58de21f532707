//! Indexes that lag behind: what is due is looked for in a copy that is behind the rows, or ahead of what is left to
//! do. The rows count.

use std::sync::Arc;

use rotoless_contract::JobStatus;
use rotoless_contract::job::EventState;
use rotoless_core::usecase::{Delivered, Swept};

use super::receiver::{Receiver, status};
use super::store::Indexed;
use super::world::{PRICE, World};

impl World {
    fn indexed(&self) -> Indexed {
        let tables = self.store.tables();
        Indexed { jobs: tables.jobs.clone(), deliveries: tables.deliveries.clone() }
    }

    fn show(&self, stale: Option<Indexed>) {
        self.store.tables().stale = stale;
    }
}

/// G-03, G-12: each state that the index may still show, against each that the job has reached since.
#[tokio::test]
async fn a_sweep_that_sees_the_past_repairs_nothing_that_is_well() {
    let world = World::new();
    let mut past = Vec::new();
    let id = world.created().await;
    past.push(world.indexed());
    let claim = world.claimed(&id).await;
    past.push(world.indexed());
    let _ = world.heartbeat(&claim, 45, 90).await.unwrap();
    past.push(world.indexed());
    let digest = world.finish_work(&claim);
    world.report_completed(&claim, &digest).await.unwrap();
    let version = world.job(&id).version;
    // Everything that was ever due is due now.
    world.pass(24 * 3600);
    for stale in past {
        world.show(Some(stale));
        assert_eq!(world.sweep().await, Swept { seen: 1, ..Swept::default() });
    }
    let job = world.job(&id);
    assert_eq!((job.state.status(), job.version, world.messages()), (JobStatus::Completed, version, 1));
    assert_eq!((world.balance().used, world.balance().held.0), (PRICE, 0));
}

/// G-05, G-17: what the index does not show yet is repaired once it does.
#[tokio::test]
async fn a_job_that_the_index_does_not_show_yet_is_found_when_it_does() {
    let world = World::new();
    let nothing = world.indexed();
    let id = world.created().await;
    world.claimed(&id).await;
    world.pass_lease();
    world.show(Some(nothing));
    assert_eq!(world.sweep().await, Swept::default());
    world.show(None);
    assert_eq!(world.sweep().await.lapsed, 1);
    // Behind again: the job looks as if its lease had ended a second time.
    let lapsed = world.indexed();
    world.claimed(&id).await;
    world.show(Some(lapsed));
    world.pass(60);
    assert_eq!(world.sweep().await.lapsed, 0);
    assert_eq!(world.job(&id).state.status(), JobStatus::Processing);
}

/// G-21, TD-11: an event that was sent is not sent again because the index still shows it due.
#[tokio::test]
async fn an_event_that_the_index_shows_due_although_it_was_sent_is_not_sent_again() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    let due = world.indexed();
    let receiver = Arc::new(Receiver::new(&world, [], status(200)));
    assert_eq!(world.deliver(receiver.clone()).tick().await.unwrap().sent, 1);
    world.show(Some(due));
    world.pass(3600);
    assert_eq!(world.deliver(receiver.clone()).tick().await.unwrap(), Delivered::default());
    assert_eq!((receiver.seen().len(), world.events(&id)[0].state), (1, EventState::Sent));
}

//! Every call of every use case on the way of one job, failed once before and once after it did its work.

use rotoless_contract::worker::Refusal;
use rotoless_contract::{JobId, JobStatus};
use rotoless_core::lifecycle::Phase;
use rotoless_core::usecase::CallError;

use super::store::When;
use super::world::{PRICE, World};

/// A client and a worker that do the same thing again until they are answered, and a sweep once a minute.
async fn live(world: &World) -> JobId {
    let mut created = None;
    for _ in 0..4 {
        if let Ok(done) = world.create_with("k", "d").await {
            created = Some(done.job.id);
            break;
        }
    }
    let id = created.expect("created");
    for _minute in 0..30 {
        work(world, &id).await;
        if world.job(&id).state.status().is_terminal() {
            return id;
        }
        world.pass(60);
        let _ = world.sweeper().tick().await;
    }
    panic!("no end: {:?}", world.job(&id));
}

/// One message received: what a worker makes of it. Errors leave the message, as a crash would.
pub(super) async fn work(world: &World, id: &JobId) {
    if !matches!(world.job(id).state.phase, Phase::Pending | Phase::Processing { .. }) || world.messages() == 0 {
        return;
    }
    let Ok(claim) = world.try_claim(id).await else { return };
    if world.probed(&claim, 3000).await.is_err() && world.probed(&claim, 3000).await.is_err() {
        return;
    }
    let _ = world.heartbeat(&claim, 45, 90).await;
    let digest = world.finish_work(&claim);
    for _ in 0..2 {
        match world.report_completed(&claim, &digest).await {
            Ok(_) | Err(CallError::Refused { .. }) => return,
            Err(_) => {}
        }
    }
}

/// G-01, G-03, G-06, G-08, G-11, P0–P3, K1, K3–K6.
#[tokio::test]
async fn one_fault_anywhere_delays_a_job_and_neither_loses_nor_doubles_it() {
    for when in [When::Before, When::After] {
        for nth in 0.. {
            let world = World::new();
            world.fail_call(nth, when);
            let id = live(&world).await;
            let job = world.job(&id);
            assert_eq!(job.state.status(), JobStatus::Completed, "call {nth} {when:?}");
            assert_eq!((world.balance().used, world.balance().held.0), (PRICE, 0), "call {nth} {when:?}");
            assert_eq!(world.jobs(), 1, "call {nth} {when:?}");
            let kinds: Vec<_> = world.events(&id).into_iter().map(|event| event.event.as_str()).collect();
            assert_eq!(kinds, ["job.started", "job.completed"], "call {nth} {when:?}");
            if world.store.tables().calls.len() <= nth {
                assert!(nth > 15, "the way of a job is longer than {nth} calls");
                break;
            }
        }
    }
}

/// G-01, G-03, G-06, G-08, G-11, TW-1: two faults, wherever they are.
#[tokio::test]
async fn two_faults_anywhere_delay_a_job_and_neither_lose_nor_double_it() {
    let pairs = [When::Before, When::After].map(|one| [When::Before, When::After].map(|two| (one, two)));
    for (one, two) in pairs.into_iter().flatten() {
        for first in 0.. {
            let mut fired = false;
            for second in first + 1.. {
                let world = World::new();
                world.fail_call(first, one);
                world.fail_call(second, two);
                let id = live(&world).await;
                let what = format!("calls {first} {one:?} and {second} {two:?}");
                assert_eq!(world.job(&id).state.status(), JobStatus::Completed, "{what}");
                assert_eq!((world.balance().used, world.balance().held.0), (PRICE, 0), "{what}");
                assert_eq!(world.jobs(), 1, "{what}");
                if world.store.tables().calls.len() <= second {
                    break;
                }
                fired = true;
            }
            if !fired {
                break;
            }
        }
    }
}

/// The same for a worker that dies with its manifest written, on its last attempt, and a sweep that is cut short.
#[tokio::test]
async fn one_fault_anywhere_in_the_sweep_neither_loses_finished_work_nor_charges_it_twice() {
    for when in [When::Before, When::After] {
        for nth in 0.. {
            let world = World::new();
            let id = world.created().await;
            for _ in 0..2 {
                world.claimed(&id).await;
                world.pass_lease();
                world.sweep().await;
            }
            let claim = world.claimed(&id).await;
            world.finish_work(&claim);
            world.pass_lease();
            let before = world.store.tables().calls.len();
            world.fail_call(nth, when);
            let _ = world.sweeper().tick().await;
            world.pass(60);
            let _ = world.sweeper().tick().await;
            assert_eq!(world.job(&id).state.status(), JobStatus::Completed, "call {nth} {when:?}");
            assert_eq!((world.balance().used, world.balance().held.0), (PRICE, 0), "call {nth} {when:?}");
            if world.store.tables().calls.len() <= before + nth {
                break;
            }
        }
    }
}

/// G-12: workers that die wherever they like use up three attempts and no more.
#[tokio::test]
async fn a_job_whose_every_worker_dies_ends_after_three_attempts() {
    let world = World::new();
    let id = world.created().await;
    for _minute in 0..60 {
        match world.try_claim(&id).await {
            Ok(_) | Err(CallError::Refused { refusal: Refusal::Leased | Refusal::Terminal, .. }) => {}
            other => panic!("{other:?}"),
        }
        world.pass(60);
        world.sweep().await;
    }
    let job = world.job(&id);
    assert_eq!((job.state.status(), job.state.attempts), (JobStatus::Failed, 3));
}

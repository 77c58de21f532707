//! The sweep: what a crash left is repaired from what is stored, however often and however late it looks.

use rotoless_contract::api::JobRequest;
use rotoless_contract::worker::{FailureReason, ReportRequest};
use rotoless_contract::{JobStatus, MilliCredits};
use rotoless_core::lifecycle::Phase;
use rotoless_core::ports::{Accounts as _, Clock};
use rotoless_core::usecase::Swept;

use super::store::{Call, When};
use super::world::{PRICE, World};

const DAY: i64 = 24 * 3600;

/// G-11, TW-3.
#[tokio::test]
async fn a_lapsed_lease_goes_back_to_the_queue() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    world.pass_lease();
    assert_eq!(world.sweep().await, Swept { seen: 1, lapsed: 1, resent: 1, ..Swept::default() });
    assert_eq!((world.job(&id).state.status(), world.messages()), (JobStatus::Pending, 2));
    assert_eq!(world.attempt(&id, 1).outcome.as_deref(), Some("lapsed"));
    assert_eq!(world.sweep().await, Swept::default(), "a second look finds nothing to do");
    assert_eq!(world.claimed(&id).await.attempt.get(), 2);
}

#[tokio::test]
async fn a_live_lease_is_left_alone() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    world.pass(119);
    assert_eq!(world.sweep().await, Swept::default());
}

/// G-05, G-12.
#[tokio::test]
async fn the_third_lapse_fails_the_job_and_gives_its_credits_back() {
    let world = World::new();
    let id = world.created().await;
    for _ in 0..3 {
        world.claimed(&id).await;
        world.pass_lease();
        world.sweep().await;
    }
    assert_eq!(world.job(&id).state.phase, Phase::Failed { reason: FailureReason::WorkerLost });
    assert_eq!((world.balance().held.0, world.balance().used.0), (0, 0));
    assert_eq!(world.messages(), 3, "no message for a job that has ended");
    assert_eq!(world.events(&id).last().unwrap().event.as_str(), "job.failed");
}

/// G-12, K7.
#[tokio::test]
async fn a_lapsed_lease_with_a_valid_manifest_completes_the_job_and_charges_once() {
    for attempts_before in 0..=2 {
        let world = World::new();
        let id = world.created().await;
        for _ in 0..attempts_before {
            world.claimed(&id).await;
            world.pass_lease();
            world.sweep().await;
        }
        let claim = world.claimed(&id).await;
        let digest = world.finish_work(&claim);
        world.pass_lease();
        assert_eq!(world.sweep().await, Swept { seen: 1, adopted: 1, ..Swept::default() });
        assert_eq!((world.job(&id).state.status(), world.balance().used), (JobStatus::Completed, PRICE));
        // The worker was only slow: its report is of no effect.
        assert!(world.report_completed(&claim, &digest).await.is_err());
        assert_eq!(world.sweep().await, Swept::default());
    }
}

#[tokio::test]
async fn a_pending_job_whose_earlier_attempt_had_finished_is_completed() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.finish_work(&claim);
    let reason = FailureReason::InternalError;
    world.report(&claim, &ReportRequest::Failed { reason, detail: String::new() }).await.unwrap();
    assert_eq!(world.job(&id).state.status(), JobStatus::Pending);
    world.pass(20 * 60);
    assert_eq!(world.sweep().await.adopted, 1);
    assert_eq!(world.balance().used, PRICE);
}

/// G-05, TS-13.
#[tokio::test]
async fn a_job_that_nobody_takes_expires_after_a_day_and_gives_its_credits_back() {
    let world = World::new();
    let id = world.created().await;
    world.pass(DAY - 1);
    assert_eq!(world.sweep().await.expired, 0);
    world.pass(1);
    assert_eq!(world.sweep().await, Swept { seen: 1, expired: 1, ..Swept::default() });
    assert_eq!(world.job(&id).state.phase, Phase::Failed { reason: FailureReason::Expired });
    assert_eq!(world.balance().held.0, 0);
}

#[tokio::test]
async fn a_job_that_is_worked_on_for_a_day_expires_too() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    for _ in 1..DAY / 100 {
        world.pass(100);
        world.heartbeat(&claim, 0, 0).await.unwrap();
        assert_eq!(world.sweep().await.expired, 0);
    }
    world.pass(100);
    assert_eq!(world.sweep().await.expired, 1);
    assert!(world.heartbeat(&claim, 0, 0).await.unwrap().cancel);
    assert_eq!(world.attempt(&id, 1).outcome.as_deref(), Some("expired"));
}

/// G-12: money right, and work not thrown away either.
#[tokio::test]
async fn a_sweep_that_slept_for_days_still_finds_finished_work_before_it_expires_the_job() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.finish_work(&claim);
    world.pass(3 * DAY);
    assert_eq!(world.sweep().await, Swept { seen: 1, adopted: 1, ..Swept::default() });
    assert_eq!((world.job(&id).state.status(), world.balance().used), (JobStatus::Completed, PRICE));
}

/// G-05: not even an object store that is down keeps a hold open.
#[tokio::test]
async fn a_job_expires_although_its_manifest_cannot_be_looked_for() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    world.down(Call::Read);
    world.pass(DAY);
    assert_eq!(world.sweep().await.expired, 1);
    assert_eq!((world.job(&id).state.status(), world.balance().held.0), (JobStatus::Failed, 0));
}

#[tokio::test]
async fn a_draft_expires_after_a_day() {
    let world = World::new();
    let request = JobRequest { auto_start: Some(false), ..world.request() };
    let id = world.submit().create(&world.client, &request, None, None).await.unwrap().job.id;
    world.pass(DAY);
    assert_eq!(world.sweep().await.expired, 1);
    assert_eq!(world.job(&id).state.status(), JobStatus::Failed);
}

/// TO-3.
#[tokio::test]
async fn two_sweeps_at_once_repair_once() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.finish_work(&claim);
    world.pass_lease();
    let quicker = world.clone();
    world.store.intrude(async move { assert_eq!(quicker.sweep().await.adopted, 1) });
    assert_eq!(world.sweep().await, Swept { seen: 1, ..Swept::default() });
    assert_eq!(world.balance().used, PRICE);

    let other = world.created().await;
    world.claimed(&other).await;
    world.pass_lease();
    let quicker = world.clone();
    world.store.intrude(async move { assert_eq!(quicker.sweep().await.lapsed, 1) });
    assert_eq!(world.sweep().await.lapsed, 0);
    assert_eq!(world.job(&other).state.attempts_in_run, 1);
    assert_eq!(world.job(&id).state.status(), JobStatus::Completed);
}

#[tokio::test]
async fn a_heartbeat_that_is_quicker_than_the_sweep_saves_its_lease() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    world.pass_lease();
    let (quicker, beat) = (world.clone(), claim.clone());
    world.store.intrude(async move {
        let _ = quicker.heartbeat(&beat, 1, 2).await.unwrap();
    });
    assert_eq!(world.sweep().await.lapsed, 0);
    assert!(!world.heartbeat(&claim, 2, 2).await.unwrap().cancel);
}

/// G-17: a crash, or a queue that is down, between the end of a lease and the new message.
#[tokio::test]
async fn a_lapsed_job_whose_message_could_not_be_sent_gets_it_half_a_minute_later() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    world.pass_lease();
    world.down(Call::Send);
    let swept = world.sweep().await;
    assert_eq!((swept.lapsed, swept.failed, world.messages()), (1, 1, 1));
    world.all_up();
    world.pass(30);
    assert_eq!(world.sweep().await.resent, 1);
    assert_eq!(world.job(&id).state.status(), JobStatus::Pending);
}

/// G-17.
#[tokio::test]
async fn a_message_that_the_queue_lost_is_sent_again_ever_more_rarely() {
    let world = World::new();
    let id = world.created().await;
    let mut at_minutes = Vec::new();
    for minute in 1..24 * 60 {
        world.pass(60);
        if world.sweep().await.resent == 1 {
            at_minutes.push(minute);
        }
    }
    assert_eq!(at_minutes, [10, 30, 70, 150, 310, 630, 1270]);
    assert_eq!(world.job(&id).state.status(), JobStatus::Pending);
}

#[tokio::test]
async fn a_job_that_cannot_be_repaired_does_not_keep_the_others_waiting() {
    let world = World::new();
    let first = world.created().await;
    world.claimed(&first).await;
    world.pass(1);
    let second = world.created().await;
    world.claimed(&second).await;
    world.pass_lease();
    // Due, the first job: its reading fails.
    world.fail_call(1, When::Before);
    let swept = world.sweep().await;
    assert_eq!((swept.seen, swept.failed, swept.lapsed), (2, 1, 1));
    assert_eq!(world.sweep().await.lapsed, 1);
}

/// More jobs than a sweep asks for at a time, which cannot be repaired, and behind them one that can.
async fn poisoned(rows: bool) -> (World, Vec<rotoless_contract::JobId>, rotoless_contract::JobId) {
    let world = World::new();
    let granted = MilliCredits(1_000_000);
    world.store.grant(&world.client, "more", granted, None, Clock::now(&*world.clock)).await.unwrap();
    let mut bad = Vec::new();
    for _ in 0..250 {
        let id = world.submit().create(&world.client, &cheap(&world), None, None).await.unwrap().job.id;
        let claim = world.claimed(&id).await;
        let poison = if rows { id.to_string() } else { claim.manifest.key };
        world.store.tables().poisoned.insert(poison);
        bad.push(id);
    }
    world.pass(1);
    let good = world.created().await;
    world.claimed(&good).await;
    world.pass_lease();
    (world, bad, good)
}

/// One second.
fn cheap(world: &World) -> JobRequest {
    world.store.tables().header_ms = Some(100);
    world.request()
}

/// G-05, G-17, TO-3: those that cannot even be written are passed over, at every tick.
#[tokio::test]
async fn jobs_that_cannot_be_read_however_many_do_not_keep_the_others_waiting() {
    let (world, _, good) = poisoned(true).await;
    let swept = world.sweep().await;
    assert_eq!((swept.seen, swept.failed, swept.lapsed), (251, 250, 1));
    assert_eq!(world.job(&good).state.status(), JobStatus::Pending);
    world.claimed(&good).await;
    world.pass_lease();
    assert_eq!(world.sweep().await.lapsed, 1);
}

/// G-05, G-17: the others let those go first that may be better off, for longer and longer, and are repaired within
/// minutes once they can be.
#[tokio::test]
async fn jobs_that_cannot_be_repaired_let_others_go_first_and_are_repaired_when_they_can_be() {
    let (world, bad, good) = poisoned(false).await;
    let swept = world.sweep().await;
    assert_eq!((swept.seen, swept.failed, swept.lapsed), (251, 250, 1));
    assert_eq!(world.job(&good).state.status(), JobStatus::Pending);
    assert_eq!(world.sweep().await.seen, 0, "nothing is due again at once");
    let mut looked_at = 0;
    for _minute in 0..60 {
        world.pass(60);
        looked_at += world.sweep().await.failed;
    }
    assert!((250 * 10..250 * 20).contains(&looked_at), "ever more rarely: {looked_at}");
    world.store.tables().poisoned.clear();
    world.pass(300);
    assert_eq!(world.sweep().await.lapsed, 250);
    assert!(bad.iter().all(|id| world.job(id).postponed.is_none()));
}

/// G-05: nor does that keep a hold open for longer than a day.
#[tokio::test]
async fn a_job_that_is_postponed_expires_when_its_time_is_over() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    world.down(Call::Read);
    for _minute in 1..24 * 60 {
        world.pass(60);
        assert_eq!(world.sweep().await.expired, 0);
    }
    world.pass(60);
    assert_eq!(world.sweep().await.expired, 1);
    assert_eq!((world.job(&id).state.status(), world.balance().held.0), (JobStatus::Failed, 0));
}

/// An alarm on what is overdue hears of a job that every tick puts off.
#[tokio::test]
async fn a_job_that_no_tick_can_repair_is_later_with_every_tick() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    world.pass(121);
    world.down(Call::Read);
    let mut late = 0;
    for minute in 0..15 {
        let swept = world.sweeper().tick().await.unwrap();
        if swept.seen > 0 {
            assert!(swept.oldest_due_seconds >= minute * 60, "{minute}: {swept:?}");
            late = swept.oldest_due_seconds;
        }
        world.pass(60);
    }
    assert!((600..=841).contains(&late), "{late} s");
}

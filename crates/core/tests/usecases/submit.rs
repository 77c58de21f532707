//! Create and start: one job a promise, durable before it is announced, repairable after.

use rotoless_contract::JobStatus;
use rotoless_contract::api::JobRequest;
use rotoless_contract::worker::{FailureReason, Refusal, ReportRequest};
use rotoless_core::ledger::Balance;
use rotoless_core::usecase::{CallError, SubmitError};

use super::store::{Call, When};
use super::world::{PRICE, World, claim_request};

/// G-08.
#[tokio::test]
async fn an_accepted_job_is_held_for_and_its_message_goes_before_the_wake() {
    let world = World::new();
    let id = world.created().await;
    let job = world.job(&id);
    assert_eq!(job.state.status(), JobStatus::Pending);
    assert_eq!((world.balance().held, world.messages()), (PRICE, 1));
    assert_eq!(job.enqueued_at, Some(job.created_at));
    let calls = world.store.tables().calls.clone();
    let nth = |call| calls.iter().position(|made| *made == call).unwrap();
    assert!(nth(Call::Commit) < nth(Call::Send) && nth(Call::Send) < nth(Call::Wake), "{calls:?}");
}

/// G-06, TS-3.
#[tokio::test]
async fn a_job_whose_commit_was_answered_by_nobody_is_found_again_by_its_key() {
    let world = World::new();
    // Head, probe, then the commit.
    world.fail_call(2, When::After);
    let found = world.create_with("k", "d").await.unwrap();
    assert!(found.replayed, "looked up by its key, because nobody knew");
    let again = world.create_with("k", "d").await.unwrap();
    assert!(again.replayed);
    assert_eq!((world.jobs(), world.balance().held), (1, PRICE));
    // Nobody sent the message: the sweep does, half a minute later.
    assert_eq!(world.messages(), 0);
    world.pass(29);
    assert_eq!(world.sweep().await.resent, 0);
    world.pass(1);
    assert_eq!(world.sweep().await.resent, 1);
    world.claimed(&again.job.id).await;
}

/// G-06, TS-2.
#[tokio::test]
async fn the_loser_of_a_race_for_a_key_gets_the_winners_job() {
    let world = World::new();
    let quicker = world.clone();
    world.store.intrude(async move { assert!(!quicker.create_with("k", "d").await.unwrap().replayed) });
    let created = world.create_with("k", "d").await.unwrap();
    assert!(created.replayed);
    let tables = world.store.tables();
    assert_eq!(tables.jobs.keys().collect::<Vec<_>>(), [&created.job.id]);
}

/// G-07, TS-4, TS-5.
#[tokio::test]
async fn a_key_stands_for_one_request_of_one_client_for_a_day() {
    let world = World::new();
    let first = world.create_with("k", "d").await.unwrap().job.id;
    assert!(matches!(world.create_with("k", "other").await, Err(SubmitError::KeyReused)));
    let stranger = world.other_client();
    assert!(matches!(stranger.create_with("k", "d").await, Err(SubmitError::InsufficientCredits)));
    world.pass(24 * 3600 - 1);
    assert_eq!(world.create_with("k", "d").await.unwrap().job.id, first);
    world.pass(1);
    let second = world.create_with("k", "d").await.unwrap();
    assert!(!second.replayed && second.job.id != first);
}

/// G-08, TS-8.
#[tokio::test]
async fn a_job_whose_message_could_not_be_sent_is_accepted_and_queued_by_the_sweep() {
    let world = World::new();
    world.down(Call::Send);
    let id = world.created().await;
    assert_eq!((world.messages(), world.job(&id).enqueued_at), (0, None));
    world.pass(30);
    assert_eq!(world.sweep().await.failed, 1, "the queue is still down");
    world.all_up();
    world.pass(30);
    assert_eq!(world.sweep().await.resent, 1);
    assert_eq!(world.messages(), 1);
    // Now that it has a message, it is left alone.
    world.pass(60);
    assert_eq!(world.sweep().await.seen, 0);
}

/// TS-8, TW-14.
#[tokio::test]
async fn a_job_whose_wake_was_lost_has_its_message() {
    let world = World::new();
    world.down(Call::Wake);
    let id = world.created().await;
    assert_eq!(world.messages(), 1);
    assert!(world.job(&id).enqueued_at.is_some());
}

/// G-02.
#[tokio::test]
async fn what_the_balance_does_not_cover_leaves_no_trace() {
    let world = World::new();
    let poor = world.other_client();
    let refused = poor.create_with("k", "d").await;
    assert!(matches!(refused, Err(SubmitError::InsufficientCredits)), "{refused:?}");
    let tables = world.store.tables();
    assert!(tables.jobs.is_empty() && tables.promises.is_empty() && tables.messages.is_empty());
}

/// G-02, TS-1.
#[tokio::test]
async fn jobs_are_accepted_up_to_the_balance_and_not_one_more() {
    let world = World::new();
    // 100 credits pay for 44 jobs of 2.25.
    let creates = futures::future::join_all((0..60).map(|n| {
        let world = world.clone();
        async move { world.create_with(&n.to_string(), "d").await }
    }));
    let accepted = creates.await.into_iter().filter(Result::is_ok).count();
    assert_eq!(accepted, 44);
    assert_eq!(world.balance().available.0, 100_000 - 44 * PRICE.0);
}

#[tokio::test]
async fn a_draft_costs_nothing_until_it_is_started() {
    let world = World::new();
    let request = JobRequest { auto_start: Some(false), ..world.request() };
    let id = world.submit().create(&world.client, &request, None, None).await.unwrap().job.id;
    assert_eq!((world.job(&id).state.status(), world.balance().held.0, world.messages()), (JobStatus::Created, 0, 0));
    let started = world.submit().start(&world.client, &id, &JobRequest::default()).await.unwrap();
    assert_eq!((started.state.status(), world.balance().held, world.messages()), (JobStatus::Pending, PRICE, 1));
}

/// G-09.
#[tokio::test]
async fn starting_a_running_job_starts_nothing() {
    let world = World::new();
    let id = world.created().await;
    let same = world.submit().start(&world.client, &id, &JobRequest::default()).await.unwrap();
    assert_eq!(same.state.run, world.job(&id).state.run);
    let other = JobRequest { model: Some("pro".to_owned()), ..JobRequest::default() };
    let refused = world.submit().start(&world.client, &id, &other).await;
    assert!(matches!(refused, Err(SubmitError::AlreadyStarted)), "{refused:?}");
    assert_eq!((world.messages(), world.balance().held), (1, PRICE));
}

/// G-09, G-10, TW-20: a run is one start.
#[tokio::test]
async fn a_failed_job_starts_again_as_a_new_run_that_owes_the_old_one_nothing() {
    let world = World::new();
    let id = world.created().await;
    let old = world.claimed(&id).await;
    let digest = world.finish_work(&old);
    let failed = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: String::new() };
    world.report(&old, &failed).await.unwrap();
    assert_eq!(world.balance().held.0, 0);
    let old_message = world.store.tables().messages[0].clone();

    let overrides = JobRequest { output_format: Some("mov".to_owned()), ..JobRequest::default() };
    let started = world.submit().start(&world.client, &id, &overrides).await.unwrap();
    assert_eq!((started.state.run.unwrap().get(), started.state.attempts_in_run), (2, 0));
    assert_eq!((world.balance().held, world.messages()), (PRICE, 2));

    // The old message and the old attempt are nobody's any more.
    let request = rotoless_contract::worker::ClaimRequest {
        claim_token: old_message.claim_token.clone(),
        ..claim_request(old_message.run, "")
    };
    let superseded = world.claims().claim(&id, &request).await;
    assert!(matches!(superseded, Err(CallError::Refused { refusal: Refusal::Superseded, .. })), "{superseded:?}");
    let stale = world.report_completed(&old, &digest).await;
    assert!(matches!(stale, Err(CallError::Refused { refusal: Refusal::StaleAttempt, .. })), "{stale:?}");

    // It writes on all the same: its links are for the old run's objects.
    assert_ne!(old.manifest.key, started_manifest(&world, &id));
    world.upload_output(&old);
    assert_eq!(world.job(&id).state.status(), JobStatus::Pending, "nothing of it is adopted");
    let new = world.claimed(&id).await;
    assert_eq!((new.attempt.get(), new.run.get()), (2, 2));
    let digest = world.finish_work(&new);
    assert_eq!(world.report_completed(&new, &digest).await.unwrap().status, JobStatus::Completed);
    assert_eq!(world.balance(), Balance { used: PRICE, available: world.balance().available, ..Balance::default() });
}

/// G-31.
#[tokio::test]
async fn a_foreign_job_is_an_unknown_job() {
    let world = World::new();
    let id = world.created().await;
    let other = world.other_client();
    let started = other.submit().start(&other.client, &id, &JobRequest::default()).await;
    assert!(matches!(started, Err(SubmitError::UnknownJob)), "{started:?}");
    assert!(other.canceller().cancel(&other.client, &id).await.is_err());
    assert_eq!(world.job(&id).state.status(), JobStatus::Pending);
}

fn started_manifest(world: &World, id: &rotoless_contract::JobId) -> String {
    rotoless_contract::manifest::manifest_key(id, world.job(id).state.run.unwrap())
}

/// G-06, G-31, TS-6.
#[tokio::test]
async fn the_same_key_of_two_clients_is_two_jobs() {
    let world = World::new();
    let other = world.other_client();
    let granted = rotoless_contract::MilliCredits(10_000);
    rotoless_core::ports::Accounts::grant(
        &*world.store,
        &other.client,
        "first",
        granted,
        None,
        rotoless_core::ports::Clock::now(&*world.clock),
    )
    .await
    .unwrap();
    let (first, second) = (world.create_with("k", "d").await.unwrap(), other.create_with("k", "d").await.unwrap());
    assert!(!first.replayed && !second.replayed && first.job.id != second.job.id);
    assert_eq!((world.balance().held, other.balance().held), (PRICE, PRICE));
    assert_eq!(other.create_with("k", "d").await.unwrap().job.id, second.job.id);
}

/// G-06, TS-2.
#[tokio::test]
async fn fifty_requests_with_one_key_are_one_job_and_one_hold() {
    let world = World::new();
    let creates = (0..50).map(|_| {
        let world = world.clone();
        async move {
            tokio::task::yield_now().await;
            world.create_with("k", "d").await.unwrap().job.id
        }
    });
    let ids = futures::future::join_all(creates).await;
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!((world.jobs(), world.balance().held, world.messages()), (1, PRICE, 1));
}

/// G-04, TS-12: a run keeps the prices that it was started under, whatever they are when it ends.
#[tokio::test]
async fn a_price_that_changes_while_a_job_runs_is_for_the_next_run() {
    let world = World::new();
    let id = world.created().await;
    let list =
        r#"{"version": "later", "credits_per_minute": {"original": 600, "light": 600, "pro": 600, "human": 600}}"#;
    let pricing = rotoless_core::policy::Pricing::from_json(list).unwrap();
    let later = world.priced(pricing);
    let claim = later.claimed(&id).await;
    assert_eq!(later.probed(&claim, 2_500).await.unwrap().held, PRICE, "three seconds at the old price");
    let reason = FailureReason::InvalidMedia;
    later.report(&claim, &ReportRequest::Failed { reason, detail: String::new() }).await.unwrap();
    assert_eq!(world.job(&id).pricing_version, world.policy.pricing.version);

    let kept = later.created().await;
    assert_eq!(later.job(&kept).pricing_version, "later");
    assert_eq!(world.balance().held.0, 3 * 10_000);
    let old = world.created().await;
    let claim = later.claimed(&old).await;
    let digest = later.finish_work(&claim);
    later.report_completed(&claim, &digest).await.unwrap();
    assert_eq!(world.balance().used, PRICE);
    let started = later.submit().start(&world.client, &id, &JobRequest::default()).await.unwrap();
    assert_eq!(started.pricing_version, "later");
}

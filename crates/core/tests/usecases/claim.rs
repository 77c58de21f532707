//! Claim: one attempt at a time, numbered; finished work is adopted, not done again.

use rotoless_contract::api::JobRequest;
use rotoless_contract::manifest::Manifest;
use rotoless_contract::worker::{FailureReason, Refusal, ReportRequest};
use rotoless_contract::{JobStatus, Run};
use rotoless_core::lifecycle::Phase;
use rotoless_core::usecase::CallError;

use super::store::{Call, When};
use super::world::{PRICE, World, claim_request, manifest};

fn refusal<T: std::fmt::Debug>(result: Result<T, CallError>) -> Refusal {
    match result {
        Err(CallError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// TW-2.
#[tokio::test]
async fn of_two_workers_with_the_same_message_one_gets_the_lease() {
    let world = World::new();
    let id = world.created().await;
    let first = world.claimed(&id).await;
    assert_eq!(first.attempt.get(), 1);
    match world.try_claim(&id).await {
        Err(CallError::Refused { refusal: Refusal::Leased, retry_after_seconds: Some(wait) }) => {
            assert!((120..=121).contains(&wait), "{wait}");
        }
        other => panic!("{other:?}"),
    }
    let kinds: Vec<_> = world.events(&id).into_iter().map(|event| event.event.as_str()).collect();
    assert_eq!(kinds, ["job.started"], "announced once");
}

/// G-10, TW-2.
#[tokio::test]
async fn of_two_claims_at_the_same_instant_one_gets_the_lease() {
    let world = World::new();
    let id = world.created().await;
    let (quicker, job) = (world.clone(), id.clone());
    world.store.intrude(async move {
        let _ = quicker.claimed(&job).await;
    });
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Leased);
    assert_eq!(world.job(&id).state.attempts, 1);
}

/// G-10, TW-3.
#[tokio::test]
async fn after_a_lapsed_lease_the_next_claim_is_the_next_attempt_and_fences_off_the_last() {
    let world = World::new();
    let id = world.created().await;
    let first = world.claimed(&id).await;
    world.pass_lease();
    let second = world.claimed(&id).await;
    assert_eq!(second.attempt.get(), 2);
    assert_ne!(first.output.key, second.output.key);
    assert_eq!(refusal(world.heartbeat(&first, 1, 2).await), Refusal::StaleAttempt);
    assert_eq!(refusal(world.probed(&first, 3000).await), Refusal::StaleAttempt);
    assert_eq!(world.events(&id).len(), 1, "started is announced once a run");
}

/// G-18, TR-6.
#[tokio::test]
async fn a_claim_needs_the_token_of_the_message() {
    let world = World::new();
    let id = world.created().await;
    for token in ["", "0000", &"0".repeat(64)] {
        let refused = world.claims().claim(&id, &claim_request(Run::FIRST, token)).await;
        assert!(matches!(refused, Err(CallError::WrongToken)), "{refused:?}");
    }
    let token = world.job(&id).claim_token.unwrap().0;
    let future = world.claims().claim(&id, &claim_request(Run::FIRST.next(), &token)).await;
    assert!(matches!(future, Err(CallError::WrongToken)), "{future:?}");
    assert_eq!(world.job(&id).state.attempts, 0);
}

/// G-11, K4.
#[tokio::test]
async fn a_manifest_without_a_report_is_adopted_by_the_next_claim() {
    let world = World::new();
    let id = world.created().await;
    let first = world.claimed(&id).await;
    world.finish_work(&first);
    world.pass_lease();
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal);
    let job = world.job(&id);
    assert_eq!((job.state.status(), job.state.attempts), (JobStatus::Completed, 1));
    assert_eq!(world.balance().used, PRICE);
    assert_eq!(world.attempt(&id, 1).outcome.as_deref(), Some("completed"));
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal);
}

/// G-11, TW-12, K4.
#[tokio::test]
async fn a_manifest_of_an_attempt_that_was_abandoned_after_it_is_adopted() {
    let world = World::new();
    let id = world.created().await;
    let first = world.claimed(&id).await;
    world.finish_work(&first);
    world.report(&first, &ReportRequest::Abandoned { detail: "SIGTERM".to_owned() }).await.unwrap();
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal);
    assert_eq!((world.job(&id).state.status(), world.balance().used), (JobStatus::Completed, PRICE));
}

#[tokio::test]
async fn a_manifest_is_not_adopted_from_under_a_live_lease() {
    let world = World::new();
    let id = world.created().await;
    let first = world.claimed(&id).await;
    let digest = world.finish_work(&first);
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Leased);
    assert_eq!(world.report_completed(&first, &digest).await.unwrap().status, JobStatus::Completed);
}

/// G-15, TR-9.
#[tokio::test]
async fn a_manifest_that_lies_is_not_adopted() {
    type Lie = fn(&mut Manifest);
    let lies: [(&str, Lie); 7] = [
        ("version", |m| m.v = 2),
        ("run", |m| m.run = Run::new(7).unwrap()),
        ("attempt", |m| m.attempt = m.attempt.next()),
        ("size", |m| m.output.size_bytes += 1),
        ("another job's object", |m| m.output_key = "outputs/job_other/1/1/output.webm".to_owned()),
        ("a path upwards", |m| m.output_key = m.output_key.replace("output.webm", "../1/output.webm")),
        ("format", |m| m.output.format = rotoless_contract::OutputFormat::Mov),
    ];
    for (what, lie) in lies {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        let mut manifest = manifest(&claim, 3000);
        lie(&mut manifest);
        world.upload_output(&claim);
        world.put_manifest(&claim, &manifest);
        world.pass_lease();
        assert_eq!(world.claimed(&id).await.attempt.get(), 2, "{what}");
    }
}

/// G-12.
#[tokio::test]
async fn the_fourth_claim_fails_the_job_and_gives_its_credits_back() {
    let world = World::new();
    let id = world.created().await;
    for n in 1..=3 {
        assert_eq!(world.claimed(&id).await.attempt.get(), n);
        world.pass_lease();
    }
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal);
    assert_eq!(world.job(&id).state.phase, Phase::Failed { reason: FailureReason::WorkerLost });
    assert_eq!((world.balance().held.0, world.balance().used.0), (0, 0));
}

/// G-12, K7.
#[tokio::test]
async fn the_fourth_claim_completes_a_job_whose_third_attempt_had_finished() {
    let world = World::new();
    let id = world.created().await;
    for _ in 1..=2 {
        world.claimed(&id).await;
        world.pass_lease();
    }
    let third = world.claimed(&id).await;
    world.finish_work(&third);
    world.pass_lease();
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal);
    assert_eq!((world.job(&id).state.status(), world.balance().used), (JobStatus::Completed, PRICE));
}

#[tokio::test]
async fn no_attempt_is_spent_where_no_links_can_be_made() {
    let world = World::new();
    let id = world.created().await;
    world.down(Call::Presign);
    assert!(matches!(world.try_claim(&id).await, Err(CallError::Store(_))));
    assert_eq!(world.job(&id).state.attempts, 0);
    world.all_up();
    assert_eq!(world.claimed(&id).await.attempt.get(), 1);
}

/// K1.
#[tokio::test]
async fn a_claim_whose_answer_was_lost_costs_one_lease_and_nothing_else() {
    let world = World::new();
    let id = world.created().await;
    // Job, four links, then the commit.
    world.fail_call(5, When::After);
    assert!(matches!(world.try_claim(&id).await, Err(CallError::Store(_))));
    assert_eq!(refusal(world.try_claim(&id).await), Refusal::Leased);
    world.pass_lease();
    assert_eq!(world.claimed(&id).await.attempt.get(), 2);
}

/// G-12: each attempt's row ends where the next one begins, by whichever way.
#[tokio::test]
async fn an_attempt_that_is_overtaken_has_an_end() {
    let world = World::new();
    let id = world.created().await;
    world.claimed(&id).await;
    world.pass_lease();
    world.claimed(&id).await;
    let (first, second) = (world.attempt(&id, 1), world.attempt(&id, 2));
    assert_eq!((first.outcome.as_deref(), first.ended_at), (Some("lapsed"), Some(second.claimed_at)));
    assert_eq!((second.outcome, second.ended_at), (None, None));
}

/// G-12: the one at work when an earlier one's output is adopted ends as well.
#[tokio::test]
async fn an_attempt_that_is_overtaken_by_an_earlier_ones_output_has_an_end() {
    for by_claim in [true, false] {
        let world = World::new();
        let id = world.created().await;
        let first = world.claimed(&id).await;
        world.pass_lease();
        world.claimed(&id).await;
        world.finish_work(&first);
        world.pass_lease();
        if by_claim {
            assert_eq!(refusal(world.try_claim(&id).await), Refusal::Terminal);
        } else {
            assert_eq!(world.sweep().await.adopted, 1);
        }
        let outcomes = [1, 2].map(|n| world.attempt(&id, n).outcome);
        assert_eq!(outcomes, [Some("completed".to_owned()), Some("lapsed".to_owned())], "by claim: {by_claim}");
    }
}

/// G-09, G-10, TW-20: a job that failed is started with another model, and the worker of its old run is alive still: it
/// writes on, says everything it can say, and nothing of it touches the new run, before its claim, during its work, or
/// after its end.
#[tokio::test]
async fn a_worker_of_an_old_run_that_writes_on_changes_nothing_of_the_new_one() {
    let world = World::new();
    let id = world.created().await;
    let mut zombie = world.claimed(&id).await;
    for _ in 0..2 {
        world.pass_lease();
        zombie = world.claimed(&id).await;
    }
    world.pass_lease();
    world.sweep().await;
    assert_eq!(world.job(&id).state.status(), JobStatus::Failed);
    let overrides = JobRequest { model: Some("human".to_owned()), ..JobRequest::default() };
    world.submit().start(&world.client, &id, &overrides).await.unwrap();
    let held = world.balance().held;
    assert_eq!(world.job(&id).state.attempts_in_run, 0);

    let untouched = async |when: &str| {
        let before = world.job(&id);
        let late = world.finish_work_of(&zombie, 1000);
        let beat = world.heartbeat(&zombie, 90, 90).await;
        let failed = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: String::new() };
        for refused in [
            refusal(beat),
            refusal(world.probed(&zombie, 1000).await),
            refusal(world.report_completed(&zombie, &late).await),
            refusal(world.report(&zombie, &failed).await),
        ] {
            assert_eq!(refused, Refusal::StaleAttempt, "{when}");
        }
        assert_eq!(world.job(&id).version, before.version, "{when}");
    };
    untouched("before the claim").await;
    let new = world.claimed(&id).await;
    assert_eq!((new.run.get(), new.attempt.get(), new.spec.model.as_str()), (2, 4, "human"));
    assert!(new.output.key != zombie.output.key && new.manifest.key != zombie.manifest.key);
    untouched("during the work").await;
    let digest = world.finish_work(&new);
    let _ = world.report_completed(&new, &digest).await.unwrap();
    untouched("after the end").await;
    let job = world.job(&id);
    assert_eq!((job.output.unwrap().key, world.balance().used), (new.output.key, held));
}

//! Credits: never created, never lost, never below zero, whoever runs at once.

use std::time::Duration;

use futures::future::join_all;
use rotoless_aws::Store;
use rotoless_contract::{ClientId, MilliCredits, Run};
use rotoless_core::ledger::{Balance, Cause, Delta, Movement};
use rotoless_core::ports::{Accounts, Books, Change, CommitError, Deliveries, Jobs, Promises, Retry, StoreError};
use rotoless_core::record::JobRecord;

use crate::records::{at, attempt, client, delivery, job, next, only, promise, whole, with_hold};
use crate::world::World;

scenarios! {
    of_two_hundred_concurrent_holds_on_a_balance_for_fifty_exactly_fifty_commit,
    a_change_is_applied_whole_or_not_at_all_whichever_condition_fails,
    a_whole_change_is_there_whole,
    stale_comes_before_every_other_refusal,
    every_movement_changes_the_balance_as_the_rule_says,
    a_movement_that_the_balance_contradicts_is_a_fault_and_not_a_lack_of_credits,
    a_grant_happens_once_for_each_id_and_never_overflows,
    an_ended_promise_gives_way_and_a_live_one_does_not,
}

async fn granted(store: &Store, client: &ClientId, amount: u64) {
    store.grant(client, "first", MilliCredits(amount), Some("note"), at(0)).await.unwrap();
}

fn balance(available: u64, held: u64, used: u64) -> Balance {
    Balance { available: MilliCredits(available), held: MilliCredits(held), used: MilliCredits(used) }
}

/// I-1 of the oracle: the balance is the sum of the ledger.
async fn assert_ledger_sums_up(store: &Store, client: &ClientId) {
    let mut sum = Delta::default();
    for row in store.ledger(client).await.unwrap() {
        sum.available += row.delta.available;
        sum.held += row.delta.held;
        sum.used += row.delta.used;
    }
    let balance = store.balance(client).await.unwrap();
    let parts = [balance.available, balance.held, balance.used].map(|part| i128::from(part.0));
    assert_eq!([sum.available, sum.held, sum.used], parts);
}

/// Commits as a client does who asks again after a 503: at most once in all.
async fn held_at_last(store: &Store, job: JobRecord) -> Result<(), CommitError> {
    loop {
        match store.commit(with_hold(job.clone())).await {
            // What `Retry-After` asks of a client, in little.
            Err(CommitError::Store(failure)) if failure.retry() == Retry::Backoff => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Not even the version before ours exists, so what stands there is ours.
            Err(CommitError::Stale) => return Ok(()),
            settled => return settled,
        }
    }
}

/// G-02, TS-1.
async fn of_two_hundred_concurrent_holds_on_a_balance_for_fifty_exactly_fifty_commit(world: World) {
    let acme = client("acme");
    granted(&world.store, &acme, 50 * 2250 + 2249).await;
    let results = join_all((0..200).map(|n| held_at_last(&world.store, job(n, &acme)))).await;
    let committed = results.iter().filter(|result| result.is_ok()).count();
    let refused = results.iter().filter(|result| matches!(result, Err(CommitError::InsufficientCredits))).count();
    assert_eq!((committed, refused), (50, 150));
    assert_eq!(world.store.balance(&acme).await.unwrap(), balance(2249, 50 * 2250, 0));
    assert_eq!(world.store.ledger(&acme).await.unwrap().len(), 51);
    assert_ledger_sums_up(&world.store, &acme).await;
    for (n, result) in (0..200).zip(&results) {
        let stored = world.store.job(&job(n, &acme).id).await.unwrap();
        assert_eq!(stored.is_some(), result.is_ok());
    }
}

/// What a change would leave behind, if any of it were applied.
async fn traces(store: &Store, change: &Change) -> Vec<String> {
    let id = &change.job.id;
    let job = store.job(id).await.unwrap().map(|job| format!("job {}", job.version));
    let attempt = store.attempt(id, change.attempts[0].attempt).await.unwrap();
    let delivery = store.delivery(id, &change.delivery.as_ref().unwrap().id).await.unwrap();
    let promise = store.promise(&change.idempotency.as_ref().unwrap().scope).await.unwrap();
    let balance = store.balance(&change.job.client).await.unwrap();
    let rows = store.ledger(&change.job.client).await.unwrap().into_iter().map(|row| row.row_id);
    let mut traces: Vec<String> = rows.collect();
    traces.extend(job);
    traces.extend(attempt.map(|attempt| format!("attempt by {}", attempt.worker_id)));
    traces.extend(delivery.map(|delivery| format!("delivery {}", delivery.version)));
    traces.extend(promise.map(|promise| format!("promise of {}", promise.job_id)));
    traces.push(format!("{balance:?}"));
    traces
}

/// One violated condition at a time: the change is refused under its own name, and nothing of it is there.
async fn a_change_is_applied_whole_or_not_at_all_whichever_condition_fails(world: World) {
    type Spoil = fn(&JobRecord) -> Change;
    type Expected = fn(&CommitError) -> bool;
    let cases: [(&str, u64, Spoil, Expected); 5] = [
        ("stale", 5000, |job| only(job.clone()), |e| matches!(e, CommitError::Stale)),
        (
            "key",
            5000,
            |wanted| Change { idempotency: Some(promise(wanted)), ..only(job(77, &wanted.client)) },
            |e| matches!(e, CommitError::KeyTaken),
        ),
        (
            "ledger",
            5000,
            |wanted| {
                let money = Some((Cause::Hold(wanted.id.clone(), Run::FIRST), Movement::Hold(MilliCredits(1))));
                Change { money, ..only(job(77, &wanted.client)) }
            },
            |e| matches!(e, CommitError::AlreadyInLedger),
        ),
        ("balance", 2249, |wanted| only(job(77, &wanted.client)), |e| matches!(e, CommitError::InsufficientCredits)),
        (
            "delivery",
            5000,
            |wanted| Change { delivery: Some(delivery(wanted)), ..only(job(77, &wanted.client)) },
            |e| matches!(e, CommitError::Stale),
        ),
    ];
    for (name, grant, spoil, expected) in cases {
        let client = client(name);
        let n = name.len() as u32;
        granted(&world.store, &client, grant).await;
        let wanted = job(n, &client);
        let mut spoiled = spoil(&wanted);
        if spoiled.job.id != wanted.id {
            spoiled.job.id = job(1000 + n, &client).id;
        }
        world.store.commit(spoiled).await.unwrap();
        let before = traces(&world.store, &whole(wanted.clone())).await;
        let refused = world.store.commit(whole(wanted.clone())).await.unwrap_err();
        assert!(expected(&refused), "{name}: {refused:?}");
        assert_eq!(traces(&world.store, &whole(wanted)).await, before, "{name}");
        assert_ledger_sums_up(&world.store, &client).await;
    }
}

async fn a_whole_change_is_there_whole(world: World) {
    let acme = client("acme");
    granted(&world.store, &acme, 5000).await;
    let change = whole(job(1, &acme));
    world.store.commit(change.clone()).await.unwrap();
    let id = &change.job.id;
    assert_eq!(world.store.attempt(id, attempt(1).attempt).await.unwrap(), change.attempts.first().cloned());
    assert_eq!(world.store.attempt(id, attempt(2).attempt).await.unwrap(), None);
    let stored = world.store.delivery(id, &change.delivery.as_ref().unwrap().id).await.unwrap();
    assert_eq!(stored, change.delivery);
    assert_eq!(world.store.promise("acme#key").await.unwrap(), change.idempotency);
    assert_eq!(world.store.balance(&acme).await.unwrap(), balance(2750, 2250, 0));
    let rows = world.store.ledger(&acme).await.unwrap();
    assert_eq!(rows[1].row_id, format!("hold#{id}#1"));
    assert_eq!(rows[1].job, Some((id.clone(), Run::FIRST)));
}

/// Where several conditions fail at once, the job's own comes first: the caller must read again before he judges.
async fn stale_comes_before_every_other_refusal(world: World) {
    let acme = client("acme");
    granted(&world.store, &acme, 2250).await;
    world.store.commit(whole(job(1, &acme))).await.unwrap();
    let again = world.store.commit(whole(job(1, &acme))).await.unwrap_err();
    assert!(matches!(again, CommitError::Stale), "{again:?}");
    let other = Change { job: job(2, &acme), ..whole(job(1, &acme)) };
    let taken = world.store.commit(Change { delivery: None, ..other.clone() }).await.unwrap_err();
    assert!(matches!(taken, CommitError::KeyTaken), "{taken:?}");
    let in_ledger = world.store.commit(Change { delivery: None, idempotency: None, ..other }).await.unwrap_err();
    assert!(matches!(in_ledger, CommitError::AlreadyInLedger), "{in_ledger:?}");
}

/// G-01: every movement, against the rule of core.
async fn every_movement_changes_the_balance_as_the_rule_says(world: World) {
    let acme = client("acme");
    granted(&world.store, &acme, 10_000).await;
    let mut expected = balance(10_000, 0, 0);
    let mut stored = job(1, &acme);
    let first = Run::FIRST;
    let id = stored.id.clone();
    let attempt = attempt(1).attempt;
    let movements = [
        (Cause::Hold(id.clone(), first), Movement::Hold(MilliCredits(4000))),
        (
            Cause::Adjust(id.clone(), first, attempt),
            Movement::Adjust { from: MilliCredits(4000), to: MilliCredits(9000) },
        ),
        (
            Cause::Adjust(id.clone(), first, attempt.next()),
            Movement::Adjust { from: MilliCredits(9000), to: MilliCredits(500) },
        ),
        (Cause::Settle(id.clone(), first), Movement::Capture { held: MilliCredits(500), charged: MilliCredits(200) }),
        (Cause::Hold(id.clone(), first.next()), Movement::Hold(MilliCredits(9800))),
        (Cause::Settle(id.clone(), first.next()), Movement::Release(MilliCredits(9800))),
    ];
    for (cause, movement) in movements {
        world.store.commit(Change { money: Some((cause, movement)), ..only(stored.clone()) }).await.unwrap();
        stored = next(&stored);
        expected = expected.after(movement).unwrap();
        assert_eq!(world.store.balance(&acme).await.unwrap(), expected, "{movement:?}");
        assert_ledger_sums_up(&world.store, &acme).await;
    }
    assert_eq!(expected, balance(9800, 0, 200));
}

async fn a_movement_that_the_balance_contradicts_is_a_fault_and_not_a_lack_of_credits(world: World) {
    let acme = client("acme");
    granted(&world.store, &acme, 10_000).await;
    let money = Some((Cause::Settle(job(1, &acme).id, Run::FIRST), Movement::Release(MilliCredits(1))));
    let refused = world.store.commit(Change { money, ..only(job(1, &acme)) }).await.unwrap_err();
    assert!(matches!(refused, CommitError::Store(StoreError::Corrupt { what: "balance", .. })), "{refused:?}");
    assert_eq!(world.store.balance(&acme).await.unwrap(), balance(10_000, 0, 0));
}

async fn a_grant_happens_once_for_each_id_and_never_overflows(world: World) {
    let (acme, other) = (client("acme"), client("other"));
    assert_eq!(world.store.balance(&acme).await.unwrap(), balance(0, 0, 0));
    granted(&world.store, &acme, 500).await;
    let again = world.store.grant(&acme, "first", MilliCredits(1), None, at(1)).await.unwrap_err();
    assert!(matches!(again, CommitError::AlreadyInLedger), "{again:?}");
    // Another client's grant of the same id is another grant.
    granted(&world.store, &other, 7).await;
    let too_much = world.store.grant(&acme, "second", MilliCredits(u64::MAX), None, at(1)).await.unwrap_err();
    assert!(matches!(too_much, CommitError::Store(StoreError::Rejected(_))), "{too_much:?}");
    world.store.grant(&acme, "second", MilliCredits(u64::MAX - 500), None, at(1)).await.unwrap();
    assert_eq!(world.store.balance(&acme).await.unwrap(), balance(u64::MAX, 0, 0));
    assert_ledger_sums_up(&world.store, &acme).await;
    assert_eq!(world.store.balance(&other).await.unwrap(), balance(7, 0, 0));
}

/// G-06, TS-4: the promise ends by the clock that judges, to the millisecond, though the record is still there.
async fn an_ended_promise_gives_way_and_a_live_one_does_not(world: World) {
    let acme = client("acme");
    let kept = job(1, &acme);
    let first = promise(&kept);
    world.store.commit(Change { idempotency: Some(first.clone()), ..only(kept) }).await.unwrap();
    let ends_ms = first.expires_at.as_millisecond();
    for (n, now_ms, free) in [(2, ends_ms - 1, false), (3, ends_ms, true)] {
        let mut later = job(n, &acme);
        later.updated_at = jiff::Timestamp::from_millisecond(now_ms).unwrap();
        later.created_at = later.updated_at;
        let result = world.store.commit(Change { idempotency: Some(promise(&later)), ..only(later.clone()) }).await;
        match result {
            Ok(()) => assert!(free),
            Err(CommitError::KeyTaken) => assert!(!free),
            Err(other) => panic!("{other:?}"),
        }
        let holder = world.store.promise("acme#key").await.unwrap().unwrap().job_id;
        assert_eq!(holder == later.id, free);
    }
}

//! A network that loses requests and replies, and a DynamoDB that conflicts and throttles as the embedded one never
//! does.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rotoless_aws::{AwsClients, Store};
use rotoless_contract::MilliCredits;
use rotoless_core::ledger::Balance;
use rotoless_core::ports::{Accounts, Books, Change, CommitError, Deliveries, Jobs, Keys, Promises, StoreError};
use rotoless_core::record::{DeliveryRecord, KeyRecord};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::records::{at, attempt, client, delivery, job, next, only, promise, whole, with_hold};
use crate::world::{Fate, World, cancelled, error};

scenarios! {
    a_commit_whose_reply_was_lost_is_applied_once,
    a_refusal_by_ones_own_lost_first_try_is_a_success,
    ones_own_change_is_recognised_after_the_job_has_moved_on,
    a_refusal_by_anothers_change_stays_a_refusal_after_a_lost_request,
    a_conflict_is_tried_again_and_commits_once,
    a_store_that_fails_for_ever_is_given_up_within_five_seconds_and_says_whether_it_wrote,
    what_another_try_cannot_mend_is_sent_once,
    an_event_and_a_key_survive_a_lost_reply,
    reads_of_single_items_are_consistent_and_repeated_when_they_fail,
    a_read_of_a_dead_store_is_unavailable_and_never_maybe_applied,
}

const WRITE: &str = "TransactWriteItems";

async fn funded(world: &World) {
    world.store.grant(&client("acme"), "first", MilliCredits(10_000), None, at(0)).await.unwrap();
}

async fn held(world: &World) -> (u64, u64) {
    let Balance { available, held, .. } = world.store.balance(&client("acme")).await.unwrap();
    (available.0, held.0)
}

/// TS-3, ErrAfter: the token makes the second try a replay of the first.
async fn a_commit_whose_reply_was_lost_is_applied_once(world: World) {
    funded(&world).await;
    let (store, sent) = world.disturbed(WRITE, |r| if r.before < 2 { Fate::LoseReply } else { Fate::Forward }).await;
    store.commit(whole(job(1, &client("acme")))).await.unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    assert_eq!(held(&world).await, (7750, 2250));
    assert_eq!(world.store.ledger(&client("acme")).await.unwrap().len(), 2);
}

/// The token is good for ten minutes, and a local DynamoDB forgets it when it restarts: then the second try meets
/// the first one's own work and is refused. Any of its items tells that it was ours.
async fn a_refusal_by_ones_own_lost_first_try_is_a_success(world: World) {
    funded(&world).await;
    let acme = client("acme");
    let refusals: [(u32, &[&str], Change); 4] = [
        (1, &["ConditionalCheckFailed"], only(job(1, &acme))),
        (2, &["ConditionalCheckFailed", "ConditionalCheckFailed", "None"], with_hold(job(2, &acme))),
        (
            3,
            &["None", "ConditionalCheckFailed"],
            Change { idempotency: Some(promise(&job(3, &acme))), ..only(job(3, &acme)) },
        ),
        (4, &["None", "None", "ConditionalCheckFailed"], with_hold(job(4, &acme))),
    ];
    for (n, codes, change) in refusals {
        let answer = cancelled(codes);
        let (store, _) =
            world.disturbed(WRITE, move |r| if r.before == 0 { Fate::LoseReply } else { answer.clone() }).await;
        store.commit(change).await.unwrap();
        assert!(world.store.job(&job(n, &acme).id).await.unwrap().is_some());
    }
    let again = cancelled(&["ConditionalCheckFailed", "None"]);
    let (store, _) = world.disturbed(WRITE, move |r| if r.before == 0 { Fate::LoseReply } else { again.clone() }).await;
    store.grant(&acme, "lost", MilliCredits(1), None, at(0)).await.unwrap();
    assert_eq!(held(&world).await, (10_001 - 2 * 2250, 2 * 2250));
}

/// Our first try was applied, and somebody committed after it before we asked again: the attempt still tells.
async fn ones_own_change_is_recognised_after_the_job_has_moved_on(world: World) {
    funded(&world).await;
    let acme = client("acme");
    let change = Change { attempts: vec![attempt(1)], ..only(job(1, &acme)) };
    let (meanwhile, refused) = (world.store.clone(), cancelled(&["ConditionalCheckFailed", "None"]));
    let (store, _) =
        world.disturbed(WRITE, move |r| if r.before == 0 { Fate::LoseReply } else { refused.clone() }).await;
    let committing = store.commit(change.clone());
    let overtaking = async {
        while meanwhile.commit(only(next(&change.job))).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let (committed, ()) = tokio::join!(committing, overtaking);
    committed.unwrap();
    assert_eq!(world.store.job(&change.job.id).await.unwrap().unwrap().version, 2);
}

/// The other way round: our first try never arrived, and another's change did.
async fn a_refusal_by_anothers_change_stays_a_refusal_after_a_lost_request(world: World) {
    funded(&world).await;
    let acme = client("acme");
    world.store.commit(only(job(1, &acme))).await.unwrap();
    let (store, sent) = world.disturbed(WRITE, |r| if r.before == 0 { Fate::LoseRequest } else { Fate::Forward }).await;
    let refused = store.commit(with_hold(job(1, &acme))).await.unwrap_err();
    assert!(matches!(refused, CommitError::Stale), "{refused:?}");
    assert_eq!(sent.load(Ordering::SeqCst), 2);
    assert_eq!(held(&world).await, (10_000, 0));
}

/// TS-7, first half; the guard against 200 transactions at once on one account on AWS.
async fn a_conflict_is_tried_again_and_commits_once(world: World) {
    funded(&world).await;
    let conflict = cancelled(&["None", "None", "TransactionConflict"]);
    let (store, sent) =
        world.disturbed(WRITE, move |r| if r.before < 3 { conflict.clone() } else { Fate::Forward }).await;
    store.commit(with_hold(job(1, &client("acme")))).await.unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), 4);
    assert_eq!(held(&world).await, (7750, 2250));
}

/// TS-7, second half: bounded in tries and time, and honest about what may have happened.
async fn a_store_that_fails_for_ever_is_given_up_within_five_seconds_and_says_whether_it_wrote(world: World) {
    type Expected = fn(&StoreError) -> bool;
    let cases: [(Fate, Expected); 7] = [
        (cancelled(&["None", "None", "TransactionConflict"]), |e| matches!(e, StoreError::Conflict(_))),
        (cancelled(&["ThrottlingError", "None", "None"]), |e| matches!(e, StoreError::Throttled(_))),
        (error(400, "ProvisionedThroughputExceededException"), |e| matches!(e, StoreError::Throttled(_))),
        (Fate::Refuse, |e| matches!(e, StoreError::Unavailable(_))),
        (error(500, "InternalServerError"), |e| matches!(e, StoreError::Timeout { maybe_applied: true, .. })),
        (error(400, "TransactionInProgressException"), |e| {
            matches!(e, StoreError::Timeout { maybe_applied: true, .. })
        }),
        (Fate::LoseRequest, |e| matches!(e, StoreError::Timeout { maybe_applied: true, .. })),
    ];
    funded(&world).await;
    for (fate, expected) in cases {
        let (begun, always) = (Instant::now(), fate.clone());
        let (store, sent) = world.disturbed(WRITE, move |_| always.clone()).await;
        let Err(CommitError::Store(failure)) = store.commit(with_hold(job(1, &client("acme")))).await else {
            panic!("{fate:?} was no failure of the store");
        };
        assert!(expected(&failure), "{fate:?}: {failure:?}");
        let sent = sent.load(Ordering::SeqCst);
        assert!((2..=6).contains(&sent), "{fate:?}: {sent} tries");
        assert!(begun.elapsed() < Duration::from_secs(5), "{fate:?}: {:?}", begun.elapsed());
    }
    assert_eq!(held(&world).await, (10_000, 0));
}

async fn what_another_try_cannot_mend_is_sent_once(world: World) {
    funded(&world).await;
    for code in ["ValidationException", "AccessDeniedException", "ResourceNotFoundException"] {
        let (store, sent) = world.disturbed(WRITE, move |_| error(400, code)).await;
        let failure = store.commit(only(job(1, &client("acme")))).await.unwrap_err();
        assert!(matches!(failure, CommitError::Store(StoreError::Rejected(_))), "{code}: {failure:?}");
        assert_eq!(sent.load(Ordering::SeqCst), 1, "{code}");
    }
    // A fault in one of the items, by position.
    let (store, sent) = world.disturbed(WRITE, |_| cancelled(&["ValidationError"])).await;
    let failure = store.commit(only(job(1, &client("acme")))).await.unwrap_err();
    assert!(matches!(failure, CommitError::Store(StoreError::Rejected(_))), "{failure:?}");
    assert_eq!(sent.load(Ordering::SeqCst), 1);
}

async fn an_event_and_a_key_survive_a_lost_reply(world: World) {
    funded(&world).await;
    let owner = job(1, &client("acme"));
    let event = delivery(&owner);
    world.store.commit(whole(owner)).await.unwrap();
    let (store, _) = world.disturbed(WRITE, |r| if r.before == 0 { Fate::LoseReply } else { Fate::Forward }).await;
    let leased = DeliveryRecord { version: 2, tries: 1, ..event };
    store.commit_delivery(&leased).await.unwrap();
    assert_eq!(world.store.delivery(&leased.job_id, &leased.id).await.unwrap(), Some(leased));

    let (store, _) = world.disturbed("PutItem", |r| if r.before == 0 { Fate::LoseReply } else { Fate::Forward }).await;
    let key = KeyRecord {
        key_fingerprint: "f".to_owned(),
        key_hash: "h".to_owned(),
        client_id: client("acme"),
        note: None,
        enabled: true,
        created_at: at(0),
        last_used_at: None,
        calls: 0,
    };
    store.add(&key).await.unwrap();
    assert_eq!(world.store.key("f").await.unwrap(), Some(key));
}

/// Every read that decides something asks for what was last committed.
async fn reads_of_single_items_are_consistent_and_repeated_when_they_fail(world: World) {
    funded(&world).await;
    let acme = client("acme");
    world.store.commit(whole(job(1, &acme))).await.unwrap();
    let (store, sent) = world
        .disturbed("GetItem", |r| {
            assert!(r.body.contains(r#""ConsistentRead":true"#), "{}: {}", r.operation, r.body);
            match r.before % 3 {
                0 => error(500, "InternalServerError"),
                1 => Fate::LoseReply,
                _ => Fate::Forward,
            }
        })
        .await;
    assert!(store.job(&job(1, &acme).id).await.unwrap().is_some());
    assert_eq!(store.balance(&acme).await.unwrap().held, MilliCredits(2250));
    assert!(store.promise("acme#key").await.unwrap().is_some());
    assert!(store.attempt(&job(1, &acme).id, attempt(1).attempt).await.unwrap().is_some());
    assert!(store.delivery(&job(1, &acme).id, &delivery(&job(1, &acme)).id).await.unwrap().is_some());
    assert_eq!(sent.load(Ordering::SeqCst), 15);
}

async fn a_read_of_a_dead_store_is_unavailable_and_never_maybe_applied(world: World) {
    for (fate, timeout) in [(Fate::Refuse, false), (error(503, "ServiceUnavailable"), false), (Fate::LoseReply, true)] {
        let always = fate.clone();
        let (store, _) = world.disturbed("GetItem", move |_| always.clone()).await;
        let failure = store.balance(&client("acme")).await.unwrap_err();
        match failure {
            StoreError::Timeout { maybe_applied, .. } => assert!(timeout && !maybe_applied, "{fate:?}"),
            StoreError::Unavailable(_) => assert!(!timeout, "{fate:?}"),
            other => panic!("{fate:?}: {other:?}"),
        }
    }
}

/// A real server that takes the request and never answers, hangs up, or is not there at all.
#[tokio::test]
async fn a_real_connection_that_fails_is_told_apart_by_whether_the_request_was_sent() {
    let world = World::start().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = taken.local_addr().unwrap();
    drop(taken);
    let hanging_up = server(drop).await;
    let silent = server(|stream| drop(tokio::spawn(async move { hold(stream).await }))).await;
    for (address, applied) in [(dead, false), (hanging_up, true), (silent, true)] {
        let mut settings = world.settings.clone();
        settings.endpoints.as_mut().unwrap().dynamodb = format!("http://{address}").parse().unwrap();
        let store = Store::new(AwsClients::connect(&settings).await.dynamodb, settings.names);
        let begun = Instant::now();
        let Err(CommitError::Store(failure)) = store.commit(only(job(1, &client("acme")))).await else {
            panic!("nobody answered");
        };
        match failure {
            StoreError::Timeout { maybe_applied: true, .. } => assert!(applied, "{address}"),
            StoreError::Unavailable(_) => assert!(!applied, "{address}"),
            other => panic!("{other:?}"),
        }
        // 2 s in which tries may begin, 3 s for the last of them, and a little for a loaded machine.
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    }
}

/// Reads the request's first bytes, then lets `end` decide.
async fn server(end: fn(TcpStream)) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                end(stream);
            });
        }
    });
    address
}

/// Until the other side gives up.
async fn hold(mut stream: TcpStream) {
    while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
}

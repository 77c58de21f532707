//! Token buckets, usage and signs of life as stored.

use jiff::SignedDuration;
use rotoless_contract::{MilliCredits, Model, Run, UploadId};
use rotoless_core::api_key;
use rotoless_core::ledger::{Cause, Movement};
use rotoless_core::ports::{
    Accounts as _, Change, CommitError, Deliveries as _, Entry, Fleet, Jobs, Keys, UploadUse, Usage,
};
use rotoless_core::rate::{Bucket, PerMinute};
use rotoless_core::record::{Deletion, KeyRecord};
use rotoless_core::usage::{CallRecord, Tally, day};
use secrecy::SecretString;

use crate::records::{at, client, delivery, job, job_id, next, only, with_hold};
use crate::world::{Fate, World};

scenarios! {
    a_key_enters_until_its_bucket_is_empty_and_each_bucket_is_its_own,
    a_key_that_is_disabled_unknown_or_of_another_hash_never_enters,
    however_many_ask_no_more_is_given_than_the_bucket_and_a_debt_each,
    a_request_costs_one_write_whatever_the_guess,
    callers_without_a_key_share_a_bucket,
    a_day_counts_what_its_changes_and_calls_add,
    calls_are_listed_newest_first_and_per_client,
    a_deleted_job_is_in_no_list_and_a_waiting_one_in_the_line,
    an_upload_is_out_of_use_once_no_job_needs_it_and_for_ever,
    a_client_has_no_more_open_holds_than_he_may,
    the_events_of_a_job_are_listed_in_their_order,
    the_last_sign_of_life_counts,
}

const RATE: PerMinute = PerMinute::new(60);

async fn key(world: &World) -> (KeyRecord, String) {
    let key = api_key::record(&SecretString::from("rtl_k"), client("acme"), None, at(0));
    world.store.add(&key).await.unwrap();
    let hash = key.key_hash.clone();
    (key, hash)
}

async fn a_key_enters_until_its_bucket_is_empty_and_each_bucket_is_its_own(world: World) {
    let (key, hash) = key(&world).await;
    let enter =
        async |bucket, second| world.store.enter(&key.key_fingerprint, &hash, bucket, RATE, at(second)).await.unwrap();
    for left in (0..60).rev() {
        let Entry::Admitted { client: who, meter } = enter(Bucket::Creates, 100).await else { panic!("not admitted") };
        assert_eq!((who, meter.limit, meter.remaining), (client("acme"), 60, left));
    }
    let Entry::Limited(meter) = enter(Bucket::Creates, 100).await else { panic!("admitted") };
    assert_eq!((meter.remaining, meter.wait_us), (0, 1_000_000));
    assert!(matches!(enter(Bucket::Reads, 100).await, Entry::Admitted { .. }));
    assert!(matches!(enter(Bucket::Creates, 101).await, Entry::Admitted { .. }));
    assert!(matches!(enter(Bucket::Creates, 101).await, Entry::Limited(_)));
    // After a minute it is full again, and no fuller.
    let Entry::Admitted { meter, .. } = enter(Bucket::Creates, 100_000).await else { panic!("not admitted") };
    assert_eq!(meter.remaining, 59);
    let stored = Keys::list(&world.store).await.unwrap();
    assert_eq!((stored[0].calls, stored[0].last_used_at), (63, Some(at(100_000))));
}

async fn a_key_that_is_disabled_unknown_or_of_another_hash_never_enters(world: World) {
    let (key, hash) = key(&world).await;
    let enter = async |fingerprint: &str, hash: &str| {
        world.store.enter(fingerprint, hash, Bucket::Reads, RATE, at(9)).await.unwrap()
    };
    assert_eq!(enter("none", &hash).await, Entry::Unknown);
    assert_eq!(enter(&key.key_fingerprint, "another").await, Entry::Unknown);
    assert!(matches!(enter(&key.key_fingerprint, &hash).await, Entry::Admitted { .. }));
    assert!(world.store.set_enabled(&key.key_fingerprint, false).await.unwrap());
    for _ in 0..3 {
        assert_eq!(enter(&key.key_fingerprint, &hash).await, Entry::Unknown);
    }
    assert_eq!(world.store.key("none").await.unwrap(), None, "a guess leaves nothing behind");
}

async fn however_many_ask_no_more_is_given_than_the_bucket_and_a_debt_each(world: World) {
    let (key, hash) = key(&world).await;
    // Each with a memory of its own, and one request at a time: as functions run.
    let processes: Vec<_> = (0..4).map(|_| world.another_process()).collect();
    let mut admitted = 0;
    for n in 0..100 {
        let entry = processes[n % 4].enter(&key.key_fingerprint, &hash, Bucket::Reads, RATE, at(5)).await.unwrap();
        admitted += u32::from(matches!(entry, Entry::Admitted { .. }));
    }
    // What is too much is what the processes owe: a token each.
    assert!((60..=64).contains(&admitted), "{admitted}");
    let of_one = (0..100).map(|_| processes[0].enter(&key.key_fingerprint, &hash, Bucket::Creates, RATE, at(6)));
    let entries = futures::future::join_all(of_one).await;
    let admitted = entries.iter().filter(|entry| matches!(entry, Ok(Entry::Admitted { .. }))).count();
    // Writes on their way count as taken: in such a burst a few are refused whose tokens come back.
    assert!((40..=60).contains(&admitted), "one process never gives more than there is: {admitted}");
}

async fn a_request_costs_one_write_whatever_the_guess(world: World) {
    let (key, hash) = key(&world).await;
    let (store, seen) = world.disturbed("UpdateItem", |_| Fate::Forward).await;
    let writes = || seen.load(std::sync::atomic::Ordering::SeqCst);
    let enter = async |second| store.enter(&key.key_fingerprint, &hash, Bucket::Reads, RATE, at(second)).await.unwrap();
    enter(5).await;
    // Another process empties half of the bucket: what this one believes is wrong.
    let other = world.another_process();
    for _ in 0..30 {
        other.enter(&key.key_fingerprint, &hash, Bucket::Reads, RATE, at(100)).await.unwrap();
    }
    let before = writes();
    let Entry::Admitted { meter, .. } = enter(100).await else { panic!("not admitted") };
    assert_eq!((writes() - before, meter.remaining), (1, 29));
    let Entry::Admitted { meter, .. } = enter(100).await else { panic!("not admitted") };
    assert_eq!((writes() - before, meter.remaining), (2, 28), "the debt was paid");
}

async fn callers_without_a_key_share_a_bucket(world: World) {
    let take = async || world.store.enter_open(Bucket::Creates, PerMinute::new(2), at(7)).await.unwrap();
    assert!(take().await.is_ok() && take().await.is_ok());
    assert_eq!(take().await.unwrap_err().remaining, 0);
}

fn call(second: i64, request_id: &str) -> CallRecord {
    CallRecord {
        request_id: request_id.to_owned(),
        at: at(second),
        method: "POST".to_owned(),
        path: "/v1/uploads".to_owned(),
        status_code: 200,
        job_id: None,
        model: None,
        latency_ms: 3,
    }
}

async fn a_day_counts_what_its_changes_and_calls_add(world: World) {
    let acme = client("acme");
    let created = job(1, &acme);
    let tally = Tally { jobs: 1, ..Tally::default() };
    let change = Change { tally, call: Some(call(1, "req_1")), ..only(created.clone()) };
    world.store.commit(change).await.unwrap();
    let done = Tally { completed: 1, credits: MilliCredits(2250), seconds: 3, ..Tally::default() };
    world.store.commit(Change { tally: done, ..only(next(&created)) }).await.unwrap();
    world.store.record_call(&acme, &call(2, "req_2")).await.unwrap();
    let later = at(0) + SignedDuration::from_hours(24 * 3);
    world.store.record_call(&acme, &CallRecord { at: later, ..call(0, "req_3") }).await.unwrap();

    let days = world.store.days(&acme, day(at(0)), day(later)).await.unwrap();
    assert_eq!(days.len(), 2);
    assert_eq!((days[0].date, days[0].calls), (day(at(0)), 2));
    assert_eq!(days[0].models, [(Model::Human, Tally { jobs: 1, ..done })]);
    assert_eq!((days[1].calls, days[1].models.len()), (1, 0));
    assert_eq!(world.store.days(&acme, day(later), day(later)).await.unwrap().len(), 1);
    assert_eq!(world.store.days(&client("other"), day(at(0)), day(later)).await.unwrap(), []);
}

async fn calls_are_listed_newest_first_and_per_client(world: World) {
    let acme = client("acme");
    for (second, id) in [(1, "req_a"), (3, "req_c"), (2, "req_b")] {
        world.store.record_call(&acme, &call(second, id)).await.unwrap();
    }
    world.store.record_call(&client("other"), &call(9, "req_o")).await.unwrap();
    let ids = async |limit| {
        let calls = world.store.calls(&acme, limit).await.unwrap();
        calls.into_iter().map(|call| call.request_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(10).await, ["req_c", "req_b", "req_a"]);
    assert_eq!(ids(1).await, ["req_c"]);
}

async fn a_deleted_job_is_in_no_list_and_a_waiting_one_in_the_line(world: World) {
    let acme = client("acme");
    let (first, second) = (job(1, &acme), job(2, &acme));
    world.store.commit(only(second.clone())).await.unwrap();
    world.store.commit(only(first.clone())).await.unwrap();
    assert_eq!(world.store.line(10).await.unwrap(), [first.id.clone(), second.id.clone()]);
    assert_eq!(world.store.line(1).await.unwrap(), std::slice::from_ref(&first.id));
    assert_eq!(world.store.due(at(100), 10).await.unwrap(), [first.id.clone(), second.id.clone()]);
    let mut gone = next(&first);
    gone.deletion = Some(Deletion { at: at(50), media_removed: false });
    world.store.commit(only(gone)).await.unwrap();
    assert_eq!(world.store.line(10).await.unwrap(), std::slice::from_ref(&second.id));
    let query =
        rotoless_core::ports::ListQuery { client: acme, statuses: Vec::new(), limit: 9, offset: 0, cursor: None };
    let listed = Jobs::list(&world.store, &query).await.unwrap();
    assert_eq!(listed.items.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), [second.id]);
    assert_eq!(world.store.due(at(100), 10).await.unwrap().len(), 2, "its media are still to be removed");
}

/// G-41
async fn an_upload_is_out_of_use_once_no_job_needs_it_and_for_ever(world: World) {
    let acme = client("acme");
    let upload = UploadId::from_random([1; 16]);
    let uses = |n: u32, begins| {
        let (job, uploads) = (job(n, &acme), vec![UploadUse { upload: upload.clone(), begins }]);
        Change { uploads, ..only(if begins { job } else { next(&job) }) }
    };
    for n in [1, 2] {
        world.store.commit(uses(n, true)).await.unwrap();
    }
    assert!(!world.store.retire_upload(&upload).await.unwrap());
    world.store.commit(uses(1, false)).await.unwrap();
    assert!(!world.store.retire_upload(&upload).await.unwrap(), "the second still needs it");
    world.store.commit(uses(2, false)).await.unwrap();
    // Said again, because the answer was lost, it is the same.
    for _ in 0..2 {
        assert!(world.store.retire_upload(&upload).await.unwrap());
    }
    let late = world.store.commit(uses(3, true)).await.unwrap_err();
    assert!(matches!(late, CommitError::UploadGone), "{late:?}");
    assert!(world.store.job(&job_id(3)).await.unwrap().is_none());
    assert!(world.store.retire_upload(&UploadId::from_random([9; 16])).await.unwrap(), "nobody ever needed it");
}

/// G-36
async fn a_client_has_no_more_open_holds_than_he_may(world: World) {
    let acme = client("acme");
    world.store.grant(&acme, "g", MilliCredits(5 * 2250), None, at(0)).await.unwrap();
    let opens = |n: u32| Change { max_open: Some(2), ..with_hold(job(n, &acme)) };
    let settles = |n: u32, movement| {
        let job = job(n, &acme);
        let cause = Cause::Settle(job.id.clone(), Run::FIRST);
        Change { money: Some((cause, movement)), ..only(next(&job)) }
    };
    for n in [1, 2] {
        world.store.commit(opens(n)).await.unwrap();
    }
    let third = world.store.commit(opens(3)).await.unwrap_err();
    assert!(matches!(third, CommitError::TooManyOpen), "{third:?}");
    assert!(world.store.job(&job_id(3)).await.unwrap().is_none());
    // Either end of a hold makes room for one more.
    world.store.commit(settles(1, Movement::Release(MilliCredits(2250)))).await.unwrap();
    world.store.commit(opens(3)).await.unwrap();
    let (held, charged) = (MilliCredits(2250), MilliCredits(2250));
    world.store.commit(settles(2, Movement::Capture { held, charged })).await.unwrap();
    world.store.commit(opens(4)).await.unwrap();
    assert!(matches!(world.store.commit(opens(5)).await, Err(CommitError::TooManyOpen)));
    // Who can neither pay nor has room is told that he cannot pay.
    let dear = |n: u32| {
        let amount = MilliCredits(1_000_000);
        let money = Some((Cause::Hold(job_id(n), Run::FIRST), Movement::Hold(amount)));
        Change { money, ..opens(n) }
    };
    assert!(matches!(world.store.commit(dear(6)).await, Err(CommitError::InsufficientCredits)));
}

async fn the_events_of_a_job_are_listed_in_their_order(world: World) {
    let stored = job(1, &client("acme"));
    world.store.commit(only(stored.clone())).await.unwrap();
    for sequence in [2, 1] {
        let mut event = delivery(&stored);
        event.id = rotoless_contract::DeliveryId::from_random([sequence; 16]);
        event.sequence = sequence.into();
        world.store.commit_delivery(&event).await.unwrap();
    }
    let events = world.store.deliveries_of(&stored.id).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(world.store.deliveries_of(&job(2, &client("acme")).id).await.unwrap(), []);
}

async fn the_last_sign_of_life_counts(world: World) {
    assert_eq!(world.store.last_seen().await.unwrap(), None);
    world.store.seen(at(5)).await.unwrap();
    world.store.seen(at(4)).await.unwrap();
    assert_eq!(world.store.last_seen().await.unwrap(), Some(at(5)));
}

//! Jobs, events and keys as stored, and their indexes.

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::media::InputInfo;
use rotoless_contract::{JobId, JobStatus};
use rotoless_core::lifecycle::Phase;
use rotoless_core::ports::{Change, CommitError, Deliveries, JobPage, Jobs, Keys, ListCursor, ListQuery, StoreError};
use rotoless_core::record::{DeliveryRecord, JobRecord, KeyRecord};

use crate::records::{at, attempt, client, delivery, job, job_id, next, only, whole};
use crate::world::World;

scenarios! {
    a_job_comes_back_as_it_was_committed,
    a_record_that_could_not_be_read_back_is_not_written,
    only_one_of_two_changes_of_the_same_version_is_applied,
    a_list_is_walked_by_cursor_or_offset_newest_first_without_gap_or_double,
    a_list_by_status_counts_and_pages_what_matches,
    a_foreign_cursor_shows_only_ones_own_jobs,
    jobs_of_one_instant_are_all_listed,
    only_what_is_due_is_in_the_index_by_due_time,
    an_event_is_leased_by_one_and_leaves_the_index_when_sent,
    a_key_is_added_once_switched_and_listed,
}

fn json(record: &JobRecord) -> serde_json::Value {
    serde_json::to_value(record).unwrap()
}

/// The client's own data too: numbers that DynamoDB refuses, empty texts, null.
async fn a_job_comes_back_as_it_was_committed(world: World) {
    let acme = client("acme");
    let stored = job(1, &acme);
    assert!(world.store.job(&stored.id).await.unwrap().is_none());
    world.store.commit(only(stored.clone())).await.unwrap();
    let found = world.store.job(&stored.id).await.unwrap().unwrap();
    assert_eq!(json(&found), json(&stored));
}

async fn a_record_that_could_not_be_read_back_is_not_written(world: World) {
    let mut broken = job(1, &client("acme"));
    broken.input = Some(InputInfo {
        width: 1,
        height: 1,
        fps: f64::NAN,
        codec: "h264".to_owned(),
        has_audio: false,
        duration_seconds: f64::INFINITY,
    });
    let refused = world.store.commit(only(broken.clone())).await.unwrap_err();
    assert!(matches!(refused, CommitError::Store(StoreError::Rejected(_))), "{refused:?}");
    assert!(world.store.job(&broken.id).await.unwrap().is_none());
}

async fn only_one_of_two_changes_of_the_same_version_is_applied(world: World) {
    let first = job(1, &client("acme"));
    world.store.commit(only(first.clone())).await.unwrap();
    let change = only(next(&first));
    let (a, b) = tokio::join!(world.store.commit(change.clone()), world.store.commit(change));
    let stale = [&a, &b].iter().filter(|result| matches!(result, Err(CommitError::Stale))).count();
    assert_eq!((stale, a.is_ok() || b.is_ok()), (1, true));
    let skipped = JobRecord { version: 4, ..first };
    assert!(matches!(world.store.commit(only(skipped)).await, Err(CommitError::Stale)));
}

async fn listed(world: &World, query: &ListQuery) -> JobPage {
    Jobs::list(&world.store, query).await.unwrap()
}

fn query(client: &str, limit: u32) -> ListQuery {
    ListQuery { client: crate::records::client(client), statuses: Vec::new(), limit, offset: 0, cursor: None }
}

fn ids(page: &JobPage) -> Vec<JobId> {
    page.items.iter().map(|job| job.id.clone()).collect()
}

fn newest_first(numbers: impl DoubleEndedIterator<Item = u32>) -> Vec<JobId> {
    numbers.rev().map(job_id).collect()
}

/// 40 jobs, every fourth failed, attempts and another client's jobs between them.
async fn forty(world: &World) {
    let acme = client("acme");
    for n in 0..40 {
        let mut stored = job(n, &acme);
        if n % 4 == 0 {
            stored.state.phase = Phase::Failed { reason: rotoless_contract::worker::FailureReason::Cancelled };
        }
        let change = Change { attempts: vec![attempt(1)], ..only(stored) };
        world.store.commit(change).await.unwrap();
        world.store.commit(only(job(1000 + n, &client("other")))).await.unwrap();
    }
}

/// G-31 too: the client is the partition key.
async fn a_list_is_walked_by_cursor_or_offset_newest_first_without_gap_or_double(world: World) {
    forty(&world).await;
    let all = newest_first(0..40);

    let mut walked = Vec::new();
    let mut cursor: Option<ListCursor> = None;
    loop {
        let page = listed(&world, &ListQuery { cursor, ..query("acme", 7) }).await;
        assert_eq!(page.total, 40);
        walked.extend(ids(&page));
        // Through the wire and back.
        cursor = page.next_cursor.map(|cursor| cursor.to_string().parse().unwrap());
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(walked, all);

    for offset in [0, 1, 33, 39, 40, 1000] {
        let page = listed(&world, &ListQuery { offset, ..query("acme", 7) }).await;
        let expected: Vec<JobId> = all.iter().skip(offset as usize).take(7).cloned().collect();
        assert_eq!((ids(&page), page.total), (expected, 40), "offset {offset}");
        assert_eq!(page.next_cursor.is_some(), offset < 33, "offset {offset}");
    }
    let whole = listed(&world, &query("acme", 100)).await;
    assert_eq!((ids(&whole), whole.total, whole.next_cursor), (all, 40, None));
    let none = listed(&world, &query("nobody", 5)).await;
    assert_eq!((none.items.len(), none.total, none.next_cursor), (0, 0, None));
}

async fn a_list_by_status_counts_and_pages_what_matches(world: World) {
    forty(&world).await;
    let failed = newest_first((0..40).filter(|n| n % 4 == 0));
    let statuses = vec![JobStatus::Failed];
    let page = listed(&world, &ListQuery { statuses: statuses.clone(), ..query("acme", 4) }).await;
    assert_eq!((ids(&page), page.total), (failed[..4].to_vec(), 10));
    let rest = ListQuery { statuses, cursor: page.next_cursor, ..query("acme", 100) };
    let rest = listed(&world, &rest).await;
    assert_eq!((ids(&rest), rest.total, rest.next_cursor), (failed[4..].to_vec(), 10, None));
    let pending = vec![JobStatus::Pending, JobStatus::Created];
    let pending = listed(&world, &ListQuery { statuses: pending, ..query("acme", 100) }).await;
    assert_eq!(pending.total, 30);
}

/// A cursor of another client's list is a place in time: it opens nothing.
async fn a_foreign_cursor_shows_only_ones_own_jobs(world: World) {
    forty(&world).await;
    let foreign = listed(&world, &query("other", 5)).await.next_cursor;
    let page = listed(&world, &ListQuery { cursor: foreign, ..query("acme", 100) }).await;
    assert!(page.items.iter().all(|job| job.client == client("acme")));
}

/// Jobs created in the same millisecond are told apart by their ids.
async fn jobs_of_one_instant_are_all_listed(world: World) {
    for n in 0..9 {
        let stored = JobRecord { created_at: at(0), ..job(n, &client("acme")) };
        world.store.commit(only(stored)).await.unwrap();
    }
    let first = listed(&world, &query("acme", 4)).await;
    let second = listed(&world, &ListQuery { cursor: first.next_cursor.clone(), ..query("acme", 4) }).await;
    let third = listed(&world, &ListQuery { cursor: second.next_cursor.clone(), ..query("acme", 4) }).await;
    assert_eq!([ids(&first), ids(&second), ids(&third)].concat(), newest_first(0..9));
}

async fn only_what_is_due_is_in_the_index_by_due_time(world: World) {
    let acme = client("acme");
    // Committed out of order, with attempts beside them.
    for n in [3, 1, 2] {
        world.store.commit(Change { attempts: vec![attempt(1)], ..only(job(n, &acme)) }).await.unwrap();
    }
    let due = |seconds, limit| world.store.due(at(seconds), limit);
    assert_eq!(due(0, 10).await.unwrap(), []);
    assert_eq!(due(2, 10).await.unwrap(), [job_id(1), job_id(2)]);
    assert_eq!(due(9, 2).await.unwrap(), [job_id(1), job_id(2)]);
    assert_eq!(due(9, 0).await.unwrap(), []);
    let ended = JobRecord { due_at: None, ..next(&job(1, &acme)) };
    world.store.commit(only(ended)).await.unwrap();
    let later = JobRecord { due_at: Some(at(100)), ..next(&job(2, &acme)) };
    world.store.commit(only(later)).await.unwrap();
    assert_eq!(due(99, 10).await.unwrap(), [job_id(3)]);
    assert_eq!(due(100, 10).await.unwrap(), [job_id(3), job_id(2)]);
}

async fn an_event_is_leased_by_one_and_leaves_the_index_when_sent(world: World) {
    let owner = job(1, &client("acme"));
    let event = delivery(&owner);
    world.store.commit(Change { money: None, ..whole(owner) }).await.unwrap();
    let due = |seconds| world.store.due_deliveries(at(seconds), 10);
    assert_eq!(due(0).await.unwrap(), []);
    assert_eq!(due(1).await.unwrap(), [(event.job_id.clone(), event.id.clone())]);
    let leased = DeliveryRecord { version: 2, due_at: Some(at(60)), tries: 1, ..event.clone() };
    let (a, b) = tokio::join!(world.store.commit_delivery(&leased), world.store.commit_delivery(&leased));
    assert!(a.is_ok() != b.is_ok() && [a, b].into_iter().any(|r| matches!(r, Err(CommitError::Stale))));
    assert_eq!(due(59).await.unwrap(), []);
    let sent = DeliveryRecord { version: 3, due_at: None, ..leased };
    world.store.commit_delivery(&sent).await.unwrap();
    assert_eq!(due(1_000_000).await.unwrap(), []);
    assert_eq!(world.store.delivery(&event.job_id, &event.id).await.unwrap(), Some(sent));
}

async fn a_key_is_added_once_switched_and_listed(world: World) {
    let key = |n: u32, note: Option<&str>| KeyRecord {
        key_fingerprint: format!("{n:032x}"),
        key_hash: format!("{n:064x}"),
        client_id: client("acme"),
        note: note.map(str::to_owned),
        enabled: true,
        created_at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs((100 - n).into()),
        last_used_at: None,
        calls: 0,
    };
    for n in 1..=3 {
        world.store.add(&key(n, (n == 2).then_some("laptop"))).await.unwrap();
    }
    assert_eq!(world.store.key(&key(2, None).key_fingerprint).await.unwrap(), Some(key(2, Some("laptop"))));
    assert_eq!(world.store.key("none").await.unwrap(), None);
    // Adding it again changes nothing; another key under the same fingerprint is refused.
    world.store.add(&key(1, None)).await.unwrap();
    assert!(world.store.add(&KeyRecord { client_id: client("eve"), ..key(1, None) }).await.is_err());

    assert!(world.store.set_enabled(&key(3, None).key_fingerprint, false).await.unwrap());
    assert!(!world.store.set_enabled("none", true).await.unwrap());
    assert_eq!(world.store.key("none").await.unwrap(), None);
    let listed = Keys::list(&world.store).await.unwrap();
    assert_eq!(listed, [KeyRecord { enabled: false, ..key(3, None) }, key(2, Some("laptop")), key(1, None)]);
}

use super::super::chaos::Chaos;
use super::super::settings::Redrive;
use super::*;

const SECOND: i64 = 1000;
const DAY: i64 = 24 * 3600 * SECOND;

/// A store with the queue `q` (visibility 30 s, dead letters to `dead` after 3 receives).
struct Bench {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(chaos: Chaos) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("sqs.sqlite"), Dice::new(Some(chaos))).unwrap();
        let redrive = Some(Redrive { to: "dead".into(), max_receive_count: 3 });
        store.put_queue("dead", &QueueSettings { retention_seconds: 14 * 86_400, ..Default::default() }, 0).unwrap();
        store.put_queue("q", &QueueSettings { redrive, ..Default::default() }, 0).unwrap();
        Self { store, _dir: dir }
    }

    fn send(&mut self, body: &str, now: i64) {
        let message = NewMessage {
            message_id: body.to_owned(),
            body: body.to_owned(),
            attributes: "{}".to_owned(),
            group_id: None,
            delay_seconds: None,
        };
        self.store.send("q", &[message], now).unwrap();
    }

    fn receive(&mut self, queue: &str, now: i64) -> Vec<Received> {
        self.store.receive(queue, 10, None, now).unwrap().received
    }

    fn bodies(&mut self, now: i64) -> Vec<String> {
        self.receive("q", now).into_iter().map(|message| message.body).collect()
    }
}

#[test]
fn messages_come_in_the_order_they_became_visible() {
    let mut bench = Bench::new(Chaos::quiet(1));
    for (body, now) in [("a", 1), ("b", 2), ("c", 2)] {
        bench.send(body, now);
    }
    assert_eq!(bench.bodies(3), ["a", "b", "c"]);
    assert_eq!(bench.store.next_visible("q", 3).unwrap(), Some(3 + 30 * SECOND));
}

#[test]
fn a_message_is_forgotten_after_its_retention_even_in_the_dead_letter_queue() {
    let mut bench = Bench::new(Chaos::quiet(1));
    bench.send("a", 0);
    for n in 0..3 {
        assert_eq!(bench.bodies(n * 31 * SECOND), ["a"]);
    }
    let moved_at = 3 * DAY;
    let receive = bench.store.receive("q", 10, None, moved_at).unwrap();
    assert!(receive.received.is_empty() && receive.redriven);
    // Its age goes on counting from when it was sent.
    assert_eq!(bench.receive("dead", 13 * DAY)[0].sent_ms, 0);
    assert!(bench.receive("dead", 14 * DAY + 1).is_empty());

    bench.send("b", 0);
    assert_eq!(bench.store.expire_all(4 * DAY).unwrap(), 0);
    assert_eq!(bench.store.expire_all(4 * DAY + 1).unwrap(), 1);
}

#[test]
fn visibility_ends_twelve_hours_after_the_receive_however_often_it_is_extended() {
    let mut bench = Bench::new(Chaos::quiet(1));
    bench.send("a", 0);
    let receipt = bench.receive("q", 0).remove(0).receipt;
    let hour = 3600 * SECOND;
    let mut now = 0;
    while now < 11 * hour {
        bench.store.change_visibility("q", &receipt, 3600, now).unwrap();
        now += hour / 2;
    }
    let refused = bench.store.change_visibility("q", &receipt, 3601, 11 * hour);
    assert!(matches!(refused, Err(SqsError::InvalidParameterValue(_))), "{refused:?}");
    bench.store.change_visibility("q", &receipt, 3600, 11 * hour).unwrap();
}

#[test]
fn a_stale_receipt_neither_extends_nor_deletes() {
    let mut bench = Bench::new(Chaos::quiet(1));
    bench.send("a", 0);
    let stale = bench.receive("q", 0).remove(0).receipt;
    let current = bench.receive("q", 30 * SECOND).remove(0).receipt;
    let refused = bench.store.change_visibility("q", &stale, 60, 31 * SECOND);
    assert!(matches!(refused, Err(SqsError::MessageGone)), "{refused:?}");
    bench.store.delete("q", &stale).unwrap();
    assert_eq!(bench.store.depth("q", 31 * SECOND).unwrap(), Depth { in_flight: 1, ..Depth::default() });
    bench.store.delete("q", &current).unwrap();
    assert_eq!(bench.store.depth("q", 31 * SECOND).unwrap(), Depth::default());
}

#[test]
fn an_expired_receipt_still_deletes_while_it_is_the_newest() {
    let mut bench = Bench::new(Chaos::quiet(1));
    bench.send("a", 0);
    let receipt = bench.receive("q", 0).remove(0).receipt;
    let late = bench.store.change_visibility("q", &receipt, 60, 30 * SECOND);
    assert!(matches!(late, Err(SqsError::MessageNotInflight)), "{late:?}");
    bench.store.delete("q", &receipt).unwrap();
    assert!(bench.bodies(60 * SECOND).is_empty());
}

#[test]
fn a_queue_told_to_duplicate_delivers_the_same_message_to_two_receivers() {
    let mut bench = Bench::new(Chaos { duplicate: 1.0, ..Chaos::quiet(1) });
    bench.send("a", 0);
    let first = bench.receive("q", 10);
    let second = bench.receive("q", 11);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0].message_id, second[0].message_id);
    assert_ne!(first[0].receipt, second[0].receipt);
    bench.store.delete("q", &first[0].receipt).unwrap();
    assert!(bench.store.depth("q", 12).unwrap().in_flight > 0);
}

#[test]
fn a_queue_told_to_drop_deletes_delivers_again() {
    let mut bench = Bench::new(Chaos { drop_delete: 1.0, ..Chaos::quiet(1) });
    bench.send("a", 0);
    let receipt = bench.receive("q", 0).remove(0).receipt;
    bench.store.delete("q", &receipt).unwrap();
    assert!(bench.bodies(29 * SECOND).is_empty());
    assert_eq!(bench.bodies(30 * SECOND), ["a"]);
}

#[test]
fn a_queue_told_to_skip_receives_answers_with_nothing_now_and_then() {
    let mut bench = Bench::new(Chaos { skip_receive: 0.5, ..Chaos::quiet(3) });
    let mut empty = 0;
    for n in 0..100 {
        bench.send("a", n);
        empty += i32::from(bench.bodies(n).is_empty());
    }
    assert!((30..70).contains(&empty), "{empty}");
}

#[test]
fn a_queue_told_to_reorder_delivers_everything_in_an_order_its_seed_decides() {
    let order = |seed| {
        let mut bench = Bench::new(Chaos { reorder: 1.0, ..Chaos::quiet(seed) });
        for n in 0..10 {
            bench.send(&format!("{n}"), n);
        }
        bench.bodies(100)
    };
    let sent: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let mut sorted = order(5);
    assert_ne!(sorted, sent);
    assert_eq!(sorted, order(5));
    assert_ne!(sorted, order(6));
    sorted.sort();
    assert_eq!(sorted, sent);
}

#[test]
fn what_was_acknowledged_is_synced_to_the_disk() {
    let bench = Bench::new(Chaos::quiet(1));
    let synchronous: i64 = bench.store.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    let journal: String = bench.store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((synchronous, journal.as_str()), (2, "wal"));
}

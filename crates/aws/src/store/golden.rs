//! The shapes of items, written out: what is stored today must be readable tomorrow, and by the indexes.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;
use rotoless_contract::{Attempt, ClientId, JobId, MilliCredits, Run};
use rotoless_core::ledger::{Cause, Movement};
use rotoless_core::record::{AttemptRecord, IdempotencyRecord, KeyRecord};

use super::Item;
use super::codec::{attempt_item, created_key, key_item, promise_item, read_key};
use super::money::{Row, balance_update};

#[expect(clippy::wildcard_enum_match_arm, reason = "the SDK's enum; what we never write is only shown")]
fn shape(item: &Item) -> BTreeMap<&str, String> {
    let text = |value: &AttributeValue| match value {
        AttributeValue::S(text) => format!("S {text}"),
        AttributeValue::N(digits) => format!("N {digits}"),
        AttributeValue::Bool(yes) => format!("BOOL {yes}"),
        other => format!("{other:?}"),
    };
    item.iter().filter(|(name, _)| *name != "doc").map(|(name, value)| (name.as_str(), text(value))).collect()
}

fn expected<const N: usize>(attributes: [(&'static str, &str); N]) -> BTreeMap<&'static str, String> {
    attributes.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn job() -> JobId {
    JobId::from_random([0xab; 16])
}

fn client() -> ClientId {
    "acme".parse().unwrap()
}

const JOB: &str = "job_abababababababababababababababab";

#[test]
fn the_key_by_creation_sorts_by_time_to_the_millisecond() {
    assert_eq!(created_key(1_790_000_000_007, &job()), format!("2026-09-21T14:13:20.007Z#{JOB}"));
    let times = [-1, 0, 9, 10, 999, 1000, 1_790_000_000_000, 253_402_207_200_000 - 1];
    let keys: Vec<String> = times.iter().map(|ms| created_key(*ms, &job())).collect();
    assert!(keys.is_sorted(), "{keys:?}");
}

#[test]
fn an_attempt_has_no_attribute_of_an_index() {
    let attempt = AttemptRecord {
        attempt: Attempt::new(12).unwrap(),
        run: Run::FIRST,
        worker_id: "w".to_owned(),
        provider: "cpu".to_owned(),
        claimed_at: Timestamp::UNIX_EPOCH,
        ended_at: None,
        outcome: None,
    };
    let item = attempt_item(&job(), &attempt, "c0").unwrap();
    assert_eq!(
        shape(&item),
        expected([("job_id", &format!("S {JOB}")), ("entry", "S attempt#00012"), ("commit_id", "S c0")])
    );
    assert_eq!(
        item["doc"],
        AttributeValue::S(
            r#"{"attempt":12,"run":1,"worker_id":"w","provider":"cpu","claimed_at":"1970-01-01T00:00:00Z","ended_at":null,"outcome":null}"#
                .to_owned()
        )
    );
}

#[test]
fn a_promise_is_deleted_by_the_second_and_never_before_it_ends() {
    let promise = IdempotencyRecord {
        scope: "acme#k".to_owned(),
        digest: "d".to_owned(),
        job_id: job(),
        expires_at: Timestamp::from_millisecond(1_999).unwrap(),
    };
    assert_eq!(
        shape(&promise_item(&promise, "c0").unwrap()),
        expected([("scope", "S acme#k"), ("expires_at", "N 2"), ("ends_ms", "N 1999"), ("commit_id", "S c0")])
    );
}

#[test]
fn a_key_is_stored_by_its_parts() {
    let key = KeyRecord {
        key_fingerprint: "f".to_owned(),
        key_hash: "h".to_owned(),
        client_id: client(),
        note: Some("laptop".to_owned()),
        enabled: true,
        created_at: Timestamp::UNIX_EPOCH,
        last_used_at: Timestamp::from_millisecond(5).ok(),
        calls: 7,
    };
    let item = key_item(&key);
    assert_eq!(
        shape(&item),
        expected([
            ("key_fingerprint", "S f"),
            ("key_hash", "S h"),
            ("client_id", "S acme"),
            ("note", "S laptop"),
            ("enabled", "BOOL true"),
            ("created_at", "S 1970-01-01T00:00:00Z"),
            ("used_ms", "N 5"),
            ("calls", "N 7"),
        ])
    );
    assert_eq!(read_key(&item).unwrap(), key);
}

#[test]
fn a_ledger_row_tells_cause_and_deltas() {
    let cause = Cause::Settle(job(), Run::FIRST.next());
    let movement = Movement::Capture { held: MilliCredits(2250), charged: MilliCredits(750) };
    let client = client();
    let row = Row { client: &client, cause: &cause, movement, note: None, at: Timestamp::UNIX_EPOCH };
    let put: TransactWriteItem = row.put("accounts", "c0").unwrap();
    let put = put.put.unwrap();
    assert_eq!(put.condition_expression.as_deref(), Some("attribute_not_exists(entry)"));
    assert_eq!(
        shape(&put.item),
        expected([
            ("client_id", "S acme"),
            ("entry", &format!("S ledger#settle#{JOB}#2")),
            ("kind", "S capture"),
            ("available", "N 1500"),
            ("held", "N -2250"),
            ("used", "N 750"),
            ("job_id", &format!("S {JOB}")),
            ("run", "N 2"),
            ("at", "S 1970-01-01T00:00:00Z"),
            ("commit_id", "S c0"),
        ])
    );
}

/// Whatever is taken from must have that much; everything granted must fit in 64 bits.
#[test]
fn a_balance_changes_on_condition_of_every_part_that_shrinks() {
    let condition = |movement| {
        let update = balance_update("accounts", &client(), movement, None).unwrap().update.unwrap();
        let values = update.expression_attribute_values.unwrap();
        let least = |name: &str| values.get(name).and_then(|v| v.as_n().ok()).cloned();
        (update.condition_expression, least(":a_least").or(least(":h_least")).or(least(":g_most")))
    };
    let some = |condition: &str, value: &str| (Some(condition.to_owned()), Some(value.to_owned()));
    let amount = MilliCredits;
    assert_eq!(condition(Movement::Hold(amount(5))), some("#a >= :a_least", "5"));
    assert_eq!(condition(Movement::Release(amount(5))), some("#h >= :h_least", "5"));
    assert_eq!(condition(Movement::Adjust { from: amount(5), to: amount(9) }), some("#a >= :a_least", "4"));
    assert_eq!(condition(Movement::Adjust { from: amount(9), to: amount(5) }), some("#h >= :h_least", "4"));
    assert_eq!(condition(Movement::Capture { held: amount(9), charged: amount(9) }), some("#h >= :h_least", "9"));
    assert_eq!(
        condition(Movement::Grant(amount(1))),
        some("(attribute_not_exists(#g) OR #g <= :g_most)", "18446744073709551614")
    );
    assert_eq!(condition(Movement::Hold(amount(0))), (None, None));
}

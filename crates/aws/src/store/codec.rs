//! Records as items and back.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use rotoless_contract::{Attempt, ClientId, JobId, JobStatus};
use rotoless_core::ports::{ListCursor, StoreError};
use rotoless_core::record::{AttemptRecord, DeliveryRecord, IdempotencyRecord, JobRecord, KeyRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DUE_SHARD, Item, PENDING_SHARD};

/// Sort key of the job itself, beside those of its attempts.
const JOB_ENTRY: &str = "job";
/// Seconds that a webhook event is kept after it happened; the last try is within a day.
const DELIVERY_LIFE_S: i64 = 30 * 24 * 3600;

pub(super) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn n(number: impl fmt::Display) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A stored item lacks an attribute, or has one of another type.
#[derive(Debug, thiserror::Error)]
#[error("attribute {0} is missing or of another type")]
struct BadAttribute(&'static str);

pub(super) fn corrupt(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Corrupt { what, source: Box::new(source) }
}

pub(super) fn text<'a>(item: &'a Item, what: &'static str, name: &'static str) -> Result<&'a str, StoreError> {
    let found = item.get(name).and_then(|value| value.as_s().ok());
    found.map(String::as_str).ok_or_else(|| corrupt(what, BadAttribute(name)))
}

pub(super) fn number<T: std::str::FromStr>(
    item: &Item,
    what: &'static str,
    name: &'static str,
) -> Result<T, StoreError> {
    let found = item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok());
    found.ok_or_else(|| corrupt(what, BadAttribute(name)))
}

/// The record as JSON. What could not be read back is not written: a float that is no number becomes `null`.
pub(super) fn doc<T: Serialize + DeserializeOwned>(record: &T) -> Result<AttributeValue, StoreError> {
    let rejected = |e: serde_json::Error| StoreError::Rejected(e.into());
    let json = serde_json::to_string(record).map_err(rejected)?;
    serde_json::from_str::<T>(&json).map_err(rejected)?;
    Ok(AttributeValue::S(json))
}

/// The record in an item.
pub(super) fn read_doc<T: DeserializeOwned>(item: &Item, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text(item, what, "doc")?).map_err(|e| corrupt(what, e))
}

fn put_due(item: &mut Item, shard: &str, due_at: Option<Timestamp>) {
    // Both or none: the index by due time must not contain what is not due.
    if let Some(due_at) = due_at {
        item.insert("due_shard".to_owned(), s(shard));
        item.insert("due_at".to_owned(), n(due_at.as_millisecond()));
    }
}

pub(super) fn job_key(id: &JobId) -> Item {
    item([("job_id", s(id.as_str())), ("entry", s(JOB_ENTRY))])
}

/// Sorts by time, then by id: `2026-11-22T03:00:54.123Z#job_…`.
pub(super) fn created_key(created_ms: i64, id: &JobId) -> String {
    // Every caller's time is one that exists; the epoch stands in for none.
    let created = Timestamp::from_millisecond(created_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{created:.3}#{id}")
}

/// Where the index by client goes on after this place.
pub(super) fn list_position(client: &ClientId, cursor: &ListCursor) -> Item {
    let mut key = job_key(&cursor.job);
    key.insert("client_id".to_owned(), s(client.as_str()));
    key.insert("created_key".to_owned(), s(created_key(cursor.created_ms, &cursor.job)));
    key
}

pub(super) fn job_item(job: &JobRecord, commit_id: &str) -> Result<Item, StoreError> {
    let mut item = item([
        ("job_id", s(job.id.as_str())),
        ("entry", s(JOB_ENTRY)),
        ("status", s(job.state.status().as_str())),
        ("version", n(job.version)),
        ("commit_id", s(commit_id)),
        ("doc", doc(job)?),
    ]);
    if job.deletion.is_none() {
        // The index by client is sparse: what was deleted is in no list.
        item.insert("client_id".to_owned(), s(job.client.as_str()));
        item.insert("created_key".to_owned(), s(created_key(job.created_at.as_millisecond(), &job.id)));
    }
    let waits = job.state.status() == JobStatus::Pending && job.deletion.is_none();
    put_due(&mut item, if waits { PENDING_SHARD } else { DUE_SHARD }, job.due_at);
    Ok(item)
}

pub(super) fn attempt_key(id: &JobId, attempt: Attempt) -> Item {
    item([("job_id", s(id.as_str())), ("entry", s(format!("attempt#{:05}", attempt.get())))])
}

/// Without any attribute of an index.
pub(super) fn attempt_item(job: &JobId, attempt: &AttemptRecord, commit_id: &str) -> Result<Item, StoreError> {
    let mut item = attempt_key(job, attempt.attempt);
    item.insert("commit_id".to_owned(), s(commit_id));
    item.insert("doc".to_owned(), doc(attempt)?);
    Ok(item)
}

pub(super) fn delivery_key(job: &JobId, id: &rotoless_contract::DeliveryId) -> Item {
    item([("job_id", s(job.as_str())), ("delivery_id", s(id.as_str()))])
}

pub(super) fn delivery_item(delivery: &DeliveryRecord, commit_id: &str) -> Result<Item, StoreError> {
    let mut item = delivery_key(&delivery.job_id, &delivery.id);
    item.insert("version".to_owned(), n(delivery.version));
    item.insert("commit_id".to_owned(), s(commit_id));
    item.insert("expires_at".to_owned(), n(delivery.created_at.as_second() + DELIVERY_LIFE_S));
    item.insert("doc".to_owned(), doc(delivery)?);
    put_due(&mut item, DUE_SHARD, delivery.due_at);
    Ok(item)
}

pub(super) fn promise_key(scope: &str) -> Item {
    item([("scope", s(scope))])
}

pub(super) fn promise_item(promise: &IdempotencyRecord, commit_id: &str) -> Result<Item, StoreError> {
    let ends_ms = promise.expires_at.as_millisecond();
    Ok(item([
        ("scope", s(&promise.scope)),
        // For DynamoDB, which deletes by the second and must not be early; `ends_ms` is for us.
        ("expires_at", n(ends_ms.div_euclid(1000) + 1)),
        ("ends_ms", n(ends_ms)),
        ("commit_id", s(commit_id)),
        ("doc", doc(promise)?),
    ]))
}

pub(super) fn key_key(fingerprint: &str) -> Item {
    item([("key_fingerprint", s(fingerprint))])
}

/// No `doc`: `enabled` is switched by itself.
pub(super) fn key_item(key: &KeyRecord) -> Item {
    let mut item = item([
        ("key_fingerprint", s(&key.key_fingerprint)),
        ("key_hash", s(&key.key_hash)),
        ("client_id", s(key.client_id.as_str())),
        ("enabled", AttributeValue::Bool(key.enabled)),
        ("created_at", s(key.created_at.to_string())),
        ("calls", n(key.calls)),
    ]);
    if let Some(at) = key.last_used_at {
        item.insert("used_ms".to_owned(), n(at.as_millisecond()));
    }
    if let Some(note) = &key.note {
        item.insert("note".to_owned(), s(note));
    }
    item
}

pub(super) fn read_key(item: &Item) -> Result<KeyRecord, StoreError> {
    const WHAT: &str = "key";
    let enabled = item.get("enabled").and_then(|value| value.as_bool().ok()).copied();
    Ok(KeyRecord {
        key_fingerprint: text(item, WHAT, "key_fingerprint")?.to_owned(),
        key_hash: text(item, WHAT, "key_hash")?.to_owned(),
        client_id: text(item, WHAT, "client_id")?.parse().map_err(|e| corrupt(WHAT, e))?,
        note: item.get("note").and_then(|value| value.as_s().ok()).cloned(),
        enabled: enabled.ok_or_else(|| corrupt(WHAT, BadAttribute("enabled")))?,
        created_at: text(item, WHAT, "created_at")?.parse().map_err(|e| corrupt(WHAT, e))?,
        last_used_at: match item.get("used_ms") {
            Some(_) => Timestamp::from_millisecond(number(item, WHAT, "used_ms")?).ok(),
            None => None,
        },
        calls: if item.contains_key("calls") { number(item, WHAT, "calls")? } else { 0 },
    })
}

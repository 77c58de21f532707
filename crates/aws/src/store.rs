//! Jobs, credits, keys, promises and webhook events, in DynamoDB.
//!
//! Owns: the layout of the tables. Does not own: their creation (`template.yaml`), what may change (core).
//!
//! | table | key | items |
//! |---|---|---|
//! | jobs | `job_id`, `entry` | `job`, `attempt#00001` …; index `by-client` (`client_id`, `created_key`), and for each upload that a job was made from, `upload` (`open` jobs that need it, `gone`); sparse index `by-due` (`due_shard`: `0`, or `pending` for jobs that wait for a worker; `due_at` in ms) |
//! | accounts | `client_id`, `entry` | `balance` (with `open`, its open holds), `ledger#{row id}`, `signing` |
//! | deliveries | `job_id`, `delivery_id` | webhook events; sparse index `by-due`; `expires_at` in s |
//! | idempotency | `scope` | promises; `expires_at` in s, `ends_ms` in ms |
//! | keys | `key_fingerprint` | API keys, each with its token buckets and its count of calls |
//! | usage | `client_id`, `entry` | `day#2026-11-22`, `call#{time}#{request}`; `expires_at` in s |
//! | limits | `bucket` | the bucket of callers without a key; workers' last sign of life; what the sweep found at the wake service; who is awake, `eventcount` |
//!
//! A record is one JSON text, `doc`, beside the attributes that keys, indexes and conditions need. JSON and not a
//! map, because client data comes with it (`metadata`) and DynamoDB's numbers refuse what JSON allows (1e300).
//!
//! Invariants: `available + held + used = granted` in every balance item, each ≥ 0; a balance changes only together
//! with a new ledger row; every item that a transaction puts carries its `commit_id`.

mod accounts;
mod books;
mod buckets;
mod codec;
mod commit;
mod deliveries;
mod eventcount;
mod fleet;
#[cfg(test)]
mod golden;
mod jobs;
mod keys;
mod list;
mod money;
mod promises;
mod signings;
mod transaction;
mod uploads;
mod usage;
mod wake_memory;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use rotoless_core::ports::StoreError;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Names;
use crate::error::{Effect, classify};
use crate::retry;

type Item = HashMap<String, AttributeValue>;

/// The tables.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    names: Names,
    /// Writes on their way, of this process. Without a bound two hundred at once on a slow store (the embedded
    /// one writes one by one) each wait there longer than their time-out, are given up and sent again while the
    /// first is still in line, and none ever ends: measured. A Lambda sandbox never has more than one.
    in_flight: Arc<Semaphore>,
    /// What this process knows of token buckets.
    known: buckets::Known,
}

/// Writes of one process on their way at once: a store that needs 180 ms for each still answers in time.
const IN_FLIGHT: usize = 16;
/// How long a write waits for its turn: with its tries well within the time of an answer.
const LONGEST_QUEUE: Duration = Duration::from_secs(10);

/// The store is slower than what this process asks of it.
#[derive(Debug, thiserror::Error)]
#[error("too many writes of this process are on their way")]
struct TooManyInFlight;

/// The shard of the indexes by due time: a thousand changes a second are far away.
const DUE_SHARD: &str = "0";
/// The shard of jobs that wait for a worker: in the order of their due times they are, nearly, the queue.
const PENDING_SHARD: &str = "pending";

impl Store {
    /// The tables of these names. `client` must not retry by itself.
    #[must_use]
    pub fn new(client: Client, names: Names) -> Self {
        Self { client, names, in_flight: Arc::new(Semaphore::new(IN_FLIGHT)), known: buckets::Known::default() }
    }

    /// The right to have a write on its way, until it is dropped.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let turn = tokio::time::timeout(LONGEST_QUEUE, self.in_flight.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| StoreError::Throttled(TooManyInFlight.into()))
    }

    /// One item, as last committed.
    async fn get(&self, table: &str, key: &Item) -> Result<Option<Item>, StoreError> {
        retry::read(|| async {
            let get = self.client.get_item().table_name(table).set_key(Some(key.clone())).consistent_read(true);
            get.send().await.map(|reply| reply.item).map_err(|e| classify(e, Effect::None))
        })
        .await
    }

    /// Keys of up to `limit` items whose `due_at` is not after `now_ms`, earliest first.
    async fn due_keys(&self, table: &str, shard: &str, now_ms: i64, limit: u32) -> Result<Vec<Item>, StoreError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        // One page: 1 MB of keys is more than any caller asks for.
        retry::read(|| async {
            let query = self
                .client
                .query()
                .table_name(table)
                .index_name("by-due")
                .key_condition_expression("due_shard = :shard AND due_at <= :now")
                .expression_attribute_values(":shard", codec::s(shard))
                .expression_attribute_values(":now", codec::n(now_ms))
                .limit(limit);
            query.send().await.map(|reply| reply.items.unwrap_or_default()).map_err(|e| classify(e, Effect::None))
        })
        .await
    }
}

//! Jobs, credits, keys, promises and webhook events, in DynamoDB.
//!
//! Owns: the layout of the tables. Does not own: their creation (`template.yaml`), what may change (core).
//!
//! | table | key | items |
//! |---|---|---|
//! | jobs | `job_id`, `entry` | `job`, `attempt#00001` …; index `by-client` (`client_id`, `created_key`), sparse index `by-due` (`due_shard`, `due_at` in ms) |
//! | accounts | `client_id`, `entry` | `balance`, `ledger#{row id}` |
//! | deliveries | `job_id`, `delivery_id` | webhook events; sparse index `by-due`; `expires_at` in s |
//! | idempotency | `scope` | promises; `expires_at` in s, `ends_ms` in ms |
//! | keys | `key_fingerprint` | API keys |
//!
//! A record is one JSON text, `doc`, beside the attributes that keys, indexes and conditions need. JSON and not a
//! map, because client data comes with it (`metadata`) and DynamoDB's numbers refuse what JSON allows (1e300).
//!
//! Invariants: `available + held + used = granted` in every balance item, each ≥ 0; a balance changes only together
//! with a new ledger row; every item that a transaction puts carries its `commit_id`.

mod accounts;
mod codec;
mod commit;
mod deliveries;
#[cfg(test)]
mod golden;
mod jobs;
mod keys;
mod list;
mod money;
mod promises;
mod transaction;

pub use accounts::LedgerRow;

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use rotoless_core::ports::StoreError;

use crate::config::Names;
use crate::error::{Effect, classify};
use crate::retry;

type Item = HashMap<String, AttributeValue>;

/// The tables.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    names: Names,
}

/// The only shard of the indexes by due time: a thousand changes a second are far away.
const DUE_SHARD: &str = "0";

impl Store {
    /// The tables of these names. `client` must not retry by itself.
    #[must_use]
    pub fn new(client: Client, names: Names) -> Self {
        Self { client, names }
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
    async fn due_keys(&self, table: &str, now_ms: i64, limit: u32) -> Result<Vec<Item>, StoreError> {
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
                .expression_attribute_values(":shard", codec::s(DUE_SHARD))
                .expression_attribute_values(":now", codec::n(now_ms))
                .limit(limit);
            query.send().await.map(|reply| reply.items.unwrap_or_default()).map_err(|e| classify(e, Effect::None))
        })
        .await
    }
}

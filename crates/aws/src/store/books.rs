//! The port of whole accounts: reads everything, page by page.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};
use jiff::Timestamp;
use rotoless_contract::ClientId;
use rotoless_core::books::LedgerRow;
use rotoless_core::ledger::{Cause, Delta, Movement};
use rotoless_core::ports::{Books, CommitError, StoreError};

use super::codec::{corrupt, number, s, text};
use super::money::Row;
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry;

const WHAT: &str = "ledger row";

/// DynamoDB takes so many deletions at once.
const BATCH: usize = 25;

#[async_trait]
impl Books for Store {
    async fn clients(&self) -> Result<Vec<ClientId>, StoreError> {
        let mut found = BTreeSet::new();
        let accounts = |scan: ScanFluentBuilder| {
            scan.table_name(&self.names.accounts)
                .filter_expression("entry = :balance")
                .expression_attribute_values(":balance", s("balance"))
        };
        self.scan_clients(&mut found, accounts).await?;
        let jobs = |scan: ScanFluentBuilder| scan.table_name(&self.names.jobs).index_name("by-client");
        self.scan_clients(&mut found, jobs).await?;
        Ok(found.into_iter().collect())
    }

    async fn ledger(&self, client: &ClientId) -> Result<Vec<LedgerRow>, StoreError> {
        let items = self.entries(&self.names.accounts, client, "ledger#").await?;
        items.iter().map(read_row).collect()
    }

    async fn write(
        &self,
        client: &ClientId,
        cause: &Cause,
        movement: Movement,
        note: &str,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        self.move_alone(Row { client, cause, movement, note: Some(note), at: now }).await
    }

    async fn forget_usage(&self, client: &ClientId) -> Result<(), StoreError> {
        let table = &self.names.usage;
        let mut items = self.entries(table, client, "").await?;
        while !items.is_empty() {
            let batch = items.split_off(items.len().saturating_sub(BATCH));
            let mut requests = Vec::with_capacity(batch.len());
            for mut item in batch {
                item.retain(|name, _| matches!(name.as_str(), "client_id" | "entry"));
                let delete = DeleteRequest::builder().set_key(Some(item)).build().map_err(|e| corrupt("usage", e))?;
                requests.push(WriteRequest::builder().delete_request(delete).build());
            }
            let reply = retry::read(|| async {
                let batch = self.client.batch_write_item().request_items(table, requests.clone());
                batch.send().await.map_err(|e| classify(e, Effect::None))
            })
            .await?;
            // What it had no time for comes again.
            let left = reply.unprocessed_items.unwrap_or_default().remove(table).unwrap_or_default();
            items.extend(left.into_iter().filter_map(|request| Some(request.delete_request?.key)));
        }
        Ok(())
    }
}

impl Store {
    /// All entries of a client whose names begin so, as last committed.
    async fn entries(&self, table: &str, client: &ClientId, prefix: &str) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        let mut position: Option<Item> = None;
        loop {
            let page = retry::read(|| async {
                let mut query = self
                    .client
                    .query()
                    .table_name(table)
                    .key_condition_expression("client_id = :client")
                    .expression_attribute_values(":client", s(client.as_str()))
                    .consistent_read(true)
                    .set_exclusive_start_key(position.clone());
                if !prefix.is_empty() {
                    query = query
                        .key_condition_expression("client_id = :client AND begins_with(entry, :prefix)")
                        .expression_attribute_values(":prefix", s(prefix));
                }
                query.send().await.map_err(|e| classify(e, Effect::None))
            })
            .await?;
            items.extend(page.items.unwrap_or_default());
            position = page.last_evaluated_key;
            if position.is_none() {
                return Ok(items);
            }
        }
    }

    async fn scan_clients(
        &self,
        found: &mut BTreeSet<ClientId>,
        shape: impl Fn(ScanFluentBuilder) -> ScanFluentBuilder + Sync,
    ) -> Result<(), StoreError> {
        let mut position: Option<Item> = None;
        loop {
            let page = retry::read(|| async {
                let scan = self.client.scan().projection_expression("client_id");
                let scan = shape(scan).set_exclusive_start_key(position.clone());
                scan.send().await.map_err(|e| classify(e, Effect::None))
            })
            .await?;
            for item in page.items() {
                found.insert(text(item, "account", "client_id")?.parse().map_err(|e| corrupt("account", e))?);
            }
            position = page.last_evaluated_key;
            if position.is_none() {
                return Ok(());
            }
        }
    }
}

fn read_row(item: &Item) -> Result<LedgerRow, StoreError> {
    let entry = text(item, WHAT, "entry")?;
    let job = match item.get("job_id") {
        Some(_) => {
            let job = text(item, WHAT, "job_id")?.parse().map_err(|e| corrupt(WHAT, e))?;
            Some((job, number(item, WHAT, "run")?))
        }
        None => None,
    };
    Ok(LedgerRow {
        row_id: entry.strip_prefix("ledger#").unwrap_or(entry).to_owned(),
        kind: text(item, WHAT, "kind")?.to_owned(),
        delta: Delta {
            available: number(item, WHAT, "available")?,
            held: number(item, WHAT, "held")?,
            used: number(item, WHAT, "used")?,
        },
        job,
        at: text(item, WHAT, "at")?.parse().map_err(|e| corrupt(WHAT, e))?,
    })
}

//! The port of usage: `day#2026-11-22` counters and `call#{time}#{request}` events, one partition a client.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use rotoless_contract::{ClientId, MilliCredits, Model};
use rotoless_core::ports::{CommitError, StoreError, Usage};
use rotoless_core::usage::{CallRecord, DayUsage, Tally, day};

use super::codec::{corrupt, doc, item, n, read_doc, s, text};
use super::transaction::{Role, Transaction};
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry;

const WHAT: &str = "usage";
/// Usage can be asked for 90 days; some slack, because a day begins in UTC.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 100);

/// The counters of a model on a day: attribute suffixes and their values.
fn counters(tally: &Tally) -> [(&'static str, u64); 5] {
    [
        ("jobs", tally.jobs),
        ("completed", tally.completed),
        ("failed", tally.failed),
        ("credits_milli", tally.credits.0),
        ("seconds", tally.seconds),
    ]
}

fn day_key(client: &ClientId, date: Date) -> Item {
    item([("client_id", s(client.as_str())), ("entry", s(format!("day#{date}")))])
}

fn expires(at: Timestamp) -> AttributeValue {
    n(at.saturating_add(LIFE).unwrap_or(Timestamp::MAX).as_second())
}

impl Store {
    /// Adds to the counters of the day of `at`. `None` where nothing is to be added.
    pub(super) fn count(
        &self,
        client: &ClientId,
        at: Timestamp,
        tally: Option<(Model, &Tally)>,
        calls: u64,
    ) -> Result<Option<TransactWriteItem>, StoreError> {
        let mut adds: Vec<(String, u64)> = Vec::new();
        if let Some((model, tally)) = tally {
            let nonzero = counters(tally).into_iter().filter(|(_, value)| *value > 0);
            adds.extend(nonzero.map(|(name, value)| (format!("{model}_{name}"), value)));
        }
        if calls > 0 {
            adds.push(("calls".to_owned(), calls));
        }
        if adds.is_empty() {
            return Ok(None);
        }
        let mut update = Update::builder()
            .table_name(&self.names.usage)
            .set_key(Some(day_key(client, day(at))))
            .expression_attribute_names("#expires", "expires_at")
            .expression_attribute_values(":expires", expires(at));
        let mut clauses = Vec::new();
        for (index, (name, value)) in adds.into_iter().enumerate() {
            clauses.push(format!("#a{index} :a{index}"));
            update = update
                .expression_attribute_names(format!("#a{index}"), name)
                .expression_attribute_values(format!(":a{index}"), n(value));
        }
        let expression = format!("SET #expires = :expires ADD {}", clauses.join(", "));
        let update = update.update_expression(expression).build().map_err(|e| StoreError::Rejected(e.into()))?;
        Ok(Some(TransactWriteItem::builder().update(update).build()))
    }

    /// Puts a request kept as an event.
    pub(super) fn call(&self, client: &ClientId, call: &CallRecord) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.names.usage)
            .item("client_id", s(client.as_str()))
            .item("entry", s(format!("call#{:.3}#{}", call.at, call.request_id)))
            .item("expires_at", expires(call.at))
            .item("doc", doc(call)?)
            .build()
            .map_err(|e| StoreError::Rejected(e.into()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    async fn usage_range(
        &self,
        client: &ClientId,
        range: (String, String),
        forward: bool,
        limit: Option<i32>,
    ) -> Result<Vec<Item>, StoreError> {
        // One page: ninety days of counters, or a hundred events, are far below its 1 MB.
        let (from, to) = range;
        retry::read(|| async {
            let query = self
                .client
                .query()
                .table_name(&self.names.usage)
                .key_condition_expression("client_id = :client AND entry BETWEEN :from AND :to")
                .expression_attribute_values(":client", s(client.as_str()))
                .expression_attribute_values(":from", s(&from))
                .expression_attribute_values(":to", s(&to))
                .scan_index_forward(forward)
                .set_limit(limit);
            query.send().await.map(|reply| reply.items.unwrap_or_default()).map_err(|e| classify(e, Effect::None))
        })
        .await
    }
}

#[async_trait]
impl Usage for Store {
    async fn record_call(&self, client: &ClientId, call: &CallRecord) -> Result<(), StoreError> {
        let mut transaction = Transaction::begin();
        transaction.add(Role::Usage, self.call(client, call)?);
        if let Some(count) = self.count(client, call.at, None, 1)? {
            transaction.add(Role::Usage, count);
        }
        match transaction.apply(self).await {
            Ok(()) => Ok(()),
            Err(CommitError::Store(err)) => Err(err),
            // It has no condition that could fail.
            Err(
                err @ (CommitError::Stale
                | CommitError::InsufficientCredits
                | CommitError::AlreadyInLedger
                | CommitError::KeyTaken
                | CommitError::TooManyOpen
                | CommitError::UploadGone),
            ) => Err(StoreError::Rejected(err.into())),
        }
    }

    async fn days(&self, client: &ClientId, first: Date, last: Date) -> Result<Vec<DayUsage>, StoreError> {
        let items = self.usage_range(client, (format!("day#{first}"), format!("day#{last}")), true, None).await?;
        items.iter().map(read_day).collect()
    }

    async fn calls(&self, client: &ClientId, limit: u32) -> Result<Vec<CallRecord>, StoreError> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        // `$` follows `#`.
        let items = self.usage_range(client, ("call#".to_owned(), "call$".to_owned()), false, Some(limit)).await?;
        items.iter().map(|item| read_doc(item, WHAT)).collect()
    }
}

fn read_day(item: &Item) -> Result<DayUsage, StoreError> {
    let date = text(item, WHAT, "entry")?.trim_start_matches("day#").parse().map_err(|e| corrupt(WHAT, e))?;
    let count = |name: &str| {
        let value = item.get(name).and_then(|value| value.as_n().ok());
        value.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let of_model = |model: Model| {
        let count = |name: &str| count(&format!("{model}_{name}"));
        Tally {
            jobs: count("jobs"),
            completed: count("completed"),
            failed: count("failed"),
            credits: MilliCredits(count("credits_milli")),
            seconds: count("seconds"),
        }
    };
    let models = Model::ALL.iter().map(|model| (*model, of_model(*model))).filter(|(_, tally)| !tally.is_empty());
    Ok(DayUsage { date, calls: count("calls"), models: models.collect() })
}

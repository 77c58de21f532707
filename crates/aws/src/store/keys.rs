//! The port of API keys.

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use rotoless_core::api_key;
use rotoless_core::ports::{Entry, Keys, StoreError};
use rotoless_core::rate::{Bucket, Meter, PerMinute, micros};
use rotoless_core::record::KeyRecord;

use super::buckets::{Demand, Draw, Taken};
use super::codec::{item, key_item, key_key, read_key, s};
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry::{self, Tries};

/// Another key has this fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("another key has the same fingerprint")]
struct FingerprintTaken;

#[async_trait]
impl Keys for Store {
    async fn key(&self, fingerprint: &str) -> Result<Option<KeyRecord>, StoreError> {
        let item = self.get(&self.names.keys, &key_key(fingerprint)).await?;
        item.map(|item| read_key(&item)).transpose()
    }

    async fn enter(
        &self,
        fingerprint: &str,
        hash: &str,
        bucket: Bucket,
        rate: PerMinute,
        now: Timestamp,
    ) -> Result<Entry, StoreError> {
        let draw = Draw {
            table: &self.names.keys,
            key: key_key(fingerprint),
            name: fingerprint,
            bucket,
            rate,
            now,
            demand: Some(Demand { hash }),
        };
        match self.draw(&draw).await? {
            Taken::NoItem => Ok(Entry::Unknown),
            Taken::Empty(meter) => Ok(Entry::Limited(meter)),
            Taken::Token(item, meter) => {
                let key = read_key(&item)?;
                // The condition compared it; here in constant time, and whatever the store made of it.
                Ok(if api_key::opens(&key, hash) {
                    Entry::Admitted { client: key.client_id, meter }
                } else {
                    Entry::Unknown
                })
            }
        }
    }

    async fn enter_open(
        &self,
        bucket: Bucket,
        rate: PerMinute,
        now: Timestamp,
    ) -> Result<Result<Meter, Meter>, StoreError> {
        let draw = Draw {
            table: &self.names.limits,
            key: item([("bucket", s("open"))]),
            name: "open",
            bucket,
            rate,
            now,
            demand: None,
        };
        Ok(match self.draw(&draw).await? {
            Taken::Token(_, meter) => Ok(meter),
            Taken::Empty(meter) => Err(meter),
            // Refused without an item: another process makes it at this moment.
            Taken::NoItem => Ok(Meter::full(rate, micros(now))),
        })
    }

    async fn add(&self, key: &KeyRecord) -> Result<(), StoreError> {
        let mut tries = Tries::begin();
        loop {
            let put = self
                .client
                .put_item()
                .table_name(&self.names.keys)
                .set_item(Some(key_item(key)))
                .condition_expression("attribute_not_exists(key_fingerprint)");
            let Err(failure) = put.send().await else { return Ok(()) };
            if failure.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) {
                // Ours, where the reply to an earlier try was lost.
                let same = self.key(&key.key_fingerprint).await?.as_ref() == Some(key);
                return if same { Ok(()) } else { Err(StoreError::Rejected(FingerprintTaken.into())) };
            }
            let error = classify(failure, Effect::Change).error;
            if !tries.again(&error).await {
                return Err(error);
            }
        }
    }

    async fn set_enabled(&self, fingerprint: &str, enabled: bool) -> Result<bool, StoreError> {
        let mut tries = Tries::begin();
        loop {
            let update = self
                .client
                .update_item()
                .table_name(&self.names.keys)
                .set_key(Some(key_key(fingerprint)))
                .update_expression("SET #enabled = :enabled")
                .condition_expression("attribute_exists(key_fingerprint)")
                .expression_attribute_names("#enabled", "enabled")
                .expression_attribute_values(":enabled", AttributeValue::Bool(enabled));
            let Err(failure) = update.send().await else { return Ok(true) };
            if failure.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) {
                return Ok(false);
            }
            let error = classify(failure, Effect::Change).error;
            if !tries.again(&error).await {
                return Err(error);
            }
        }
    }

    async fn list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let mut keys = Vec::new();
        let mut position: Option<Item> = None;
        loop {
            let page = retry::read(|| async {
                let scan = self
                    .client
                    .scan()
                    .table_name(&self.names.keys)
                    .consistent_read(true)
                    .set_exclusive_start_key(position.clone());
                scan.send().await.map_err(|e| classify(e, Effect::None))
            })
            .await?;
            for item in page.items() {
                keys.push(read_key(item)?);
            }
            position = page.last_evaluated_key;
            if position.is_none() {
                keys.sort_by(|a, b| (a.created_at, &a.key_fingerprint).cmp(&(b.created_at, &b.key_fingerprint)));
                return Ok(keys);
            }
        }
    }
}

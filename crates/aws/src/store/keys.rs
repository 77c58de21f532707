//! The port of API keys.

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use rotoless_core::ports::{Keys, StoreError};
use rotoless_core::record::KeyRecord;

use super::codec::{key_item, key_key, read_key};
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

//! The port of workers' signs of life: one item beside the rate limits.

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use jiff::Timestamp;
use rotoless_core::ports::{Fleet, StoreError};

use super::codec::{corrupt, item, n, number, s};
use super::{Item, Store};
use crate::error::{Effect, classify};

fn key() -> Item {
    item([("bucket", s("worker-last-seen"))])
}

#[async_trait]
impl Fleet for Store {
    async fn seen(&self, now: Timestamp) -> Result<(), StoreError> {
        // One try: the next sign of life does as well.
        let update = self
            .client
            .update_item()
            .table_name(&self.names.limits)
            .set_key(Some(key()))
            .update_expression("SET seen_ms = :now")
            .condition_expression("attribute_not_exists(seen_ms) OR seen_ms < :now")
            .expression_attribute_values(":now", n(now.as_millisecond()));
        match update.send().await {
            Ok(_) => Ok(()),
            Err(failure)
                if failure.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) =>
            {
                Ok(())
            }
            Err(failure) => Err(classify(failure, Effect::Change).error),
        }
    }

    async fn last_seen(&self) -> Result<Option<Timestamp>, StoreError> {
        const WHAT: &str = "sign of life";
        let Some(item) = self.get(&self.names.limits, &key()).await? else { return Ok(None) };
        let at = Timestamp::from_millisecond(number(&item, WHAT, "seen_ms")?).map_err(|e| corrupt(WHAT, e))?;
        Ok(Some(at))
    }
}

//! The port of webhook events.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::{DeliveryId, JobId};
use rotoless_core::ports::{CommitError, Deliveries, StoreError};
use rotoless_core::record::DeliveryRecord;

use super::codec::{corrupt, delivery_item, delivery_key, read_doc, s, text};
use super::transaction::{Condition, Role, Transaction};
use super::{DUE_SHARD, Store};
use crate::error::{Effect, classify};
use crate::retry;

const WHAT: &str = "delivery";

#[async_trait]
impl Deliveries for Store {
    async fn due_deliveries(&self, now: Timestamp, limit: u32) -> Result<Vec<(JobId, DeliveryId)>, StoreError> {
        let keys = self.due_keys(&self.names.deliveries, DUE_SHARD, now.as_millisecond(), limit).await?;
        keys.iter()
            .map(|key| {
                let job = text(key, WHAT, "job_id")?.parse().map_err(|e| corrupt(WHAT, e))?;
                let delivery = text(key, WHAT, "delivery_id")?.parse().map_err(|e| corrupt(WHAT, e))?;
                Ok((job, delivery))
            })
            .collect()
    }

    async fn delivery(&self, job: &JobId, id: &DeliveryId) -> Result<Option<DeliveryRecord>, StoreError> {
        let item = self.get(&self.names.deliveries, &delivery_key(job, id)).await?;
        item.map(|item| read_doc(&item, WHAT)).transpose()
    }

    async fn deliveries_of(&self, job: &JobId) -> Result<Vec<DeliveryRecord>, StoreError> {
        // One page: a job has a few events, of a few KB each.
        let items = retry::read(|| async {
            let query = self
                .client
                .query()
                .table_name(&self.names.deliveries)
                .key_condition_expression("job_id = :job")
                .expression_attribute_values(":job", s(job.as_str()))
                .consistent_read(true);
            query.send().await.map(|reply| reply.items.unwrap_or_default()).map_err(|e| classify(e, Effect::None))
        })
        .await?;
        let mut events: Vec<DeliveryRecord> =
            items.iter().map(|item| read_doc(item, WHAT)).collect::<Result<_, _>>()?;
        events.sort_by_key(|event| event.sequence);
        Ok(events)
    }

    async fn commit_delivery(&self, record: &DeliveryRecord) -> Result<(), CommitError> {
        // A transaction of one: twice the price of a put, and the same care about lost replies.
        let mut transaction = Transaction::begin();
        let item = delivery_item(record, &transaction.commit_id)?;
        let condition = Condition::of_version(record.version, "delivery_id");
        let key = delivery_key(&record.job_id, &record.id);
        transaction.put(Role::Judged, &self.names.deliveries, key, item, &condition)?;
        transaction.apply(self).await
    }
}

//! Which uploads are needed: a count of jobs that have not ended, moved by the transactions that begin and end them.
//!
//! Invariant: `open` is that count, and is not above zero once `gone` is set: no job begins to need an upload that is
//! out of use. Both are conditions of writes, so that nobody is asked who may lag behind.

use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use rotoless_contract::UploadId;
use rotoless_core::ports::{StoreError, UploadUse};

use super::codec::{item, n, s};
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry::Tries;

/// Beside the jobs: an upload's id is none of theirs.
fn upload_key(upload: &UploadId) -> Item {
    item([("job_id", s(upload.as_str())), ("entry", s("upload"))])
}

/// One more or one less.
pub(super) fn use_update(table: &str, usage: &UploadUse) -> Result<TransactWriteItem, BuildError> {
    let update = Update::builder()
        .table_name(table)
        .set_key(Some(upload_key(&usage.upload)))
        .update_expression("ADD #open :by")
        .expression_attribute_names("#open", "open")
        .expression_attribute_values(":by", n(if usage.begins { 1 } else { -1 }));
    let update = if usage.begins {
        update.condition_expression("attribute_not_exists(#gone)").expression_attribute_names("#gone", "gone")
    } else {
        update
    };
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

impl Store {
    pub(super) async fn retire(&self, upload: &UploadId) -> Result<bool, StoreError> {
        let _turn = self.turn().await?;
        let mut tries = Tries::begin();
        loop {
            let update = self
                .client
                .update_item()
                .table_name(&self.names.jobs)
                .set_key(Some(upload_key(upload)))
                .update_expression("SET #gone = :true")
                .condition_expression("attribute_not_exists(#open) OR #open <= :none")
                .expression_attribute_names("#gone", "gone")
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":true", AttributeValue::Bool(true))
                .expression_attribute_values(":none", n(0));
            let failure = match update.send().await {
                Ok(_) => return Ok(true),
                Err(failure) => failure,
            };
            // Said twice it is the same: a lost answer needs no thought.
            if let SdkError::ServiceError(service) = &failure
                && let UpdateItemError::ConditionalCheckFailedException(_) = service.err()
            {
                return Ok(false);
            }
            let error = classify(failure, Effect::Change).error;
            if !tries.again(&error).await {
                return Err(error);
            }
        }
    }
}

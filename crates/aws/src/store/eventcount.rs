//! The port of the eventcount: one item beside the rate limits, each call one write of it.
//!
//! | attribute | meaning |
//! |---|---|
//! | `seq` | messages announced |
//! | `risen` | how often a worker said that it is there |
//! | `awake:{worker}` | until when that worker counts as awake, ms |
//! | `coming_ms` | until when somebody starts workers |
//!
//! Each write may be repeated: announcing a message twice makes a worker look once more, and the rest comes to the same.
//! A reservation is tried once, because it could not be told from another's.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;
use rotoless_contract::WorkerId;
use rotoless_core::eventcount::Eventcount;
use rotoless_core::ports::{Eventcounts, StoreError};

use super::codec::{corrupt, item, n, number, s};
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry::Tries;

const WHAT: &str = "eventcount";
const AWAKE: &str = "awake:";
const COMING: &str = "coming_ms";

/// What a conditional write found.
enum Written {
    /// It was made; the item after it.
    Done(Item),
    /// The condition did not hold; the item as it is.
    Refused(Item),
}

fn attribute(worker: &WorkerId) -> String {
    format!("{AWAKE}{worker}")
}

fn ms(time: Timestamp) -> aws_sdk_dynamodb::types::AttributeValue {
    n(time.as_millisecond())
}

fn moment(item: &Item, name: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(number(item, WHAT, name)?).map_err(|e| corrupt(WHAT, e))
}

fn read(item: &Item) -> Result<Eventcount, StoreError> {
    let mut count = Eventcount::default();
    if item.contains_key("seq") {
        count.seq = number(item, WHAT, "seq")?;
    }
    if item.contains_key("risen") {
        count.risen = number(item, WHAT, "risen")?;
    }
    if item.contains_key(COMING) {
        count.coming = Some(moment(item, COMING)?);
    }
    for (name, value) in item {
        let Some(worker) = name.strip_prefix(AWAKE) else { continue };
        let worker: WorkerId = worker.parse().map_err(|e| corrupt(WHAT, e))?;
        let until = HashMap::from([("until".to_owned(), value.clone())]);
        count.awake.insert(worker, moment(&until, "until")?);
    }
    Ok(count)
}

impl Store {
    /// An update of the item, not yet said which.
    fn eventcount(&self, expression: &str) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.names.limits)
            .set_key(Some(item([("bucket", s("eventcount"))])))
            .update_expression(expression)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    async fn update_count(&self, update: &UpdateItemFluentBuilder) -> Result<Written, StoreError> {
        let _turn = self.turn().await?;
        let mut tries = Tries::begin();
        loop {
            match once(update).await {
                Err(err) if tries.again(&err).await => tracing::debug!(error = %err, "writing again"),
                outcome => return outcome,
            }
        }
    }
}

async fn once(update: &UpdateItemFluentBuilder) -> Result<Written, StoreError> {
    let failure = match update.clone().send().await {
        Ok(reply) => return Ok(Written::Done(reply.attributes.unwrap_or_default())),
        Err(failure) => failure,
    };
    if let SdkError::ServiceError(service) = &failure
        && let UpdateItemError::ConditionalCheckFailedException(refused) = service.err()
    {
        return Ok(Written::Refused(refused.item().cloned().unwrap_or_default()));
    }
    Err(classify(failure, Effect::Change).error)
}

#[async_trait]
impl Eventcounts for Store {
    async fn ring(&self) -> Result<Eventcount, StoreError> {
        let update = self.eventcount("ADD seq :one").expression_attribute_values(":one", n(1));
        match self.update_count(&update).await? {
            Written::Done(item) | Written::Refused(item) => read(&item),
        }
    }

    async fn rise(&self, worker: &WorkerId, until: Timestamp) -> Result<Eventcount, StoreError> {
        let update = self
            .eventcount("SET #worker = :until REMOVE coming_ms ADD seq :none, risen :one")
            .expression_attribute_names("#worker", attribute(worker))
            .expression_attribute_values(":until", ms(until))
            .expression_attribute_values(":none", n(0))
            .expression_attribute_values(":one", n(1));
        match self.update_count(&update).await? {
            Written::Done(item) | Written::Refused(item) => read(&item),
        }
    }

    async fn renew(&self, worker: &WorkerId, until: Timestamp) -> Result<Eventcount, StoreError> {
        let update = self
            .eventcount("SET #worker = :until")
            .condition_expression("attribute_exists(#worker)")
            .expression_attribute_names("#worker", attribute(worker))
            .expression_attribute_values(":until", ms(until));
        match self.update_count(&update).await? {
            Written::Done(item) | Written::Refused(item) => read(&item),
        }
    }

    async fn sleep(&self, worker: &WorkerId, seq: Option<u64>) -> Result<bool, StoreError> {
        let mut update = self.eventcount("REMOVE #worker").expression_attribute_names("#worker", attribute(worker));
        if let Some(seq) = seq {
            update = update.condition_expression("seq = :seq").expression_attribute_values(":seq", n(seq));
        }
        Ok(matches!(self.update_count(&update).await?, Written::Done(_)))
    }

    async fn reserve(&self, risen: u64, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let none_rose = if risen == 0 { "attribute_not_exists(risen)" } else { "risen = :risen" };
        let condition = format!("{none_rose} AND (attribute_not_exists(coming_ms) OR coming_ms <= :now)");
        let mut update = self
            .eventcount("SET coming_ms = :until")
            .condition_expression(condition)
            .expression_attribute_values(":until", ms(until))
            .expression_attribute_values(":now", ms(now));
        if risen > 0 {
            update = update.expression_attribute_values(":risen", n(risen));
        }
        let _turn = self.turn().await?;
        Ok(matches!(once(&update).await?, Written::Done(_)))
    }

    async fn cancel(&self, until: Timestamp) -> Result<(), StoreError> {
        let update = self
            .eventcount("REMOVE coming_ms")
            .condition_expression("coming_ms = :until")
            .expression_attribute_values(":until", ms(until));
        self.update_count(&update).await.map(drop)
    }

    async fn forget(&self, worker: &WorkerId, until: Timestamp) -> Result<(), StoreError> {
        let update = self
            .eventcount("REMOVE #worker")
            .condition_expression("#worker = :until")
            .expression_attribute_names("#worker", attribute(worker))
            .expression_attribute_values(":until", ms(until));
        self.update_count(&update).await.map(drop)
    }
}

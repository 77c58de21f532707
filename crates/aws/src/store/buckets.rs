//! Token buckets: one number an item, moved by one conditional write a request.
//!
//! A bucket is the moment when it will be full again (`rotoless_core::rate`). Taking a token is
//! `max(full, now) + token`, and DynamoDB has no `max`: the write says either "it was full, so now + token" or "it
//! was not, so full + token", each on condition that this is so. Which one, this process guesses from what it saw
//! last. A wrong guess is refused with the item as it is, and the request is judged by that; its token is then owed,
//! and paid by the process's next write on the bucket. So a request costs one write, never two, and what is given
//! too much is at most what a process owed when it ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;
use rotoless_core::ports::StoreError;
use rotoless_core::rate::{self, Bucket, Meter, PerMinute, WINDOW_US};

use super::codec::n;
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry::Tries;

/// Buckets that a process remembers; beyond them it forgets all, which costs a guess each.
const REMEMBERED: usize = 10_000;

/// What this process knows of buckets. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<(String, &'static str), Seen>>>);

/// A bucket as last seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    full_us: i64,
    /// Tokens given and not yet written.
    owed: u32,
    /// Tokens that writes on their way take.
    carried: u32,
}

impl Seen {
    /// A write was refused: the item as it is, and what this process owes, decide.
    fn judge(&mut self, draw: &Draw<'_>, now_us: i64, tokens: u32, item: Option<Item>) -> Taken {
        let Some(item) = item.filter(|item| draw.demand.as_ref().is_none_or(|demand| demand.is_met(item))) else {
            return Taken::NoItem;
        };
        self.full_us = self.full_us.max(moment(&item, draw.bucket));
        match rate::take(draw.rate, self.full_us, now_us, self.owed + self.carried + tokens) {
            Ok(after) => Taken::Token(item, Meter::at(draw.rate, after, now_us)),
            Err(meter) => Taken::Empty(meter),
        }
    }
}

impl Known {
    fn with<T>(&self, key: (String, &'static str), work: impl FnOnce(&mut Seen) -> T) -> T {
        // A panic elsewhere leaves numbers behind, and numbers are never half written.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > REMEMBERED {
            known.clear();
        }
        work(known.entry(key).or_default())
    }
}

/// Attribute of a bucket.
const fn attribute(bucket: Bucket) -> &'static str {
    match bucket {
        Bucket::Reads => "reads_full_us",
        Bucket::Creates => "creates_full_us",
    }
}

/// What one write found.
pub(super) enum Taken {
    /// The item is not there, or not as the caller demands.
    NoItem,
    /// The bucket holds too little.
    Empty(Meter),
    /// A token was taken. The item is as it was just before or just after.
    Token(Item, Meter),
}

/// A bucket to take from.
pub(super) struct Draw<'a> {
    pub(super) table: &'a str,
    pub(super) key: Item,
    /// Names the item in this process's memory.
    pub(super) name: &'a str,
    pub(super) bucket: Bucket,
    pub(super) rate: PerMinute,
    pub(super) now: Timestamp,
    /// What the item must be like besides; none: it is made where it is not.
    pub(super) demand: Option<Demand<'a>>,
}

/// A key that opens.
pub(super) struct Demand<'a> {
    pub(super) hash: &'a str,
}

impl Store {
    pub(super) async fn draw(&self, draw: &Draw<'_>) -> Result<Taken, StoreError> {
        let now_us = rate::micros(draw.now);
        let id = || (draw.name.to_owned(), attribute(draw.bucket));
        let begun = self.known.with(id(), |seen| {
            // What this process knows is never more than the truth: others only take. So an empty bucket is empty, and
            // a flood costs no write at all.
            rate::take(draw.rate, seen.full_us, now_us, seen.owed + seen.carried + 1)?;
            let tokens = std::mem::take(&mut seen.owed) + 1;
            seen.carried += tokens;
            Ok((tokens, seen.full_us >= now_us))
        });
        let (tokens, runs) = match begun {
            Ok(begun) => begun,
            Err(meter) => return Ok(Taken::Empty(meter)),
        };
        let written = self.write(draw, now_us, runs, tokens).await;
        self.known.with(id(), |seen| {
            seen.carried -= tokens.min(seen.carried);
            let taken = match written {
                Ok(Written::Done(item)) => {
                    let full_us = moment(&item, draw.bucket);
                    seen.full_us = seen.full_us.max(full_us);
                    return Ok(Taken::Token(item, Meter::at(draw.rate, full_us, now_us)));
                }
                Ok(Written::Refused(item)) => Ok(seen.judge(draw, now_us, tokens, item)),
                Err(error) => Err(error),
            };
            // Nothing was written: what was owed is owed still, and the token that was given all the same.
            seen.owed += tokens - u32::from(!matches!(taken, Ok(Taken::Token(..))));
            taken
        })
    }

    async fn write(&self, draw: &Draw<'_>, now_us: i64, runs: bool, tokens: u32) -> Result<Written, StoreError> {
        let cost = draw.rate.token_us() * i64::from(tokens);
        let (set, mut condition) = if runs {
            ("#full = #full + :cost", "#full >= :now AND #full <= :most".to_owned())
        } else {
            ("#full = :after", "(attribute_not_exists(#full) OR #full < :now)".to_owned())
        };
        if draw.demand.is_some() {
            condition.push_str(" AND key_hash = :hash AND enabled = :true");
        }
        let _turn = self.turn().await?;
        let mut tries = Tries::begin();
        loop {
            let mut update = self
                .client
                .update_item()
                .table_name(draw.table)
                .set_key(Some(draw.key.clone()))
                .update_expression(format!("SET {set}, used_ms = :used ADD calls :calls"))
                .condition_expression(&condition)
                .expression_attribute_names("#full", attribute(draw.bucket))
                .expression_attribute_values(":now", n(now_us))
                .expression_attribute_values(":used", n(draw.now.as_millisecond()))
                .expression_attribute_values(":calls", n(tokens))
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            update = if runs {
                update
                    .expression_attribute_values(":cost", n(cost))
                    .expression_attribute_values(":most", n(now_us + WINDOW_US - cost))
            } else {
                update.expression_attribute_values(":after", n(now_us + cost))
            };
            if let Some(demand) = &draw.demand {
                update = update
                    .expression_attribute_values(":hash", AttributeValue::S(demand.hash.to_owned()))
                    .expression_attribute_values(":true", AttributeValue::Bool(true));
            }
            let failure = match update.send().await {
                Ok(reply) => return Ok(Written::Done(reply.attributes.unwrap_or_default())),
                Err(failure) => failure,
            };
            if let SdkError::ServiceError(service) = &failure
                && let UpdateItemError::ConditionalCheckFailedException(refused) = service.err()
            {
                return Ok(Written::Refused(refused.item().cloned()));
            }
            let error = classify(failure, Effect::Change).error;
            if !tries.again(&error).await {
                return Err(error);
            }
        }
    }
}

enum Written {
    Done(Item),
    Refused(Option<Item>),
}

impl Demand<'_> {
    fn is_met(&self, item: &Item) -> bool {
        let hash = item.get("key_hash").and_then(|value| value.as_s().ok());
        let enabled = item.get("enabled").and_then(|value| value.as_bool().ok());
        hash.is_some_and(|hash| hash == self.hash) && enabled == Some(&true)
    }
}

/// The bucket's full moment; a bucket that was never used is full since ever.
fn moment(item: &Item, bucket: Bucket) -> i64 {
    let stored = item.get(attribute(bucket)).and_then(|value| value.as_n().ok());
    stored.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

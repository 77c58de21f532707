//! What calls of AWS cost: how many there were, their capacity units, how long they took.
//!
//! Owns: an interceptor of the SDK that asks DynamoDB for the consumed capacity of every call and adds up what is
//! answered. Does not own: who has one ([`crate::AwsClients::metered`]; clients of other origin pay nothing for it).
//!
//! Units are the service's own answer. A refused write answers with none, although AWS charges for it: such calls are
//! counted apart, as `refused`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextMut, BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::get_item::{GetItemInput, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemInput, PutItemOutput};
use aws_sdk_dynamodb::operation::query::{QueryInput, QueryOutput};
use aws_sdk_dynamodb::operation::scan::{ScanInput, ScanOutput};
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsInput, TransactWriteItemsOutput};
use aws_sdk_dynamodb::operation::update_item::{UpdateItemInput, UpdateItemOutput};
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};
use aws_smithy_runtime_api::client::interceptors::context::{Input, Output};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

/// Counts the calls of the clients that were built with it. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct CallMeter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    calls: Calls,
    /// Begin and end of each call.
    spans: Vec<(Instant, Instant)>,
}

/// What was called.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calls {
    /// Ended calls by service and operation, as AWS names them.
    pub by_operation: BTreeMap<(String, String), u64>,
    /// Read capacity units of DynamoDB.
    pub read_units: f64,
    /// Write capacity units of DynamoDB, those of the indexes included.
    pub write_units: f64,
    /// Calls of DynamoDB that ended in an error: their units are not known.
    pub refused: u64,
    /// Time during which at least one call was under way.
    pub busy: Duration,
}

const DYNAMODB: &str = "DynamoDB";

impl Calls {
    /// Calls of a service: `DynamoDB`, `S3`, `SQS`.
    #[must_use]
    pub fn of(&self, service: &str) -> u64 {
        self.by_operation.iter().filter(|((of, _), _)| of == service).map(|(_, count)| count).sum()
    }

    /// Calls of DynamoDB that read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        let reads = |operation: &str| matches!(operation, "GetItem" | "Query" | "Scan");
        let of = self.by_operation.iter().filter(|((service, operation), _)| service == DYNAMODB && reads(operation));
        of.map(|(_, count)| count).sum()
    }

    /// Calls of DynamoDB that write.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.of(DYNAMODB) - self.reads()
    }
}

impl CallMeter {
    /// What was called since the last look.
    #[must_use]
    pub fn take(&self) -> Calls {
        let State { mut calls, spans } = self.with(std::mem::take);
        calls.busy = union(spans);
        calls
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // Numbers are never half written.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Time that the spans cover; what overlaps counts once.
fn union(mut spans: Vec<(Instant, Instant)>) -> Duration {
    spans.sort_unstable();
    let mut covered = Duration::ZERO;
    let mut until = None;
    for (begin, end) in spans {
        let from = until.map_or(begin, |until: Instant| until.max(begin));
        covered += end.saturating_duration_since(from);
        until = Some(until.map_or(end, |until| until.max(end)));
    }
    covered
}

/// In the call's own bag: a call that is given up on leaves nothing behind.
#[derive(Debug)]
struct Begun(Instant);

impl Storable for Begun {
    type Storer = StoreReplace<Self>;
}

impl Intercept for CallMeter {
    fn name(&self) -> &'static str {
        "CallMeter"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Begun(Instant::now()));
        Ok(())
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        ask(context.input_mut());
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let ended = Instant::now();
        let (Some(called), Some(Begun(begun))) = (bag.load::<Metadata>(), bag.load::<Begun>()) else { return Ok(()) };
        let units = match context.output_or_error() {
            Some(Ok(output)) => Some(units(output)),
            Some(Err(_)) | None => None,
        };
        self.with(|state| {
            let name = (called.service().to_owned(), called.name().to_owned());
            *state.calls.by_operation.entry(name).or_default() += 1;
            state.spans.push((*begun, ended));
            match units {
                Some(Units { read, written }) => {
                    state.calls.read_units += read;
                    state.calls.write_units += written;
                }
                None => state.calls.refused += u64::from(called.service() == DYNAMODB),
            }
        });
        Ok(())
    }
}

/// Has the consumed capacity answered, where the call is one of those that this crate makes of DynamoDB.
fn ask(input: &mut Input) {
    macro_rules! ask {
        ($($call:ty),*) => {$(
            if let Some(call) = input.downcast_mut::<$call>() {
                call.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
            }
        )*};
    }
    ask!(GetItemInput, QueryInput, ScanInput, PutItemInput, UpdateItemInput, TransactWriteItemsInput);
}

#[derive(Debug, Default)]
struct Units {
    read: f64,
    written: f64,
}

fn units(output: &Output) -> Units {
    let mut units = Units::default();
    macro_rules! add {
        ($side:ident: $($answer:ty),*) => {$(
            if let Some(answer) = output.downcast_ref::<$answer>() {
                let consumed: Option<&ConsumedCapacity> = answer.consumed_capacity();
                units.$side += consumed.and_then(ConsumedCapacity::capacity_units).unwrap_or(0.0);
            }
        )*};
    }
    add!(read: GetItemOutput, QueryOutput, ScanOutput);
    add!(written: PutItemOutput, UpdateItemOutput);
    if let Some(answer) = output.downcast_ref::<TransactWriteItemsOutput>() {
        // A repeated token is answered, and charged, as a read of the items.
        for table in answer.consumed_capacity() {
            let read = table.read_capacity_units().unwrap_or(0.0);
            units.read += read;
            units.written += table.capacity_units().unwrap_or(0.0) - read;
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_calls_share_counts_once() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        assert_eq!(union(Vec::new()), Duration::ZERO);
        assert_eq!(union(vec![(at(20), at(30)), (at(0), at(10))]), Duration::from_millis(20));
        assert_eq!(union(vec![(at(0), at(10)), (at(5), at(15)), (at(6), at(7))]), Duration::from_millis(15));
    }
}

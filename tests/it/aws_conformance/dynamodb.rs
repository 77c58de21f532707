//! DynamoDB: transactions, conditions, paging, limits.

use super::checks;
use super::stack::{Stack, eventually, unique};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, CancellationReason, GlobalSecondaryIndex, KeySchemaElement,
    KeyType, Projection, ProjectionType, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
    TableStatus, TransactWriteItem, Update,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) type Item = HashMap<String, AttributeValue>;

/// A client and a table of two string keys `p` and `s`, with the sparse index `by-g` of `g` (string) and `n` (number).
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) table: String,
    /// What has to live as long as the client.
    pub(super) _host: Option<Stack>,
}

impl AsRef<Target> for Target {
    fn as_ref(&self) -> &Target {
        self
    }
}

impl Target {
    pub(super) async fn embedded() -> Self {
        let stack = Stack::start().await;
        Self::create(stack.clients.dynamodb.clone(), Some(stack)).await
    }

    pub(super) async fn create(client: Client, host: Option<Stack>) -> Self {
        let table = unique("rotoless-conformance");
        let key = |name: &str, kind: KeyType| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
        };
        let attribute = |name: &str, kind: ScalarAttributeType| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
        };
        let index = GlobalSecondaryIndex::builder()
            .index_name("by-g")
            .key_schema(key("g", KeyType::Hash))
            .key_schema(key("n", KeyType::Range))
            .projection(Projection::builder().projection_type(ProjectionType::All).build())
            .build()
            .unwrap();
        client
            .create_table()
            .table_name(&table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("p", ScalarAttributeType::S))
            .attribute_definitions(attribute("s", ScalarAttributeType::S))
            .attribute_definitions(attribute("g", ScalarAttributeType::S))
            .attribute_definitions(attribute("n", ScalarAttributeType::N))
            .key_schema(key("p", KeyType::Hash))
            .key_schema(key("s", KeyType::Range))
            .global_secondary_indexes(index)
            .send()
            .await
            .unwrap();
        eventually(Duration::from_secs(120), async || {
            let described = client.describe_table().table_name(&table).send().await.unwrap();
            described.table.and_then(|t| t.table_status).filter(|status| *status == TableStatus::Active)
        })
        .await;
        Self { client, table, _host: host }
    }

    fn put(&self, item: Item) -> TransactWriteItem {
        let put = Put::builder().table_name(&self.table).set_item(Some(item)).build().unwrap();
        TransactWriteItem::builder().put(put).build()
    }

    /// Writes the item only if its key is free; a refusal carries what was there.
    fn put_new(&self, item: Item) -> TransactWriteItem {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(p)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .unwrap();
        TransactWriteItem::builder().put(put).build()
    }

    async fn get(&self, p: &str, s: &str) -> Option<Item> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        get.key("p", text(p)).key("s", text(s)).send().await.unwrap().item
    }

    async fn store(&self, item: Item) {
        self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await.unwrap();
    }

    async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<(), TransactWriteItemsError> {
        let sent = self.client.transact_write_items().set_transact_items(Some(items)).send().await;
        sent.map(|_| ()).map_err(aws_sdk_dynamodb::error::SdkError::into_service_error)
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn item(p: &str, s: &str, more: &[(&str, AttributeValue)]) -> Item {
    let mut item = Item::from([("p".to_owned(), text(p)), ("s".to_owned(), text(s))]);
    item.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    item
}

fn reasons(error: &TransactWriteItemsError) -> &[CancellationReason] {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = error else {
        panic!("not cancelled but {error:?}")
    };
    canceled.cancellation_reasons()
}

checks!(
    Target, super::Target::embedded;
    a_transaction_happens_whole_or_not_at_all,
    a_cancelled_transaction_says_why_in_order_and_what_was_there,
    a_repeated_token_writes_once_and_other_content_under_it_is_refused,
    two_hundred_reservations_of_a_balance_of_fifty_take_exactly_fifty,
    a_refused_condition_carries_the_item_that_was_there,
    updates_count_default_and_return_what_they_made,
    an_index_pages_in_order_and_leaves_out_items_without_its_keys,
    sort_keys_answer_ranges_prefixes_and_reverse_order,
    a_page_ends_at_one_megabyte_and_says_where_to_go_on,
    an_item_has_at_most_400_kilobytes,
    reserved_words_need_an_alias,
    a_consistent_read_sees_every_write_and_an_index_cannot_promise_that,
    a_transaction_has_at_most_100_items_each_once,
    numbers_keep_38_digits,
    keys_are_neither_missing_nor_empty,
    a_batch_write_stores_25_items_and_refuses_26,
);

async fn a_transaction_happens_whole_or_not_at_all(t: &Target) {
    let p = unique("p");
    t.store(item(&p, "taken", &[])).await;
    let error = t.transact(vec![t.put(item(&p, "new", &[])), t.put_new(item(&p, "taken", &[]))]).await.unwrap_err();
    assert_eq!(reasons(&error).len(), 2);
    assert_eq!(t.get(&p, "new").await, None);

    t.transact(vec![t.put(item(&p, "new", &[])), t.put_new(item(&p, "free", &[]))]).await.unwrap();
    assert!(t.get(&p, "new").await.is_some() && t.get(&p, "free").await.is_some());
}

async fn a_cancelled_transaction_says_why_in_order_and_what_was_there(t: &Target) {
    let p = unique("p");
    let there = item(&p, "b", &[("colour", text("red"))]);
    t.store(there.clone()).await;
    let writes = ["a", "b", "c"].map(|s| t.put_new(item(&p, s, &[])));
    let error = t.transact(writes.to_vec()).await.unwrap_err();
    let codes: Vec<_> = reasons(&error).iter().map(|reason| reason.code().unwrap_or_default()).collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed", "None"]);
    assert_eq!(reasons(&error)[1].item, Some(there));
    assert_eq!(reasons(&error)[0].item, None);
}

async fn a_repeated_token_writes_once_and_other_content_under_it_is_refused(t: &Target) {
    let p = unique("p");
    let token = unique("t").chars().take(36).collect::<String>();
    let add = |by: i64| {
        let update = Update::builder()
            .table_name(&t.table)
            .key("p", text(&p))
            .key("s", text("count"))
            .update_expression("ADD amount :by")
            .expression_attribute_values(":by", number(by))
            .build()
            .unwrap();
        let update = TransactWriteItem::builder().update(update).build();
        t.client.transact_write_items().client_request_token(&token).transact_items(update).send()
    };
    add(1).await.unwrap();
    add(1).await.unwrap();
    assert_eq!(t.get(&p, "count").await.unwrap()["amount"], number(1));
    let error = add(2).await.unwrap_err().into_service_error();
    assert!(error.is_idempotent_parameter_mismatch_exception(), "{error:?}");
    assert_eq!(t.get(&p, "count").await.unwrap()["amount"], number(1));
}

async fn two_hundred_reservations_of_a_balance_of_fifty_take_exactly_fifty(t: &Target) {
    let p = unique("p");
    t.store(item(&p, "balance", &[("available", number(50)), ("held", number(0))])).await;
    let attempts = (0..200).map(|i| reserve(t, &p, i));
    let taken = futures::future::join_all(attempts).await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 50);
    let balance = t.get(&p, "balance").await.unwrap();
    assert_eq!((&balance["available"], &balance["held"]), (&number(0), &number(50)));
    let holds = t.client.query().table_name(&t.table).consistent_read(true);
    let holds = holds.key_condition_expression("p = :p AND begins_with(s, :hold)");
    let holds = holds.expression_attribute_values(":p", text(&p)).expression_attribute_values(":hold", text("hold#"));
    assert_eq!(holds.send().await.unwrap().count, 50);
}

/// One unit off the balance, with its hold and its record, in one transaction; tried again while others conflict.
async fn reserve(t: &Target, p: &str, i: usize) -> bool {
    for attempt in 0_u64..200 {
        let debit = Update::builder()
            .table_name(&t.table)
            .key("p", text(p))
            .key("s", text("balance"))
            .update_expression("SET available = available - :one, held = held + :one")
            .condition_expression("available >= :one")
            .expression_attribute_values(":one", number(1))
            .build()
            .unwrap();
        let writes = vec![
            TransactWriteItem::builder().update(debit).build(),
            t.put_new(item(p, &format!("hold#{i}"), &[])),
            t.put_new(item(p, &format!("record#{i}"), &[])),
        ];
        let Err(error) = t.transact(writes).await else { return true };
        let conflict = if let TransactWriteItemsError::TransactionCanceledException(canceled) = &error {
            let codes: Vec<_> = canceled.cancellation_reasons().iter().filter_map(CancellationReason::code).collect();
            !codes.contains(&"ConditionalCheckFailed") && codes.into_iter().any(is_conflict)
        } else {
            error.code().is_some_and(is_conflict)
        };
        if !conflict {
            assert_eq!(reasons(&error)[0].code(), Some("ConditionalCheckFailed"), "{error:?}");
            return false;
        }
        tokio::time::sleep(Duration::from_millis((i as u64 * 7 + attempt * 13) % 200)).await;
    }
    panic!("reservation {i} met nothing but conflicts");
}

fn is_conflict(code: &str) -> bool {
    [
        // In a cancellation's reasons.
        "TransactionConflict",
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
        // Of the call itself.
        "TransactionInProgressException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
    ]
    .contains(&code)
}

async fn a_refused_condition_carries_the_item_that_was_there(t: &Target) {
    let p = unique("p");
    let there = item(&p, "s", &[("version", number(3))]);
    t.store(there.clone()).await;
    let update = t.client.update_item().table_name(&t.table).key("p", text(&p)).key("s", text("s"));
    let update = update
        .update_expression("SET version = :next")
        .condition_expression("version = :expected")
        .expression_attribute_values(":next", number(5))
        .expression_attribute_values(":expected", number(4))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let error = update.send().await.unwrap_err().into_service_error();
    let aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(failed) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(failed.item, Some(there.clone()));

    let delete = t.client.delete_item().table_name(&t.table).key("p", text(&p)).key("s", text("s"));
    let delete = delete.condition_expression("attribute_not_exists(version)").send().await;
    assert!(delete.unwrap_err().into_service_error().is_conditional_check_failed_exception());
    let put = t.client.put_item().table_name(&t.table).set_item(Some(item(&p, "s", &[])));
    let put = put.condition_expression("attribute_not_exists(p)").send().await;
    assert!(put.unwrap_err().into_service_error().is_conditional_check_failed_exception());
    assert_eq!(t.get(&p, "s").await, Some(there));
}

async fn updates_count_default_and_return_what_they_made(t: &Target) {
    let p = unique("p");
    let update = |expression: &str| {
        let update = t.client.update_item().table_name(&t.table).key("p", text(&p)).key("s", text("s"));
        update
            .update_expression(expression)
            .expression_attribute_values(":two", number(2))
            .return_values(ReturnValue::AllNew)
            .send()
    };
    let made = update("ADD hits :two SET started = if_not_exists(started, :two)").await.unwrap();
    assert_eq!(made.attributes, Some(item(&p, "s", &[("hits", number(2)), ("started", number(2))])));
    let made = update("SET hits = hits + :two, started = if_not_exists(absent, started)").await.unwrap();
    assert_eq!(made.attributes, Some(item(&p, "s", &[("hits", number(4)), ("started", number(2))])));
    let made = update("REMOVE started ADD hits :two").await.unwrap();
    assert_eq!(made.attributes, Some(item(&p, "s", &[("hits", number(6))])));
}

async fn an_index_pages_in_order_and_leaves_out_items_without_its_keys(t: &Target) {
    let (p, g) = (unique("p"), unique("g"));
    for n in 0..25 {
        t.store(item(&p, &format!("{n}"), &[("g", text(&g)), ("n", number(100 - n))])).await;
    }
    t.store(item(&p, "without n", &[("g", text(&g))])).await;
    t.store(item(&p, "without either", &[])).await;
    let expected: Vec<AttributeValue> = (76..=100).map(number).collect();
    eventually(Duration::from_secs(20), async || {
        let (mut seen, mut pages, mut start) = (Vec::new(), 0, None);
        loop {
            let query = t.client.query().table_name(&t.table).index_name("by-g").limit(10);
            let query = query.key_condition_expression("g = :g").expression_attribute_values(":g", text(&g));
            let page = query.set_exclusive_start_key(start).send().await.unwrap();
            pages += 1;
            seen.extend(page.items().iter().map(|item| item["n"].clone()));
            start = page.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        (seen == expected && pages == 3).then_some(())
    })
    .await;
}

async fn sort_keys_answer_ranges_prefixes_and_reverse_order(t: &Target) {
    let p = unique("p");
    for s in ["attempt#00001", "attempt#00002", "attempt#00010", "event#1", "job"] {
        t.store(item(&p, s, &[])).await;
    }
    let ask = async |condition: &str, a: &str, b: Option<&str>, forward: bool| {
        let query = t.client.query().table_name(&t.table).consistent_read(true).scan_index_forward(forward);
        let mut query = query
            .key_condition_expression(format!("p = :p AND {condition}"))
            .expression_attribute_values(":p", text(&p))
            .expression_attribute_values(":a", text(a));
        if let Some(b) = b {
            query = query.expression_attribute_values(":b", text(b));
        }
        let found = query.send().await.unwrap();
        found.items().iter().map(|item| item["s"].as_s().unwrap().clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        ask("begins_with(s, :a)", "attempt#", None, false).await,
        ["attempt#00010", "attempt#00002", "attempt#00001"]
    );
    assert_eq!(
        ask("s BETWEEN :a AND :b", "attempt#00002", Some("event#1"), true).await,
        ["attempt#00002", "attempt#00010", "event#1"]
    );
    assert_eq!(ask("s > :a", "attempt#00010", None, true).await, ["event#1", "job"]);
}

async fn a_page_ends_at_one_megabyte_and_says_where_to_go_on(t: &Target) {
    let p = unique("p");
    let ballast = "x".repeat(300_000);
    for n in 0..5 {
        t.store(item(&p, &format!("{n}"), &[("ballast", text(&ballast))])).await;
    }
    let query = || {
        let query = t.client.query().table_name(&t.table).consistent_read(true);
        query.key_condition_expression("p = :p").expression_attribute_values(":p", text(&p))
    };
    let first = query().send().await.unwrap();
    assert!((3..=4).contains(&first.count), "{} items on the first page", first.count);
    let second = query().set_exclusive_start_key(first.last_evaluated_key).send().await.unwrap();
    assert_eq!(first.count + second.count, 5);
    assert_eq!(second.last_evaluated_key, None);
}

async fn an_item_has_at_most_400_kilobytes(t: &Target) {
    let p = unique("p");
    let put = |bytes: usize| {
        let item = item(&p, "s", &[("a", text(&"x".repeat(bytes)))]);
        t.client.put_item().table_name(&t.table).set_item(Some(item)).send()
    };
    put(409_600 - 200).await.unwrap();
    let error = put(409_600).await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("ValidationException"), "{error:?}");
}

async fn reserved_words_need_an_alias(t: &Target) {
    let p = unique("p");
    t.store(item(&p, "s", &[("status", text("held"))])).await;
    let update = || {
        let update = t.client.update_item().table_name(&t.table).key("p", text(&p)).key("s", text("s"));
        update.expression_attribute_values(":new", text("captured"))
    };
    let error = update().update_expression("SET status = :new").send().await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("ValidationException"), "{error:?}");
    let aliased = update().update_expression("SET #s = :new").expression_attribute_names("#s", "status");
    aliased.send().await.unwrap();
    assert_eq!(t.get(&p, "s").await.unwrap()["status"], text("captured"));
}

async fn a_consistent_read_sees_every_write_and_an_index_cannot_promise_that(t: &Target) {
    let p = unique("p");
    for n in 0..20 {
        t.store(item(&p, "s", &[("n", number(n)), ("g", text(&p))])).await;
        assert_eq!(t.get(&p, "s").await.unwrap()["n"], number(n));
    }
    let query = t.client.query().table_name(&t.table).index_name("by-g").consistent_read(true);
    let query = query.key_condition_expression("g = :g").expression_attribute_values(":g", text(&p));
    let error = query.send().await.unwrap_err().into_service_error();
    assert_eq!(error.code(), Some("ValidationException"), "{error:?}");
}

async fn a_transaction_has_at_most_100_items_each_once(t: &Target) {
    let p = unique("p");
    let puts = |count: usize| (0..count).map(|n| t.put(item(&p, &format!("{n}"), &[]))).collect::<Vec<_>>();
    t.transact(puts(100)).await.unwrap();
    assert_eq!(t.transact(puts(101)).await.unwrap_err().code(), Some("ValidationException"));
    let twice = vec![t.put(item(&p, "same", &[])), t.put(item(&p, "same", &[]))];
    assert_eq!(t.transact(twice).await.unwrap_err().code(), Some("ValidationException"));
    assert_eq!(t.get(&p, "same").await, None);
}

async fn numbers_keep_38_digits(t: &Target) {
    let p = unique("p");
    let long = "12345678901234567890123456789012345678";
    t.store(item(&p, "s", &[("n", AttributeValue::N(long.to_owned()))])).await;
    let update = t.client.update_item().table_name(&t.table).key("p", text(&p)).key("s", text("s"));
    let update = update.update_expression("ADD n :one").expression_attribute_values(":one", number(1));
    let made = update.return_values(ReturnValue::UpdatedNew).send().await.unwrap();
    assert_eq!(made.attributes.unwrap()["n"], AttributeValue::N("12345678901234567890123456789012345679".to_owned()));
    let longer = item(&p, "s", &[("n", AttributeValue::N(format!("{long}9")))]);
    let error = t.client.put_item().table_name(&t.table).set_item(Some(longer)).send().await.unwrap_err();
    assert_eq!(error.into_service_error().code(), Some("ValidationException"));
}

async fn keys_are_neither_missing_nor_empty(t: &Target) {
    let p = unique("p");
    let refused = [item(&p, "", &[]), item("", "s", &[]), Item::from([("p".to_owned(), text(&p))])];
    for item in refused {
        let error = t.client.put_item().table_name(&t.table).set_item(Some(item)).send().await.unwrap_err();
        assert_eq!(error.into_service_error().code(), Some("ValidationException"));
    }
    let absent = t.client.get_item().table_name("rotoless-conformance-no-such-table").key("p", text(&p));
    let error = absent.key("s", text("s")).send().await.unwrap_err().into_service_error();
    assert!(error.is_resource_not_found_exception(), "{error:?}");
}

async fn a_batch_write_stores_25_items_and_refuses_26(t: &Target) {
    let p = unique("p");
    let batch = |count: usize| {
        let write = |n| {
            let put = aws_sdk_dynamodb::types::PutRequest::builder().set_item(Some(item(&p, &format!("{n}"), &[])));
            aws_sdk_dynamodb::types::WriteRequest::builder().put_request(put.build().unwrap()).build()
        };
        t.client.batch_write_item().request_items(&t.table, (0..count).map(write).collect()).send()
    };
    let left = batch(25).await.unwrap().unprocessed_items.unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
    assert!(t.get(&p, "0").await.is_some() && t.get(&p, "24").await.is_some());
    assert_eq!(batch(26).await.unwrap_err().into_service_error().code(), Some("ValidationException"));
}

/// For targets that outlive the test.
pub(super) async fn delete(target: Arc<Target>) {
    target.client.delete_table().table_name(&target.table).send().await.unwrap();
}

//! A movement of credits as two parts of a transaction: the balance changes, and a new ledger row says why.

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};
use jiff::Timestamp;
use rotoless_contract::{ClientId, MilliCredits};
use rotoless_core::ledger::{Balance, Cause, Delta, Movement};
use rotoless_core::ports::StoreError;

use super::Item;
use super::codec::{item, n, number, s};

const WHAT: &str = "balance";

pub(super) fn balance_key(client: &ClientId) -> Item {
    item([("client_id", s(client.as_str())), ("entry", s("balance"))])
}

pub(super) fn ledger_key(client: &ClientId, cause: &Cause) -> Item {
    item([("client_id", s(client.as_str())), ("entry", s(format!("ledger#{}", cause.row_id())))])
}

pub(super) fn read_balance(item: &Item) -> Result<Balance, StoreError> {
    let part = |name| number(item, WHAT, name).map(MilliCredits);
    Ok(Balance { available: part("available")?, held: part("held")?, used: part("used")? })
}

/// What the movement adds to everything ever granted.
fn granted(movement: Movement) -> u64 {
    match movement {
        Movement::Grant(amount) => amount.0,
        Movement::Hold(_) | Movement::Adjust { .. } | Movement::Capture { .. } | Movement::Release(_) => 0,
    }
}

/// Whether what is available covers an amount.
pub(super) fn covers(balance: &Item, amount: MilliCredits) -> bool {
    read_balance(balance).is_ok_and(|balance| balance.available >= amount)
}

/// What the movement adds to the count of open holds.
fn opened(movement: Movement) -> Option<i8> {
    match movement {
        Movement::Hold(_) => Some(1),
        Movement::Capture { .. } | Movement::Release(_) => Some(-1),
        Movement::Grant(_) | Movement::Adjust { .. } => None,
    }
}

/// Adds the movement to the balance, on condition that no part becomes negative and that everything granted fits
/// in 64 bits, and so every part of it; and, where it opens a hold, that there are fewer than `max_open` open.
///
/// The count is in the item that the movement writes in any case: the limit costs nothing, and a client that has no
/// limit has no busier item either. Holds that were opened before there was a count make it too low, never too high.
pub(super) fn balance_update(
    table: &str,
    client: &ClientId,
    movement: Movement,
    max_open: Option<u32>,
) -> Result<TransactWriteItem, BuildError> {
    let Delta { available, held, used } = movement.delta();
    let granted = granted(movement);
    // Names by placeholder: `used` and `granted` are close to reserved words.
    let parts = [("#a", "available", available), ("#h", "held", held), ("#u", "used", used)];
    let mut update = Update::builder().table_name(table).set_key(Some(balance_key(client)));
    let mut sets = Vec::new();
    let mut conditions = Vec::new();
    for (placeholder, name, delta) in parts {
        let value = placeholder.replace('#', ":");
        sets.push(format!("{placeholder} = if_not_exists({placeholder}, :zero) + {value}"));
        update = update.expression_attribute_names(placeholder, name).expression_attribute_values(&value, n(delta));
        if delta < 0 {
            conditions.push(format!("{placeholder} >= {value}_least"));
            update = update.expression_attribute_values(format!("{value}_least"), n(-delta));
        }
    }
    sets.push("#g = if_not_exists(#g, :zero) + :g".to_owned());
    update = update
        .expression_attribute_names("#g", "granted")
        .expression_attribute_values(":g", n(granted))
        .expression_attribute_values(":zero", n(0));
    if granted > 0 {
        conditions.push("(attribute_not_exists(#g) OR #g <= :g_most)".to_owned());
        update = update.expression_attribute_values(":g_most", n(u64::MAX - granted));
    }
    if let Some(opened) = opened(movement) {
        sets.push("#o = if_not_exists(#o, :zero) + :o".to_owned());
        update = update.expression_attribute_names("#o", "open").expression_attribute_values(":o", n(opened));
        if let (1, Some(most)) = (opened, max_open) {
            conditions.push("(attribute_not_exists(#o) OR #o < :o_most)".to_owned());
            // The item as it is tells which of the conditions did not hold.
            update = update
                .expression_attribute_values(":o_most", n(most))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        }
    }
    update = update.update_expression(format!("SET {}", sets.join(", ")));
    if !conditions.is_empty() {
        update = update.condition_expression(conditions.join(" AND "));
    }
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

/// Everything a ledger row tells.
pub(super) struct Row<'a> {
    pub(super) client: &'a ClientId,
    pub(super) cause: &'a Cause,
    pub(super) movement: Movement,
    pub(super) note: Option<&'a str>,
    pub(super) at: Timestamp,
}

impl Row<'_> {
    fn item(&self, commit_id: &str) -> Item {
        let delta = self.movement.delta();
        let mut row = ledger_key(self.client, self.cause);
        row.extend(item([
            ("kind", s(self.movement.kind())),
            ("available", n(delta.available)),
            ("held", n(delta.held)),
            ("used", n(delta.used)),
            ("at", s(self.at.to_string())),
            ("commit_id", s(commit_id)),
        ]));
        let (job, run) = match self.cause {
            Cause::Grant { .. } => (None, None),
            Cause::Hold(job, run) | Cause::Adjust(job, run, _) | Cause::Settle(job, run) => (Some(job), Some(run)),
        };
        row.extend(job.map(|job| ("job_id".to_owned(), s(job.as_str()))));
        row.extend(run.map(|run| ("run".to_owned(), n(run))));
        row.extend(self.note.map(|note| ("note".to_owned(), s(note))));
        row
    }

    /// Puts the row, on condition that its cause has none yet.
    pub(super) fn put(&self, table: &str, commit_id: &str) -> Result<TransactWriteItem, BuildError> {
        let put = Put::builder()
            .table_name(table)
            .set_item(Some(self.item(commit_id)))
            .condition_expression("attribute_not_exists(entry)")
            .build()?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

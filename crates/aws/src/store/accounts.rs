//! The port of credits outside of jobs, and the ledger for whoever checks it.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::{ClientId, JobId, MilliCredits, Run};
use rotoless_core::ledger::{Balance, Cause, Delta, Movement};
use rotoless_core::ports::{Accounts, Audit, CommitError, StoreError};

use super::codec::{corrupt, number, s, text};
use super::money::{Row, balance_key, balance_update, ledger_key, read_balance};
use super::transaction::{Role, Transaction};
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry;

const WHAT: &str = "ledger row";

/// One row of a client's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The cause, as [`Cause::row_id`] writes it.
    pub row_id: String,
    /// The word of the movement.
    pub kind: String,
    /// What it added to each part of the balance.
    pub delta: Delta,
    /// The job and the run it belongs to.
    pub job: Option<(JobId, Run)>,
    /// When.
    pub at: Timestamp,
}

#[async_trait]
impl Accounts for Store {
    async fn balance(&self, client: &ClientId) -> Result<Balance, StoreError> {
        let item = self.get(&self.names.accounts, &balance_key(client)).await?;
        item.map_or(Ok(Balance::default()), |item| read_balance(&item))
    }

    async fn grant(
        &self,
        client: &ClientId,
        grant_id: &str,
        amount: MilliCredits,
        note: Option<&str>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        let cause = Cause::Grant { grant_id: grant_id.to_owned() };
        let movement = Movement::Grant(amount);
        let table = &self.names.accounts;
        let mut transaction = Transaction::begin();
        let row = Row { client, cause: &cause, movement, note, at: now }.put(table, &transaction.commit_id);
        transaction.push_marked(Role::Ledger, row, table, ledger_key(client, &cause))?;
        transaction.push(Role::Balance(movement), balance_update(table, client, movement, None))?;
        transaction.apply(self).await
    }
}

#[async_trait]
impl Audit for Store {
    async fn adds_up(&self, client: &ClientId) -> Result<bool, StoreError> {
        let item = self.get(&self.names.accounts, &balance_key(client)).await?;
        let Some(item) = item else { return Ok(true) };
        // Signed: what must never be is to be read all the same.
        let part = |name| number::<i128>(&item, "balance", name);
        let parts = [part("available")?, part("held")?, part("used")?];
        Ok(parts.iter().all(|part| *part >= 0) && parts.iter().sum::<i128>() == part("granted")?)
    }
}

impl Store {
    /// The whole ledger of a client, by row id, as last committed. For reconciliation and tests: reads every row.
    ///
    /// # Errors
    /// [`StoreError`] as DynamoDB failed.
    pub async fn ledger(&self, client: &ClientId) -> Result<Vec<LedgerRow>, StoreError> {
        let mut rows = Vec::new();
        let mut position: Option<Item> = None;
        loop {
            let page = retry::read(|| async {
                let query = self
                    .client
                    .query()
                    .table_name(&self.names.accounts)
                    .key_condition_expression("client_id = :client AND begins_with(entry, :ledger)")
                    .expression_attribute_values(":client", s(client.as_str()))
                    .expression_attribute_values(":ledger", s("ledger#"))
                    .consistent_read(true)
                    .set_exclusive_start_key(position.clone());
                query.send().await.map_err(|e| classify(e, Effect::None))
            })
            .await?;
            for item in page.items() {
                rows.push(read_row(item)?);
            }
            position = page.last_evaluated_key;
            if position.is_none() {
                return Ok(rows);
            }
        }
    }
}

fn read_row(item: &Item) -> Result<LedgerRow, StoreError> {
    let entry = text(item, WHAT, "entry")?;
    let job = match item.get("job_id") {
        Some(_) => {
            let job = text(item, WHAT, "job_id")?.parse().map_err(|e| corrupt(WHAT, e))?;
            Some((job, number(item, WHAT, "run")?))
        }
        None => None,
    };
    Ok(LedgerRow {
        row_id: entry.strip_prefix("ledger#").unwrap_or(entry).to_owned(),
        kind: text(item, WHAT, "kind")?.to_owned(),
        delta: Delta {
            available: number(item, WHAT, "available")?,
            held: number(item, WHAT, "held")?,
            used: number(item, WHAT, "used")?,
        },
        job,
        at: text(item, WHAT, "at")?.parse().map_err(|e| corrupt(WHAT, e))?,
    })
}

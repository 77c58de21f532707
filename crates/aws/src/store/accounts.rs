//! The port of credits outside of jobs.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::{ClientId, MilliCredits};
use rotoless_core::ledger::{Balance, Cause, Movement};
use rotoless_core::ports::{Accounts, Audit, CommitError, StoreError};

use super::Store;
use super::codec::number;
use super::money::{Row, balance_key, balance_update, ledger_key, read_balance};
use super::transaction::{Role, Transaction};

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
        self.move_alone(Row { client, cause: &cause, movement, note, at: now }).await
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
    /// A movement of credits with its row and nothing else.
    pub(super) async fn move_alone(&self, row: Row<'_>) -> Result<(), CommitError> {
        let table = &self.names.accounts;
        let mut transaction = Transaction::begin();
        let put = row.put(table, &transaction.commit_id);
        transaction.push_marked(Role::Ledger, put, table, ledger_key(row.client, row.cause))?;
        let update = balance_update(table, row.client, row.movement, None);
        transaction.push(Role::Balance(row.movement), update)?;
        transaction.apply(self).await
    }
}

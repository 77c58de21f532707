//! Whole accounts, for whoever checks them. Reads everything: an operator's port, no function's.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::ClientId;

use super::{CommitError, StoreError};
use crate::books::LedgerRow;
use crate::ledger::{Cause, Movement};

/// Accounts as a whole.
#[async_trait]
pub trait Books: Send + Sync {
    /// Everybody who has an account or a job.
    async fn clients(&self) -> Result<Vec<ClientId>, StoreError>;
    /// A client's whole ledger, by row id (a consistent read).
    async fn ledger(&self, client: &ClientId) -> Result<Vec<LedgerRow>, StoreError>;
    /// Moves credits by a row that the ledger lacks, and nothing else.
    ///
    /// # Errors
    /// [`CommitError::AlreadyInLedger`] when it has the row.
    async fn write(
        &self,
        client: &ClientId,
        cause: &Cause,
        movement: Movement,
        note: &str,
        now: Timestamp,
    ) -> Result<(), CommitError>;
    /// Removes what is kept of a client's use of the service. Jobs, balance and ledger stay.
    async fn forget_usage(&self, client: &ClientId) -> Result<(), StoreError>;
}

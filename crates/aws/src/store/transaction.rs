//! One `TransactWriteItems`, and what its failure means.
//!
//! Invariants: every try carries the same token, so DynamoDB applies it once within ten minutes; every item it puts
//! carries the token as `commit_id`, so that a refusal after a lost reply can be told from our own success for ever.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, Put, TransactWriteItem};
use rotoless_core::ledger::Movement;
use rotoless_core::ports::{CommitError, Entropy, StoreError};

use super::codec::s;
use super::money::covers;
use super::{Item, Store};
use crate::error::{Effect, Failure, classify};
use crate::retry::{self, Tries};
use crate::system::SystemEntropy;

/// What stands at a position of the transaction: it decides what its refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The job, or an event changed alone: what was judged.
    Judged,
    /// The webhook event that changes with its job.
    Delivery,
    /// The promise.
    Promise,
    /// The ledger row.
    Ledger,
    /// The balance.
    Balance(Movement),
    /// An upload that a job begins to need, or needs no more.
    Upload,
    /// The attempt; it has no condition.
    Attempt,
    /// Usage; it has no condition.
    Usage,
}

/// A transaction in the making.
#[derive(Debug)]
pub(super) struct Transaction {
    /// 128 random bits in hex: token and mark.
    pub(super) commit_id: String,
    roles: Vec<Role>,
    items: Vec<TransactWriteItem>,
    /// Where the mark will be found: table and key.
    marked: Vec<(String, Item)>,
}

/// The condition of a put.
pub(super) enum Condition {
    /// The attribute is not there: no such item yet.
    Absent(&'static str),
    /// The item has this version.
    Version(u64),
    /// No such promise, or one that ended by this time in ms.
    Ended(i64),
    /// None.
    None,
}

impl Condition {
    /// Version 1 must be new, any other must follow the one before it.
    pub(super) fn of_version(version: u64, key_attribute: &'static str) -> Self {
        if version <= 1 { Self::Absent(key_attribute) } else { Self::Version(version - 1) }
    }
}

/// A transaction was cancelled: the code at each position.
#[derive(Debug, thiserror::Error)]
#[error("transaction cancelled: {0:?}")]
struct Cancelled(Vec<(Role, String)>);

/// Why a try did not succeed.
enum Outcome {
    /// A condition did not hold: another try would not help.
    Refused(CommitError),
    /// It did not come to that.
    Failed(Failure),
}

impl Transaction {
    pub(super) fn begin() -> Self {
        let commit_id = SystemEntropy.id_bits().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { commit_id, roles: Vec::new(), items: Vec::new(), marked: Vec::new() }
    }

    /// Adds a change of an item that keeps no mark.
    pub(super) fn push(&mut self, role: Role, item: Result<TransactWriteItem, BuildError>) -> Result<(), StoreError> {
        self.items.push(item.map_err(|e| StoreError::Rejected(e.into()))?);
        self.roles.push(role);
        Ok(())
    }

    /// Adds a change that was built already.
    pub(super) fn add(&mut self, role: Role, item: TransactWriteItem) {
        self.items.push(item);
        self.roles.push(role);
    }

    /// Adds a put whose item carries the mark.
    pub(super) fn push_marked(
        &mut self,
        role: Role,
        item: Result<TransactWriteItem, BuildError>,
        table: &str,
        key: Item,
    ) -> Result<(), StoreError> {
        self.push(role, item)?;
        self.marked.push((table.to_owned(), key));
        Ok(())
    }

    /// Adds a put of a marked item on a condition.
    pub(super) fn put(
        &mut self,
        role: Role,
        table: &str,
        key: Item,
        item: Item,
        condition: &Condition,
    ) -> Result<(), StoreError> {
        let put = Put::builder().table_name(table).set_item(Some(item));
        let put = match condition {
            Condition::Absent(attribute) => {
                put.condition_expression("attribute_not_exists(#key)").expression_attribute_names("#key", *attribute)
            }
            Condition::Version(expected) => put
                .condition_expression("#version = :expected")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":expected", super::codec::n(expected)),
            Condition::Ended(now_ms) => put
                .condition_expression("attribute_not_exists(#scope) OR ends_ms <= :now")
                .expression_attribute_names("#scope", "scope")
                .expression_attribute_values(":now", super::codec::n(now_ms)),
            Condition::None => put,
        };
        let item = put.build().map(|put| TransactWriteItem::builder().put(put).build());
        self.push_marked(role, item, table, key)
    }

    /// Applies it whole, or not at all.
    pub(super) async fn apply(self, store: &Store) -> Result<(), CommitError> {
        // Waiting for the turn is not a try: the budget begins with it.
        let _turn = store.turn().await?;
        let mut tries = Tries::begin();
        let mut maybe_applied = false;
        loop {
            let failure = match self.send(store).await {
                Ok(()) => return Ok(()),
                Err(Outcome::Failed(failure)) => failure,
                // After a lost reply "refused" may mean that our own first try is what stands in the way.
                Err(Outcome::Refused(_)) if maybe_applied && self.is_applied(store).await? => return Ok(()),
                Err(Outcome::Refused(refused)) => return Err(refused),
            };
            maybe_applied |= failure.maybe_applied;
            if tries.again(&failure.error).await {
                tracing::debug!(error = %failure.error, "committing again");
                continue;
            }
            let error = failure.error;
            return Err(CommitError::Store(if maybe_applied {
                StoreError::Timeout { maybe_applied, source: error.into() }
            } else {
                error
            }));
        }
    }

    /// One try.
    async fn send(&self, store: &Store) -> Result<(), Outcome> {
        let sent = store
            .client
            .transact_write_items()
            .client_request_token(&self.commit_id)
            .set_transact_items(Some(self.items.clone()))
            .send()
            .await;
        sent.map(|_| ()).map_err(|failure| self.judge(failure))
    }

    fn judge(&self, failure: SdkError<TransactWriteItemsError, HttpResponse>) -> Outcome {
        match failure.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                self.cancelled(cancelled.cancellation_reasons())
            }
            Some(_) | None => Outcome::Failed(classify(failure, Effect::Change)),
        }
    }

    fn cancelled(&self, reasons: &[CancellationReason]) -> Outcome {
        let code = |reason: &CancellationReason| reason.code().unwrap_or("None").to_owned();
        let codes: Vec<(Role, String)> =
            self.roles.iter().copied().zip(reasons.iter().map(code)).filter(|(_, code)| code != "None").collect();
        let refused = |wanted: fn(Role) -> bool| {
            codes.iter().any(|(role, code)| wanted(*role) && code == "ConditionalCheckFailed")
        };
        let seen = |wanted: &[&str]| codes.iter().any(|(_, code)| wanted.contains(&code.as_str()));
        if refused(|role| role == Role::Judged || role == Role::Delivery) {
            return Outcome::Refused(CommitError::Stale);
        }
        if refused(|role| role == Role::Promise) {
            return Outcome::Refused(CommitError::KeyTaken);
        }
        if refused(|role| role == Role::Ledger) {
            return Outcome::Refused(CommitError::AlreadyInLedger);
        }
        let uncovered = self.roles.iter().zip(reasons).find_map(|(role, reason)| match role {
            Role::Balance(movement) if reason.code() == Some("ConditionalCheckFailed") => Some((*movement, reason)),
            Role::Balance(_)
            | Role::Judged
            | Role::Delivery
            | Role::Promise
            | Role::Ledger
            | Role::Upload
            | Role::Attempt
            | Role::Usage => None,
        });
        if let Some((movement, reason)) = uncovered {
            if let Movement::Hold(amount) = movement
                && reason.item().is_some_and(|balance| covers(balance, amount))
            {
                return Outcome::Refused(CommitError::TooManyOpen);
            }
            return Outcome::Refused(not_covered(movement, Cancelled(codes)));
        }
        // Behind the money: who cannot pay is told so whatever he wants to work on.
        if refused(|role| role == Role::Upload) {
            return Outcome::Refused(CommitError::UploadGone);
        }
        let conflict = seen(&["TransactionConflict"]);
        let throttled = seen(&["ThrottlingError", "ProvisionedThroughputExceeded"]);
        let source = Box::new(Cancelled(codes));
        let error = match (conflict, throttled) {
            (true, _) => StoreError::Conflict(source),
            (false, true) => StoreError::Throttled(source),
            (false, false) => StoreError::Rejected(source),
        };
        Outcome::Failed(Failure { error, maybe_applied: false })
    }

    /// Whether any item carries our mark: then all did.
    async fn is_applied(&self, store: &Store) -> Result<bool, StoreError> {
        for (table, key) in &self.marked {
            let found = retry::read(|| async {
                let get = store
                    .client
                    .get_item()
                    .table_name(table)
                    .set_key(Some(key.clone()))
                    .projection_expression("commit_id")
                    .consistent_read(true);
                get.send().await.map(|reply| reply.item).map_err(|e| classify(e, Effect::None))
            })
            .await
            .map_err(|error| StoreError::Timeout { maybe_applied: true, source: error.into() })?;
            if found.is_some_and(|item| item.get("commit_id") == Some(&s(&self.commit_id))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The balance's condition failed: too few credits where the movement takes from `available`, a fault of ours or of
/// the operator's elsewhere.
fn not_covered(movement: Movement, cancelled: Cancelled) -> CommitError {
    if movement.delta().available < 0 {
        return CommitError::InsufficientCredits;
    }
    CommitError::Store(match movement {
        Movement::Grant(_) => StoreError::Rejected(Box::new(cancelled)),
        Movement::Hold(_) | Movement::Adjust { .. } | Movement::Capture { .. } | Movement::Release(_) => {
            StoreError::Corrupt { what: "balance", source: Box::new(cancelled) }
        }
    })
}

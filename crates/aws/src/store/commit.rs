//! A change of a job as one transaction.

use rotoless_core::ports::{Change, CommitError};

use super::Store;
use super::codec::promise_key;
use super::codec::{attempt_item, attempt_key, delivery_item, delivery_key, job_item, job_key, promise_item};
use super::money::{Row, balance_update, ledger_key};
use super::transaction::{Condition, Role, Transaction};
use super::uploads::use_update;

impl Store {
    /// The parts in the order of their meaning; at most a dozen, of DynamoDB's hundred.
    pub(super) fn transaction(&self, change: &Change) -> Result<Transaction, CommitError> {
        let names = &self.names;
        let job = &change.job;
        let mut transaction = Transaction::begin();
        let commit_id = transaction.commit_id.clone();

        let condition = Condition::of_version(job.version, "job_id");
        transaction.put(Role::Judged, &names.jobs, job_key(&job.id), job_item(job, &commit_id)?, &condition)?;
        if let Some(promise) = &change.idempotency {
            // The time of the change, by the clock that judged it.
            let condition = Condition::Ended(job.updated_at.as_millisecond());
            let item = promise_item(promise, &commit_id)?;
            transaction.put(Role::Promise, &names.idempotency, promise_key(&promise.scope), item, &condition)?;
        }
        if let Some((cause, movement)) = &change.money {
            let row = Row { client: &job.client, cause, movement: *movement, note: None, at: job.updated_at };
            let key = ledger_key(&job.client, cause);
            transaction.push_marked(Role::Ledger, row.put(&names.accounts, &commit_id), &names.accounts, key)?;
            let update = balance_update(&names.accounts, &job.client, *movement, change.max_open);
            transaction.push(Role::Balance(*movement), update)?;
        }
        for usage in &change.uploads {
            transaction.push(Role::Upload, use_update(&names.jobs, usage))?;
        }
        for attempt in &change.attempts {
            let key = attempt_key(&job.id, attempt.attempt);
            let item = attempt_item(&job.id, attempt, &commit_id)?;
            transaction.put(Role::Attempt, &names.jobs, key, item, &Condition::None)?;
        }
        if let Some(delivery) = &change.delivery {
            let key = delivery_key(&delivery.job_id, &delivery.id);
            let condition = Condition::of_version(delivery.version, "delivery_id");
            let item = delivery_item(delivery, &commit_id)?;
            transaction.put(Role::Delivery, &names.deliveries, key, item, &condition)?;
        }
        let calls = u64::from(change.call.is_some());
        if let Some(count) = self.count(&job.client, job.updated_at, Some((job.spec.model, &change.tally)), calls)? {
            transaction.add(Role::Usage, count);
        }
        if let Some(call) = &change.call {
            transaction.add(Role::Usage, self.call(&job.client, call)?);
        }
        Ok(transaction)
    }
}

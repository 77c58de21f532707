//! The port of jobs.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::{Attempt, JobId, UploadId};
use rotoless_core::ports::{Change, CommitError, JobPage, Jobs, ListQuery, StoreError};
use rotoless_core::record::{AttemptRecord, JobRecord};

use super::codec::{attempt_key, corrupt, job_key, number, read_doc, text};
use super::{DUE_SHARD, Item, PENDING_SHARD, Store};

fn ids(keys: &[Item]) -> Result<Vec<JobId>, StoreError> {
    keys.iter().map(|key| text(key, "job", "job_id")?.parse().map_err(|e| corrupt("job", e))).collect()
}

#[async_trait]
impl Jobs for Store {
    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        let item = self.get(&self.names.jobs, &job_key(id)).await?;
        item.map(|item| read_doc(&item, "job")).transpose()
    }

    async fn commit(&self, change: Change) -> Result<(), CommitError> {
        self.transaction(&change)?.apply(self).await
    }

    async fn list(&self, query: &ListQuery) -> Result<JobPage, StoreError> {
        self.list_jobs(query).await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        let (table, now_ms) = (&self.names.jobs, now.as_millisecond());
        let (mut keys, pending) = futures::try_join!(
            self.due_keys(table, DUE_SHARD, now_ms, limit),
            self.due_keys(table, PENDING_SHARD, now_ms, limit),
        )?;
        keys.extend(pending);
        // Both shards come in order; together they are cut to the earliest.
        let due_ms = |key: &Item| number::<i64>(key, "job", "due_at").unwrap_or(i64::MAX);
        keys.sort_by_key(due_ms);
        keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        ids(&keys)
    }

    async fn line(&self, limit: u32) -> Result<Vec<JobId>, StoreError> {
        ids(&self.due_keys(&self.names.jobs, PENDING_SHARD, i64::MAX, limit).await?)
    }

    async fn retire_upload(&self, upload: &UploadId) -> Result<bool, StoreError> {
        self.retire(upload).await
    }

    async fn attempt(&self, id: &JobId, attempt: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        let item = self.get(&self.names.jobs, &attempt_key(id, attempt)).await?;
        item.map(|item| read_doc(&item, "attempt")).transpose()
    }
}

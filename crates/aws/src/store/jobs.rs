//! The port of jobs.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::{Attempt, JobId};
use rotoless_core::ports::{Change, CommitError, JobPage, Jobs, ListQuery, StoreError};
use rotoless_core::record::{AttemptRecord, JobRecord};

use super::Store;
use super::codec::{attempt_key, corrupt, job_key, read_doc, text};

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
        let keys = self.due_keys(&self.names.jobs, now.as_millisecond(), limit).await?;
        keys.iter().map(|key| text(key, "job", "job_id")?.parse().map_err(|e| corrupt("job", e))).collect()
    }

    async fn attempt(&self, id: &JobId, attempt: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        let item = self.get(&self.names.jobs, &attempt_key(id, attempt)).await?;
        item.map(|item| read_doc(&item, "attempt")).transpose()
    }
}

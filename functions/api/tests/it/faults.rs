//! Ports that fail: a store that is away, one that holds what cannot be read, one that never answers.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use jiff::Timestamp;
use rotoless_api::{ApiState, Ports};
use rotoless_contract::{Attempt, ClientId, JobId, MilliCredits, UploadId};
use rotoless_core::ledger::Balance;
use rotoless_core::ports::{
    Accounts, Change, CommitError, Entry, JobPage, Jobs, Keys, ListQuery, Signings, StoreError,
};
use rotoless_core::rate::{Bucket, Meter, PerMinute};
use rotoless_core::record::{AttemptRecord, JobRecord, KeyRecord};
use rotoless_core::signing::Signing;

use crate::world::World;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// May pass.
    Away,
    /// Will not pass by itself.
    Unreadable,
    /// No answer at all.
    Silent,
}

/// The same service over a store with this fault.
pub(crate) fn over(fault: Fault, world: &World) -> Router {
    let store = Arc::new(Faulty(fault));
    let ports = Ports {
        jobs: store.clone(),
        keys: store.clone(),
        accounts: store.clone(),
        signings: store,
        ..world.ports.clone()
    };
    rotoless_api::router(ApiState::new(ports, world.host.clone()))
}

struct Faulty(Fault);

impl Faulty {
    async fn fails<T>(&self) -> Result<T, StoreError> {
        match self.0 {
            Fault::Away => Err(StoreError::Unavailable("away".into())),
            Fault::Unreadable => Err(StoreError::Corrupt { what: "item", source: "unreadable".into() }),
            Fault::Silent => std::future::pending().await,
        }
    }

    async fn does_not_commit(&self) -> Result<(), CommitError> {
        Ok(self.fails().await?)
    }
}

#[async_trait]
impl Keys for Faulty {
    async fn enter(&self, _: &str, _: &str, _: Bucket, _: PerMinute, _: Timestamp) -> Result<Entry, StoreError> {
        self.fails().await
    }
    async fn enter_open(&self, _: Bucket, _: PerMinute, _: Timestamp) -> Result<Result<Meter, Meter>, StoreError> {
        self.fails().await
    }
    async fn key(&self, _: &str) -> Result<Option<KeyRecord>, StoreError> {
        self.fails().await
    }
    async fn add(&self, _: &KeyRecord) -> Result<(), StoreError> {
        self.fails().await
    }
    async fn set_enabled(&self, _: &str, _: bool) -> Result<bool, StoreError> {
        self.fails().await
    }
    async fn list(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.fails().await
    }
}

#[async_trait]
impl Accounts for Faulty {
    async fn balance(&self, _: &ClientId) -> Result<Balance, StoreError> {
        self.fails().await
    }
    async fn grant(
        &self,
        _: &ClientId,
        _: &str,
        _: MilliCredits,
        _: Option<&str>,
        _: Timestamp,
    ) -> Result<(), CommitError> {
        self.does_not_commit().await
    }
}

#[async_trait]
impl Signings for Faulty {
    async fn signing(&self, _: &ClientId) -> Result<Signing, StoreError> {
        self.fails().await
    }
    async fn commit_signing(&self, _: &ClientId, _: &Signing) -> Result<(), CommitError> {
        self.does_not_commit().await
    }
}

#[async_trait]
impl Jobs for Faulty {
    async fn job(&self, _: &JobId) -> Result<Option<JobRecord>, StoreError> {
        self.fails().await
    }
    async fn commit(&self, _: Change) -> Result<(), CommitError> {
        self.does_not_commit().await
    }
    async fn list(&self, _: &ListQuery) -> Result<JobPage, StoreError> {
        self.fails().await
    }
    async fn line(&self, _: u32) -> Result<Vec<JobId>, StoreError> {
        self.fails().await
    }
    async fn retire_upload(&self, _: &UploadId) -> Result<bool, StoreError> {
        self.fails().await
    }
    async fn due(&self, _: Timestamp, _: u32) -> Result<Vec<JobId>, StoreError> {
        self.fails().await
    }
    async fn attempt(&self, _: &JobId, _: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        self.fails().await
    }
}

/// A store in which somebody else has always just taken the idempotency key, and never keeps his promise.
pub(crate) struct AlwaysTaken(pub(crate) Arc<dyn Jobs>);

#[async_trait]
impl Jobs for AlwaysTaken {
    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        self.0.job(id).await
    }
    async fn commit(&self, _: Change) -> Result<(), CommitError> {
        Err(CommitError::KeyTaken)
    }
    async fn list(&self, query: &ListQuery) -> Result<JobPage, StoreError> {
        self.0.list(query).await
    }
    async fn line(&self, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.0.line(limit).await
    }
    async fn retire_upload(&self, upload: &UploadId) -> Result<bool, StoreError> {
        self.0.retire_upload(upload).await
    }
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.0.due(now, limit).await
    }
    async fn attempt(&self, id: &JobId, attempt: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        self.0.attempt(id, attempt).await
    }
}

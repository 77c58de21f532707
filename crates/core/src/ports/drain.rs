//! The ports of homes whose workers drain the queue: the eventcount, and what starts a worker.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::WorkerId;

use super::StoreError;
use crate::eventcount::Eventcount;

/// The one [`Eventcount`] of a service. Each call is one write, and does what the function of that name does to it.
#[async_trait]
pub trait Eventcounts: Send + Sync {
    /// [`Eventcount::ring`]; how it is after that.
    async fn ring(&self) -> Result<Eventcount, StoreError>;
    /// [`Eventcount::rise`]; how it is after that.
    async fn rise(&self, worker: &WorkerId, until: Timestamp) -> Result<Eventcount, StoreError>;
    /// [`Eventcount::renew`]; how it is after that, or as it is when the worker is not counted.
    async fn renew(&self, worker: &WorkerId, until: Timestamp) -> Result<Eventcount, StoreError>;
    /// [`Eventcount::sleep`].
    async fn sleep(&self, worker: &WorkerId, seq: Option<u64>) -> Result<bool, StoreError>;
    /// [`Eventcount::reserve`].
    async fn reserve(&self, risen: u64, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;
    /// [`Eventcount::cancel`].
    async fn cancel(&self, until: Timestamp) -> Result<(), StoreError>;
    /// [`Eventcount::forget`].
    async fn forget(&self, worker: &WorkerId, until: Timestamp) -> Result<(), StoreError>;
}

/// What a home says of the workers that were started there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Started {
    /// On their way to life, those included that wait for a machine.
    pub starting: u32,
    /// Of them, those that have waited for a machine for longer than one takes to come.
    pub waiting_long: u32,
    /// Alive, as the home believes.
    pub running: u32,
}

/// A home: starts processes that each drain the queue and end.
#[async_trait]
pub trait Starter: Send + Sync {
    /// What there is. May lag behind a start by seconds.
    async fn started(&self) -> Result<Started, StoreError>;
    /// Starts `n` workers, or as many as there is room for; how many.
    ///
    /// # Errors
    /// [`StoreError`]; `Throttled` where there is no room for even one.
    async fn start(&self, n: u32) -> Result<u32, StoreError>;
    /// Takes back the starts that have not come to life; how many.
    async fn take_back(&self) -> Result<u32, StoreError>;
    /// Asks every worker to end, and takes back what starts. Ends are orderly: what is worked on goes back to the queue.
    async fn end(&self) -> Result<(), StoreError>;
}

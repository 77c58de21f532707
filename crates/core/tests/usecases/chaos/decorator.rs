//! A store, a queue and an object store that misbehave by the throw of a die: every call may be delayed, refused
//! before or after its effect, throttled, done twice, or told of the past; messages overtake one another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use rotoless_contract::queue::QueueMessage;
use rotoless_contract::{Attempt, ClientId, DeliveryId, JobId, UploadId};
use rotoless_core::ports::*;
use rotoless_core::record::{AttemptRecord, DeliveryRecord, IdempotencyRecord, JobRecord};

use rotoless_core::wake::Outstanding;

use super::super::store::{Indexed, Store};

/// Numbers from one seed (splitmix64).
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Uniform in `0..n`.
    pub(super) fn below(&self, n: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (state ^ (state >> 31)) % n
    }

    /// Once in `n` times.
    pub(super) fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Lets the others do a few steps.
    pub(super) async fn delay(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }
}

pub(super) struct Chaos {
    pub(super) inner: Arc<Store>,
    pub(super) dice: Arc<Dice>,
    calm: AtomicBool,
    /// What the indexes looked like at some time.
    past: Mutex<Vec<Indexed>>,
    /// Messages that were accepted and are not there yet.
    under_way: Mutex<Vec<QueueMessage>>,
}

type Call<'a, T, E> = BoxFuture<'a, Result<T, E>>;

impl Chaos {
    pub(super) fn new(inner: Arc<Store>, dice: Arc<Dice>) -> Self {
        Self { inner, dice, calm: AtomicBool::new(false), past: Mutex::default(), under_way: Mutex::default() }
    }

    /// From now on everything does what it should, and what was under way arrives.
    pub(super) fn calm_down(&self) {
        self.calm.store(true, Ordering::SeqCst);
        self.inner.tables().messages.append(&mut self.under_way.lock().unwrap());
    }

    async fn disturbed<'a, T, E: From<StoreError>>(&self, call: impl Fn() -> Call<'a, T, E>) -> Result<T, E> {
        if self.calm.load(Ordering::SeqCst) {
            return call().await;
        }
        self.dice.delay().await;
        let done = match self.dice.below(40) {
            0 => return Err(StoreError::Unavailable("before".into()).into()),
            1 => return Err(StoreError::Throttled("chaos".into()).into()),
            2 => {
                // Its answer is lost; a refusal is an answer as well.
                let _ = call().await;
                return Err(StoreError::Timeout { maybe_applied: true, source: "after".into() }.into());
            }
            3 => {
                // The network made a copy, and the copy's answer went to nobody.
                let first = call().await;
                self.dice.delay().await;
                let _ = call().await;
                first
            }
            _ => call().await,
        };
        self.dice.delay().await;
        done
    }

    /// As an index answers: of now, or of some time ago.
    async fn indexed<'a, T, E: From<StoreError>>(&self, call: impl Fn() -> Call<'a, T, E>) -> Result<T, E> {
        let now = {
            let tables = self.inner.tables();
            Indexed { jobs: tables.jobs.clone(), deliveries: tables.deliveries.clone() }
        };
        let stale = {
            let mut past = self.past.lock().unwrap();
            past.push(now);
            let from = past.len().saturating_sub(8);
            past.drain(..from);
            let is_stale = !self.calm.load(Ordering::SeqCst) && self.dice.once_in(3);
            is_stale.then(|| past[usize::try_from(self.dice.below(past.len() as u64)).unwrap()].clone())
        };
        // Nobody else gets a turn between these three.
        self.disturbed(|| {
            self.inner.tables().stale.clone_from(&stale);
            let asked = call();
            Box::pin(async move {
                let answer = asked.await;
                self.inner.tables().stale = None;
                answer
            })
        })
        .await
    }
}

#[async_trait]
impl Jobs for Chaos {
    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        self.disturbed(|| self.inner.job(id)).await
    }
    async fn commit(&self, change: Change) -> Result<(), CommitError> {
        self.disturbed(|| self.inner.commit(change.clone())).await
    }
    async fn list(&self, query: &ListQuery) -> Result<JobPage, StoreError> {
        self.indexed(|| Jobs::list(&*self.inner, query)).await
    }
    async fn line(&self, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.indexed(|| self.inner.line(limit)).await
    }
    async fn retire_upload(&self, upload: &UploadId) -> Result<bool, StoreError> {
        self.disturbed(|| self.inner.retire_upload(upload)).await
    }
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.indexed(|| self.inner.due(now, limit)).await
    }
    async fn attempt(&self, id: &JobId, attempt: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        self.disturbed(|| Jobs::attempt(&*self.inner, id, attempt)).await
    }
}

#[async_trait]
impl Promises for Chaos {
    async fn promise(&self, scope: &str) -> Result<Option<IdempotencyRecord>, StoreError> {
        self.disturbed(|| self.inner.promise(scope)).await
    }
}

#[async_trait]
impl Deliveries for Chaos {
    async fn due_deliveries(&self, now: Timestamp, limit: u32) -> Result<Vec<(JobId, DeliveryId)>, StoreError> {
        self.indexed(|| self.inner.due_deliveries(now, limit)).await
    }
    async fn delivery(&self, job: &JobId, id: &DeliveryId) -> Result<Option<DeliveryRecord>, StoreError> {
        self.disturbed(|| self.inner.delivery(job, id)).await
    }
    async fn deliveries_of(&self, job: &JobId) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.disturbed(|| self.inner.deliveries_of(job)).await
    }
    async fn commit_delivery(&self, record: &DeliveryRecord) -> Result<(), CommitError> {
        self.disturbed(|| self.inner.commit_delivery(record)).await
    }
}

#[async_trait]
impl Objects for Chaos {
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.disturbed(|| self.inner.head(key)).await
    }
    async fn read(&self, key: &str, start: u64, len: u64) -> Result<Option<Bytes>, StoreError> {
        self.disturbed(|| self.inner.read(key, start, len)).await
    }
    async fn presign_get(&self, key: &str, life: Duration, name: Option<&str>) -> Result<PresignedUrl, StoreError> {
        self.disturbed(|| self.inner.presign_get(key, life, name)).await
    }
    async fn presign_put(&self, key: &str, life: Duration, terms: &PutTerms) -> Result<PresignedPut, StoreError> {
        self.disturbed(|| self.inner.presign_put(key, life, terms)).await
    }
    async fn list_prefix(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.disturbed(|| self.inner.list_prefix(prefix)).await
    }
    async fn delete_prefix(&self, prefix: &str) -> Result<u64, StoreError> {
        self.disturbed(|| self.inner.delete_prefix(prefix)).await
    }
}

#[async_trait]
impl WorkQueue for Chaos {
    async fn send(&self, message: &QueueMessage, client: &ClientId) -> Result<(), StoreError> {
        if !self.calm.load(Ordering::SeqCst) && self.dice.once_in(4) {
            // It arrives behind those that are sent after it.
            self.under_way.lock().unwrap().push(message.clone());
            return Ok(());
        }
        self.disturbed(|| self.inner.send(message, client)).await?;
        let mut late = self.under_way.lock().unwrap();
        if !late.is_empty() && self.dice.once_in(2) {
            self.inner.tables().messages.append(&mut late);
        }
        Ok(())
    }
}

#[async_trait]
impl Waker for Chaos {
    async fn wake(&self, n: u32) -> Result<(), StoreError> {
        self.disturbed(|| self.inner.wake(n)).await
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        self.inner.outstanding().await
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        self.inner.purge().await
    }

    async fn stop(&self) -> Result<(), StoreError> {
        self.inner.stop().await
    }
}

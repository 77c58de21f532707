//! The double of every port but the sender: one lock, conditions as `core::ports` writes them, and faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use rotoless_contract::queue::QueueMessage;
use rotoless_contract::{Attempt, ClientId, DeliveryId, JobId, MilliCredits, UploadId};
use rotoless_core::header::{Container, Header};
use rotoless_core::ledger::{Balance, Cause, Movement};
use rotoless_core::ports::*;
use rotoless_core::record::{AttemptRecord, DeliveryRecord, IdempotencyRecord, JobRecord};
use rotoless_core::signing::Signing;
use rotoless_core::wake::Outstanding;

/// A call of a port, as far as faults and the order of calls tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Job,
    Commit,
    Due,
    Attempt,
    Promise,
    DueDeliveries,
    Delivery,
    CommitDelivery,
    Head,
    Read,
    Presign,
    Send,
    Wake,
    Probe,
    Balance,
    List,
    RetireUpload,
    DeletePrefix,
    ListPrefix,
    DeliveriesOf,
    Signing,
    CommitSigning,
}

/// When a call fails: before it did anything, or after, so that only its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// Jobs and events as an index saw them.
#[derive(Clone)]
pub(crate) struct Indexed {
    pub jobs: BTreeMap<JobId, JobRecord>,
    pub deliveries: BTreeMap<(JobId, DeliveryId), DeliveryRecord>,
}

#[derive(Default)]
pub(crate) struct Tables {
    pub jobs: BTreeMap<JobId, JobRecord>,
    pub attempts: BTreeMap<(JobId, Attempt), AttemptRecord>,
    pub deliveries: BTreeMap<(JobId, DeliveryId), DeliveryRecord>,
    pub promises: BTreeMap<String, IdempotencyRecord>,
    pub balances: BTreeMap<ClientId, Balance>,
    pub signings: BTreeMap<ClientId, Signing>,
    pub ledger: BTreeMap<(ClientId, String), Movement>,
    pub objects: BTreeMap<String, Bytes>,
    /// Jobs that have not ended, by the upload that they need.
    pub open_uploads: BTreeMap<UploadId, i64>,
    pub open_holds: BTreeMap<ClientId, i64>,
    pub gone_uploads: BTreeSet<UploadId>,
    pub messages: Vec<QueueMessage>,
    pub wakes: u32,
    /// Every call so far, in order.
    pub calls: Vec<Call>,
    /// The calls with these numbers (from 0) fail.
    pub faults: BTreeMap<usize, When>,
    /// What the indexes of due jobs and due events show, where they lag behind.
    pub stale: Option<Indexed>,
    /// Jobs whose rows, and objects whose bytes, cannot be read.
    pub poisoned: BTreeSet<String>,
    /// Calls of these kinds fail before they do anything.
    pub down: BTreeSet<Call>,
    /// What the header of an upload says.
    pub header_ms: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Store {
    tables: Mutex<Tables>,
    /// Runs before the next commit is judged: somebody else who is quicker.
    intruder: Mutex<Option<BoxFuture<'static, ()>>>,
}

fn lost(when: When) -> StoreError {
    match when {
        When::Before => StoreError::Unavailable("injected".into()),
        When::After => StoreError::Timeout { maybe_applied: true, source: "injected".into() },
    }
}

impl Store {
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    pub(crate) fn intrude(&self, quicker: impl Future<Output = ()> + Send + 'static) {
        *self.intruder.lock().unwrap() = Some(Box::pin(quicker));
    }

    async fn let_intruder_in(&self) {
        let quicker = self.intruder.lock().unwrap().take();
        if let Some(quicker) = quicker {
            quicker.await;
        }
    }

    /// Does a call, unless a fault says otherwise.
    fn call<T, E: From<StoreError>>(&self, call: Call, work: impl FnOnce(&mut Tables) -> Result<T, E>) -> Result<T, E> {
        let mut tables = self.tables();
        let nth = tables.calls.len();
        tables.calls.push(call);
        let fault = tables.faults.get(&nth).copied();
        if tables.down.contains(&call) || fault == Some(When::Before) {
            return Err(lost(When::Before).into());
        }
        let done = work(&mut tables)?;
        if fault == Some(When::After) { Err(lost(When::After).into()) } else { Ok(done) }
    }
}

impl Tables {
    fn apply(&mut self, change: Change) -> Result<(), CommitError> {
        let job = &change.job;
        let stored = self.jobs.get(&job.id).map_or(0, |job| job.version);
        if stored + 1 != job.version {
            return Err(CommitError::Stale);
        }
        if let Some(delivery) = &change.delivery {
            self.judge_delivery(delivery)?;
        }
        if let Some(promise) = &change.idempotency {
            let taken = self.promises.get(&promise.scope).is_some_and(|old| old.expires_at > job.updated_at);
            if taken {
                return Err(CommitError::KeyTaken);
            }
        }
        if change.uploads.iter().any(|usage| usage.begins && self.gone_uploads.contains(&usage.upload)) {
            return Err(CommitError::UploadGone);
        }
        let opens = matches!(change.money, Some((_, Movement::Hold(_))));
        let open = self.open_holds.get(&job.client).copied().unwrap_or_default();
        let full = change.max_open.is_some_and(|most| open >= i64::from(most));
        if opens && full {
            return Err(CommitError::TooManyOpen);
        }
        if let Some((cause, movement)) = &change.money {
            self.move_credits(&job.client, cause, *movement)?;
            *self.open_holds.entry(job.client.clone()).or_default() += match movement {
                Movement::Hold(_) => 1,
                Movement::Capture { .. } | Movement::Release(_) => -1,
                Movement::Grant(_) | Movement::Adjust { .. } => 0,
            };
        }
        // Nothing refuses from here on.
        if let Some(promise) = change.idempotency {
            self.promises.insert(promise.scope.clone(), promise);
        }
        for usage in change.uploads {
            *self.open_uploads.entry(usage.upload).or_default() += if usage.begins { 1 } else { -1 };
        }
        for attempt in change.attempts {
            self.attempts.insert((job.id.clone(), attempt.attempt), attempt);
        }
        if let Some(delivery) = change.delivery {
            self.deliveries.insert((job.id.clone(), delivery.id.clone()), delivery);
        }
        self.jobs.insert(change.job.id.clone(), change.job);
        Ok(())
    }

    fn judge_delivery(&self, delivery: &DeliveryRecord) -> Result<(), CommitError> {
        let key = (delivery.job_id.clone(), delivery.id.clone());
        let stored = self.deliveries.get(&key).map_or(0, |stored| stored.version);
        if stored + 1 == delivery.version { Ok(()) } else { Err(CommitError::Stale) }
    }

    fn move_credits(&mut self, client: &ClientId, cause: &Cause, movement: Movement) -> Result<(), CommitError> {
        let row = (client.clone(), cause.row_id());
        if self.ledger.contains_key(&row) {
            return Err(CommitError::AlreadyInLedger);
        }
        let before = self.balances.get(client).copied().unwrap_or_default();
        let after = before.after(movement).ok_or(CommitError::InsufficientCredits)?;
        self.balances.insert(client.clone(), after);
        self.ledger.insert(row, movement);
        Ok(())
    }
}

#[async_trait]
impl Jobs for Store {
    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        self.call(Call::Job, |tables| match tables.poisoned.contains(id.as_str()) {
            true => Err(StoreError::Corrupt { what: "job", source: "poisoned".into() }),
            false => Ok(tables.jobs.get(id).cloned()),
        })
    }

    async fn commit(&self, change: Change) -> Result<(), CommitError> {
        self.let_intruder_in().await;
        self.call(Call::Commit, |tables| tables.apply(change))
    }

    async fn list(&self, query: &ListQuery) -> Result<JobPage, StoreError> {
        self.call(Call::List, |tables| {
            let matches = |job: &&JobRecord| {
                job.is_shown_to(&query.client)
                    && (query.statuses.is_empty() || query.statuses.contains(&job.state.status()))
            };
            let mut items: Vec<JobRecord> = tables.jobs.values().filter(matches).cloned().collect();
            items.sort_by_key(|job| std::cmp::Reverse(job.created_at));
            let total = items.len() as u64;
            items.truncate(query.limit as usize);
            Ok(JobPage { items, total, next_cursor: None })
        })
    }

    async fn line(&self, _limit: u32) -> Result<Vec<JobId>, StoreError> {
        unreachable!("no use case looks at the line")
    }

    async fn retire_upload(&self, upload: &UploadId) -> Result<bool, StoreError> {
        self.call(Call::RetireUpload, |tables| {
            let needed = tables.open_uploads.get(upload).is_some_and(|open| *open > 0);
            if !needed {
                tables.gone_uploads.insert(upload.clone());
            }
            Ok(!needed)
        })
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.call(Call::Due, |tables| {
            let due = |job: &&JobRecord| job.due_at.is_some_and(|due| due <= now);
            let stored = tables.stale.as_ref().map_or(&tables.jobs, |stale| &stale.jobs);
            let mut jobs: Vec<&JobRecord> = stored.values().filter(due).collect();
            jobs.sort_by_key(|job| job.due_at);
            Ok(jobs.into_iter().take(limit as usize).map(|job| job.id.clone()).collect())
        })
    }

    async fn attempt(&self, id: &JobId, attempt: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        self.call(Call::Attempt, |tables| Ok(tables.attempts.get(&(id.clone(), attempt)).cloned()))
    }
}

#[async_trait]
impl Accounts for Store {
    async fn balance(&self, client: &ClientId) -> Result<Balance, StoreError> {
        self.call(Call::Balance, |tables| Ok(tables.balances.get(client).copied().unwrap_or_default()))
    }

    async fn grant(
        &self,
        client: &ClientId,
        grant_id: &str,
        amount: MilliCredits,
        _note: Option<&str>,
        _now: Timestamp,
    ) -> Result<(), CommitError> {
        let cause = Cause::Grant { grant_id: grant_id.to_owned() };
        self.call(Call::Commit, |tables| tables.move_credits(client, &cause, Movement::Grant(amount)))
    }
}

#[async_trait]
impl Signings for Store {
    async fn signing(&self, client: &ClientId) -> Result<Signing, StoreError> {
        self.call(Call::Signing, |tables| Ok(tables.signings.get(client).cloned().unwrap_or_default()))
    }

    async fn commit_signing(&self, client: &ClientId, signing: &Signing) -> Result<(), CommitError> {
        self.call(Call::CommitSigning, |tables| {
            let stored = tables.signings.get(client).map_or(0, |stored| stored.version);
            if stored + 1 != signing.version {
                return Err(CommitError::Stale);
            }
            tables.signings.insert(client.clone(), signing.clone());
            Ok(())
        })
    }
}

#[async_trait]
impl Promises for Store {
    async fn promise(&self, scope: &str) -> Result<Option<IdempotencyRecord>, StoreError> {
        self.call(Call::Promise, |tables| Ok(tables.promises.get(scope).cloned()))
    }
}

#[async_trait]
impl Deliveries for Store {
    async fn due_deliveries(&self, now: Timestamp, limit: u32) -> Result<Vec<(JobId, DeliveryId)>, StoreError> {
        self.call(Call::DueDeliveries, |tables| {
            let due = |event: &&DeliveryRecord| event.due_at.is_some_and(|due| due <= now);
            let stored = tables.stale.as_ref().map_or(&tables.deliveries, |stale| &stale.deliveries);
            let mut events: Vec<&DeliveryRecord> = stored.values().filter(due).collect();
            events.sort_by_key(|event| event.due_at);
            Ok(events.into_iter().take(limit as usize).map(|event| (event.job_id.clone(), event.id.clone())).collect())
        })
    }

    async fn delivery(&self, job: &JobId, id: &DeliveryId) -> Result<Option<DeliveryRecord>, StoreError> {
        self.call(Call::Delivery, |tables| Ok(tables.deliveries.get(&(job.clone(), id.clone())).cloned()))
    }

    async fn deliveries_of(&self, job: &JobId) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.call(Call::DeliveriesOf, |tables| {
            Ok(tables.deliveries.values().filter(|event| event.job_id == *job).cloned().collect())
        })
    }

    async fn commit_delivery(&self, record: &DeliveryRecord) -> Result<(), CommitError> {
        self.let_intruder_in().await;
        self.call(Call::CommitDelivery, |tables| {
            tables.judge_delivery(record)?;
            tables.deliveries.insert((record.job_id.clone(), record.id.clone()), record.clone());
            Ok(())
        })
    }
}

#[async_trait]
impl Objects for Store {
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let info = |bytes: &Bytes| ObjectInfo { size_bytes: bytes.len() as u64, content_type: None };
        self.call(Call::Head, |tables| Ok(tables.objects.get(key).map(info)))
    }

    async fn read(&self, key: &str, start: u64, len: u64) -> Result<Option<Bytes>, StoreError> {
        self.call(Call::Read, |tables| {
            if tables.poisoned.contains(key) {
                return Err(lost(When::Before));
            }
            let part = |bytes: &Bytes| {
                let start = (start as usize).min(bytes.len());
                bytes.slice(start..(start + len as usize).min(bytes.len()))
            };
            Ok(tables.objects.get(key).map(part))
        })
    }

    async fn presign_get(&self, key: &str, _: Duration, _: Option<&str>) -> Result<PresignedUrl, StoreError> {
        self.call(Call::Presign, |_| Ok(PresignedUrl(format!("https://objects.example/{key}?signed"))))
    }

    async fn presign_put(&self, key: &str, _: Duration, _: &PutTerms) -> Result<PresignedPut, StoreError> {
        self.call(Call::Presign, |_| {
            Ok(PresignedPut {
                url: PresignedUrl(format!("https://objects.example/{key}?signed-put")),
                headers: Vec::new(),
            })
        })
    }

    async fn list_prefix(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        self.call(Call::ListPrefix, |tables| {
            let below = tables.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            Ok(below.map(|(key, bytes)| (key.clone(), bytes.len() as u64)).collect())
        })
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, StoreError> {
        self.call(Call::DeletePrefix, |tables| {
            let before = tables.objects.len();
            tables.objects.retain(|key, _| !key.starts_with(prefix));
            Ok((before - tables.objects.len()) as u64)
        })
    }
}

#[async_trait]
impl WorkQueue for Store {
    async fn send(&self, message: &QueueMessage, _client: &ClientId) -> Result<(), StoreError> {
        self.call(Call::Send, |tables| {
            tables.messages.push(message.clone());
            Ok(())
        })
    }
}

#[async_trait]
impl Waker for Store {
    async fn wake(&self, n: u32) -> Result<(), StoreError> {
        self.call(Call::Wake, |tables| {
            tables.wakes += n;
            Ok(())
        })
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        Ok(Outstanding::default())
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        Ok(0)
    }

    async fn stop(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl SourceProbe for Store {
    async fn read_header(&self, _key: &str, _size_bytes: u64) -> Result<Header, SourceProbeError> {
        self.call(Call::Probe, |tables| {
            Ok(Header { container: Container::Mp4, duration_ms: tables.header_ms, width: Some(640), height: Some(360) })
        })
    }
}

//! What the control plane sees of a site: its ports.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_core::ports::{Clock, StoreError, Waiting, WakeMemory, Waker};
use rotoless_core::wake::{Backlog, Memory, Outstanding};

use super::super::platform::{Route, SECOND, Status, Trouble};
use super::State;
use super::models::Model;

/// When the virtual time begins, Unix seconds.
const EPOCH: i64 = 1_800_000_000;
/// A worker of the second service is there that much later.
const SECOND_HOME: u64 = 90 * SECOND;

/// The endpoint, the queue, the clock and the memory.
pub(super) struct First(pub(super) Arc<Mutex<State>>);

/// The second service: a machine for each wake, for one message.
pub(super) struct Second(pub(super) Arc<Mutex<State>>);

impl First {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn failed(trouble: Trouble) -> StoreError {
    let source = |what: String| what.into();
    match trouble {
        Trouble::Refuse(429) => StoreError::Throttled(source("429".to_owned())),
        Trouble::Refuse(status) | Trouble::Deny(status) => StoreError::Unavailable(source(status.to_string())),
        Trouble::Hang => StoreError::Timeout { maybe_applied: true, source: source("no answer".to_owned()) },
    }
}

#[async_trait]
impl Waiting for First {
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let state = self.state();
        Ok(state.counts.front().map_or_else(|| state.backlog(), |(_, backlog)| *backlog))
    }
}

#[async_trait]
impl Waker for First {
    async fn wake(&self, n: u32) -> Result<(), StoreError> {
        let mut state = self.state();
        // One that fails does not keep the others.
        let results: Vec<_> = (0..n).map(|_| state.post()).collect();
        results.into_iter().find_map(Result::err).map_or(Ok(()), |trouble| Err(failed(trouble)))
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        let mut state = self.state();
        if let Some(trouble) = state.platform.faults.meet(Route::Health) {
            return Err(failed(trouble));
        }
        let health = state.platform.health(state.now);
        let count = |group: &str, name: &str| u32::try_from(health[group][name].as_u64().unwrap()).unwrap();
        Ok(Outstanding {
            queued: count("jobs", "inQueue"),
            in_progress: count("jobs", "inProgress"),
            running: count("workers", "running"),
            idle: count("workers", "idle"),
            initializing: count("workers", "initializing"),
            throttled: count("workers", "throttled"),
            unhealthy: count("workers", "unhealthy"),
            workers_max: Some(state.platform.workers_max()),
        })
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        let mut state = self.state();
        if let Some(trouble) = state.platform.faults.meet(Route::Purge) {
            return Err(failed(trouble));
        }
        let (queued, now) = (state.platform.count(Status::InQueue), state.now);
        state.platform.purge(now).map_err(|status| failed(Trouble::Refuse(status)))?;
        Ok(u32::try_from(queued).unwrap())
    }

    async fn stop(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(trouble) = state.platform.faults.meet(Route::Management) {
            return Err(failed(trouble));
        }
        let now = state.now;
        state.platform.set_workers_max(now, 0);
        Ok(())
    }
}

#[async_trait]
impl WakeMemory for First {
    async fn recall(&self) -> Result<Memory, StoreError> {
        Ok(self.state().memory)
    }

    async fn remember(&self, memory: &Memory) -> Result<(), StoreError> {
        self.state().memory = *memory;
        Ok(())
    }
}

impl Clock for First {
    fn now(&self) -> Timestamp {
        let now = i64::try_from(self.state().now).unwrap();
        Timestamp::from_millisecond(EPOCH * 1000 + now).unwrap()
    }
}

#[async_trait]
impl Waker for Second {
    async fn wake(&self, n: u32) -> Result<(), StoreError> {
        let mut state = self.0.lock().unwrap();
        let from = state.now + SECOND_HOME;
        state.seconds.extend((0..n).map(|_| Model::alone(from)));
        state.seconds_woken += n;
        Ok(())
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        let state = self.0.lock().unwrap();
        let queued = state.seconds.iter().filter(|model| model.is_booting(state.now)).count();
        Ok(Outstanding { queued: u32::try_from(queued).unwrap(), ..Outstanding::default() })
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        Ok(0)
    }

    async fn stop(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

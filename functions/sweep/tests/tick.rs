//! One tick: repairing and waking do not wait for each other's luck. What is repaired is tested in `rotoless-core`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rotoless_contract::queue::QueueMessage;
use rotoless_contract::{Attempt, ClientId, JobId, UploadId};
use rotoless_core::policy::Policy;
use rotoless_core::ports::*;
use rotoless_core::record::{AttemptRecord, JobRecord};
use rotoless_core::usecase::{Sweep, Wakes};
use rotoless_core::wake::{Backlog, Memory, Outstanding, WakePolicy};
use rotoless_sweep::{Tick, Workers};

/// A service without jobs, whose parts can be switched off.
#[derive(Default)]
struct Quiet {
    visible: u32,
    queued_wakes: u32,
    jobs_down: bool,
    queue_down: bool,
    service_down: bool,
    swept: AtomicU32,
    wakes: Mutex<Vec<u32>>,
}

fn down(is_down: bool) -> Result<(), StoreError> {
    if is_down { Err(StoreError::Unavailable("switched off".into())) } else { Ok(()) }
}

#[async_trait]
impl Jobs for Quiet {
    async fn due(&self, _: Timestamp, _: u32) -> Result<Vec<JobId>, StoreError> {
        self.swept.fetch_add(1, Ordering::SeqCst);
        down(self.jobs_down).map(|()| Vec::new())
    }

    async fn job(&self, _: &JobId) -> Result<Option<JobRecord>, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn commit(&self, _: Change) -> Result<(), CommitError> {
        unreachable!("there are no jobs")
    }

    async fn list(&self, _: &ListQuery) -> Result<JobPage, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn line(&self, _: u32) -> Result<Vec<JobId>, StoreError> {
        unreachable!("nobody waits")
    }

    async fn retire_upload(&self, _: &UploadId) -> Result<bool, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn attempt(&self, _: &JobId, _: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        unreachable!("there are no jobs")
    }
}

#[async_trait]
impl Objects for Quiet {
    async fn head(&self, _: &str) -> Result<Option<ObjectInfo>, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn read(&self, _: &str, _: u64, _: u64) -> Result<Option<Bytes>, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn presign_get(&self, _: &str, _: Duration, _: Option<&str>) -> Result<PresignedUrl, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn presign_put(&self, _: &str, _: Duration, _: &PutTerms) -> Result<PresignedPut, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn list_prefix(&self, _: &str) -> Result<Vec<(String, u64)>, StoreError> {
        unreachable!("there are no jobs")
    }

    async fn delete_prefix(&self, _: &str) -> Result<u64, StoreError> {
        unreachable!("there are no jobs")
    }
}

#[async_trait]
impl WorkQueue for Quiet {
    async fn send(&self, _: &QueueMessage, _: &ClientId) -> Result<(), StoreError> {
        unreachable!("there are no jobs")
    }
}

#[async_trait]
impl Waker for Quiet {
    async fn wake(&self, n: u32) -> Result<(), StoreError> {
        self.wakes.lock().unwrap().push(n);
        Ok(())
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        down(self.service_down)?;
        Ok(Outstanding { queued: self.queued_wakes, running: 1, ..Outstanding::default() })
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        unreachable!("nothing is stuck")
    }

    async fn stop(&self) -> Result<(), StoreError> {
        unreachable!("nobody idles")
    }
}

#[async_trait]
impl WakeMemory for Quiet {
    async fn recall(&self) -> Result<Memory, StoreError> {
        Ok(Memory::default())
    }

    async fn remember(&self, _: &Memory) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Waiting for Quiet {
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        down(self.queue_down).map(|()| Backlog { visible: self.visible, in_flight: 0 })
    }
}

impl Clock for Quiet {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

impl Entropy for Quiet {
    fn bits(&self) -> [u8; 32] {
        [0; 32]
    }
}

fn tick(world: &Arc<Quiet>) -> Tick {
    let sweep = Sweep {
        jobs: world.clone(),
        objects: world.clone(),
        queue: world.clone(),
        waker: world.clone(),
        clock: world.clone(),
        entropy: world.clone(),
        policy: Arc::new(Policy::default()),
    };
    let wakes = Wakes {
        waiting: world.clone(),
        first: world.clone(),
        second: None,
        memory: world.clone(),
        clock: world.clone(),
        policy: WakePolicy { workers_max: 3, sessions_a_look: 1, ..WakePolicy::default() },
    };
    Tick { sweep: Arc::new(sweep), workers: Workers::Woken(Arc::new(wakes)) }
}

/// G-17.
#[tokio::test]
async fn a_waiting_message_without_a_wake_gets_one_and_never_more_than_there_may_be_workers() {
    for (visible, queued_wakes, woken) in
        [(0, 0, None), (1, 0, Some(1)), (2, 1, Some(1)), (2, 2, None), (50, 0, Some(3)), (50, 49, Some(1))]
    {
        let world = Arc::new(Quiet { visible, queued_wakes, ..Quiet::default() });
        let ticked = tick(&world).run().await.unwrap();
        let posted = ticked.woken.map(|woken| woken.wakes);
        assert_eq!((ticked.backlog.visible, posted), (visible, Some(woken.unwrap_or(0))));
        assert_eq!(*world.wakes.lock().unwrap(), woken.into_iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn workers_are_woken_although_nothing_can_be_repaired() {
    let world = Arc::new(Quiet { visible: 1, jobs_down: true, ..Quiet::default() });
    assert!(tick(&world).run().await.is_err());
    assert_eq!(*world.wakes.lock().unwrap(), [1]);
}

#[tokio::test]
async fn jobs_are_repaired_although_the_queue_cannot_be_counted() {
    let world = Arc::new(Quiet { queue_down: true, ..Quiet::default() });
    assert!(tick(&world).run().await.is_err());
    assert_eq!((world.swept.load(Ordering::SeqCst), world.wakes.lock().unwrap().len()), (1, 0));
}

/// A tick of which one half failed gives none (the two tests above): the alarm hears of a sweep that runs in vain.
#[tokio::test]
async fn a_tick_that_comes_to_its_end_is_a_sign_of_life_and_says_what_it_found() {
    let world = Arc::new(Quiet { visible: 7, ..Quiet::default() });
    let mut ticked = tick(&world).run().await.unwrap();
    ticked.swept.oldest_due_seconds = 42;
    let figures: Vec<_> = ticked.figures().iter().map(|(metric, figure)| (metric.name(), *figure)).collect();
    assert_eq!(figures[..3], [("SweepHeartbeat", 1.0), ("OldestDueSeconds", 42.0), ("JobsQueued", 7.0)]);
    assert_eq!(figures[3..6], [("WakesPosted", 3.0), ("WakesLost", 0.0), ("WakesQueued", 0.0)]);
    let findings = ["WakeServiceSilent", "WorkersForbidden", "WorkersBarred", "WakesStuck", "WorkersIdling"];
    assert_eq!(figures[8..], findings.map(|name| (name, 0.0)));
}

/// TW-14: a wake service that answers nothing is woken all the same, a little, and people are told.
#[tokio::test]
async fn a_wake_service_that_is_silent_gets_one_wake_a_tick_and_is_an_alarm() {
    let world = Arc::new(Quiet { visible: 7, service_down: true, ..Quiet::default() });
    let ticked = tick(&world).run().await.unwrap();
    assert_eq!(*world.wakes.lock().unwrap(), [1]);
    assert!(ticked.figures().iter().any(|(metric, figure)| metric.name() == "WakeServiceSilent" && *figure == 1.0));
}

/// Workers that poll are counted on and not woken; what waits is told all the same.
#[tokio::test]
async fn workers_that_poll_are_not_woken() {
    let world = Arc::new(Quiet { visible: 7, ..Quiet::default() });
    let ticked = Tick { workers: Workers::Polling(world.clone()), ..tick(&world) }.run().await.unwrap();
    assert_eq!((ticked.backlog.visible, ticked.woken.is_none()), (7, true));
    assert!(world.wakes.lock().unwrap().is_empty());
    assert_eq!(ticked.figures().len(), 3);
}

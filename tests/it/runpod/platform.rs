//! One serverless endpoint of RunPod, as a state machine without a clock, a network or a process of its own.
//!
//! Owns: the queue of requests, the workers' states, the scalers, timeouts and traps, FlashBoot, the bill, and what it
//! noticed of its workers' manners. Does not own: HTTP (`shell`), processes (`spawner`), model workers (`virtual_time`).
//! Time is passed in, in milliseconds since the endpoint began. What a host has to do comes out as [`Order`]s.
//! Invariants: a worker is billed from the order that starts or thaws it to its freeze or its exit, and at no other
//! time; what the platform does to a request or a worker is what RunPod's documentation and its published Python worker
//! say, or what its users reported it to do; where both are silent, what is worse for us.

mod faults;
mod requests;
mod scaling;
mod witness;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

pub(crate) use self::faults::{Faults, Route, Trouble, WakeFate};
use self::requests::Request;
pub(crate) use self::requests::Status;
pub(crate) use self::witness::End;
use self::witness::Witness;
use self::workers::Worker;
pub(crate) use self::workers::{Offer, Order, WorkerId, WorkerState};

/// Since the endpoint began, or a duration.
pub(crate) type Millis = u64;

pub(crate) const SECOND: Millis = 1000;
pub(crate) const MINUTE: Millis = 60 * SECOND;
pub(crate) const HOUR: Millis = 60 * MINUTE;
pub(crate) const DAY: Millis = 24 * HOUR;

/// How the endpoint decides on more workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scaler {
    /// One more for each request that waited so long.
    QueueDelay(Millis),
    /// As many as there are requests, waiting or in progress, divided by this.
    RequestCount(u32),
}

/// What an owner sets, and what the data centre is like.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) workers_min: u32,
    pub(crate) workers_max: u32,
    pub(crate) scaler: Scaler,
    pub(crate) idle_timeout: Millis,
    /// Of requests without a policy.
    pub(crate) execution_timeout: Millis,
    pub(crate) ttl: Millis,
    /// An idle worker is frozen, not ended.
    pub(crate) flashboot: bool,
    /// What a worker on a new host takes to get its image. Not billed.
    pub(crate) pull: Millis,
    /// Without a first take for so long a worker is unhealthy.
    pub(crate) init_timeout: Millis,
    /// How long an unhealthy worker keeps its place.
    pub(crate) unhealthy: Millis,
    /// A worker with a job is killed when it was not heard of for so long; none: never.
    pub(crate) ping_patience: Option<Millis>,
    /// How often a request whose worker died is offered again.
    pub(crate) retries: u32,
}

impl Default for Settings {
    /// RunPod's own.
    fn default() -> Self {
        Self {
            workers_min: 0,
            workers_max: 3,
            scaler: Scaler::QueueDelay(4 * SECOND),
            idle_timeout: 5 * SECOND,
            execution_timeout: 10 * MINUTE,
            ttl: DAY,
            flashboot: true,
            pull: 20 * SECOND,
            init_timeout: 7 * MINUTE,
            unhealthy: MINUTE,
            ping_patience: None,
            retries: 3,
        }
    }
}

/// A request that the platform refuses, by its status.
pub(crate) type Refused = u16;

/// The endpoint.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) witness: Witness,
    requests: BTreeMap<String, Request>,
    workers: BTreeMap<WorkerId, Worker>,
    orders: Vec<Order>,
    made: u64,
    hired: u32,
    takes: u64,
    /// The last request or the last raise of the limit: what the traps count from.
    touched: Millis,
    ticked: Millis,
    /// What the traps left of `workers_max`.
    trapped: Option<u32>,
    /// When the queue was purged lately.
    purges: Vec<Millis>,
    completed: u64,
    failed: u64,
    retried: u64,
}

impl Platform {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            faults: Faults::default(),
            witness: Witness::default(),
            requests: BTreeMap::new(),
            workers: BTreeMap::new(),
            orders: Vec::new(),
            made: 0,
            hired: 0,
            takes: 0,
            touched: 0,
            ticked: 0,
            trapped: None,
            purges: Vec::new(),
            completed: 0,
            failed: 0,
            retried: 0,
        }
    }

    /// Lets time pass. Gives what the host has to do now.
    pub(crate) fn tick(&mut self, now: Millis) -> Vec<Order> {
        self.count_the_parted(now);
        self.expire_requests(now);
        self.spring_traps(now);
        self.advance_workers(now);
        self.scale(now);
        std::mem::take(&mut self.orders)
    }

    /// Workers without work beside requests that wait: neither side's scaler sends anybody home.
    fn count_the_parted(&mut self, now: Millis) {
        let passed = now - std::mem::replace(&mut self.ticked, now);
        if self.count(Status::InQueue) > 0 {
            let parted = self.workers.values().filter(|worker| worker.is_up() && worker.jobs.is_empty()).count();
            self.witness.parted += passed * parted as Millis;
        }
    }

    /// The most workers there may be: what was set, or what the traps left of it.
    pub(crate) fn workers_max(&self) -> u32 {
        self.trapped.unwrap_or(u32::MAX).min(self.settings.workers_max)
    }

    /// Somebody sets the limit: the traps begin anew.
    pub(crate) fn set_workers_max(&mut self, now: Millis, workers_max: u32) {
        self.settings.workers_max = workers_max;
        self.trapped = None;
        self.touched = now;
    }

    /// `GET /health`.
    pub(crate) fn health(&self, now: Millis) -> Value {
        let requests = |status: Status| self.requests.values().filter(|request| request.status == status).count();
        let queued = self.requests.values().filter(|request| request.is_counted(now)).count();
        let workers = |state: WorkerState| self.workers.values().filter(|worker| worker.state == state).count();
        let ready = self.workers.values().filter(|worker| worker.is_up() && worker.ready && worker.jobs.is_empty());
        json!({
            "jobs": {
                "completed": self.completed,
                "failed": self.failed,
                "inProgress": requests(Status::InProgress),
                "inQueue": queued,
                "retried": self.retried,
            },
            "workers": {
                "idle": workers(WorkerState::Idle),
                "initializing": workers(WorkerState::Initializing),
                "ready": ready.count(),
                "running": workers(WorkerState::Running),
                "throttled": workers(WorkerState::Throttled),
                "unhealthy": workers(WorkerState::Unhealthy),
            },
        })
    }

    /// Workers whose process runs: those who cost money.
    pub(crate) fn up(&self) -> Vec<WorkerId> {
        self.workers.values().filter(|worker| worker.is_up()).map(|worker| worker.id).collect()
    }

    /// Nothing will happen by itself but what the days bring.
    pub(crate) fn is_quiet(&self) -> bool {
        self.workers.values().all(|worker| worker.state == WorkerState::Idle) && self.count(Status::InQueue) == 0
    }

    /// Requests of a status.
    pub(crate) fn count(&self, status: Status) -> usize {
        self.requests.values().filter(|request| request.status == status).count()
    }

    /// Who has which request now.
    pub(crate) fn at_work(&self) -> BTreeMap<WorkerId, BTreeSet<String>> {
        let busy = self.workers.values().filter(|worker| !worker.jobs.is_empty());
        busy.map(|worker| (worker.id, worker.jobs.clone())).collect()
    }

    /// What is wrong at an end at which everything should be at rest: I-8.
    pub(crate) fn verdict(&self) -> Vec<String> {
        let mut wrong = self.witness.breaches.clone();
        for worker in self.workers.values() {
            let Worker { id, state, jobs, taking, .. } = worker;
            if worker.is_up() {
                wrong.push(format!("{id} is {state:?} at the end"));
            }
            if taking.is_some() {
                wrong.push(format!("{id} has a take outstanding at the end"));
            }
            if !jobs.is_empty() {
                wrong.push(format!("{id} has {jobs:?} at the end"));
            }
        }
        let open = self.witness.sessions.iter().filter(|session| session.end.is_none());
        wrong.extend(open.map(|session| format!("{} was taken by {} and never done", session.request, session.worker)));
        wrong
    }
}

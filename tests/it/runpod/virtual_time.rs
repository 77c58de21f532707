//! A site on a virtual clock: the endpoint, a queue in memory, model workers, and the control plane's own decisions.
//!
//! Owns: the clock and the order in which things happen in a second. Does not own: what the endpoint does (`platform`),
//! what a worker does (`models`), the decisions under test (`rotoless_core::usecase::Wakes`).
//! Invariant: nothing here knows the time but by [`Site::pass`]; the same seed gives the same day.

mod control;
mod models;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use rotoless_core::usecase::Wakes;
use rotoless_core::wake::{Backlog, Finding, Memory, WakePolicy};
use serde_json::json;

use self::control::{First, Second};
use self::models::Model;
use super::platform::{MINUTE, Millis, Order, Platform, Route, SECOND, Settings, Trouble, WorkerId};

/// Between two steps, while anything goes on.
const STEP: Millis = SECOND;
/// Between two looks of the control plane.
const LOOK: Millis = MINUTE;
/// How long a message that nobody extends stays invisible.
const VISIBILITY: Millis = 2 * MINUTE;

/// What the workers and their jobs are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// A process loads its model for so long.
    pub(crate) boot: Millis,
    /// A job takes so long.
    pub(crate) work: Millis,
    /// The queue's counts are that old.
    pub(crate) lag: Millis,
}

impl Default for Pace {
    fn default() -> Self {
        Self { boot: 10 * SECOND, work: 30 * SECOND, lag: 0 }
    }
}

/// A job, and when what happened to it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Job {
    /// When a worker first received its message.
    pub(crate) started: Option<Millis>,
    pub(crate) done: Option<Millis>,
    /// How often its work was begun.
    pub(crate) attempts: u32,
}

struct Message {
    job: usize,
    /// Nobody receives it before.
    visible: Millis,
}

struct State {
    now: Millis,
    platform: Platform,
    pace: Pace,
    jobs: Vec<Job>,
    queue: Vec<Message>,
    /// Messages of producers that died before they sent them, which the sweep sends.
    unsent: Vec<Message>,
    workers: BTreeMap<WorkerId, Model>,
    /// Workers of the second service.
    seconds: Vec<Model>,
    seconds_woken: u32,
    counts: VecDeque<(Millis, Backlog)>,
    memory: Memory,
    findings: Vec<(Millis, Finding)>,
    stopped: Option<Millis>,
    /// Wakes that the looks posted.
    reconciled: u32,
    sweep_is_off: bool,
}

/// The site. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Site {
    state: Arc<Mutex<State>>,
    wakes: Arc<Wakes>,
}

impl Site {
    /// A site whose endpoint is set so, with a second service where `has_second`.
    pub(crate) fn new(settings: Settings, pace: Pace, policy: WakePolicy, has_second: bool) -> Self {
        let state = Arc::new(Mutex::new(State {
            now: 0,
            platform: Platform::new(settings),
            pace,
            jobs: Vec::new(),
            queue: Vec::new(),
            unsent: Vec::new(),
            workers: BTreeMap::new(),
            seconds: Vec::new(),
            seconds_woken: 0,
            counts: VecDeque::new(),
            memory: Memory::default(),
            findings: Vec::new(),
            stopped: None,
            reconciled: 0,
            sweep_is_off: false,
        }));
        let first = Arc::new(First(Arc::clone(&state)));
        let wakes = Wakes {
            waiting: Arc::clone(&first) as _,
            first: Arc::clone(&first) as _,
            second: has_second.then(|| Arc::new(Second(Arc::clone(&state))) as _),
            memory: Arc::clone(&first) as _,
            clock: first,
            policy,
        };
        Self { state, wakes: Arc::new(wakes) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    pub(crate) fn now(&self) -> Millis {
        self.with(|state| state.now)
    }

    /// A hand in the endpoint.
    pub(crate) fn platform<T>(&self, act: impl FnOnce(&mut Platform, Millis) -> T) -> T {
        self.with(|state| act(&mut state.platform, state.now))
    }

    /// Orders one job: its message is sent, then its wake is posted. Gives its number.
    pub(crate) fn submit(&self) -> usize {
        self.with(|state| {
            let (job, now) = state.new_job();
            state.queue.push(Message { job, visible: now });
            let _ = state.post();
            job
        })
    }

    /// The same, of a producer that dies behind its message.
    pub(crate) fn submit_without_wake(&self) -> usize {
        self.with(|state| {
            let (job, now) = state.new_job();
            state.queue.push(Message { job, visible: now });
            job
        })
    }

    /// The same, of one that dies before it: the sweep sends the message after half a minute, at its next tick.
    pub(crate) fn submit_without_message(&self) -> usize {
        self.with(|state| {
            let (job, now) = state.new_job();
            state.unsent.push(Message { job, visible: now + 30 * SECOND });
            job
        })
    }

    pub(crate) fn job(&self, job: usize) -> Job {
        self.with(|state| state.jobs[job])
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.with(|state| state.jobs.clone())
    }

    pub(crate) fn findings(&self) -> Vec<(Millis, Finding)> {
        self.with(|state| state.findings.clone())
    }

    pub(crate) fn found(&self, finding: Finding) -> Option<Millis> {
        self.findings().iter().find(|(_, found)| *found == finding).map(|(at, _)| *at)
    }

    /// Wakes that looks posted, and those at the second service.
    pub(crate) fn wakes_of_looks(&self) -> (u32, u32) {
        self.with(|state| (state.reconciled, state.seconds_woken))
    }

    /// When all workers were forbidden.
    pub(crate) fn stopped(&self) -> Option<Millis> {
        self.with(|state| state.stopped)
    }

    pub(crate) fn turn_sweep(&self, off: bool) {
        self.with(|state| state.sweep_is_off = off);
    }

    /// One of the workers' processes dies, if there is any; `which` chooses.
    pub(crate) fn kill_worker(&self, which: usize) {
        self.with(|state| {
            if let Some(id) = state.some_worker(which) {
                state.end(id, false);
            }
        });
    }

    /// One of them, if it is at work, does nothing any more, until its watchdog ends it, if it has one.
    pub(crate) fn hang_worker(&self, which: usize, watchdog: Option<Millis>) {
        self.with(|state| {
            let until = watchdog.map(|time| state.now + time);
            if let Some(model) = state.some_worker(which).and_then(|id| state.workers.get_mut(&id)) {
                model.hang(until);
            }
        });
    }

    /// Nobody runs, nothing waits.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.with(|state| {
            let idle = state.queue.is_empty() && state.unsent.is_empty() && state.seconds.is_empty();
            idle && state.platform.is_quiet()
        })
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, time: Millis) {
        let until = self.now() + time;
        while self.now() < until {
            self.step().await;
        }
    }

    /// Lets time pass until it is so. Fails the test when that is not within `limit`.
    pub(crate) async fn until(&self, what: &str, limit: Millis, is_so: impl Fn(&Self) -> bool) {
        let end = self.now() + limit;
        while !is_so(self) {
            assert!(self.now() < end, "not within {limit} ms: {what}; {}", self.account());
            self.step().await;
        }
    }

    async fn step(&self) {
        let is_at_rest = self.is_at_rest();
        let looks = self.with(|state| {
            let next_look = (state.now / LOOK + 1) * LOOK;
            state.now = if is_at_rest { next_look } else { next_look.min(state.now + STEP) };
            state.advance();
            state.now == next_look && !state.sweep_is_off
        });
        if looks {
            self.with(State::send_unsent);
            let woken = self.wakes.tick().await.unwrap();
            self.with(|state| {
                state.findings.extend(woken.findings.iter().map(|finding| (state.now, *finding)));
                state.reconciled += woken.wakes;
                if woken.is_stopped {
                    state.stopped.get_or_insert(state.now);
                }
            });
        }
    }

    /// For those who read why a test failed.
    pub(crate) fn account(&self) -> String {
        self.with(|state| {
            let State { now, platform, queue, .. } = state;
            let health = platform.health(*now);
            format!("at {now}: {} messages, {health}, {:?}, {:?}", queue.len(), platform.at_work(), state.workers)
        })
    }
}

impl State {
    fn new_job(&mut self) -> (usize, Millis) {
        self.jobs.push(Job::default());
        (self.jobs.len() - 1, self.now)
    }

    /// `POST /run`, with everything that may happen to it.
    fn post(&mut self) -> Result<(), Trouble> {
        let body = json!({
            "input": {"v": 1, "at": self.now / SECOND},
            "policy": {"executionTimeout": 7_280_000, "ttl": 93_680_000},
        });
        let trouble = self.platform.faults.meet(Route::Run);
        if let Some(Trouble::Refuse(_) | Trouble::Hang) = trouble {
            return Err(Trouble::Hang);
        }
        let _ = self.platform.run(self.now, &body);
        trouble.map_or(Ok(()), Err)
    }

    fn send_unsent(&mut self) {
        let now = self.now;
        let due = self.unsent.extract_if(.., |message| message.visible <= now);
        self.queue.extend(due.map(|message| Message { visible: now, ..message }));
    }

    fn backlog(&self) -> Backlog {
        let visible = self.queue.iter().filter(|message| message.visible <= self.now).count();
        let count = |count: usize| u32::try_from(count).unwrap();
        Backlog { visible: count(visible), in_flight: count(self.queue.len() - visible) }
    }

    fn advance(&mut self) {
        let now = self.now;
        for order in self.platform.tick(now) {
            self.carry_out(order);
        }
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            let Some(mut model) = self.workers.remove(&id) else { continue };
            model.advance(self, id);
            let gives_up = model.gives_up(now);
            self.workers.insert(id, model);
            if gives_up {
                self.end(id, false);
            }
        }
        let seconds = std::mem::take(&mut self.seconds);
        for mut model in seconds {
            if model.advance_alone(self) {
                self.seconds.push(model);
            }
        }
        let backlog = self.backlog();
        self.counts.push_back((now, backlog));
        while self.counts.len() > 1 && self.counts[1].0 + self.pace.lag <= now {
            self.counts.pop_front();
        }
    }

    fn some_worker(&self, which: usize) -> Option<WorkerId> {
        let up = self.platform.up();
        up.get(which % up.len().max(1)).copied()
    }

    /// A worker's process is gone.
    fn end(&mut self, id: WorkerId, success: bool) {
        self.workers.remove(&id);
        self.platform.exited(self.now, id, success);
    }

    fn carry_out(&mut self, order: Order) {
        let now = self.now;
        match order {
            Order::Start(id) => drop(self.workers.insert(id, Model::booting(now + self.pace.boot))),
            Order::Freeze(id) => self.workers.get_mut(&id).unwrap().freeze(),
            Order::Thaw(id) => self.workers.get_mut(&id).unwrap().thaw(now),
            Order::Terminate(id) => {
                // What it had is anybody's at once.
                if let Some(job) = self.workers.get(&id).and_then(Model::job) {
                    self.queue
                        .iter_mut()
                        .filter(|message| message.job == job)
                        .for_each(|message| message.visible = now);
                }
                self.end(id, true);
            }
            Order::Kill(id) => self.end(id, false),
        }
    }
}

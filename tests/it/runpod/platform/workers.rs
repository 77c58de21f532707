//! The workers' side: takes, pings, stops, and the life of a worker from its host to its end.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::{End, Millis, Platform, Refused, SECOND};

/// The longest that a well-mannered worker pauses between two takes.
const ASKS_AGAIN: Millis = 30 * SECOND;

/// Numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(crate) u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fake-worker-{}", self.0)
    }
}

impl WorkerId {
    /// As it was printed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("fake-worker-")?.parse().ok().map(Self)
    }
}

/// As `/health` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerState {
    /// Gets its image. Free.
    Initializing,
    /// Its process runs: it loads, works, or waits until the idle timeout. Billed.
    Running,
    /// Its image is on a host, its process frozen or gone. Free.
    Idle,
    /// Would run, and its host has no GPU free. Free.
    Throttled,
    /// Failed, and keeps its place for a while. Free.
    Unhealthy,
}

/// What a host has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Start(WorkerId),
    /// FlashBoot: the process stops where it is.
    Freeze(WorkerId),
    Thaw(WorkerId),
    /// SIGTERM, and after the grace SIGKILL.
    Terminate(WorkerId),
    Kill(WorkerId),
}

/// What an outstanding take has come to.
#[derive(Debug, PartialEq)]
pub(crate) enum Offer {
    Jobs(Vec<Value>),
    /// Nothing yet.
    Wait,
    /// The worker is no longer asked: its connection is as dead as after a move of its memory to another host.
    Cut,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) state: WorkerState,
    /// Since when it is in that state.
    pub(super) since: Millis,
    /// There is a process, running or frozen.
    pub(super) process: bool,
    /// It has asked for work since its process began.
    pub(super) ready: bool,
    /// It was told to end.
    pub(super) stopping: bool,
    pub(super) jobs: BTreeSet<String>,
    /// Cancelled, and to be stopped.
    pub(super) to_stop: BTreeSet<String>,
    pub(super) taking: Option<u64>,
    /// Since when it has nothing to do.
    pub(super) idle: Option<Millis>,
    pub(super) heard: Millis,
    /// What it had when, for judging its pings.
    had: Vec<(Millis, BTreeSet<String>)>,
    /// Its last freeze and thaw.
    slept: Option<(Millis, Millis)>,
}

impl Worker {
    pub(super) fn new(id: WorkerId, now: Millis) -> Self {
        Self {
            id,
            state: WorkerState::Initializing,
            since: now,
            process: false,
            ready: false,
            stopping: false,
            jobs: BTreeSet::new(),
            to_stop: BTreeSet::new(),
            taking: None,
            idle: None,
            heard: now,
            had: vec![(0, BTreeSet::new())],
            slept: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == WorkerState::Running
    }

    /// It will soon ask for work, or does. Who has had nothing to do for long and still does not ask is not coming.
    pub(super) fn is_coming(&self, now: Millis) -> bool {
        let asks = !self.ready || self.taking.is_some() || self.idle.is_none_or(|since| since + ASKS_AGAIN > now);
        self.jobs.is_empty() && !self.stopping && self.state != WorkerState::Unhealthy && asks
    }

    pub(super) fn enter(&mut self, now: Millis, state: WorkerState) {
        (self.state, self.since) = (state, now);
    }

    pub(super) fn take_up(&mut self, now: Millis, id: String) {
        self.jobs.insert(id);
        (self.idle, self.heard) = (None, now);
        self.had.push((now, self.jobs.clone()));
    }

    pub(super) fn lay_down(&mut self, now: Millis, id: &str) {
        self.to_stop.remove(id);
        if self.jobs.remove(id) {
            self.had.push((now, self.jobs.clone()));
        }
        if self.jobs.is_empty() {
            self.idle = Some(now);
        }
    }

    pub(super) fn woke(&mut self, now: Millis) {
        self.slept = Some((self.since, now));
        (self.idle, self.heard) = (Some(now), now);
    }

    /// Whether a ping with these requests is true of some moment within `slack` before it. What a worker had on its way
    /// when it was frozen arrives when it is thawed.
    fn had_within(&self, now: Millis, slack: Millis, said: &BTreeSet<String>) -> bool {
        let mut from = now.saturating_sub(slack);
        if let Some((froze, thawed)) = self.slept
            && thawed + slack > now
        {
            from = froze.saturating_sub(slack);
        }
        let next = self.had.iter().skip(1).map(|(since, _)| *since).chain([Millis::MAX]);
        self.had.iter().zip(next).any(|((_, had), until)| until >= from && had == said)
    }
}

impl Platform {
    fn running(&mut self, id: WorkerId) -> Result<&mut Worker, Refused> {
        self.workers.get_mut(&id).filter(|worker| worker.is_up()).ok_or(404)
    }

    /// A worker asks for work. Gives the number of its take.
    pub(crate) fn take(&mut self, now: Millis, id: WorkerId, says_busy: bool) -> Result<u64, Refused> {
        self.takes += 1;
        let number = self.takes;
        let mut breaches = Vec::new();
        self.forget_lost_results(now, id);
        let worker = self.running(id)?;
        // Stopped ones end without a word.
        for stopped in std::mem::take(&mut worker.to_stop) {
            worker.lay_down(now, &stopped);
        }
        if worker.taking.is_some() {
            breaches.push(format!("{id} takes twice at once"));
        }
        if !worker.jobs.is_empty() {
            breaches.push(format!("{id} takes while it has {:?}", worker.jobs));
        }
        if says_busy == worker.jobs.is_empty() {
            breaches.push(format!("{id} says job_in_progress={} and has {:?}", u8::from(says_busy), worker.jobs));
        }
        worker.taking = Some(number);
        worker.ready = true;
        if worker.jobs.is_empty() {
            worker.idle.get_or_insert(now);
        }
        breaches.into_iter().for_each(|breach| self.witness.breach(breach));
        Ok(number)
    }

    /// Results that were refused until the worker gave up: no breach, and the requests are offered again.
    fn forget_lost_results(&mut self, now: Millis, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let lost: Vec<String> = worker.jobs.iter().filter(|job| self.witness.is_spoilt(job)).cloned().collect();
        lost.iter().for_each(|job| worker.lay_down(now, job));
        self.orphan(now, &lost, &End::ResultLost);
    }

    /// What there is for an outstanding take, at most `most` requests.
    pub(crate) fn offer(&mut self, now: Millis, id: WorkerId, take: u64, most: usize) -> Offer {
        let Ok(worker) = self.running(id) else { return Offer::Cut };
        if worker.taking != Some(take) {
            return Offer::Cut;
        }
        if worker.stopping {
            return Offer::Wait;
        }
        let jobs: Vec<Value> = std::iter::from_fn(|| self.hand_out(now, id)).take(most).collect();
        if jobs.is_empty() { Offer::Wait } else { Offer::Jobs(jobs) }
    }

    /// A take is over, with or without work.
    pub(crate) fn withdraw(&mut self, id: WorkerId, take: u64) {
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.taking == Some(take)
        {
            worker.taking = None;
        }
    }

    /// A sign of life, with the requests that it names; `slack` is what a busy machine may take between two calls.
    pub(crate) fn ping(&mut self, now: Millis, id: WorkerId, named: &BTreeSet<String>, slack: Millis) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.heard = now;
        // One whose result was not accepted still has it, though the endpoint may think otherwise.
        let is_at_odds = named.iter().any(|request| self.witness.is_spoilt(request));
        if !is_at_odds && !worker.had_within(now, slack, named) {
            let breach = format!("{id} pings with {named:?} at {now} and had {:?}", worker.had.iter().rev().take(3));
            self.witness.breach(breach);
        }
        self.witness.pings += 1;
    }

    /// A worker says that it is not fit, and will end.
    pub(crate) fn unfit(&mut self, now: Millis, id: WorkerId, reason: &str) {
        self.witness.unfit.push((id, reason.to_owned()));
        if let Ok(worker) = self.running(id) {
            worker.heard = now;
            worker.ready = false;
        }
    }

    /// A host is needed for something else: its worker is asked to end.
    pub(crate) fn take_away(&mut self, id: WorkerId) {
        if let Ok(worker) = self.running(id) {
            worker.stopping = true;
            self.orders.push(Order::Terminate(id));
        }
    }

    /// What a worker has to stop.
    pub(crate) fn stops(&self, id: WorkerId) -> Vec<String> {
        self.workers.get(&id).map(|worker| worker.to_stop.iter().cloned().collect()).unwrap_or_default()
    }

    /// A process is gone. Whoever was not told to end and ended badly is unhealthy.
    pub(crate) fn exited(&mut self, now: Millis, id: WorkerId, success: bool) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (was_up, was_told) = (worker.is_up(), worker.stopping);
        let jobs: Vec<String> = std::mem::take(&mut worker.jobs).into_iter().collect();
        *worker = Worker { state: worker.state, ..Worker::new(id, now) };
        let unhealthy = was_up && !was_told && !success;
        worker.enter(now, if unhealthy { WorkerState::Unhealthy } else { WorkerState::Idle });
        if was_up {
            self.witness.stopped(id, now);
        }
        self.orphan(now, &jobs, &End::WorkerDied);
    }
}

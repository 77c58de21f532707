//! The event loop: what is planned happens in the order of time, and plans more.
//!
//! Owns: the clock, the plan, the end of a run. Does not own: what happens (`submitting`, `scaling`, `serving`,
//! `sweeping`).
//! Invariants: nothing is planned for the past; of two things at one moment the one that was planned first comes first;
//! every job that came is completed, failed or open.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rotoless_core::lifecycle::Phase;
use rotoless_core::wake::{Backlog, Memory};

use crate::arrivals::{Calendar, Coming};
use crate::draws::{Draws, Source};
use crate::jobs::{JobNumber, Jobs, Queue};
use crate::micros::Micros;
use crate::report::{Ended, Observe, Tally};
use crate::scenario::Scenario;
use crate::series::{Row, Series};
use crate::workers::{Place, Wake, Workers};

/// Something that is going to happen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// The next job comes.
    Arrival { video: Option<Micros> },
    /// A new message can be received.
    Sent(JobNumber),
    /// A message can be received again.
    Again(JobNumber),
    /// The wake service has a wake.
    Wake { posted: Micros, cause: Cause },
    /// A wake may have waited long enough for another worker.
    Waited,
    /// From now on the worker is paid for.
    Billed(Place, u32),
    /// The worker can serve a session.
    Ready(Place, u32),
    /// The worker asks for a message.
    Polls(Place, u32),
    /// The poll comes back empty.
    PollEnds(Place, u32),
    /// The attempt ends as it must.
    AttemptEnds(Place, u32),
    /// The worker has been idle for long.
    IdleEnds(Place, u32),
    /// The service notices that a session is dead.
    PhantomEnds,
    /// Hosts go or come back.
    Hosts { taken: u32, returned: u32 },
    /// The queue is counted for the next tick.
    Counted,
    /// The sweep's tick.
    Tick,
    /// A row of the series ends.
    Step,
}

/// Who posts a wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A message was sent.
    Message,
    /// A look found messages that no wake stands for.
    Look,
}

struct Planned {
    at: Micros,
    number: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A run.
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Micros,
    plan: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    calendar: Calendar,
    pub(crate) videos: Draws,
    pub(crate) fates: Draws,
    pub(crate) wake_draws: Draws,
    pub(crate) start_draws: Draws,
    pub(crate) jobs: Jobs,
    pub(crate) queue: Queue,
    pub(crate) workers: Workers,
    /// When the sweep must look at jobs; an entry is void where the job is no longer due then.
    pub(crate) due: BinaryHeap<Reverse<(Micros, JobNumber)>>,
    /// The queue's counts as a tick reads them: a while old.
    pub(crate) counted: Backlog,
    pub(crate) memory: Memory,
    /// The ten seconds in which wakes are counted, and how many came.
    pub(crate) window: (u64, u32),
    pub(crate) tally: Tally,
    pub(crate) series: Series,
    pub(crate) observer: &'a mut dyn Observe,
    is_coming: bool,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, observer: &'a mut dyn Observe) -> Self {
        let draws = |source| Draws::new(scenario.seed, source);
        Self {
            scenario,
            now: Micros::ZERO,
            plan: BinaryHeap::new(),
            planned: 0,
            calendar: Calendar::new(scenario.arrivals.clone(), draws(Source::Arrivals)),
            videos: draws(Source::Videos),
            fates: draws(Source::Fates),
            wake_draws: draws(Source::Wakes),
            start_draws: draws(Source::Starts),
            jobs: Jobs::new(),
            queue: Queue::default(),
            workers: Workers::new(scenario.fleet.max),
            due: BinaryHeap::new(),
            counted: Backlog::default(),
            memory: Memory::default(),
            window: (0, 0),
            tally: Tally::default(),
            series: Series::default(),
            observer,
            is_coming: false,
        }
    }

    pub(crate) fn at(&mut self, at: Micros, event: Event) {
        let number = self.planned;
        self.planned += 1;
        self.plan.push(Reverse(Planned { at: at.max(self.now), number, event }));
    }

    pub(crate) fn after(&mut self, wait: Micros, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Until everything is done, or the time is over.
    pub(crate) fn run(&mut self) {
        let Scenario { horizon, tail, .. } = *self.scenario;
        self.begin();
        while let Some(Reverse(Planned { at, event, .. })) = self.plan.pop() {
            if at > horizon + tail || at > horizon && self.is_quiet() {
                break;
            }
            self.now = at;
            self.tally.events += 1;
            self.happen(event);
        }
        self.now = self.now.max(horizon);
        self.workers.close_all(self.now);
    }

    fn begin(&mut self) {
        self.workers.last_request = Micros::ZERO;
        self.scale();
        self.plan_arrival();
        let (tick, lag) = (self.scenario.control.tick, self.scenario.control.counts_lag);
        self.at(tick.since(lag), Event::Counted);
        self.at(tick, Event::Tick);
        self.at(Series::step(self.scenario.horizon), Event::Step);
        for throttle in &self.scenario.fleet.throttles {
            self.at(throttle.from, Event::Hosts { taken: throttle.hosts, returned: 0 });
            self.at(throttle.until, Event::Hosts { taken: 0, returned: throttle.hosts });
        }
    }

    /// No job is open, and no worker is there that will not stay.
    fn is_quiet(&self) -> bool {
        let is_served = self.jobs.is_empty() && self.workers.wakes.is_empty() && !self.is_coming;
        // A second message of a job that is over waits for the next look.
        let is_read = self.queue.visible() == 0 || !self.scenario.control.reconciles;
        is_served && is_read && self.workers.up() <= self.scenario.fleet.min && self.workers.count.in_session == 0
    }

    fn plan_arrival(&mut self) {
        let coming = self.calendar.next(self.scenario.horizon);
        self.is_coming = coming.is_some();
        if let Some(Coming { at, video }) = coming {
            self.at(at, Event::Arrival { video });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival { video } => {
                self.submit(video);
                self.plan_arrival();
            }
            Event::Sent(job) => self.show(job),
            Event::Again(job) => {
                self.queue.in_flight -= 1;
                self.show(job);
            }
            Event::Wake { posted, cause } => self.wake_arrives(posted, cause),
            Event::Waited => self.scale(),
            Event::Billed(place, turn) if self.is_on(place, turn) => {
                self.workers.at_mut(place).billed_from = Some(self.now);
            }
            Event::Ready(place, turn) if self.is_on(place, turn) => self.ready(place),
            Event::Polls(place, turn) if self.is_on(place, turn) => self.poll(place),
            Event::PollEnds(place, turn) if self.is_on(place, turn) => self.poll_ends(place),
            Event::AttemptEnds(place, turn) if self.is_on(place, turn) => self.attempt_ends(place),
            Event::IdleEnds(place, turn) if self.is_on(place, turn) => self.idle_ends(place),
            Event::Billed(..)
            | Event::Ready(..)
            | Event::Polls(..)
            | Event::PollEnds(..)
            | Event::AttemptEnds(..)
            | Event::IdleEnds(..) => {}
            Event::PhantomEnds => self.workers.phantoms -= 1,
            Event::Hosts { taken, returned } => {
                self.workers.taken = self.workers.taken + taken - returned;
                self.scale();
            }
            Event::Counted => {
                self.counted = Backlog { visible: self.queue.visible(), in_flight: self.queue.in_flight };
                self.after(self.scenario.control.tick, Event::Counted);
            }
            Event::Tick => {
                self.tick();
                self.after(self.scenario.control.tick, Event::Tick);
            }
            Event::Step => self.step(),
        }
    }

    fn is_on(&self, place: Place, turn: u32) -> bool {
        self.workers.at(place).turn == turn
    }

    fn step(&mut self) {
        let (queue, workers) = (&self.queue, &self.workers);
        let levels = Row {
            waiting: queue.visible(),
            in_flight: queue.in_flight,
            wakes: u32::try_from(workers.wakes.len()).unwrap_or(u32::MAX),
            workers: workers.up(),
            starting: workers.count.starting,
            idle: workers.count.idle,
            working: workers.count.working,
            ..Row::default()
        };
        self.series.close(self.now, levels);
        self.after(Series::step(self.scenario.horizon), Event::Step);
    }

    /// The job is over: nobody asks for it any more.
    pub(crate) fn close_job(&mut self, number: JobNumber) {
        let Some(job) = self.jobs.remove(&number) else { return };
        self.tally.ended(&job, self.now);
        match job.state.phase {
            Phase::Completed => self.series.open.completed += 1,
            Phase::Failed { .. } => self.series.open.failed += 1,
            Phase::Draft | Phase::Pending | Phase::Processing { .. } => {}
        }
        self.observer.ended(&Ended::of(number, &job, self.now));
    }

    /// The oldest wake that waits.
    pub(crate) fn next_wake(&mut self) -> Option<Wake> {
        self.workers.wakes.pop_front()
    }
}

//! The workers of a wake service, its queue of wakes, and what they cost so far.

use std::collections::VecDeque;

use rotoless_core::wake::Outstanding;

use crate::jobs::JobNumber;
use crate::micros::Micros;

/// A place for a worker.
pub(crate) type Place = usize;

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The output is there.
    Completed,
    /// The attempt's deadline has come.
    TimedOut,
    /// The worker dies.
    Died,
    /// The wake service kills the session.
    Killed,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Doing {
    /// There is none in this place.
    Off,
    /// The image is fetched, or the process starts.
    Starting,
    /// No session.
    Idle,
    /// In a session, on the way to its poll.
    Picking,
    /// Asks for a message.
    Polling { since: Micros },
    /// An attempt.
    Working { job: JobNumber, since: Micros, outcome: Outcome },
}

/// A worker, or a place for one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worker {
    pub(crate) doing: Doing,
    /// Grows whenever `doing` changes: what was planned for an earlier state is void.
    pub(crate) turn: u32,
    pub(crate) billed_from: Option<Micros>,
    pub(crate) session_since: Micros,
    /// When the wake of its session was posted.
    pub(crate) woken_at: Micros,
}

/// A wake that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wake {
    pub(crate) posted: Micros,
    pub(crate) arrived: Micros,
}

/// What workers did with the time that is paid for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Paid {
    /// Seconds, each worker's rounded up.
    pub(crate) seconds: u64,
    pub(crate) starting: Micros,
    pub(crate) polling: Micros,
    pub(crate) working: Micros,
}

/// Counts by what workers are doing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) starting: u32,
    pub(crate) idle: u32,
    pub(crate) in_session: u32,
    pub(crate) working: u32,
}

/// All workers.
#[derive(Debug)]
pub(crate) struct Workers {
    all: Vec<Worker>,
    off: Vec<Place>,
    /// Those without a session, the last to fall idle at the end: it is the next to work, so that others can stop.
    idle: Vec<Place>,
    pollers: VecDeque<Place>,
    pub(crate) wakes: VecDeque<Wake>,
    pub(crate) count: Count,
    pub(crate) phantoms: u32,
    /// Hosts that others use now.
    pub(crate) taken: u32,
    /// Workers that are allowed at once; 0 until somebody raises it.
    pub(crate) allowed: u32,
    pub(crate) last_request: Micros,
    pub(crate) paid: Paid,
    pub(crate) peak: u32,
}

impl Workers {
    pub(crate) fn new(max: u32) -> Self {
        let off = Worker {
            doing: Doing::Off,
            turn: 0,
            billed_from: None,
            session_since: Micros::ZERO,
            woken_at: Micros::ZERO,
        };
        let places = usize::try_from(max).unwrap_or(0);
        Self {
            all: vec![off; places],
            off: (0..places).rev().collect(),
            idle: Vec::new(),
            pollers: VecDeque::new(),
            wakes: VecDeque::new(),
            count: Count::default(),
            phantoms: 0,
            taken: 0,
            allowed: max,
            last_request: Micros::ZERO,
            paid: Paid::default(),
            peak: 0,
        }
    }

    pub(crate) fn at(&self, place: Place) -> &Worker {
        &self.all[place]
    }

    pub(crate) fn at_mut(&mut self, place: Place) -> &mut Worker {
        &mut self.all[place]
    }

    /// Workers that exist, starting ones included.
    pub(crate) const fn up(&self) -> u32 {
        self.count.starting + self.count.idle + self.count.in_session
    }

    /// Workers that may still be started, with so many hosts ready beyond those allowed.
    pub(crate) fn room(&self, extra: u32) -> u32 {
        let hosts = (self.allowed + extra).saturating_sub(self.taken);
        self.allowed.min(hosts).saturating_sub(self.up())
    }

    /// What the worker does from now on. All counts follow from here.
    pub(crate) fn turn(&mut self, place: Place, doing: Doing, now: Micros) -> u32 {
        let before = self.all[place].doing;
        match before {
            // Only the last one is ever taken: `next_off`.
            Doing::Off => drop(self.off.pop()),
            Doing::Starting => self.count.starting -= 1,
            Doing::Idle => {
                self.count.idle -= 1;
                self.idle.retain(|other| *other != place);
            }
            Doing::Picking => self.count.in_session -= 1,
            Doing::Polling { since } => {
                self.count.in_session -= 1;
                self.paid.polling += now.since(since);
                self.pollers.retain(|other| *other != place);
            }
            Doing::Working { since, .. } => {
                self.count.in_session -= 1;
                self.count.working -= 1;
                self.paid.working += now.since(since);
            }
        }
        match doing {
            Doing::Off => self.off.push(place),
            Doing::Starting => self.count.starting += 1,
            Doing::Idle => {
                self.count.idle += 1;
                self.idle.push(place);
            }
            Doing::Picking => self.count.in_session += 1,
            Doing::Polling { .. } => {
                self.count.in_session += 1;
                self.pollers.push_back(place);
            }
            Doing::Working { .. } => {
                self.count.in_session += 1;
                self.count.working += 1;
            }
        }
        self.peak = self.peak.max(self.up());
        let worker = &mut self.all[place];
        worker.doing = doing;
        worker.turn = worker.turn.wrapping_add(1);
        worker.turn
    }

    pub(crate) fn next_off(&self) -> Option<Place> {
        self.off.last().copied()
    }

    pub(crate) fn next_idle(&self) -> Option<Place> {
        self.idle.last().copied()
    }

    pub(crate) fn next_poller(&self) -> Option<Place> {
        self.pollers.front().copied()
    }

    /// The worker costs nothing more.
    pub(crate) fn close_bill(&mut self, place: Place, now: Micros) {
        if let Some(from) = self.all[place].billed_from.take() {
            self.paid.seconds += now.since(from).billed_seconds();
        }
    }

    /// All bills, at the end of the run; whoever is at work has worked until then.
    pub(crate) fn close_all(&mut self, now: Micros) {
        for place in 0..self.all.len() {
            match self.all[place].doing {
                Doing::Working { since, .. } => self.paid.working += now.since(since),
                Doing::Polling { since } => self.paid.polling += now.since(since),
                Doing::Off | Doing::Starting | Doing::Idle | Doing::Picking => {}
            }
            self.close_bill(place, now);
        }
    }

    /// What the service says of itself.
    pub(crate) fn outstanding(&self, extra: u32) -> Outstanding {
        let queued = u32::try_from(self.wakes.len()).unwrap_or(u32::MAX);
        let hosts = (self.allowed + extra).saturating_sub(self.taken);
        Outstanding {
            queued,
            in_progress: self.count.in_session + self.phantoms,
            running: self.count.in_session,
            idle: self.count.idle,
            initializing: self.count.starting,
            throttled: self.allowed.saturating_sub(hosts).min(queued),
            unhealthy: 0,
            workers_max: Some(self.allowed),
        }
    }
}

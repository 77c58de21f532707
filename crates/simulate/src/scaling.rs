//! The wake service: which wakes become sessions, and when workers start and stop.

use crate::micros::Micros;
use crate::scenario::{Keeping, Scaler};
use crate::workers::{Doing, Place, Wake};
use crate::world::{Cause, Event, World};

/// RunPod allows fewer workers after so long without a request, …
const FEWER_AFTER: Micros = Micros(3 * Micros::DAY.0);
/// … so many …
const FEWER: u32 = 2;
/// … and none after so long, until a person allows some again.
const NONE_AFTER: Micros = Micros(7 * Micros::DAY.0);

impl World<'_> {
    pub(crate) fn wake_arrives(&mut self, posted: Micros, cause: Cause) {
        self.forget_idle();
        self.workers.last_request = self.now;
        let fleet = &self.scenario.fleet;
        let wake = Wake { posted, arrived: self.now };
        match fleet.keeping {
            Keeping::Queued => self.workers.wakes.push_back(wake),
            Keeping::Dropped => {
                let awake = self.workers.count.starting + self.workers.count.in_session;
                let waits = u32::try_from(self.workers.wakes.len()).unwrap_or(u32::MAX);
                // Each wake that waits has a task that starts: only what is beyond them has room.
                let room = self.workers.count.idle + self.workers.room(fleet.extra);
                if (cause == Cause::Message && awake > 0) || waits >= room + self.workers.count.starting {
                    return;
                }
                self.workers.wakes.push_back(wake);
            }
        }
        if let Some(place) = self.workers.next_idle() {
            self.take(place);
        }
        self.scale();
        if let Scaler::QueueDelay(delay) = fleet.scaler
            && delay > Micros::ZERO
            && !self.workers.wakes.is_empty()
        {
            self.after(delay, Event::Waited);
        }
    }

    /// What the service does to an endpoint that nobody uses. It needs no event: nobody looks in between.
    pub(crate) fn forget_idle(&mut self) {
        if !self.scenario.fleet.forgets_idle {
            return;
        }
        let silent = self.now.since(self.workers.last_request);
        if silent >= NONE_AFTER {
            self.workers.allowed = 0;
        } else if silent >= FEWER_AFTER {
            self.workers.allowed = self.workers.allowed.min(FEWER);
        }
    }

    /// Starts the workers that the scaler wants and there is room for.
    pub(crate) fn scale(&mut self) {
        let fleet = &self.scenario.fleet;
        let workers = &self.workers;
        let wanted = match fleet.scaler {
            Scaler::QueueDelay(delay) => {
                let overdue = workers.wakes.partition_point(|wake| wake.arrived + delay <= self.now);
                u32::try_from(overdue).unwrap_or(u32::MAX).saturating_sub(workers.count.starting)
            }
            Scaler::RequestCount(count) => {
                let waits = u32::try_from(workers.wakes.len()).unwrap_or(u32::MAX);
                let requests = waits.saturating_add(workers.count.in_session + workers.phantoms);
                requests.div_ceil(count).saturating_sub(workers.up())
            }
        };
        let missing = fleet.min.saturating_sub(workers.up());
        for _ in 0..wanted.max(missing).min(workers.room(fleet.extra)) {
            let Some(place) = self.workers.next_off() else { return };
            self.start(place);
        }
    }

    fn start(&mut self, place: Place) {
        let (free, billed) = self.scenario.fleet.starts.draw(&mut self.start_draws);
        let turn = self.workers.turn(place, Doing::Starting, self.now);
        self.tally.starts += 1;
        self.workers.paid.starting += billed;
        self.after(free, Event::Billed(place, turn));
        self.after(free + billed, Event::Ready(place, turn));
    }

    pub(crate) fn ready(&mut self, place: Place) {
        self.take(place);
    }

    /// The worker serves the oldest wake, or is idle.
    pub(crate) fn take(&mut self, place: Place) {
        let fleet = &self.scenario.fleet;
        if let Some(wake) = self.next_wake() {
            self.tally.sessions += 1;
            let turn = self.workers.turn(place, Doing::Picking, self.now);
            let worker = self.workers.at_mut(place);
            (worker.session_since, worker.woken_at) = (self.now, wake.posted);
            self.after(fleet.pickup, Event::Polls(place, turn));
        } else {
            let turn = self.workers.turn(place, Doing::Idle, self.now);
            self.after(fleet.idle, Event::IdleEnds(place, turn));
        }
    }

    pub(crate) fn idle_ends(&mut self, place: Place) {
        if self.workers.up() > self.scenario.fleet.min {
            self.stop(place);
        }
    }

    /// The worker is gone, and costs nothing more.
    pub(crate) fn stop(&mut self, place: Place) {
        self.workers.turn(place, Doing::Off, self.now);
        self.workers.close_bill(place, self.now);
        self.scale();
    }
}

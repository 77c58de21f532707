//! Producers: a job is committed, its message sent, and then somebody woken; never the other way round.

use crate::jobs::{JobNumber, OpenJob};
use crate::micros::Micros;
use crate::world::{Cause, Event, World};

/// In which the wakes that a service accepts are counted.
const WINDOW: Micros = Micros::seconds(10);

impl World<'_> {
    /// A client's job.
    pub(crate) fn submit(&mut self, recorded: Option<Micros>) {
        let scenario = self.scenario;
        let longest = Micros(scenario.control.policy.limits.max_duration_ms * 1000);
        // Drawn in any case, and in this order: a recorded length shifts nothing.
        let drawn = Micros::from_seconds(scenario.lengths.draw(&mut self.videos));
        let fate = self.fates.bits();
        let is_sent = !self.fates.happens(scenario.faults.message_lost);
        let is_woken_for = !self.fates.happens(scenario.faults.wake_omitted);
        let video = recorded.unwrap_or(drawn).min(longest);
        let number = self.tally.arrived;
        // A draft can always be started.
        let Ok(mut job) = OpenJob::submitted(self.now, video, fate) else { return };
        self.tally.arrived += 1;
        self.series.open.arrived += 1;
        if is_sent {
            job.enqueued = Some(self.now + scenario.control.send);
        }
        self.jobs.insert(number, job);
        self.note_due(number);
        if is_sent {
            self.send(number, is_woken_for);
        }
    }

    /// A message, and its wake.
    pub(crate) fn send(&mut self, number: JobNumber, is_woken_for: bool) {
        let send = self.scenario.control.send;
        self.tally.messages += 1;
        self.after(send, Event::Sent(number));
        if is_woken_for {
            self.post(self.now + send, Cause::Message);
        }
    }

    /// One try; what becomes of it is not looked at.
    pub(crate) fn post(&mut self, at: Micros, cause: Cause) {
        let (faults, draws) = (self.scenario.faults, &mut self.wake_draws);
        // All of them each time: what one fault is set to does not shift the others.
        let is_refused = draws.happens(faults.wake_refused);
        let is_lost = draws.happens(faults.wake_lost);
        let is_doubled = draws.happens(faults.wake_doubled);
        let is_late = draws.happens(faults.wake_delayed);
        self.tally.wakes_posted += 1;
        let window = at.0 / WINDOW.0;
        if self.window.0 != window {
            self.window = (window, 0);
        }
        self.window.1 += 1;
        if is_refused || self.window.1 > self.scenario.fleet.wakes_in_ten_seconds {
            self.tally.wakes_refused += 1;
            return;
        }
        if is_lost {
            return;
        }
        let late = if is_late { faults.delay } else { Micros::ZERO };
        let arrives = at + self.scenario.control.post + late;
        for _ in 0..=u32::from(is_doubled) {
            self.at(arrives, Event::Wake { posted: at, cause });
        }
    }

    /// Remembers when the sweep must look at a job.
    pub(crate) fn note_due(&mut self, number: JobNumber) {
        let policy = &self.scenario.control.policy;
        if let Some(due) = self.jobs.get(&number).and_then(|job| job.due(policy)) {
            self.due.push(std::cmp::Reverse((due, number)));
        }
    }
}

//! The tick: the sweep repairs what is due, and then looks at what waits and at the wake service. What each of them
//! decides is the core's.

use std::cmp::Reverse;

use rotoless_core::lifecycle::{Command, Phase};
use rotoless_core::usecase::JOBS_A_TICK;
use rotoless_core::wake::decide;

use crate::jobs::JobNumber;
use crate::micros::Micros;
use crate::world::{Cause, World};

impl World<'_> {
    pub(crate) fn tick(&mut self) {
        self.repair();
        if self.scenario.control.reconciles {
            self.look();
        }
    }

    fn repair(&mut self) {
        let policy = &self.scenario.control.policy;
        let mut seen = 0;
        while seen < JOBS_A_TICK
            && let Some(&Reverse((at, number))) = self.due.peek()
            && at <= self.now
        {
            self.due.pop();
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            // A lease that was extended meanwhile is due later.
            job.beat(self.now, policy);
            match job.due(policy) {
                Some(due) if due == at => {
                    seen += 1;
                    self.repair_job(number);
                }
                Some(due) if due > at => self.due.push(Reverse((due, number))),
                Some(_) | None => {}
            }
        }
        self.tally.most_repaired = self.tally.most_repaired.max(seen as u64);
    }

    fn repair_job(&mut self, number: JobNumber) {
        let (now, policy) = (self.now, &self.scenario.control.policy);
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if job.end(policy) <= now {
            // Whatever phase it is in.
            let _ = job.apply(Command::Expire, now);
            self.tally.expired += 1;
            return self.close_job(number);
        }
        match job.state.phase {
            Phase::Pending => self.resend(number),
            Phase::Processing { .. } => {
                if job.apply(Command::Lapse { now: now.timestamp() }, now).is_err() {
                    return;
                }
                job.enqueued = None;
                if job.is_over() {
                    self.close_job(number);
                } else {
                    self.resend(number);
                }
            }
            Phase::Draft | Phase::Completed | Phase::Failed { .. } => {}
        }
    }

    fn resend(&mut self, number: JobNumber) {
        let now: Micros = self.now;
        if let Some(job) = self.jobs.get_mut(&number) {
            job.resends += u32::from(job.enqueued.is_some());
            job.enqueued = Some(now);
            job.updated = now;
        }
        self.tally.resent += 1;
        self.note_due(number);
        self.send(number, true);
    }

    fn look(&mut self) {
        let scenario = self.scenario;
        self.forget_idle();
        let outstanding = self.workers.outstanding(scenario.fleet.extra);
        let (memory, decision) =
            decide(self.now.timestamp(), self.counted, Some(&outstanding), &self.memory, &scenario.control.wakes);
        self.memory = memory;
        if decision.purge {
            self.tally.purges += 1;
            self.workers.wakes.clear();
        }
        for _ in 0..decision.wakes {
            self.tally.wakes_by_look += 1;
            self.post(self.now, Cause::Look);
        }
        if decision.stop {
            self.workers.allowed = 0;
        }
        if !decision.findings.is_empty() {
            self.tally.looks_with_findings += 1;
        }
    }
}

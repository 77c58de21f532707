//! Sessions: a worker asks for a message, claims its job, works, and gives the message back or deletes it.

use rotoless_contract::worker::FailureReason;
use rotoless_core::lifecycle::{Command, Phase, Refused};

use crate::draws::fate;
use crate::jobs::{JobNumber, OpenJob};
use crate::micros::Micros;
use crate::scenario::Session;
use crate::workers::{Doing, Outcome, Place};
use crate::world::{Event, World};

/// The worker's long poll …
const LONG_POLL: Micros = Micros::seconds(20);
/// … and the one of a session whose wake is older than this: what it was for has probably been served.
const SHORT_POLL: Micros = Micros::seconds(5);
const OLD_WAKE: Micros = Micros::seconds(60);
/// When a job went back to pending the message can be received this soon.
const PROMPT_RETRY: Micros = Micros::seconds(2);

impl World<'_> {
    /// A message can be received: by whoever asks, or by the next one who does.
    pub(crate) fn show(&mut self, number: JobNumber) {
        self.queue.push(number);
        if let Some(place) = self.workers.next_poller() {
            self.poll(place);
        }
    }

    pub(crate) fn poll(&mut self, place: Place) {
        if let Some(number) = self.queue.receive() {
            self.claim(place, number);
            return;
        }
        let is_old = self.now.since(self.workers.at(place).woken_at) > OLD_WAKE;
        let wait = if is_old { SHORT_POLL } else { LONG_POLL };
        let turn = self.workers.turn(place, Doing::Polling { since: self.now }, self.now);
        self.after(wait, Event::PollEnds(place, turn));
    }

    pub(crate) fn poll_ends(&mut self, place: Place) {
        self.tally.empty_polls += 1;
        self.take(place);
    }

    fn claim(&mut self, place: Place, number: JobNumber) {
        let policy = &self.scenario.control.policy;
        let Some(job) = self.jobs.get_mut(&number) else {
            self.delete_message();
            return self.session_over(place);
        };
        job.beat(self.now, policy);
        let claim = Command::Claim { run: job.run(), now: self.now.timestamp(), lease: policy.lease };
        match job.apply(claim, self.now) {
            Ok(()) => {
                job.alive_since = Some(self.now);
                self.note_due(number);
                self.attempt(place, number);
            }
            Err(Refused::Leased { until }) => {
                let wait = Micros::from(until).since(self.now).min(policy.lease.into());
                self.after(wait, Event::Again(number));
                self.session_over(place);
            }
            Err(refused) => {
                if refused == Refused::Exhausted
                    && job.apply(Command::Lapse { now: self.now.timestamp() }, self.now).is_ok()
                    && job.is_over()
                {
                    self.close_job(number);
                }
                self.delete_message();
                self.session_over(place);
            }
        }
    }

    fn attempt(&mut self, place: Place, number: JobNumber) {
        let session_since = self.workers.at(place).session_since;
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let (length, outcome) = plan(self.scenario, job, self.now, session_since);
        let startup = Micros::from_seconds(self.scenario.work.startup);
        if job.first_frame.is_none() && length >= startup {
            let first_frame = self.now + startup;
            job.first_frame = Some(first_frame);
            let wait = first_frame.since(job.created);
            self.tally.waits.add(wait);
            self.series.began(wait);
        }
        self.tally.attempts += 1;
        let doing = Doing::Working { job: number, since: self.now, outcome };
        let turn = self.workers.turn(place, doing, self.now);
        self.after(length, Event::AttemptEnds(place, turn));
    }

    pub(crate) fn attempt_ends(&mut self, place: Place) {
        let Doing::Working { job: number, since, outcome } = self.workers.at(place).doing else { return };
        let elapsed = self.now.since(since);
        match outcome {
            Outcome::Completed | Outcome::TimedOut => {
                self.report(number, elapsed, outcome);
                self.session_over(place);
            }
            Outcome::Died | Outcome::Killed => {
                self.tally.workers_died += 1;
                self.lose(number, elapsed);
                if outcome == Outcome::Died && self.fates.happens(self.scenario.faults.phantom) {
                    self.workers.phantoms += 1;
                    self.after(self.scenario.fleet.execution_timeout, Event::PhantomEnds);
                }
                self.stop(place);
            }
        }
    }

    /// A worker that lives says how its attempt ended.
    fn report(&mut self, number: JobNumber, elapsed: Micros, outcome: Outcome) {
        let scenario = self.scenario;
        // Expired meanwhile: the report is refused.
        let Some(job) = self.jobs.get_mut(&number) else { return self.delete_message() };
        let Phase::Processing { attempt, .. } = job.state.phase else { return self.delete_message() };
        let command = match outcome {
            Outcome::Completed => Command::Complete { attempt, charge: job.state.hold.held() },
            Outcome::TimedOut | Outcome::Died | Outcome::Killed => {
                Command::Fail { attempt, reason: FailureReason::TimedOut }
            }
        };
        job.alive_since = None;
        keep(job, scenario, elapsed);
        // The attempt holds the lease: it is not refused.
        let _ = job.apply(command, self.now);
        if job.is_over() {
            self.delete_message();
            self.close_job(number);
        } else {
            self.note_due(number);
            self.after(PROMPT_RETRY, Event::Again(number));
        }
    }

    /// A worker is gone. Its lease and its message end when they were last extended to.
    fn lose(&mut self, number: JobNumber, elapsed: Micros) {
        let scenario = self.scenario;
        let policy = &scenario.control.policy;
        let Some(job) = self.jobs.get_mut(&number) else { return self.delete_message() };
        job.beat(self.now, policy);
        job.alive_since = None;
        keep(job, scenario, elapsed);
        let until = job.lease_until().unwrap_or(self.now);
        self.note_due(number);
        self.at(until, Event::Again(number));
    }

    fn delete_message(&mut self) {
        self.queue.in_flight -= 1;
    }

    fn session_over(&mut self, place: Place) {
        let worker = self.workers.at(place);
        let fleet = &self.scenario.fleet;
        // Whoever drains begins nothing that the service might not let it end.
        let longest = self.scenario.control.policy.attempt_deadline(u64::MAX).into();
        let goes_on = match fleet.session {
            Session::One => false,
            Session::Drain => self.now.since(worker.session_since) + longest < fleet.execution_timeout,
        };
        if goes_on { self.poll(place) } else { self.take(place) }
    }
}

/// How long the attempt takes, and how it ends.
fn plan(scenario: &crate::Scenario, job: &OpenJob, now: Micros, session_since: Micros) -> (Micros, Outcome) {
    let policy = &scenario.control.policy;
    let whole = scenario.work.of(job.video.since(job.done));
    let deadline = policy.attempt_deadline(job.video.0 / 1000).into();
    let killed = (session_since + scenario.fleet.execution_timeout).since(now);
    let attempt = u64::from(job.state.attempts);
    let dies = fate(job.fate, 2 * attempt) < scenario.faults.worker_dies;
    let died = if dies { Micros((whole.0 as f64 * fate(job.fate, 2 * attempt + 1)) as u64) } else { Micros(u64::MAX) };
    let ends =
        [(whole, Outcome::Completed), (deadline, Outcome::TimedOut), (killed, Outcome::Killed), (died, Outcome::Died)];
    // The first of those that come first.
    ends.into_iter().min_by_key(|(after, _)| *after).unwrap_or((whole, Outcome::Completed))
}

/// Of what an attempt did, whole segments stay.
fn keep(job: &mut OpenJob, scenario: &crate::Scenario, elapsed: Micros) {
    let segment = Micros::seconds(scenario.control.policy.segment_seconds.into()).0;
    let done = (job.done + scenario.work.done_after(elapsed)).min(job.video);
    let segments = done.0.checked_div(segment).unwrap_or(0);
    job.done = job.done.max(Micros(segments * segment));
}

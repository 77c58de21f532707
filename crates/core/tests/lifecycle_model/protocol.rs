//! What may happen in the world of one run, and what it does.

use rotoless_contract::worker::FailureReason;
use rotoless_contract::{Attempt, Run};
use rotoless_core::lifecycle::{Command, JobState, MAX_ATTEMPTS, Phase, Refused};

use crate::world::{
    Answer, FIRST_COST, FREE, LEASE, LEDGER_START, MEASURED_COST, MESSAGES_MAX, NOW, Report, Task, Worker, World,
    answer,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Shipped,
    ReportFromAnyAttempt,
    DeleteBeforeReport,
    CaptureInASecondWrite,
    IgnoresManifestWhenExhausted,
    NobodyResends,
    ReportBelieved,
}

/// Which protocol, and how many faults of each kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) variant: Variant,
    pub(crate) kills: u8,
    pub(crate) report_faults: u8,
    pub(crate) duplicates: u8,
    pub(crate) abandons: u8,
    /// Whether report faults hit failures too, not only completions.
    pub(crate) late_failures: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Send,
    ProducerDies,
    Resend,
    Receive,
    /// Worker `0..3` does its next thing.
    Goes(usize),
    Heartbeats(usize),
    Reports(usize, Report),
    /// The report arrives, and a copy of it later again.
    ReportsTwice(usize, Report),
    /// The report arrives only later; the worker gives up.
    ReportsLate(usize, Report),
    /// The report is lost; the worker gives up.
    ReportIsLost(usize),
    IsKilled(usize),
    LateReport(Report),
    VisibilityLapses(usize),
    OrphanIsVisible,
    MessageDoubles,
    LeaseEnds,
    SweepLooks,
    SweepCommits,
    Cancel,
    SecondWrite,
    SecondWriteIsLost,
}

impl Protocol {
    pub(crate) fn start(&self) -> World {
        let mut world = World {
            job: JobState::draft(),
            balance: LEDGER_START,
            captures: 0,
            settled: false,
            second_settlement: false,
            second_write: false,
            manifest: false,
            visible: 0,
            orphaned: 0,
            sent: false,
            producer_lives: true,
            workers: [FREE; 3],
            late: [None; 2],
            sweep_looked: false,
            kills: self.kills,
            report_faults: self.report_faults,
            duplicates: self.duplicates,
            abandons: self.abandons,
        };
        assert!(world.commit(Command::Start { cost: FIRST_COST }).is_ok());
        world
    }

    pub(crate) fn steps(&self, world: &World) -> Vec<Step> {
        let mut steps = Vec::with_capacity(16);
        let mut may = |condition: bool, step: Step| {
            if condition {
                steps.push(step);
            }
        };
        let open = matches!(world.job.phase, Phase::Pending | Phase::Processing { .. });
        let leased = matches!(world.job.phase, Phase::Processing { lease_until, .. } if lease_until > NOW);
        let lease_over = matches!(world.job.phase, Phase::Processing { lease_until, .. } if lease_until <= NOW);
        may(world.producer_lives, Step::Send);
        may(world.producer_lives, Step::ProducerDies);
        may(self.may_resend(world), Step::Resend);
        may(world.visible > 0 && world.workers.contains(&FREE), Step::Receive);
        may(world.orphaned > 0, Step::OrphanIsVisible);
        may(world.visible > 0 && world.duplicates > 0 && world.messages() < MESSAGES_MAX, Step::MessageDoubles);
        may(leased, Step::LeaseEnds);
        may(lease_over && !world.sweep_looked, Step::SweepLooks);
        may(world.sweep_looked, Step::SweepCommits);
        may(open, Step::Cancel);
        may(world.second_write, Step::SecondWrite);
        may(world.second_write, Step::SecondWriteIsLost);
        for report in world.late.into_iter().flatten() {
            may(true, Step::LateReport(report));
        }
        for (i, worker) in world.workers.iter().enumerate() {
            // Workers are alike: of equal ones only the first goes.
            if worker.task == Task::Free || world.workers[..i].contains(worker) {
                continue;
            }
            may(true, Step::Goes(i));
            may(worker.receipt, Step::VisibilityLapses(i));
            may(world.kills > 0, Step::IsKilled(i));
            if let Task::Making(_) = worker.task {
                may(lease_over, Step::Heartbeats(i));
            }
            for report in reports(worker.task) {
                let is_abandoned = matches!(report, Report::Abandoned(_));
                may(!is_abandoned || world.abandons > 0, Step::Reports(i, report));
                // A final failure ends the job: what comes after it is refused like any other late call. A lost
                // failure is a killed worker.
                let completes = matches!(report, Report::Completed { .. });
                let may_fail_later =
                    self.late_failures && matches!(report, Report::Failed { reason_is_final: false, .. });
                if world.report_faults > 0 && (completes || may_fail_later) {
                    may(world.late[0].is_none(), Step::ReportsTwice(i, report));
                    may(world.late[0].is_none(), Step::ReportsLate(i, report));
                    may(completes, Step::ReportIsLost(i));
                }
            }
        }
        steps
    }

    fn may_resend(&self, world: &World) -> bool {
        let waits = world.job.phase == Phase::Pending && !world.sent && !world.producer_lives;
        waits && self.variant != Variant::NobodyResends
    }

    /// A fair scheduler without faults: everybody finishes what was begun, and time passes only when nobody can.
    pub(crate) fn go_on(&self, world: &World) -> Option<Step> {
        if let Some(report) = world.late.into_iter().flatten().next() {
            return Some(Step::LateReport(report));
        }
        if world.second_write {
            return Some(Step::SecondWrite);
        }
        if world.sweep_looked {
            return Some(Step::SweepCommits);
        }
        if world.producer_lives {
            return Some(Step::Send);
        }
        if let Some(busy) = world.workers.iter().position(|worker| worker.task != Task::Free) {
            return Some(Step::Goes(busy));
        }
        match world.job.phase {
            Phase::Processing { lease_until, .. } if lease_until > NOW => Some(Step::LeaseEnds),
            Phase::Processing { .. } => Some(Step::SweepLooks),
            Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } if world.visible > 0 => {
                Some(Step::Receive)
            }
            Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } if world.orphaned > 0 => {
                Some(Step::OrphanIsVisible)
            }
            Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } => {
                self.may_resend(world).then_some(Step::Resend)
            }
        }
    }

    pub(crate) fn after(&self, world: &World, step: Step) -> World {
        let mut next = world.clone();
        self.happen(&mut next, step);
        next.workers.sort_unstable();
        next.late.sort_unstable();
        next.late.reverse();
        next
    }

    fn happen(&self, world: &mut World, step: Step) {
        match step {
            Step::Send => {
                world.producer_lives = false;
                world.sent = true;
                world.visible += 1;
            }
            Step::ProducerDies => world.producer_lives = false,
            Step::Resend => {
                world.sent = true;
                world.visible += 1;
            }
            Step::Receive => {
                world.visible -= 1;
                if let Some(free) = world.workers.iter_mut().find(|worker| **worker == FREE) {
                    *free = Worker { task: Task::Asking, receipt: true };
                }
            }
            Step::Goes(i) => self.go(world, i),
            Step::Heartbeats(i) => {
                if let Task::Making(attempt) = world.workers[i].task {
                    let command = Command::Heartbeat { attempt, progress: 50, now: NOW, lease: LEASE };
                    let answer = world.commit(command);
                    world.told(i, answer, Task::Making(attempt));
                }
            }
            Step::Reports(i, report) => {
                world.abandons -= u8::from(matches!(report, Report::Abandoned(_)));
                self.report(world, i, report);
            }
            Step::ReportsTwice(i, report) => {
                (world.report_faults, world.late[0]) = (world.report_faults - 1, Some(report));
                self.report(world, i, report);
            }
            Step::ReportsLate(i, report) => {
                (world.report_faults, world.late[0]) = (world.report_faults - 1, Some(report));
                world.leave(i);
            }
            Step::ReportIsLost(i) => {
                world.report_faults -= 1;
                world.leave(i);
            }
            Step::IsKilled(i) => {
                world.kills -= 1;
                world.leave(i);
            }
            Step::LateReport(report) => {
                if let Some(copy) = world.late.iter_mut().find(|copy| **copy == Some(report)) {
                    *copy = None;
                }
                self.take_report(world, report);
            }
            Step::VisibilityLapses(i) => {
                world.workers[i].receipt = false;
                world.visible += 1;
            }
            Step::OrphanIsVisible => (world.orphaned, world.visible) = (world.orphaned - 1, world.visible + 1),
            Step::MessageDoubles => {
                (world.duplicates, world.visible) = (world.duplicates - 1, world.visible + 1);
            }
            Step::LeaseEnds => {
                if let Phase::Processing { lease_until, .. } = &mut world.job.phase {
                    *lease_until = NOW;
                }
            }
            Step::SweepLooks => {
                if world.manifest && !self.blind(world) {
                    world.adopt();
                } else {
                    world.sweep_looked = true;
                }
            }
            Step::SweepCommits => {
                world.sweep_looked = false;
                let _ = world.commit(Command::Lapse { now: NOW });
            }
            Step::Cancel => {
                let _ = world.commit(Command::Cancel);
            }
            Step::SecondWrite => {
                world.second_write = false;
                let held = world.job.hold;
                if let Some((hold, movement)) = held.capture(MEASURED_COST) {
                    world.job.hold = hold;
                    world.move_credits(movement);
                }
            }
            Step::SecondWriteIsLost => world.second_write = false,
        }
    }

    /// What the next thing of worker `i` does.
    fn go(&self, world: &mut World, i: usize) {
        match world.workers[i].task {
            Task::Free => {}
            Task::Asking if world.manifest && !self.blind(world) => match world.adopt() {
                Answer::Done | Answer::Delete => world.workers[i].task = Task::Deleting,
                Answer::Leave => world.leave(i),
            },
            Task::Asking => world.workers[i].task = Task::Claiming,
            Task::Claiming => {
                let answer = world.commit(Command::Claim { run: Run::FIRST, now: NOW, lease: LEASE });
                if answer == Err(Some(Refused::Exhausted)) {
                    // Nothing is left to try, and no manifest was found: the run ends here.
                    let ended = world.commit(Command::Lapse { now: NOW });
                    return world.told(i, ended, Task::Deleting);
                }
                let attempt = Attempt::new(world.job.attempts).unwrap_or(Attempt::FIRST);
                world.told(i, answer, Task::Measuring(attempt));
            }
            Task::Measuring(attempt) => {
                if self.variant == Variant::DeleteBeforeReport {
                    world.workers[i].receipt = false;
                }
                match world.commit(Command::Adjust { attempt, cost: MEASURED_COST }) {
                    // The balance does not cover it.
                    Err(None) => {
                        self.report(world, i, Report::Failed { attempt, reason_is_final: true });
                    }
                    answer => world.told(i, answer, Task::Making(attempt)),
                }
            }
            Task::Making(attempt) => {
                // A conditional PUT: the first one wins.
                let own = !world.manifest;
                world.manifest |= self.variant != Variant::ReportBelieved;
                world.workers[i].task = Task::Reporting { attempt, own };
            }
            Task::Reporting { attempt, own } => {
                self.report(world, i, Report::Completed { attempt, own });
            }
            // With a stale receipt there is nothing to delete any more.
            Task::Deleting => world.workers[i] = FREE,
        }
    }

    fn report(&self, world: &mut World, i: usize, report: Report) {
        match self.take_report(world, report) {
            Answer::Done | Answer::Delete => world.workers[i].task = Task::Deleting,
            Answer::Leave => world.leave(i),
        }
    }

    /// The control plane's side of a report.
    fn take_report(&self, world: &mut World, report: Report) -> Answer {
        let command = match report {
            Report::Completed { own, .. } if !own && self.variant != Variant::ReportFromAnyAttempt => {
                // Its digest is not that of the manifest that is there: refused. The sweep adopts that one.
                return Answer::Leave;
            }
            Report::Completed { attempt, .. } => Command::Complete { attempt, charge: MEASURED_COST },
            Report::Failed { attempt, reason_is_final: true } => {
                Command::Fail { attempt, reason: FailureReason::InvalidMedia }
            }
            Report::Failed { attempt, reason_is_final: false } => {
                Command::Fail { attempt, reason: FailureReason::InternalError }
            }
            Report::Abandoned(attempt) => Command::Abandon { attempt },
        };
        let completes = matches!(command, Command::Complete { .. });
        if completes && self.variant == Variant::ReportFromAnyAttempt {
            return world.complete_unguarded();
        }
        if completes && self.variant == Variant::CaptureInASecondWrite {
            return world.complete_in_two_writes(command);
        }
        match world.commit(command) {
            Ok(()) if world.job.phase == Phase::Pending => Answer::Leave,
            Ok(()) => Answer::Delete,
            Err(refused) => answer(refused),
        }
    }

    /// Whether a look misses the manifest.
    fn blind(&self, world: &World) -> bool {
        self.variant == Variant::IgnoresManifestWhenExhausted && world.job.attempts_in_run >= MAX_ATTEMPTS
    }
}

/// What a worker may have to report now.
fn reports(task: Task) -> Vec<Report> {
    match task {
        Task::Making(attempt) => vec![
            Report::Failed { attempt, reason_is_final: false },
            Report::Failed { attempt, reason_is_final: true },
            Report::Abandoned(attempt),
        ],
        Task::Reporting { attempt, own } => vec![Report::Completed { attempt, own }],
        Task::Free | Task::Asking | Task::Claiming | Task::Measuring(_) | Task::Deleting => Vec::new(),
    }
}

//! The world of one run, and the conditional transaction through which its job and credits change.

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::{Attempt, MilliCredits, Run};
use rotoless_core::ledger::{Balance, Movement};
use rotoless_core::lifecycle::{Command, JobState, Phase, Refused, apply};

/// The account before the job: another job of the same client holds 10.
pub(crate) const LEDGER_START: Balance =
    Balance { available: MilliCredits(2), held: MilliCredits(10), used: MilliCredits(0) };
/// What the header promised, and what the source measures.
pub(crate) const FIRST_COST: MilliCredits = MilliCredits(1);
pub(crate) const MEASURED_COST: MilliCredits = MilliCredits(2);

/// The model's clock stands still; a lease ends by having its end moved here.
pub(crate) const NOW: Timestamp = Timestamp::UNIX_EPOCH;
pub(crate) const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// Messages at the same time, duplicates included.
pub(crate) const MESSAGES_MAX: u8 = 2;

/// What a worker, or the handler that serves it, is about to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Task {
    Free,
    /// Has a message; its claim looks for the manifest.
    Asking,
    /// Its claim found no manifest and commits.
    Claiming,
    /// Measures the source.
    Measuring(Attempt),
    /// Makes the output and writes the manifest.
    Making(Attempt),
    /// The manifest is there, written by this attempt or not: reports.
    Reporting {
        attempt: Attempt,
        own: bool,
    },
    /// Deletes the message.
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Worker {
    pub(crate) task: Task,
    /// Whether its receipt is still the message's.
    pub(crate) receipt: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Report {
    Completed { attempt: Attempt, own: bool },
    Failed { attempt: Attempt, reason_is_final: bool },
    Abandoned(Attempt),
}

/// What a worker's call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Delete,
    Leave,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) job: JobState,
    pub(crate) balance: Balance,
    /// Settlement rows that captured.
    pub(crate) captures: u8,
    pub(crate) settled: bool,
    pub(crate) second_settlement: bool,
    /// The job's row is written, the capture is not: only in the variant with two writes.
    pub(crate) second_write: bool,
    pub(crate) manifest: bool,
    pub(crate) visible: u8,
    /// In flight at a worker that is dead or has left it.
    pub(crate) orphaned: u8,
    /// Somebody has sent a message.
    pub(crate) sent: bool,
    pub(crate) producer_lives: bool,
    pub(crate) workers: [Worker; 3],
    /// Copies of reports still on the wire.
    pub(crate) late: [Option<Report>; 2],
    /// The sweep found the lease ended and no manifest, and is about to commit.
    pub(crate) sweep_looked: bool,
    pub(crate) kills: u8,
    pub(crate) report_faults: u8,
    pub(crate) duplicates: u8,
    pub(crate) abandons: u8,
}

pub(crate) const FREE: Worker = Worker { task: Task::Free, receipt: false };

impl World {
    pub(crate) fn messages(&self) -> u8 {
        let held = self.workers.iter().filter(|worker| worker.receipt).count();
        self.visible + self.orphaned + u8::try_from(held).unwrap_or(u8::MAX)
    }

    /// One conditional transaction. `Err(None)`: the balance does not cover it.
    pub(crate) fn commit(&mut self, command: Command) -> Result<(), Option<Refused>> {
        let transition = apply(&self.job, command).map_err(Some)?;
        if let Some(movement) = transition.money
            && !self.move_credits(movement)
        {
            return Err(None);
        }
        self.job = transition.next;
        Ok(())
    }

    pub(crate) fn move_credits(&mut self, movement: Movement) -> bool {
        let Some(balance) = self.balance.after(movement) else { return false };
        let settles = matches!(movement, Movement::Capture { .. } | Movement::Release(_));
        self.second_settlement |= settles && self.settled;
        self.settled |= settles;
        self.captures += u8::from(matches!(movement, Movement::Capture { .. }));
        self.balance = balance;
        true
    }

    pub(crate) fn adopt(&mut self) -> Answer {
        match self.commit(Command::Adopt { run: Run::FIRST, charge: MEASURED_COST, now: NOW }) {
            Ok(()) => Answer::Done,
            Err(refused) => answer(refused),
        }
    }

    /// Worker `i` hears what became of its call.
    pub(crate) fn told(&mut self, i: usize, result: Result<(), Option<Refused>>, then: Task) {
        match result.map_err(answer) {
            Ok(()) | Err(Answer::Done) => self.workers[i].task = then,
            Err(Answer::Delete) => self.workers[i].task = Task::Deleting,
            Err(Answer::Leave) => self.leave(i),
        }
    }

    /// Worker `i` is no more; its message, if it still is its own, becomes visible some time.
    pub(crate) fn leave(&mut self, i: usize) {
        self.orphaned += u8::from(self.workers[i].receipt);
        self.workers[i] = FREE;
    }

    /// Takes the price from whatever the account holds, unless the job has failed.
    pub(crate) fn complete_unguarded(&mut self) -> Answer {
        if matches!(self.job.phase, Phase::Failed { .. }) {
            return Answer::Delete;
        }
        self.job.phase = Phase::Completed;
        if let Some((hold, _)) = self.job.hold.capture(MEASURED_COST) {
            self.job.hold = hold;
        }
        self.settled = false;
        self.move_credits(Movement::Capture { held: MEASURED_COST, charged: MEASURED_COST });
        Answer::Delete
    }

    pub(crate) fn complete_in_two_writes(&mut self, command: Command) -> Answer {
        match apply(&self.job, command) {
            Ok(transition) => {
                self.job = JobState { hold: self.job.hold, ..transition.next };
                self.second_write = true;
                Answer::Delete
            }
            Err(refused) => answer(Some(refused)),
        }
    }
}

pub(crate) fn answer(refused: Option<Refused>) -> Answer {
    match refused {
        Some(Refused::Terminal | Refused::Superseded) => Answer::Delete,
        None
        | Some(
            Refused::Leased { .. }
            | Refused::Exhausted
            | Refused::StaleAttempt
            | Refused::AlreadyStarted
            | Refused::NothingToDo,
        ) => Answer::Leave,
    }
}

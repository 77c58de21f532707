//! The life of a job as a pure, closed state machine.
//!
//! ```text
//! Draft ──start──► Pending ──claim──► Processing ──complete | adopt──► Completed
//!                    ▲  ▲ └──────── lapse, retryable failure, abandon ──┘ │
//!                    │  └──────────────────────────────── start (next run) ── Failed ◄── anything else
//! ```
//! Invariants: a hold is open exactly while a started run has not ended; attempt numbers only grow, over all
//! runs; an attempt's calls are refused once a later attempt exists or the run has ended; terminal phases change
//! only by `start`, which opens a new run. `tests/lifecycle_model.rs` checks them over every interleaving.

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::webhook::EventKind;
use rotoless_contract::worker::FailureReason;
use rotoless_contract::{Attempt, JobStatus, MilliCredits, Run};
use serde::{Deserialize, Serialize};

use crate::ledger::{Hold, Movement};

/// Attempts of one run, counted at claim; abandoned ones are taken off again.
pub const MAX_ATTEMPTS: u32 = 3;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Created with `auto_start: false`.
    Draft,
    /// Waits for a worker.
    Pending,
    /// A worker holds the lease.
    Processing {
        /// The attempt that holds it.
        attempt: Attempt,
        /// When it ends unless extended.
        lease_until: Timestamp,
    },
    /// The output is there and paid.
    Completed,
    /// Ended without an output.
    Failed {
        /// Why.
        reason: FailureReason,
    },
}

/// What the rules know of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobState {
    /// Where it is.
    pub phase: Phase,
    /// The current run; none before the first start.
    pub run: Option<Run>,
    /// The last attempt's number, over all runs.
    pub attempts: u32,
    /// Attempts of this run that count against [`MAX_ATTEMPTS`].
    pub attempts_in_run: u32,
    /// Whether this run's `job.started` was announced.
    pub announced: bool,
    /// This run's credits.
    pub hold: Hold,
    /// 0..=100, never falling within a run.
    pub progress: u8,
    /// Events announced so far.
    pub events: u32,
}

impl JobState {
    /// A job that was never started.
    #[must_use]
    pub const fn draft() -> Self {
        Self {
            phase: Phase::Draft,
            run: None,
            attempts: 0,
            attempts_in_run: 0,
            announced: false,
            hold: Hold::None,
            progress: 0,
            events: 0,
        }
    }

    /// The phase in public words.
    #[must_use]
    pub const fn status(&self) -> JobStatus {
        match self.phase {
            Phase::Draft => JobStatus::Created,
            Phase::Pending => JobStatus::Pending,
            Phase::Processing { .. } => JobStatus::Processing,
            Phase::Completed => JobStatus::Completed,
            Phase::Failed { .. } => JobStatus::Failed,
        }
    }
}

/// What somebody wants to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Begin a run that may cost this much.
    Start {
        /// To be held.
        cost: MilliCredits,
    },
    /// A worker that read the queue message of `run` asks for the lease.
    Claim {
        /// Named by the message.
        run: Run,
        /// The control plane's clock.
        now: Timestamp,
        /// Length of the lease.
        lease: SignedDuration,
    },
    /// A sign of life.
    Heartbeat {
        /// Whose.
        attempt: Attempt,
        /// 0..=100.
        progress: u8,
        /// The control plane's clock.
        now: Timestamp,
        /// Length of the lease.
        lease: SignedDuration,
    },
    /// The measured source costs this much.
    Adjust {
        /// Whose measurement.
        attempt: Attempt,
        /// To be held instead.
        cost: MilliCredits,
    },
    /// The attempt's manifest is valid.
    Complete {
        /// Whose.
        attempt: Attempt,
        /// Price of the output; never more than the hold is taken.
        charge: MilliCredits,
    },
    /// The attempt failed.
    Fail {
        /// Whose.
        attempt: Attempt,
        /// Why.
        reason: FailureReason,
    },
    /// The worker's host goes away.
    Abandon {
        /// Whose.
        attempt: Attempt,
    },
    /// The client no longer wants it.
    Cancel,
    /// The sweep found the lease ended, and no manifest.
    Lapse {
        /// The control plane's clock.
        now: Timestamp,
    },
    /// A valid manifest of this run was found by a claim or the sweep.
    Adopt {
        /// The manifest's run.
        run: Run,
        /// Price of the output; never more than the hold is taken.
        charge: MilliCredits,
        /// The control plane's clock.
        now: Timestamp,
    },
    /// The job reached its greatest age.
    Expire,
}

/// What happens: the next state, and what must be written with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The state after it.
    pub next: JobState,
    /// The credits that move.
    pub money: Option<Movement>,
    /// What the client is told.
    pub event: Option<EventKind>,
}

/// Why a command changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The run has ended.
    #[error("the job has ended")]
    Terminal,
    /// The job is a draft, or the message belongs to another run.
    #[error("the message belongs to no current run")]
    Superseded,
    /// A live lease stands in the way.
    #[error("another attempt holds the lease")]
    Leased {
        /// When it ends unless extended.
        until: Timestamp,
    },
    /// All attempts of the run are used up.
    #[error("no attempt is left")]
    Exhausted,
    /// The call comes from an attempt that is not the current one.
    #[error("not the current attempt")]
    StaleAttempt,
    /// The run has begun already.
    #[error("the job has started already")]
    AlreadyStarted,
    /// There is nothing to lapse or adopt.
    #[error("nothing to do")]
    NothingToDo,
}

/// Judges a command. Pure: whoever calls it commits the transition on condition that the state is still `state`.
///
/// # Errors
/// [`Refused`] when the command changes nothing.
pub fn apply(state: &JobState, command: Command) -> Result<Transition, Refused> {
    match command {
        Command::Start { cost } => start(state, cost),
        Command::Claim { run, now, lease } => claim(state, run, now, lease),
        Command::Heartbeat { attempt, progress, now, lease } => {
            current(state, attempt)?;
            let mut next = state.clone();
            next.phase = Phase::Processing { attempt, lease_until: after(now, lease) };
            next.progress = state.progress.max(progress.min(99));
            Ok(silent(next))
        }
        Command::Adjust { attempt, cost } => {
            current(state, attempt)?;
            let (hold, money) = state.hold.adjust(cost).ok_or(Refused::Terminal)?;
            Ok(Transition { next: JobState { hold, ..state.clone() }, money, event: None })
        }
        Command::Complete { attempt, charge } => {
            current(state, attempt)?;
            complete(state, charge)
        }
        Command::Fail { attempt, reason } => {
            current(state, attempt)?;
            if reason.retryable() && state.attempts_in_run < MAX_ATTEMPTS {
                return Ok(silent(JobState { phase: Phase::Pending, ..state.clone() }));
            }
            fail(state, reason)
        }
        Command::Abandon { attempt } => {
            current(state, attempt)?;
            let attempts_in_run = state.attempts_in_run.saturating_sub(1);
            Ok(silent(JobState { phase: Phase::Pending, attempts_in_run, ..state.clone() }))
        }
        Command::Cancel => fail(state, FailureReason::Cancelled),
        Command::Expire => fail(state, FailureReason::Expired),
        Command::Lapse { now } => lapse(state, now),
        Command::Adopt { run, charge, now } => adopt(state, run, charge, now),
    }
}

fn start(state: &JobState, cost: MilliCredits) -> Result<Transition, Refused> {
    match state.phase {
        Phase::Draft | Phase::Failed { .. } => {}
        Phase::Pending | Phase::Processing { .. } | Phase::Completed => return Err(Refused::AlreadyStarted),
    }
    let next = JobState {
        phase: Phase::Pending,
        run: Some(state.run.map_or(Run::FIRST, Run::next)),
        attempts: state.attempts,
        attempts_in_run: 0,
        announced: false,
        hold: Hold::Held(cost),
        progress: 0,
        events: state.events,
    };
    Ok(Transition { next, money: Some(Movement::Hold(cost)), event: None })
}

fn claim(state: &JobState, run: Run, now: Timestamp, lease: SignedDuration) -> Result<Transition, Refused> {
    of_run(state, run)?;
    unleased(state, now)?;
    if state.attempts_in_run >= MAX_ATTEMPTS {
        return Err(Refused::Exhausted);
    }
    let attempts = state.attempts.saturating_add(1);
    let attempt = Attempt::new(attempts).unwrap_or(Attempt::FIRST);
    let mut next = JobState {
        phase: Phase::Processing { attempt, lease_until: after(now, lease) },
        attempts,
        attempts_in_run: state.attempts_in_run + 1,
        announced: true,
        ..state.clone()
    };
    let event = (!state.announced).then_some(EventKind::Started);
    next.events += u32::from(event.is_some());
    Ok(Transition { next, money: None, event })
}

fn lapse(state: &JobState, now: Timestamp) -> Result<Transition, Refused> {
    match state.phase {
        Phase::Processing { lease_until, .. } if lease_until <= now => {}
        Phase::Processing { lease_until, .. } => return Err(Refused::Leased { until: lease_until }),
        Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } => return Err(Refused::NothingToDo),
    }
    if state.attempts_in_run < MAX_ATTEMPTS {
        return Ok(silent(JobState { phase: Phase::Pending, ..state.clone() }));
    }
    fail(state, FailureReason::WorkerLost)
}

fn adopt(state: &JobState, run: Run, charge: MilliCredits, now: Timestamp) -> Result<Transition, Refused> {
    of_run(state, run)?;
    unleased(state, now)?;
    complete(state, charge)
}

fn complete(state: &JobState, charge: MilliCredits) -> Result<Transition, Refused> {
    let (hold, money) = state.hold.capture(charge).ok_or(Refused::Terminal)?;
    let next = JobState { phase: Phase::Completed, hold, progress: 100, events: state.events + 1, ..state.clone() };
    Ok(Transition { next, money: Some(money), event: Some(EventKind::Completed) })
}

fn fail(state: &JobState, reason: FailureReason) -> Result<Transition, Refused> {
    match state.phase {
        Phase::Completed | Phase::Failed { .. } => return Err(Refused::Terminal),
        Phase::Draft | Phase::Pending | Phase::Processing { .. } => {}
    }
    let (hold, money) = state.hold.release();
    let next = JobState { phase: Phase::Failed { reason }, hold, events: state.events + 1, ..state.clone() };
    Ok(Transition { next, money, event: Some(EventKind::Failed) })
}

fn current(state: &JobState, attempt: Attempt) -> Result<(), Refused> {
    match state.phase {
        Phase::Processing { attempt: holder, .. } if holder == attempt => Ok(()),
        Phase::Completed | Phase::Failed { .. } if state.attempts == attempt.get() => Err(Refused::Terminal),
        Phase::Draft | Phase::Pending | Phase::Processing { .. } | Phase::Completed | Phase::Failed { .. } => {
            Err(Refused::StaleAttempt)
        }
    }
}

fn of_run(state: &JobState, run: Run) -> Result<(), Refused> {
    match state.phase {
        _ if state.run != Some(run) => Err(Refused::Superseded),
        Phase::Draft => Err(Refused::Superseded),
        Phase::Completed | Phase::Failed { .. } => Err(Refused::Terminal),
        Phase::Pending | Phase::Processing { .. } => Ok(()),
    }
}

fn unleased(state: &JobState, now: Timestamp) -> Result<(), Refused> {
    match state.phase {
        Phase::Processing { lease_until, .. } if lease_until > now => Err(Refused::Leased { until: lease_until }),
        Phase::Draft | Phase::Pending | Phase::Processing { .. } | Phase::Completed | Phase::Failed { .. } => Ok(()),
    }
}

fn after(now: Timestamp, lease: SignedDuration) -> Timestamp {
    now.saturating_add(lease).unwrap_or(Timestamp::MAX)
}

const fn silent(next: JobState) -> Transition {
    Transition { next, money: None, event: None }
}

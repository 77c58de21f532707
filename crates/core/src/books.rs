//! Whether ledger, balance and jobs tell the same story, and what would make them.
//!
//! They are written by one transaction each time, so in one deployment they agree at every moment. They part when a
//! table is restored to a point in time and another one is not. The ledger says what a client was charged: jobs follow
//! it, and where the ledger itself is the older one, what the jobs say is written into it. Nothing here reads or writes.
//! Invariant: a remedy moves credits only by rows that the ledger does not have, each of which can be written once.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use rotoless_contract::{Attempt, JobId, MilliCredits, Run};

use crate::ledger::{Balance, Cause, Delta, Hold, Movement};
use crate::lifecycle::JobState;

/// One row of a client's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The cause, as [`Cause::row_id`] writes it.
    pub row_id: String,
    /// The word of the movement.
    pub kind: String,
    /// What it added to each part of the balance.
    pub delta: Delta,
    /// The job and the run it belongs to.
    pub job: Option<(JobId, Run)>,
    /// When.
    pub at: Timestamp,
}

/// How a run's hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// So much was taken.
    Captured(MilliCredits),
    /// All of it was given back.
    Released,
}

/// What the ledger says of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunBooks {
    /// Whether a hold was opened.
    pub opened: bool,
    /// Still held.
    pub held: MilliCredits,
    /// Its end.
    pub settled: Option<Settled>,
}

/// What does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The balance is not the sum of its ledger.
    Balance {
        /// As stored.
        stored: Balance,
        /// Sum of the rows.
        ledger: Delta,
    },
    /// The ledger has settled the run, and the job waits or works.
    JobBehind {
        /// The job.
        job: JobId,
        /// Its run.
        run: Run,
        /// How it ended.
        settled: Settled,
    },
    /// The job's hold, or its end, is not in the ledger.
    LedgerBehind {
        /// The job.
        job: JobId,
        /// Its run.
        run: Run,
        /// The job's last attempt.
        attempt: Option<Attempt>,
        /// What the job says.
        hold: Hold,
        /// What the ledger says.
        books: RunBooks,
    },
    /// Both say that the run has ended, and not the same.
    Contradiction {
        /// The job.
        job: JobId,
        /// Its run.
        run: Run,
        /// What the job says.
        hold: Hold,
        /// What the ledger says.
        settled: Settled,
    },
    /// Credits are held for a run that there is not, or not any more.
    HeldForNothing {
        /// The job, which may be unknown.
        job: JobId,
        /// The run.
        run: Run,
        /// So much.
        held: MilliCredits,
    },
    /// The ledger knows a job, or a later run of it, that the table of jobs does not: nothing is held for it.
    JobLost {
        /// The job.
        job: JobId,
        /// The run.
        run: Run,
        /// How it ended.
        settled: Settled,
    },
    /// The job has completed, and its output is not there though its time is not over.
    OutputMissing {
        /// The job.
        job: JobId,
    },
}

/// What makes a finding go away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Rows that the ledger lacks, in this order.
    Ledger(Vec<(Cause, Movement)>),
    /// The job ends as the ledger says, and no credits move.
    EndJob {
        /// The job.
        job: JobId,
        /// How.
        settled: Settled,
    },
    /// Somebody has to decide.
    Decide,
}

/// What the ledger says of each run.
#[must_use]
pub fn by_run(rows: &[LedgerRow]) -> BTreeMap<(JobId, Run), RunBooks> {
    let mut runs: BTreeMap<(JobId, Run), (RunBooks, i128)> = BTreeMap::new();
    for row in rows {
        let Some(key) = &row.job else { continue };
        let (books, held) = runs.entry(key.clone()).or_default();
        *held += row.delta.held;
        match row.kind.as_str() {
            "hold" => books.opened = true,
            "capture" => books.settled = Some(Settled::Captured(amount(row.delta.used))),
            "release" => books.settled = Some(Settled::Released),
            _ => {}
        }
    }
    runs.into_iter().map(|(key, (books, held))| (key, RunBooks { held: amount(held), ..books })).collect()
}

fn amount(sum: i128) -> MilliCredits {
    MilliCredits(u64::try_from(sum).unwrap_or(0))
}

/// Whether the balance is the sum of its ledger.
#[must_use]
pub fn judge_balance(stored: Balance, rows: &[LedgerRow]) -> Option<Finding> {
    let ledger = rows.iter().fold(Delta::default(), |sum, row| Delta {
        available: sum.available + row.delta.available,
        held: sum.held + row.delta.held,
        used: sum.used + row.delta.used,
    });
    let parts = |part: MilliCredits| i128::from(part.0);
    let same = Delta { available: parts(stored.available), held: parts(stored.held), used: parts(stored.used) };
    (ledger != same).then_some(Finding::Balance { stored, ledger })
}

/// Whether a job and the ledger agree on one run. `job`: the job as stored, if there is one.
#[must_use]
pub fn judge_run(id: &JobId, run: Run, job: Option<&JobState>, books: RunBooks) -> Option<Finding> {
    let job_id = id.clone();
    let current = job.filter(|state| state.run == Some(run));
    let Some(state) = current else {
        return match books.settled {
            None if books.opened => Some(Finding::HeldForNothing { job: job_id, run, held: books.held }),
            None => None,
            // An earlier run of a job that was started again.
            Some(_) if job.is_some_and(|state| state.run > Some(run)) => None,
            Some(settled) => Some(Finding::JobLost { job: job_id, run, settled }),
        };
    };
    let hold = state.hold;
    let behind = Finding::LedgerBehind { job: job_id.clone(), run, attempt: Attempt::new(state.attempts), hold, books };
    match (hold, books.settled) {
        (Hold::Held(_), Some(settled)) => Some(Finding::JobBehind { job: job_id, run, settled }),
        (Hold::Held(held), None) => (!books.opened || books.held != held).then_some(behind),
        (Hold::Captured(charged), Some(Settled::Captured(taken))) if charged == taken => None,
        (Hold::Released(_), Some(Settled::Released)) => None,
        (Hold::Captured(_) | Hold::Released(_), Some(settled)) => {
            Some(Finding::Contradiction { job: job_id, run, hold, settled })
        }
        (Hold::Captured(_), None) => Some(behind),
        // A hold and its release that are both missing add up to nothing.
        (Hold::Released(_), None) => books.opened.then_some(behind),
        (Hold::None, _) => None,
    }
}

impl Finding {
    /// What makes it go away.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::JobBehind { job, settled, .. } => Remedy::EndJob { job: job.clone(), settled: *settled },
            Self::HeldForNothing { job, run, held } => {
                Remedy::Ledger(vec![(Cause::Settle(job.clone(), *run), Movement::Release(*held))])
            }
            Self::LedgerBehind { job, run, attempt, hold, books } => {
                Remedy::Ledger(missing_rows(job, *run, *attempt, *hold, *books))
            }
            Self::Balance { .. } | Self::Contradiction { .. } | Self::JobLost { .. } | Self::OutputMissing { .. } => {
                Remedy::Decide
            }
        }
    }
}

fn missing_rows(
    job: &JobId,
    run: Run,
    attempt: Option<Attempt>,
    hold: Hold,
    books: RunBooks,
) -> Vec<(Cause, Movement)> {
    let wanted = match hold {
        Hold::Held(held) => held,
        Hold::Captured(charged) if !books.opened => charged,
        Hold::Captured(_) | Hold::Released(_) | Hold::None => books.held,
    };
    let mut rows = Vec::new();
    if !books.opened {
        rows.push((Cause::Hold(job.clone(), run), Movement::Hold(wanted)));
    } else if books.held != wanted {
        let cause = Cause::Adjust(job.clone(), run, attempt.unwrap_or(Attempt::FIRST));
        rows.push((cause, Movement::Adjust { from: books.held, to: wanted }));
    }
    let settle = Cause::Settle(job.clone(), run);
    match hold {
        // Never more than what is held: what the ledger lost of an adjustment is not charged.
        Hold::Captured(charged) => {
            rows.push((settle, Movement::Capture { held: wanted, charged: charged.min(wanted) }));
        }
        Hold::Released(_) => rows.push((settle, Movement::Release(wanted))),
        Hold::Held(_) | Hold::None => {}
    }
    rows
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Captured(charged) => write!(f, "captured {} milli-credits", charged.0),
            Self::Released => f.write_str("released"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balance { stored, ledger } => write!(
                f,
                "the balance ({}, {}, {}) is not the sum of the ledger ({}, {}, {}); available, held, used",
                stored.available.0, stored.held.0, stored.used.0, ledger.available, ledger.held, ledger.used
            ),
            Self::JobBehind { job, run, settled } => {
                write!(f, "{job} run {run}: the ledger has {settled}, the job has not ended")
            }
            Self::LedgerBehind { job, run, hold, .. } => {
                write!(f, "{job} run {run}: the ledger lacks what the job says ({hold:?})")
            }
            Self::Contradiction { job, run, hold, settled } => {
                write!(f, "{job} run {run}: the ledger has {settled}, the job says {hold:?}")
            }
            Self::HeldForNothing { job, run, held } => {
                write!(f, "{job} run {run}: {} milli-credits are held for a run that there is not", held.0)
            }
            Self::JobLost { job, run, settled } => {
                write!(f, "{job} run {run}: the ledger has {settled}, and there is no such run")
            }
            Self::OutputMissing { job } => write!(f, "{job}: completed, and its output is not there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Phase;

    const RUN: Run = Run::FIRST;

    fn id() -> JobId {
        JobId::from_random([7; 16])
    }

    fn row(cause: &Cause, movement: Movement) -> LedgerRow {
        LedgerRow {
            row_id: cause.row_id(),
            kind: movement.kind().to_owned(),
            delta: movement.delta(),
            job: Some((id(), RUN)),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn state(hold: Hold) -> JobState {
        JobState { phase: Phase::Pending, run: Some(RUN), attempts: 2, hold, ..JobState::draft() }
    }

    const HELD: Hold = Hold::Held(MilliCredits(500));
    const CAPTURED: Hold = Hold::Captured(MilliCredits(300));
    const RELEASED: Hold = Hold::Released(MilliCredits(500));

    /// The rows that a run leaves, up to each point of its life.
    fn story(end: Option<Movement>) -> Vec<Vec<LedgerRow>> {
        let mut rows = vec![row(&Cause::Hold(id(), RUN), Movement::Hold(MilliCredits(400)))];
        let mut points = vec![Vec::new(), rows.clone()];
        let adjust = Movement::Adjust { from: MilliCredits(400), to: MilliCredits(500) };
        rows.push(row(&Cause::Adjust(id(), RUN, Attempt::FIRST), adjust));
        points.push(rows.clone());
        if let Some(end) = end {
            rows.push(row(&Cause::Settle(id(), RUN), end));
            points.push(rows);
        }
        points
    }

    fn found(state: Option<&JobState>, rows: &[LedgerRow]) -> Option<Finding> {
        judge_run(&id(), RUN, state, by_run(rows).get(&(id(), RUN)).copied().unwrap_or_default())
    }

    #[test]
    fn a_ledger_restored_to_any_point_of_a_run_is_brought_to_where_its_job_is_and_charges_no_more() {
        let capture = Movement::Capture { held: MilliCredits(500), charged: MilliCredits(300) };
        let ends = [(HELD, None), (CAPTURED, Some(capture)), (RELEASED, Some(Movement::Release(MilliCredits(500))))];
        for (hold, end) in ends {
            let points = story(end);
            for (point, rows) in points.iter().enumerate() {
                let mut rows = rows.clone();
                let is_whole = point + 1 == points.len();
                // A hold and a release that are both gone are nothing.
                let is_nothing = point == 0 && hold == RELEASED;
                assert_eq!(found(Some(&state(hold)), &rows).is_none(), is_whole || is_nothing, "{hold:?} {point}");
                if let Some(Remedy::Ledger(lacks)) = found(Some(&state(hold)), &rows).map(|found| found.remedy()) {
                    let known: Vec<String> = rows.iter().map(|row| row.row_id.clone()).collect();
                    let fresh = |cause: &Cause| !known.contains(&cause.row_id());
                    // An adjustment by another attempt may be there already; all others can be written once.
                    assert!(lacks.iter().all(|(cause, _)| fresh(cause)), "{hold:?} {point}");
                    rows.extend(lacks.iter().map(|(cause, movement)| row(cause, *movement)));
                }
                assert_eq!(found(Some(&state(hold)), &rows), None, "{hold:?} {point}");
                let used: i128 = rows.iter().map(|row| row.delta.used).sum();
                assert_eq!(used, i128::from(hold.charged().0), "{hold:?} {point}");
            }
        }
    }

    #[test]
    fn a_job_behind_its_ledger_ends_as_the_ledger_says_and_moves_nothing() {
        let capture = Movement::Capture { held: MilliCredits(500), charged: MilliCredits(300) };
        let rows = story(Some(capture)).pop().unwrap();
        let remedy = found(Some(&state(HELD)), &rows).unwrap().remedy();
        assert_eq!(remedy, Remedy::EndJob { job: id(), settled: Settled::Captured(MilliCredits(300)) });
    }

    #[test]
    fn credits_held_for_a_job_that_is_gone_are_given_back() {
        let rows = story(None).pop().unwrap();
        let found = found(None, &rows).unwrap();
        assert_eq!(found, Finding::HeldForNothing { job: id(), run: RUN, held: MilliCredits(500) });
        let release = (Cause::Settle(id(), RUN), Movement::Release(MilliCredits(500)));
        assert_eq!(found.remedy(), Remedy::Ledger(vec![release]));
    }

    #[test]
    fn what_two_ends_say_differently_somebody_decides() {
        let rows = story(Some(Movement::Release(MilliCredits(500)))).pop().unwrap();
        for state in [Some(state(CAPTURED)), None] {
            let finding = found(state.as_ref(), &rows).unwrap();
            assert_eq!(finding.remedy(), Remedy::Decide, "{finding}");
        }
    }

    #[test]
    fn a_balance_that_is_not_the_sum_of_its_rows_is_found() {
        let rows = story(None).pop().unwrap();
        let of = |available: u64, held: u64| Balance {
            available: MilliCredits(available),
            held: MilliCredits(held),
            used: MilliCredits(0),
        };
        let grant = Movement::Grant(MilliCredits(700));
        let mut granted = rows;
        granted.push(LedgerRow { job: None, ..row(&Cause::Grant { grant_id: "g".into() }, grant) });
        assert_eq!(judge_balance(of(200, 500), &granted), None);
        assert!(judge_balance(of(300, 400), &granted).is_some());
    }
}

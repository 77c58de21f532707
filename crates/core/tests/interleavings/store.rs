//! The store's conditions, and nothing else: a job's version, the balance, unique row ids; whole or not at all.

use std::collections::BTreeMap;

use rotoless_contract::JobId;
use rotoless_core::ledger::{Balance, Cause, Movement};
use rotoless_core::lifecycle::{JobState, Transition};

use crate::CLIENTS;

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) client: usize,
    pub(crate) version: u64,
    pub(crate) state: JobState,
}

/// A judged change, on condition of the version it was judged at.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) job: usize,
    pub(crate) expected: u64,
    pub(crate) cause: Option<Cause>,
    pub(crate) transition: Transition,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unapplied {
    Stale,
    InsufficientCredits,
    AlreadyInLedger,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) balances: [Balance; CLIENTS],
    pub(crate) rows: [BTreeMap<String, Movement>; CLIENTS],
    pub(crate) jobs: Vec<Job>,
}

impl Store {
    pub(crate) fn pay(&mut self, client: usize, cause: &Cause, movement: Movement) -> Result<(), Unapplied> {
        if self.rows[client].contains_key(&cause.row_id()) {
            return Err(Unapplied::AlreadyInLedger);
        }
        self.balances[client] = self.balances[client].after(movement).ok_or(Unapplied::InsufficientCredits)?;
        self.rows[client].insert(cause.row_id(), movement);
        Ok(())
    }

    pub(crate) fn commit(&mut self, judged: &Judged) -> Result<(), Unapplied> {
        let job = &self.jobs[judged.job];
        if job.version != judged.expected {
            return Err(Unapplied::Stale);
        }
        if let (Some(cause), Some(movement)) = (&judged.cause, judged.transition.money) {
            self.pay(job.client, cause, movement)?;
        }
        let job = &mut self.jobs[judged.job];
        job.version += 1;
        job.state = judged.transition.next.clone();
        Ok(())
    }
}

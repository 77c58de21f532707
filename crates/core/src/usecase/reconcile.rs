//! Reconcile: after a table was restored to a point in time, ledger, balance and jobs are made to agree again.
//!
//! Runs beside a service that serves: a finding counts when two looks agree on it, and every remedy is a conditional
//! write that one who was quicker refuses.

use std::collections::BTreeSet;
use std::sync::Arc;

use rotoless_contract::{ClientId, JobId, Run};

use super::change::Context;
use super::finished::{self, Finished};
use super::{JUDGEMENTS, Missed, attempt};
use crate::books::{Finding, Remedy, RunBooks, Settled, by_run, judge_balance, judge_run};
use crate::ledger::Hold;
use crate::lifecycle::{self, Command, Phase};
use crate::policy::Policy;
use crate::ports::{Accounts, Books, Clock, CommitError, Deliveries, Entropy, Jobs, ListQuery, Objects, StoreError};
use crate::record::JobRecord;
use crate::usage::Tally;

/// Jobs asked for at a time.
const PAGE: u32 = 200;

/// Compares accounts with jobs, and jobs with media.
pub struct Reconcile {
    /// Whole accounts.
    pub books: Arc<dyn Books>,
    /// Balances.
    pub accounts: Arc<dyn Accounts>,
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Whether an event was written already.
    pub deliveries: Arc<dyn Deliveries>,
    /// Manifests and outputs.
    pub objects: Arc<dyn Objects>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Delivery ids.
    pub entropy: Arc<dyn Entropy>,
    /// Retention.
    pub policy: Arc<Policy>,
}

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// It is gone.
    Done,
    /// Something changed meanwhile: look again.
    Changed,
    /// Somebody has to decide.
    LeftOpen,
}

impl Reconcile {
    /// What does not agree in a client's account, by two looks.
    ///
    /// # Errors
    /// [`StoreError`] when something cannot be read.
    pub async fn audit(&self, client: &ClientId) -> Result<Vec<Finding>, StoreError> {
        let first = self.look(client).await?;
        if first.is_empty() {
            return Ok(first);
        }
        let second = self.look(client).await?;
        Ok(second.into_iter().filter(|finding| first.contains(finding)).collect())
    }

    async fn look(&self, client: &ClientId) -> Result<Vec<Finding>, StoreError> {
        let balance = self.accounts.balance(client).await?;
        let rows = self.books.ledger(client).await?;
        let mut findings: Vec<Finding> = judge_balance(balance, &rows).into_iter().collect();
        let runs = by_run(&rows);
        for ((id, run), books) in &runs {
            let job = self.jobs.job(id).await?;
            findings.extend(judge_run(id, *run, job.as_ref().map(|job| &job.state), *books));
        }
        let known: BTreeSet<&(JobId, Run)> = runs.keys().collect();
        for job in self.jobs_of(client).await? {
            if let Some(run) = job.state.run.filter(|run| !known.contains(&(job.id.clone(), *run))) {
                findings.extend(judge_run(&job.id, run, Some(&job.state), RunBooks::default()));
            }
            if self.lacks_output(&job).await? {
                findings.push(Finding::OutputMissing { job: job.id });
            }
        }
        Ok(findings)
    }

    /// All of a client's jobs that are shown to him.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub async fn jobs_of(&self, client: &ClientId) -> Result<Vec<JobRecord>, StoreError> {
        let mut jobs = Vec::new();
        let mut cursor = None;
        loop {
            let query = ListQuery { client: client.clone(), statuses: Vec::new(), limit: PAGE, offset: 0, cursor };
            let page = self.jobs.list(&query).await?;
            jobs.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(jobs);
            }
        }
    }

    async fn lacks_output(&self, job: &JobRecord) -> Result<bool, StoreError> {
        let (Some(output), Some(completed)) = (&job.output, job.completed_at) else { return Ok(false) };
        let is_kept = completed.saturating_add(self.policy.output_retention).is_ok_and(|end| end > self.clock.now());
        if job.state.phase != Phase::Completed || !is_kept {
            return Ok(false);
        }
        Ok(self.objects.head(&output.key).await?.is_none())
    }

    /// Makes a finding go away, where that is no matter of opinion.
    ///
    /// # Errors
    /// [`StoreError`] when a read or a write failed.
    pub async fn repair(&self, client: &ClientId, finding: &Finding) -> Result<Repaired, StoreError> {
        match finding.remedy() {
            Remedy::Decide => Ok(Repaired::LeftOpen),
            Remedy::EndJob { job, settled } => self.end_job(&job, settled).await,
            Remedy::Ledger(rows) => {
                for (cause, movement) in rows {
                    let now = self.clock.now();
                    match self.books.write(client, &cause, movement, "reconciled", now).await {
                        Ok(()) => {}
                        Err(CommitError::InsufficientCredits) => return Ok(Repaired::LeftOpen),
                        Err(CommitError::Store(err)) => return Err(err),
                        Err(
                            CommitError::Stale
                            | CommitError::AlreadyInLedger
                            | CommitError::KeyTaken
                            | CommitError::TooManyOpen
                            | CommitError::UploadGone,
                        ) => return Ok(Repaired::Changed),
                    }
                }
                Ok(Repaired::Done)
            }
        }
    }

    /// The run's manifest, whichever attempt made it: the job may have forgotten attempts.
    async fn finished(&self, job: &JobRecord, run: Run) -> Result<Option<Finished>, StoreError> {
        let mut job = job.clone();
        job.state.attempts = u32::MAX;
        finished::find(&*self.objects, &job, run).await
    }

    /// The job ends as its ledger says. No credits move and nothing is counted: both were, before the restore.
    async fn end_job(&self, id: &JobId, settled: Settled) -> Result<Repaired, StoreError> {
        let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
        for _ in 0..JUDGEMENTS {
            let Some(job) = self.jobs.job(id).await? else { return Ok(Repaired::Changed) };
            let Some(run) = job.state.run.filter(|_| matches!(job.state.hold, Hold::Held(_))) else {
                return Ok(Repaired::Changed);
            };
            let found = match settled {
                Settled::Released => None,
                Settled::Captured(_) => match self.finished(&job, run).await? {
                    Some(found) => Some(found),
                    // Paid, and nothing to show for it: a refund and a new job, or the job's media from elsewhere.
                    None => return Ok(Repaired::LeftOpen),
                },
            };
            let command = match settled {
                // No lease stands in the way of what has happened.
                Settled::Captured(charge) => Command::Adopt { run, charge, now: jiff::Timestamp::MAX },
                Settled::Released => Command::Expire,
            };
            let Ok(mut transition) = lifecycle::apply(&job.state, command) else { return Ok(Repaired::Changed) };
            if let Settled::Captured(charged) = settled {
                transition.next.hold = Hold::Captured(charged);
            }
            let told = match transition.event {
                Some(event) => self.deliveries.deliveries_of(id).await?.iter().any(|told| told.event == event),
                None => true,
            };
            if told {
                transition.event = None;
            }
            let mut change = context.change(&job, transition, |job| {
                attempt::idle(job);
                if let Some(found) = found {
                    found.record_on(job);
                }
            });
            (change.money, change.tally) = (None, Tally::default());
            change.attempts = attempt::ended(&*self.jobs, &job, "restored", context.now).await?;
            match self.jobs.commit(change).await.map_err(Missed::from) {
                Ok(()) => return Ok(Repaired::Done),
                Err(Missed::Again) => {}
                Err(Missed::Credits) => return Ok(Repaired::LeftOpen),
                Err(Missed::Store(err)) => return Err(err),
            }
        }
        Ok(Repaired::Changed)
    }
}

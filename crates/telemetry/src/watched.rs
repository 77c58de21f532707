//! Jobs whose committed changes are counted: a decorator of the port, so that whoever commits is counted by what came of
//! it, once, and nothing is counted that was only tried.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::worker::FailureReason;
use rotoless_contract::{Attempt, ClientId, JobId, Run, UploadId};
use rotoless_core::ledger::Movement;
use rotoless_core::lifecycle::Phase;
use rotoless_core::ports::{Audit, Change, CommitError, JobPage, Jobs, ListQuery, StoreError};
use rotoless_core::record::{AttemptRecord, JobRecord};
use serde_json::{Value, json};

use crate::{Metric, Metrics};

/// Attempts of a run that are added up when it has completed, the last ones.
const MOST_ATTEMPTS: usize = 50;

/// The same jobs, counted; they themselves where nobody hears the count.
pub fn watched<J: Jobs + Audit + 'static>(jobs: Arc<J>, metrics: Metrics) -> Arc<dyn Jobs> {
    if metrics.is_silent() { jobs } else { Arc::new(Watched { jobs, metrics }) }
}

struct Watched<J> {
    jobs: Arc<J>,
    metrics: Metrics,
}

#[async_trait]
impl<J: Jobs + Audit> Jobs for Watched<J> {
    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        self.jobs.job(id).await
    }

    async fn commit(&self, change: Change) -> Result<(), CommitError> {
        let event = Event::of(&change);
        self.jobs.commit(change).await?;
        if let Some(event) = event {
            self.tell(event).await;
        }
        Ok(())
    }

    async fn list(&self, query: &ListQuery) -> Result<JobPage, StoreError> {
        self.jobs.list(query).await
    }

    async fn line(&self, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.jobs.line(limit).await
    }

    async fn retire_upload(&self, upload: &UploadId) -> Result<bool, StoreError> {
        self.jobs.retire_upload(upload).await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.jobs.due(now, limit).await
    }

    async fn attempt(&self, id: &JobId, attempt: Attempt) -> Result<Option<AttemptRecord>, StoreError> {
        self.jobs.attempt(id, attempt).await
    }
}

impl<J: Jobs + Audit> Watched<J> {
    async fn tell(&self, mut event: Event) {
        if let Some(finished) = &event.finished {
            match self.worker_seconds(&event.job, finished).await {
                Ok(seconds) => {
                    event.figures.push((Metric::WorkerSecondsPerOutputSecond, seconds / finished.output_seconds))
                }
                Err(err) => tracing::warn!(job.id = %event.job, error = %err, "attempts not added up"),
            }
        }
        if let Some(client) = &event.settled {
            match self.jobs.adds_up(client).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(client.id = %client, "the balance does not add up to what was granted");
                    event.figures.push((Metric::CreditInvariantBroken, 1.0));
                }
                Err(err) => tracing::warn!(client.id = %client, error = %err, "balance not added up"),
            }
        }
        self.metrics.tell(event.at, &event.figures, &event.properties);
    }

    /// Seconds of all attempts of a run: those that the change speaks of, and the others as stored.
    async fn worker_seconds(&self, job: &JobId, finished: &Finished) -> Result<f64, StoreError> {
        let mut all = 0.0;
        for attempt in (1..=finished.attempts).rev().take(MOST_ATTEMPTS).filter_map(Attempt::new) {
            if let Some((_, known)) = finished.known.iter().find(|(of, _)| *of == attempt) {
                all += known;
                continue;
            }
            match self.jobs.attempt(job, attempt).await? {
                Some(row) if Some(row.run) == finished.run => all += seconds(&row).unwrap_or_default(),
                Some(_) | None => break,
            }
        }
        Ok(all)
    }
}

/// What of a change is counted once it is committed.
struct Event {
    at: Timestamp,
    job: JobId,
    figures: Vec<(Metric, f64)>,
    properties: Vec<(&'static str, Value)>,
    finished: Option<Finished>,
    /// Whose credits were settled.
    settled: Option<ClientId>,
}

/// A run that a model worked on has its output.
struct Finished {
    run: Option<Run>,
    output_seconds: f64,
    /// The last attempt's number.
    attempts: u32,
    /// Seconds of those that the change speaks of.
    known: Vec<(Attempt, f64)>,
}

impl Event {
    /// None where nothing is counted.
    fn of(change: &Change) -> Option<Self> {
        let job = &change.job;
        let mut figures = Vec::new();
        if change.tally.jobs > 0 {
            figures.push((Metric::JobsCreated, 1.0));
        }
        if change.tally.completed > 0 {
            figures.push((Metric::JobsCompleted, 1.0));
        }
        if change.tally.failed > 0 {
            let is_cancelled = failure(job) == Some(FailureReason::Cancelled);
            figures.push((if is_cancelled { Metric::JobsCancelled } else { Metric::JobsFailed }, 1.0));
        }
        figures.extend(change.money.iter().flat_map(|(_, movement)| credits(*movement)));
        // A row that had ended before, and is told of again, is not among them.
        let ended: Vec<_> = change.attempts.iter().filter(|row| row.ended_at == Some(job.updated_at)).collect();
        figures.extend(ended.iter().filter_map(|row| Some((Metric::AttemptSeconds, seconds(row)?))));
        if figures.is_empty() {
            return None;
        }
        let finished =
            (change.tally.completed > 0 && job.exported.is_none()).then(|| Finished::of(job, &change.attempts));
        let settled = change.money.as_ref().filter(|(_, movement)| is_settlement(*movement));
        Some(Self {
            at: job.updated_at,
            job: job.id.clone(),
            properties: properties(job, ended.last().copied()),
            figures,
            finished: finished.flatten(),
            settled: settled.map(|_| job.client.clone()),
        })
    }
}

impl Finished {
    /// None where there is no length to compare with.
    fn of(job: &JobRecord, attempts: &[AttemptRecord]) -> Option<Self> {
        let output_seconds = job.output.as_ref().map(|output| output.info.duration_ms as f64 / 1000.0);
        let of_run = attempts.iter().filter(|row| Some(row.run) == job.state.run);
        Some(Self {
            run: job.state.run,
            output_seconds: output_seconds.filter(|seconds| *seconds > 0.0)?,
            attempts: job.state.attempts,
            known: of_run.filter_map(|row| Some((row.attempt, seconds(row)?))).collect(),
        })
    }
}

fn failure(job: &JobRecord) -> Option<FailureReason> {
    match job.state.phase {
        Phase::Failed { reason } => Some(reason),
        Phase::Draft | Phase::Pending | Phase::Processing { .. } | Phase::Completed => None,
    }
}

/// What a movement of credits counts for: held - captured - released is what is held now.
fn credits(movement: Movement) -> Vec<(Metric, f64)> {
    let (held, captured, released) = match movement {
        Movement::Grant(_) => (0, 0, 0),
        Movement::Hold(amount) => (amount.0, 0, 0),
        Movement::Adjust { from, to } => (to.0.saturating_sub(from.0), 0, from.0.saturating_sub(to.0)),
        Movement::Capture { held, charged } => (0, charged.0, held.0.saturating_sub(charged.0)),
        Movement::Release(amount) => (0, 0, amount.0),
    };
    let all = [(Metric::CreditsHeld, held), (Metric::CreditsCaptured, captured), (Metric::CreditsReleased, released)];
    all.into_iter().filter(|(_, milli)| *milli > 0).map(|(metric, milli)| (metric, milli as f64)).collect()
}

const fn is_settlement(movement: Movement) -> bool {
    match movement {
        Movement::Capture { .. } | Movement::Release(_) => true,
        Movement::Grant(_) | Movement::Hold(_) | Movement::Adjust { .. } => false,
    }
}

/// From the claim to the end. A clock that went back counts as none.
fn seconds(row: &AttemptRecord) -> Option<f64> {
    Some(row.ended_at?.duration_since(row.claimed_at).as_secs_f64().max(0.0))
}

fn properties(job: &JobRecord, ended: Option<&AttemptRecord>) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("job.id", json!(job.id)),
        ("client.id", json!(job.client)),
        ("job.model", json!(job.spec.model)),
        ("job.status", json!(job.state.status())),
    ];
    if let Some(reason) = failure(job) {
        all.push(("job.error_code", json!(reason.as_str())));
    }
    if let Some(row) = ended {
        all.push(("attempt", json!(row.attempt.get())));
        all.push(("attempt.outcome", json!(row.outcome)));
        all.push(("worker.id", json!(row.worker_id)));
    }
    all
}

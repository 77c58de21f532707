//! From a judged transition to the change that is committed.

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::api::TrailEntry;
use rotoless_contract::job::EventState;
use rotoless_contract::webhook::EventKind;
use rotoless_contract::{DeliveryId, UploadId};

use crate::ledger::{Cause, Movement};
use crate::lifecycle::{JobState, Phase, Transition};
use crate::policy::Policy;
use crate::ports::{Change, Entropy, UploadUse};
use crate::record::{DeliveryRecord, JobRecord};
use crate::usage::Tally;
use crate::view;

/// What every change needs to know.
pub(super) struct Context<'a> {
    pub now: Timestamp,
    pub policy: &'a Policy,
    pub entropy: &'a dyn Entropy,
}

impl Context<'_> {
    /// The change that a transition asks for. `edit` sets what the rules do not know (output, stage, …).
    pub(super) fn change(
        &self,
        before: &JobRecord,
        transition: Transition,
        edit: impl FnOnce(&mut JobRecord),
    ) -> Change {
        let mut job = before.clone();
        job.state = transition.next;
        job.version = before.version + 1;
        job.updated_at = self.now;
        if job.state.status().is_terminal() && job.completed_at.is_none() {
            job.completed_at = Some(self.now);
        }
        job.postponed = None;
        edit(&mut job);
        let delivery = transition.event.and_then(|event| self.announce(&mut job, event));
        job.due_at = next_due(&job, self.policy);
        let money = transition.money.and_then(|movement| Some((cause(&job, &job.state, movement)?, movement)));
        tell(before, &mut job, self.now);
        let tally = Tally::of(&before.state, &job);
        let uploads = uses(before, &job);
        Change { money, uploads, delivery, tally, ..Change::of(job) }
    }

    /// A change of what the rules do not know.
    pub(super) fn edit(&self, before: &JobRecord, edit: impl FnOnce(&mut JobRecord)) -> Change {
        let same = Transition { next: before.state.clone(), money: None, event: None };
        self.change(before, same, edit)
    }

    fn announce(&self, job: &mut JobRecord, event: EventKind) -> Option<DeliveryRecord> {
        let url = job.webhook_url.clone()?;
        job.events.insert(event.as_str().to_owned(), EventState::Pending);
        Some(DeliveryRecord {
            id: DeliveryId::from_random(self.entropy.id_bits()),
            job_id: job.id.clone(),
            client: job.client.clone(),
            event,
            sequence: job.state.events,
            created_at: self.now,
            url,
            data: Box::new(view::job(job, None, self.policy, self.now)),
            state: EventState::Pending,
            tries: 0,
            due_at: Some(self.now),
            last_result: None,
            attempts: Vec::new(),
            version: 1,
        })
    }
}

/// The uploads that a job needs from now on, or no more.
fn uses(before: &JobRecord, job: &JobRecord) -> Vec<UploadUse> {
    // What is not stored needs nothing yet.
    let then = if job.version == 1 { Vec::new() } else { before.needed_uploads() };
    let now = job.needed_uploads();
    let of = |upload: &UploadId, begins| UploadUse { upload: upload.clone(), begins };
    let ended = then.iter().filter(|upload| !now.contains(upload)).map(|upload| of(upload, false));
    let begun = now.iter().filter(|upload| !then.contains(upload)).map(|upload| of(upload, true));
    ended.chain(begun).collect()
}

/// Changes of state that a job remembers.
const TRAIL: usize = 100;

/// Puts on the trail what changed: the state itself, or who works.
fn tell(before: &JobRecord, job: &mut JobRecord, at: Timestamp) {
    let entry = |state: &JobState| TrailEntry {
        at,
        status: state.status(),
        run: state.run,
        attempt: match state.phase {
            Phase::Processing { attempt, .. } => Some(attempt),
            Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } => None,
        },
        error_code: match state.phase {
            Phase::Failed { reason } => Some(reason),
            Phase::Draft | Phase::Pending | Phase::Processing { .. } | Phase::Completed => None,
        },
    };
    if job.version == 1 {
        job.trail.push(entry(&before.state));
    }
    let (then, now) = (entry(&before.state), entry(&job.state));
    if then != now {
        // Who gave a job back is part of the story: the attempt is no longer in the state.
        job.trail.push(TrailEntry { attempt: now.attempt.or(then.attempt), ..now });
    }
    let over = job.trail.len().saturating_sub(TRAIL);
    job.trail.drain(..over);
}

/// A worker's links to write an output end this long after they were given, at the latest: the longest attempt and
/// five minutes.
pub(super) const LAST_WRITE: SignedDuration = SignedDuration::from_mins(125);

/// The id of the ledger row: a run's hold is opened once, settled once, and adjusted once an attempt.
fn cause(job: &JobRecord, state: &JobState, movement: Movement) -> Option<Cause> {
    let run = state.run?;
    match movement {
        Movement::Hold(_) => Some(Cause::Hold(job.id.clone(), run)),
        Movement::Adjust { .. } => match state.phase {
            Phase::Processing { attempt, .. } => Some(Cause::Adjust(job.id.clone(), run, attempt)),
            Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } => None,
        },
        Movement::Capture { .. } | Movement::Release(_) => Some(Cause::Settle(job.id.clone(), run)),
        // Not a job's.
        Movement::Grant(_) => None,
    }
}

/// When the sweep must look at a job; none once it has ended.
pub(super) fn next_due(job: &JobRecord, policy: &Policy) -> Option<Timestamp> {
    let due = asked_for(job, policy)?;
    Some(job.postponed.map_or(due, |postponed| due.max(postponed.until)))
}

fn asked_for(job: &JobRecord, policy: &Policy) -> Option<Timestamp> {
    let after = |start: Timestamp, wait: SignedDuration| start.saturating_add(wait).unwrap_or(Timestamp::MAX);
    if let Some(deletion) = job.deletion {
        let last_write = after(deletion.at, LAST_WRITE);
        return match deletion.media_removed {
            false => Some(deletion.at),
            true => (job.state.attempts > 0 && job.updated_at < last_write).then_some(last_write),
        };
    }
    let end = after(job.queued_at.unwrap_or(job.created_at), policy.max_job_age);
    match job.state.phase {
        Phase::Draft => Some(end),
        Phase::Pending => Some(end.min(policy.resend_at(job.updated_at, job.enqueued_at, job.resends))),
        Phase::Processing { lease_until, .. } => Some(end.min(lease_until)),
        Phase::Completed | Phase::Failed { .. } => None,
    }
}

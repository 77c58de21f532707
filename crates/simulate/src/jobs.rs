//! The jobs that are not over, and the messages about them. What may happen to a job is the core's to say.

use std::collections::{HashMap, VecDeque};

use rotoless_contract::{MilliCredits, Run};
use rotoless_core::lifecycle::{self, Command, JobState, Phase, Refused};
use rotoless_core::policy::Policy;

use crate::micros::Micros;

/// Between two heartbeats of an attempt, as the worker has it.
const HEARTBEAT: Micros = Micros::seconds(40);

/// A job's number, in the order of arrival.
pub(crate) type JobNumber = u64;

/// A job that is not over.
#[derive(Debug)]
pub(crate) struct OpenJob {
    pub(crate) state: JobState,
    pub(crate) created: Micros,
    pub(crate) updated: Micros,
    pub(crate) video: Micros,
    /// How much of the video earlier attempts left finished.
    pub(crate) done: Micros,
    /// What its attempts' fates are made of.
    pub(crate) fate: u64,
    /// When the attempt that is alive was claimed.
    pub(crate) alive_since: Option<Micros>,
    pub(crate) enqueued: Option<Micros>,
    pub(crate) resends: u32,
    pub(crate) first_frame: Option<Micros>,
}

impl OpenJob {
    pub(crate) fn submitted(created: Micros, video: Micros, fate: u64) -> Result<Self, Refused> {
        let start = lifecycle::apply(&JobState::draft(), Command::Start { cost: MilliCredits(1) })?;
        Ok(Self {
            state: start.next,
            created,
            updated: created,
            video,
            done: Micros::ZERO,
            fate,
            alive_since: None,
            enqueued: None,
            resends: 0,
            first_frame: None,
        })
    }

    pub(crate) fn run(&self) -> Run {
        self.state.run.unwrap_or(Run::FIRST)
    }

    /// Brings the job to where a command leads.
    pub(crate) fn apply(&mut self, command: Command, now: Micros) -> Result<(), Refused> {
        self.state = lifecycle::apply(&self.state, command)?.next;
        self.updated = now;
        Ok(())
    }

    /// The heartbeats that its live attempt has sent until now. They are no events of their own: a lease is looked at
    /// far less often than it is extended.
    pub(crate) fn beat(&mut self, now: Micros, policy: &Policy) {
        let (Some(since), Phase::Processing { attempt, .. }) = (self.alive_since, self.state.phase) else { return };
        let last = since + Micros(now.since(since).0 / HEARTBEAT.0 * HEARTBEAT.0);
        let beat = Command::Heartbeat { attempt, progress: 0, now: last.timestamp(), lease: policy.lease };
        if let Ok(transition) = lifecycle::apply(&self.state, beat) {
            self.state = transition.next;
        }
    }

    /// When the lease ends unless it is extended.
    pub(crate) fn lease_until(&self) -> Option<Micros> {
        match self.state.phase {
            Phase::Processing { lease_until, .. } => Some(lease_until.into()),
            Phase::Draft | Phase::Pending | Phase::Completed | Phase::Failed { .. } => None,
        }
    }

    /// When it is failed as expired.
    pub(crate) fn end(&self, policy: &Policy) -> Micros {
        self.created + policy.max_job_age.into()
    }

    /// When the sweep must look at it, as the row says it.
    pub(crate) fn due(&self, policy: &Policy) -> Option<Micros> {
        let look = match self.state.phase {
            Phase::Pending => {
                let enqueued = self.enqueued.map(Micros::timestamp);
                Some(policy.resend_at(self.updated.timestamp(), enqueued, self.resends).into())
            }
            Phase::Processing { .. } => self.lease_until(),
            Phase::Draft | Phase::Completed | Phase::Failed { .. } => None,
        };
        look.map(|look: Micros| look.min(self.end(policy)))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.status().is_terminal()
    }
}

/// All jobs that are not over.
pub(crate) type Jobs = HashMap<JobNumber, OpenJob>;

/// The queue of work. A message is the number of its job; there may be several of one job.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    visible: VecDeque<JobNumber>,
    pub(crate) in_flight: u32,
}

impl Queue {
    pub(crate) fn push(&mut self, job: JobNumber) {
        self.visible.push_back(job);
    }

    /// The oldest message, which is in flight from now on.
    pub(crate) fn receive(&mut self) -> Option<JobNumber> {
        let job = self.visible.pop_front()?;
        self.in_flight += 1;
        Some(job)
    }

    pub(crate) fn visible(&self) -> u32 {
        u32::try_from(self.visible.len()).unwrap_or(u32::MAX)
    }
}

//! The wakers of a program, connected as its settings say.

use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use rotoless_core::eventcount::Ringer;
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Clock, Eventcounts, Waiting, WakeMemory, Waker};
use rotoless_core::usecase::{DrainWaker, Wakes};
use rotoless_core::wake::WakePolicy;

use super::choice::{EcsSettings, WakeSettings, WakerSettings};
use super::{EcsTasks, InProcessWaker, RunPodWaker};
use crate::{AwsClients, Names};

/// What homes need whose workers drain the queue.
pub struct Drain<'a> {
    /// Starts tasks.
    pub clients: &'a AwsClients,
    /// Whose tasks they are.
    pub names: &'a Names,
    /// Who is awake.
    pub eventcount: Arc<dyn Eventcounts>,
}

/// Where workers come from.
#[derive(Clone)]
pub struct Homes {
    at_submit: Option<Arc<dyn Waker>>,
    first: Option<Arc<dyn Waker>>,
    second: Option<Arc<dyn Waker>>,
    policy: WakePolicy,
}

impl fmt::Debug for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Homes").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Homes {
    /// For jobs under this policy. Nothing is sent yet.
    #[must_use]
    pub fn connect(settings: &WakeSettings, policy: &Policy, clock: &Arc<dyn Clock>, drain: &Drain<'_>) -> Self {
        let ecs = |ecs: &EcsSettings, ringer| DrainWaker {
            eventcount: Arc::clone(&drain.eventcount),
            starter: Arc::new(EcsTasks::new(drain.clients, drain.names, ecs.clone())),
            clock: Arc::clone(clock),
            ringer,
            workers_max: settings.workers_max,
        };
        let waker = |settings: &WakerSettings, ringer| -> Option<Arc<dyn Waker>> {
            match settings {
                WakerSettings::None => None,
                WakerSettings::RunPod(settings) => {
                    Some(Arc::new(RunPodWaker::new(settings, policy, Arc::clone(clock))))
                }
                WakerSettings::Ecs(settings) => Some(Arc::new(ecs(settings, ringer))),
            }
        };
        let stops_idling = match &settings.first {
            WakerSettings::RunPod(runpod) => runpod.stop_key.is_some(),
            WakerSettings::None => false,
            // It needs no further right, ends in order, and bars nobody from being started for the next job.
            WakerSettings::Ecs(_) => true,
        };
        let usual = WakePolicy::default();
        let keep_alive_after = match &settings.first {
            WakerSettings::RunPod(_) => usual.keep_alive_after,
            // A cluster that nobody used is not taken away, and a wake would start a machine.
            WakerSettings::None | WakerSettings::Ecs(_) => SignedDuration::MAX,
        };
        Self {
            at_submit: waker(&settings.first, Ringer::Submit),
            first: waker(&settings.first, Ringer::Look),
            second: waker(&settings.second, Ringer::Look),
            policy: WakePolicy { workers_max: settings.workers_max, stops_idling, keep_alive_after, ..usual },
        }
    }

    /// What is woken when a job is accepted.
    #[must_use]
    pub fn waker(&self) -> Arc<dyn Waker> {
        self.at_submit.clone().unwrap_or_else(|| Arc::new(InProcessWaker))
    }

    /// What the sweep does about workers; nothing where they poll.
    #[must_use]
    pub fn wakes(
        &self,
        waiting: Arc<dyn Waiting>,
        memory: Arc<dyn WakeMemory>,
        clock: Arc<dyn Clock>,
    ) -> Option<Wakes> {
        let (first, second, policy) = (self.first.clone()?, self.second.clone(), self.policy);
        Some(Wakes { waiting, first, second, memory, clock, policy })
    }
}

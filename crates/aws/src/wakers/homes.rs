//! The wakers of a program, connected as its settings say.

use std::fmt;
use std::sync::Arc;

use rotoless_core::policy::Policy;
use rotoless_core::ports::{Clock, Waiting, WakeMemory, Waker};
use rotoless_core::usecase::Wakes;
use rotoless_core::wake::WakePolicy;

use super::choice::{WakeSettings, WakerSettings};
use super::{InProcessWaker, RunPodWaker};

/// Where workers come from.
#[derive(Clone)]
pub struct Homes {
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
    pub fn connect(settings: &WakeSettings, policy: &Policy, clock: &Arc<dyn Clock>) -> Self {
        let waker = |settings: &WakerSettings| -> Option<Arc<dyn Waker>> {
            match settings {
                WakerSettings::None => None,
                WakerSettings::RunPod(settings) => {
                    Some(Arc::new(RunPodWaker::new(settings, policy, Arc::clone(clock))))
                }
                WakerSettings::Ecs(_) => None,
            }
        };
        let stops_idling = match &settings.first {
            WakerSettings::RunPod(runpod) => runpod.stop_key.is_some(),
            WakerSettings::None | WakerSettings::Ecs(_) => false,
        };
        Self {
            first: waker(&settings.first),
            second: waker(&settings.second),
            policy: WakePolicy { workers_max: settings.workers_max, stops_idling, ..WakePolicy::default() },
        }
    }

    /// What is woken when a job is accepted.
    #[must_use]
    pub fn waker(&self) -> Arc<dyn Waker> {
        self.first.clone().unwrap_or_else(|| Arc::new(InProcessWaker))
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

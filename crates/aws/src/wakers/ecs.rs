//! A home whose workers are tasks of ECS, on machines that a capacity provider makes and takes away.
//!
//! Owns: the four calls of ECS, what its states and refusals mean. Does not own: when to start one
//! (`rotoless_core::usecase::DrainWaker`, by the eventcount), the cluster itself (`infra/ecs.yaml`).
//!
//! Invariants: only tasks of ours are counted or stopped, told by `startedBy`, which is the stack's name; a start that is
//! repeated after a lost answer starts nobody more (the SDK gives all tries of a call one `clientToken`).

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{
    AwsVpcConfiguration, CapacityProviderStrategyItem, DesiredStatus, Failure, LaunchType, NetworkConfiguration, Task,
};
use jiff::{SignedDuration, Timestamp};
use rotoless_core::ports::{Started, Starter, StoreError};

use super::choice::EcsSettings;
use crate::clients::AwsClients;
use crate::config::Names;
use crate::error::{Effect, classify};

/// ECS starts at most so many tasks in one call; the sweep's next look asks for the rest.
const TASKS_A_CALL: u32 = 10;
/// ECS lists and describes at most so many at once; there are never more of ours that matter.
const TASKS_A_PAGE: i32 = 100;
/// A machine of a capacity provider is there after 2 to 5 minutes. A task that has waited for longer waits for one that
/// AWS does not have.
const MACHINE_COMES_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// Length of `startedBy`.
const MAX_STARTED_BY: usize = 128;

/// ECS understood a start, and started nobody.
#[derive(Debug, thiserror::Error)]
enum NotStarted {
    /// No machine has room, and none is being made. It may pass by itself.
    #[error("no machine has room: {0}")]
    NoRoom(String),
    /// Something is not there, or does not fit: for people to look at.
    #[error("refused: {0}")]
    Refused(String),
    /// Neither a task nor a word why.
    #[error("no task and no reason")]
    Unexplained,
}

/// Tasks of one stack.
#[derive(Debug, Clone)]
pub struct EcsTasks {
    client: Client,
    settings: EcsSettings,
    started_by: String,
}

impl EcsTasks {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(clients: &AwsClients, names: &Names, settings: EcsSettings) -> Self {
        let client = match &settings.endpoint {
            Some(endpoint) => {
                Client::from_conf(clients.ecs.config().to_builder().endpoint_url(endpoint.as_str()).build())
            }
            None => clients.ecs.clone(),
        };
        Self { client, settings, started_by: started_by(names) }
    }

    /// Our tasks that are to run.
    async fn tasks(&self) -> Result<Vec<Task>, StoreError> {
        // `startedBy` must be the only filter; ECS leaves out by itself what is to stop.
        let list = self.client.list_tasks().cluster(&self.settings.cluster).started_by(&self.started_by);
        let listed = list.max_results(TASKS_A_PAGE).send().await.map_err(|e| classify(e, Effect::None).error)?;
        let arns = listed.task_arns.unwrap_or_default();
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let describe = self.client.describe_tasks().cluster(&self.settings.cluster).set_tasks(Some(arns));
        let described = describe.send().await.map_err(|e| classify(e, Effect::None).error)?;
        let is_wanted = |task: &Task| task.desired_status() != Some(DesiredStatus::Stopped.as_str());
        Ok(described.tasks.unwrap_or_default().into_iter().filter(is_wanted).collect())
    }

    async fn stop(&self, is_meant: impl Fn(&Task) -> bool, reason: &str) -> Result<u32, StoreError> {
        let mut stopped = 0;
        for task in self.tasks().await?.iter().filter(|task| is_meant(task)) {
            let Some(arn) = task.task_arn() else { continue };
            let stop = self.client.stop_task().cluster(&self.settings.cluster).task(arn).reason(reason);
            stop.send().await.map_err(|e| classify(e, Effect::Change).error)?;
            stopped += 1;
        }
        Ok(stopped)
    }
}

/// What the tables of the stack are named after.
fn started_by(names: &Names) -> String {
    let stack = names.limits.strip_suffix("-limits").unwrap_or(&names.limits);
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    stack.chars().map(allowed).take(MAX_STARTED_BY).collect()
}

/// Where a task is in its life, of the states that ECS has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    Running,
    Ending,
}

fn life(task: &Task) -> Life {
    match task.last_status() {
        Some("RUNNING") => Life::Running,
        Some("DEACTIVATING" | "STOPPING" | "DEPROVISIONING" | "STOPPED" | "DELETED") => Life::Ending,
        // PROVISIONING, PENDING, ACTIVATING, and one that ECS does not know yet.
        Some(_) | None => Life::Starting,
    }
}

fn has_waited_long(task: &Task, now: Timestamp) -> bool {
    let created = task.created_at().and_then(|at| Timestamp::from_second(at.secs()).ok());
    created.is_some_and(|created| now.duration_since(created) > MACHINE_COMES_WITHIN)
}

/// What is said of a start that started nobody. The reasons are codes:
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>
fn not_started(failures: &[Failure]) -> StoreError {
    let reasons: BTreeSet<&str> = failures.iter().filter_map(Failure::reason).collect();
    let is_room =
        |reason: &&str| reason.starts_with("RESOURCE") || matches!(*reason, "AGENT" | "EMPTY CAPACITY PROVIDER");
    let said = reasons.iter().copied().collect::<Vec<_>>().join(", ");
    if reasons.is_empty() {
        StoreError::Unavailable(NotStarted::Unexplained.into())
    } else if reasons.iter().all(is_room) {
        StoreError::Throttled(NotStarted::NoRoom(said).into())
    } else {
        StoreError::Rejected(NotStarted::Refused(said).into())
    }
}

#[async_trait]
impl Starter for EcsTasks {
    async fn started(&self) -> Result<Started, StoreError> {
        let now = Timestamp::now();
        let mut started = Started::default();
        for task in &self.tasks().await? {
            match life(task) {
                Life::Starting => {
                    started.starting += 1;
                    started.waiting_long += u32::from(has_waited_long(task, now));
                }
                Life::Running => started.running += 1,
                Life::Ending => {}
            }
        }
        Ok(started)
    }

    async fn start(&self, n: u32) -> Result<u32, StoreError> {
        let EcsSettings { cluster, task_definition, capacity_provider, subnets, security_groups, .. } = &self.settings;
        let mut run = self
            .client
            .run_task()
            .cluster(cluster)
            .task_definition(task_definition)
            .count(i32::try_from(n.min(TASKS_A_CALL)).unwrap_or(1))
            .started_by(&self.started_by);
        let rejected = |e: aws_sdk_ecs::error::BuildError| StoreError::Rejected(e.into());
        run = match capacity_provider {
            Some(name) => {
                let strategy = CapacityProviderStrategyItem::builder().capacity_provider(name).weight(1);
                run.capacity_provider_strategy(strategy.build().map_err(rejected)?)
            }
            None => run.launch_type(LaunchType::Ec2),
        };
        if !subnets.is_empty() {
            let network = AwsVpcConfiguration::builder()
                .set_subnets(Some(subnets.clone()))
                .set_security_groups((!security_groups.is_empty()).then(|| security_groups.clone()))
                .build()
                .map_err(rejected)?;
            run = run.network_configuration(NetworkConfiguration::builder().awsvpc_configuration(network).build());
        }
        let answer = run.send().await.map_err(|e| classify(e, Effect::Change).error)?;
        let started = u32::try_from(answer.tasks().len()).unwrap_or(u32::MAX);
        if started == 0 { Err(not_started(answer.failures())) } else { Ok(started) }
    }

    async fn take_back(&self) -> Result<u32, StoreError> {
        self.stop(|task| life(task) == Life::Starting, "more workers than work").await
    }

    async fn end(&self) -> Result<(), StoreError> {
        self.stop(|_| true, "workers without work").await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn only_a_lack_of_room_is_worth_another_try() {
        let said = |reasons: &[&str]| {
            let failure = |reason: &&str| Failure::builder().reason(*reason).build();
            not_started(&reasons.iter().map(failure).collect::<Vec<_>>())
        };
        for reasons in [&["RESOURCE:GPU"][..], &["RESOURCE:MEMORY", "RESOURCE:GPU"], &["AGENT"]] {
            assert!(matches!(said(reasons), StoreError::Throttled(_)), "{reasons:?}");
        }
        for reasons in [&["MISSING"][..], &["ATTRIBUTE"], &["RESOURCE:GPU", "INACTIVE"], &["something new"]] {
            assert!(matches!(said(reasons), StoreError::Rejected(_)), "{reasons:?}");
        }
        assert!(matches!(said(&[]), StoreError::Unavailable(_)));
    }

    #[test]
    fn a_stacks_tasks_carry_its_name_in_the_letters_that_ecs_allows() {
        let of = |stack: &str| started_by(&Names::of_stack(stack, String::new(), String::new()));
        assert_eq!(of("rotoless-prod"), "rotoless-prod");
        assert_eq!(of("a.b"), "a-b");
        assert_eq!(of(&"x".repeat(300)).len(), 128);
    }
}

//! Every use case, each of its calls failed once before and once after it did its work: whoever called asks again,
//! the world goes on, and ends as it does without a fault.

use std::sync::Arc;

use rotoless_contract::api::JobRequest;
use rotoless_contract::job::EventState;
use rotoless_contract::worker::{ClaimReply, FailureReason, ReportRequest};
use rotoless_contract::{JobId, JobStatus, MilliCredits};
use rotoless_core::lifecycle::Phase;
use rotoless_core::usecase::{CallError, CancelError, DeleteError, Replay, ReplayError, SubmitError};

use super::faults::work;
use super::receiver::{Receiver, status};
use super::store::When;
use super::world::World;

const DAY: i64 = 24 * 3600;

/// A use case, and the state of the job that it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    CreateDraft,
    StartDraft,
    StartFailed,
    CancelPending,
    CancelProcessing,
    DeleteDraft,
    DeletePending,
    DeleteProcessing,
    DeleteCompleted,
    Claim,
    ClaimAdopts,
    ClaimGivesUp,
    ProbedMore,
    ProbedLess,
    ProbedTooMuch,
    Heartbeat,
    ReportCompleted,
    ReportMayPass,
    ReportLastFailure,
    ReportFinal,
    ReportAbandoned,
    SweepResends,
    SweepLapses,
    SweepAdopts,
    SweepGivesUp,
    SweepExpires,
    SweepErases,
    Deliver,
    ReplayEvent,
}

impl Act {
    const ALL: [Self; 30] = [
        Self::Create,
        Self::CreateDraft,
        Self::StartDraft,
        Self::StartFailed,
        Self::CancelPending,
        Self::CancelProcessing,
        Self::DeleteDraft,
        Self::DeletePending,
        Self::DeleteProcessing,
        Self::DeleteCompleted,
        Self::Claim,
        Self::ClaimAdopts,
        Self::ClaimGivesUp,
        Self::ProbedMore,
        Self::ProbedLess,
        Self::ProbedTooMuch,
        Self::Heartbeat,
        Self::ReportCompleted,
        Self::ReportMayPass,
        Self::ReportLastFailure,
        Self::ReportFinal,
        Self::ReportAbandoned,
        Self::SweepResends,
        Self::SweepLapses,
        Self::SweepAdopts,
        Self::SweepGivesUp,
        Self::SweepExpires,
        Self::SweepErases,
        Self::Deliver,
        Self::ReplayEvent,
    ];
}

/// What a use case is done to.
struct Scene {
    world: World,
    id: Option<JobId>,
    claim: Option<ClaimReply>,
}

/// What the caller knows after one call.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It is done, or was.
    Done,
    /// It cannot be done.
    Refused,
    /// Nothing: the caller asks again.
    Nothing,
}

/// How a world ended.
#[derive(Debug, PartialEq, Eq)]
struct Ending {
    jobs: Vec<(JobStatus, Option<FailureReason>, bool)>,
    used: MilliCredits,
    held: MilliCredits,
    /// Events that were sent, without those that a deletion overtook.
    events: Vec<(u32, String, EventState)>,
}

fn draft(world: &World) -> JobRequest {
    JobRequest { auto_start: Some(false), ..world.request() }
}

fn failed(reason: FailureReason) -> ReportRequest {
    ReportRequest::Failed { reason, detail: String::new() }
}

impl Scene {
    async fn new(act: Act) -> Self {
        let world = World::new();
        let mut scene = Self { world, id: None, claim: None };
        let world = &scene.world;
        match act {
            Act::Create | Act::CreateDraft => return scene,
            Act::StartDraft | Act::DeleteDraft => {
                let request = draft(world);
                scene.id = Some(world.submit().create(&world.client, &request, None, None).await.unwrap().job.id);
                return scene;
            }
            _ => {}
        }
        let id = world.created().await;
        scene.id = Some(id.clone());
        match act {
            Act::CancelPending | Act::DeletePending | Act::Claim => return scene,
            Act::SweepResends => world.pass(600),
            Act::SweepExpires => world.pass(DAY),
            Act::ClaimGivesUp | Act::SweepGivesUp | Act::ReportLastFailure => {
                for _ in 0..2 {
                    world.claimed(&id).await;
                    world.pass_lease();
                    world.sweep().await;
                }
            }
            _ => {}
        }
        if matches!(act, Act::SweepResends | Act::SweepExpires) {
            return scene;
        }
        let claim = world.claimed(&id).await;
        match act {
            Act::ClaimAdopts | Act::SweepAdopts => {
                world.finish_work(&claim);
                world.pass_lease();
            }
            Act::ClaimGivesUp | Act::SweepGivesUp | Act::SweepLapses => world.pass_lease(),
            Act::StartFailed => {
                world.report(&claim, &failed(FailureReason::InvalidMedia)).await.unwrap();
                world.pass(1);
            }
            Act::DeleteCompleted | Act::Deliver | Act::ReplayEvent | Act::SweepErases => {
                let digest = world.finish_work(&claim);
                world.report_completed(&claim, &digest).await.unwrap();
            }
            _ => {}
        }
        if act == Act::ReplayEvent {
            world.deliver(Arc::new(Receiver::new(world, [], status(410)))).tick().await.unwrap();
        }
        if act == Act::SweepErases {
            world.down(super::store::Call::DeletePrefix);
            world.deleter().delete(&world.client, &id).await.unwrap();
            world.all_up();
            world.pass(1);
        }
        scene.claim = Some(claim);
        scene
    }

    fn id(&self) -> &JobId {
        self.id.as_ref().unwrap()
    }

    async fn act(&mut self, act: Act) -> Told {
        let world = self.world.clone();
        match act {
            Act::Create | Act::CreateDraft | Act::StartDraft | Act::StartFailed => self.submit(act).await,
            Act::CancelPending | Act::CancelProcessing => {
                match world.canceller().cancel(&world.client, self.id()).await {
                    Ok(_) => Told::Done,
                    Err(CancelError::UnknownJob | CancelError::Completed) => Told::Refused,
                    Err(CancelError::Store(_) | CancelError::Contention) => Told::Nothing,
                }
            }
            Act::DeleteDraft | Act::DeletePending | Act::DeleteProcessing | Act::DeleteCompleted => {
                match world.deleter().delete(&world.client, self.id()).await {
                    Ok(()) => Told::Done,
                    Err(DeleteError::UnknownJob) => Told::Refused,
                    Err(DeleteError::Store(_) | DeleteError::Contention) => Told::Nothing,
                }
            }
            Act::SweepResends
            | Act::SweepLapses
            | Act::SweepAdopts
            | Act::SweepGivesUp
            | Act::SweepExpires
            | Act::SweepErases => world.sweeper().tick().await.map_or(Told::Nothing, |_| Told::Done),
            Act::Deliver => {
                let receiver = Arc::new(Receiver::new(&world, [], status(200)));
                world.deliver(receiver).tick().await.map_or(Told::Nothing, |_| Told::Done)
            }
            Act::ReplayEvent => {
                let event = world.events(self.id())[1].id.clone();
                match world.replayer().replay(&world.client, self.id(), &event).await {
                    Ok(_) => Told::Done,
                    Err(ReplayError::UnknownJob | ReplayError::UnknownDelivery) => Told::Refused,
                    Err(ReplayError::Store(_) | ReplayError::Contention) => Told::Nothing,
                }
            }
            _ => self.call_of_worker(act).await,
        }
    }

    async fn submit(&mut self, act: Act) -> Told {
        let world = self.world.clone();
        let done = match act {
            Act::Create => world.create_with("k", "d").await.map(|created| created.job),
            Act::CreateDraft => {
                let promise = rotoless_core::usecase::IdempotencyKey { key: "k".to_owned(), digest: "d".to_owned() };
                let created = world.submit().create(&world.client, &draft(&world), Some(&promise), None).await;
                created.map(|created| created.job)
            }
            _ => world.submit().start(&world.client, self.id(), &JobRequest::default()).await,
        };
        match done {
            Ok(job) => {
                self.id = Some(job.id);
                Told::Done
            }
            Err(SubmitError::Store(_) | SubmitError::Contention) => Told::Nothing,
            Err(_) => Told::Refused,
        }
    }

    async fn call_of_worker(&self, act: Act) -> Told {
        let world = &self.world;
        let result = match (act, &self.claim) {
            (Act::Claim | Act::ClaimAdopts | Act::ClaimGivesUp, _) => world.try_claim(self.id()).await.map(drop),
            (Act::ProbedMore, Some(claim)) => world.probed(claim, 10_000).await.map(drop),
            (Act::ProbedLess, Some(claim)) => world.probed(claim, 3000).await.map(drop),
            (Act::ProbedTooMuch, Some(claim)) => world.probed(claim, 1_800_000).await.map(drop),
            (Act::Heartbeat, Some(claim)) => world.heartbeat(claim, 45, 90).await.map(drop),
            (Act::ReportCompleted, Some(claim)) => {
                let digest = world.finish_work(claim);
                world.report_completed(claim, &digest).await.map(drop)
            }
            (Act::ReportMayPass | Act::ReportLastFailure, Some(claim)) => {
                world.report(claim, &failed(FailureReason::InternalError)).await.map(drop)
            }
            (Act::ReportFinal, Some(claim)) => {
                world.report(claim, &failed(FailureReason::InvalidMedia)).await.map(drop)
            }
            (Act::ReportAbandoned, Some(claim)) => {
                world.report(claim, &ReportRequest::Abandoned { detail: String::new() }).await.map(drop)
            }
            other => panic!("{other:?}"),
        };
        match result {
            Ok(()) => Told::Done,
            Err(CallError::Store(_) | CallError::Contention) => Told::Nothing,
            Err(_) => Told::Refused,
        }
    }

    /// Sweeps, workers and webhooks go on until nothing is left to do.
    async fn go_on(&self) {
        let world = &self.world;
        let receiver = Arc::new(Receiver::new(world, [], status(200)));
        for _minute in 0..240 {
            world.pass(60);
            world.sweep().await;
            let ids: Vec<JobId> = world.store.tables().jobs.keys().cloned().collect();
            for id in &ids {
                work(world, id).await;
            }
            world.deliver(receiver.clone()).tick().await.unwrap();
            let tables = world.store.tables();
            let waits = tables.jobs.values().any(|job| job.due_at.is_some() && job.state.phase != Phase::Draft);
            if !waits && tables.deliveries.values().all(|event| event.due_at.is_none()) {
                return;
            }
        }
        panic!("there is always something left to do");
    }

    fn ending(&self) -> Ending {
        let world = &self.world;
        let ids: Vec<JobId> = world.store.tables().jobs.keys().cloned().collect();
        let mut ending =
            Ending { jobs: Vec::new(), used: world.balance().used, held: world.balance().held, events: Vec::new() };
        for id in &ids {
            let job = world.job(id);
            let reason = match job.state.phase {
                Phase::Failed { reason } => Some(reason),
                _ => None,
            };
            ending.jobs.push((job.state.status(), reason, job.deletion.is_some()));
            let left = world.store.tables().objects.keys().any(|key| key.starts_with(&format!("outputs/{id}/")));
            assert!(job.deletion.is_none() || !left, "media of a deleted job");
            let events = world.events(id);
            ending.events.extend(events.into_iter().map(|e| (e.sequence, e.event.as_str().to_owned(), e.state)));
        }
        ending
    }
}

impl World {
    fn replayer(&self) -> Replay {
        Replay {
            jobs: self.store.clone(),
            deliveries: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
        }
    }
}

/// The act with the call number `nth` failing, asked for until it is answered. The ending, and whether the call
/// came to pass.
async fn ends(act: Act, nth: Option<(usize, When)>) -> (Ending, Told, bool) {
    let mut scene = Scene::new(act).await;
    let before = scene.world.store.tables().calls.len();
    if let Some((nth, when)) = nth {
        scene.world.fail_call(nth, when);
    }
    let mut told = scene.act(act).await;
    for _ in 0..3 {
        if told == Told::Nothing {
            told = scene.act(act).await;
        }
    }
    let made = scene.world.store.tables().calls.len() - before;
    scene.world.store.tables().faults.clear();
    scene.go_on().await;
    (scene.ending(), told, nth.is_some_and(|(nth, _)| nth < made))
}

/// G-01, G-03, G-05, G-06, G-08, G-09, G-11, G-12, G-14, G-21, G-41, TS-3, TW-11, P0–P3, K1, K4–K7, D0–D2.
#[tokio::test]
async fn one_fault_at_any_call_of_any_use_case_changes_nothing_but_the_time() {
    let mut longest = 0;
    for act in Act::ALL {
        let (expected, answer, _) = ends(act, None).await;
        // Who lost the answer learns on asking again that the job is deleted, or leased.
        let is_once = matches!(
            act,
            Act::DeleteDraft | Act::DeletePending | Act::DeleteProcessing | Act::DeleteCompleted | Act::Claim
        );
        for when in [When::Before, When::After] {
            for nth in 0.. {
                let (ending, told, came) = ends(act, Some((nth, when))).await;
                assert_eq!(ending, expected, "{act:?}: call {nth} failed {when:?}");
                let answered = told == answer || is_once && told == Told::Refused && when == When::After;
                assert!(answered, "{act:?}: call {nth} failed {when:?}, and the caller was told {told:?}");
                if !came {
                    assert!(nth > 0, "{act:?} makes no call");
                    longest = longest.max(nth);
                    break;
                }
            }
        }
    }
    assert!(longest > 8, "the longest use case makes {longest} calls");
}

/// The loop above can tell endings apart: each act leads where it should.
#[tokio::test]
async fn without_a_fault_each_use_case_ends_as_it_should() {
    for act in Act::ALL {
        let (ending, told, _) = ends(act, None).await;
        let expected = match act {
            Act::CreateDraft => (JobStatus::Created, None, false),
            Act::CancelPending | Act::CancelProcessing => (JobStatus::Failed, Some(FailureReason::Cancelled), false),
            Act::DeleteDraft | Act::DeletePending | Act::DeleteProcessing => {
                (JobStatus::Failed, Some(FailureReason::Cancelled), true)
            }
            Act::DeleteCompleted | Act::SweepErases => (JobStatus::Completed, None, true),
            Act::ClaimGivesUp | Act::SweepGivesUp => (JobStatus::Failed, Some(FailureReason::WorkerLost), false),
            Act::ProbedTooMuch => (JobStatus::Failed, Some(FailureReason::InsufficientCredits), false),
            Act::ReportFinal => (JobStatus::Failed, Some(FailureReason::InvalidMedia), false),
            Act::ReportLastFailure => (JobStatus::Failed, Some(FailureReason::InternalError), false),
            Act::SweepExpires => (JobStatus::Failed, Some(FailureReason::Expired), false),
            _ => (JobStatus::Completed, None, false),
        };
        assert_eq!(ending.jobs, [expected], "{act:?}");
        assert_eq!(ending.held, MilliCredits(0), "{act:?}");
        let paid = expected.0 == JobStatus::Completed;
        assert_eq!(ending.used, if paid { super::world::PRICE } else { MilliCredits(0) }, "{act:?}");
        let refused = matches!(act, Act::ClaimAdopts | Act::ClaimGivesUp | Act::ProbedTooMuch);
        assert_eq!(told, if refused { Told::Refused } else { Told::Done }, "{act:?}");
    }
}

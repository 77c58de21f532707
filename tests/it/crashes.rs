//! Processes die and are interrupted, jobs do not: each ends once and is paid once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rotoless_contract::worker::Stage;
use rotoless_contract::{Job, JobStatus};

use crate::world::client::Client;
use crate::world::fleet::short_leases;
use crate::world::media::Clip;
use crate::world::{Options, World, in_a_world, processes};

/// Long enough that a kill finds it in the middle.
const LONG: Clip = Clip { width: 640, height: 360, fps: 25, seconds: 20 };
/// For the whole of `LONG`, on a machine that is busy with other tests.
const JOB: Duration = Duration::from_secs(400);
/// A killed worker leaves nobody to tell its tools.
const VANISH: Duration = Duration::from_secs(10);

async fn half_way(world: &mut World) -> (Client, String) {
    let client = world.client("acme", 100.0).await;
    let id = client.order(&client.upload(&LONG.make(world.scratch())).await).await;
    let job = client.wait(&id, JOB, |job| job.progress >= 20).await;
    assert!(job.progress <= 80, "too quick to be killed half way: {}", job.progress);
    (client, id)
}

/// Twenty seconds of `light`, once.
async fn paid_once(client: &Client) {
    assert_eq!(client.milli_credits().await, [100_000 - 15_000, 0, 15_000]);
}

/// TW-1, K2: `kill -9` in the middle of the inference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_worker_job_completes_once_and_charges_once() {
    in_a_world(Options { args: short_leases(), ..Options::default() }, async |world| {
        let (client, id) = half_way(world).await;
        let worker = world.worker().await;
        let tools = processes::tools_of(world.session());
        assert!(!tools.is_empty(), "a worker that mattes runs media tools");
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        let left = || processes::tools_of(world.session()).iter().any(|tool| tools.iter().any(|old| old.id == tool.id));
        processes::eventually("the end of the dead worker's tools", VANISH, || (!left()).then_some(())).await;

        let job = client.completed(&id, JOB).await;
        assert_eq!(job.attempts, 2);
        assert_ne!(world.worker().await, worker);
        paid_once(&client).await;
    })
    .await;
}

/// TO-6: `kill -9` of everything that can be asked anything; the rest must notice by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_service_job_completes_once_after_restart() {
    in_a_world(Options { args: short_leases(), ..Options::default() }, async |world| {
        let (client, id) = half_way(world).await;
        world.kill_service(VANISH).await;
        world.up().await;
        let before = client.job(&id).await;
        assert!(!before.status.is_terminal() && before.progress >= 20, "{before:?}");
        let job = client.completed(&id, JOB).await;
        assert_eq!(job.attempts, 2);
        paid_once(&client).await;
    })
    .await;
}

/// TW-12: Ctrl-C. A job whose end is not near is handed back, and that is no failure of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_drains_and_the_interrupted_job_completes_after_the_next_start() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 100.0).await;
        let id = client.order(&client.upload(&LONG.make(world.scratch())).await).await;
        client.wait(&id, JOB, |job| job.status == JobStatus::Processing).await;
        let (status, took) = world.interrupt().await;
        assert!(status.success() && took < Duration::from_secs(40), "{status} after {took:?}");
        assert!(!world.data_dir().join("service.json").exists());
        world.up().await;
        let job = client.completed(&id, JOB).await;
        // Handed back, or finished within the drain where the machine is quick.
        assert!(job.attempts <= 2, "{job:?}");
        paid_once(&client).await;
    })
    .await;
}

/// TW-11, G-14: the worker stops within 10 s and is free for the next job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_stops_its_worker_within_ten_seconds_and_gives_its_hold_back() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 100.0).await;
        let id = client.order(&client.upload(&LONG.make(world.scratch())).await).await;
        let at_work = |job: &Job| job.stage == Some(Stage::Matte);
        client.wait(&id, JOB, at_work).await;
        let cancelled = client.cancel(&id).await.ok();
        assert_eq!((&cancelled["status"], &cancelled["error_code"]), (&"failed".into(), &"cancelled".into()));
        let idle = || processes::tools_of(world.session()).is_empty().then_some(());
        processes::eventually("an idle worker", Duration::from_secs(10), idle).await;
        assert_eq!(client.milli_credits().await, [100_000, 0, 0]);
        let again = client.cancel(&id).await.ok();
        assert_eq!((&again["status"], &again["error_code"]), (&"failed".into(), &"cancelled".into()));

        let next = client.order(&client.upload(&Clip::SMALL.make(world.scratch())).await).await;
        client.completed(&next, JOB).await;
        let job = client.job(&id).await;
        assert_eq!((job.status, job.output_url, job.attempts), (JobStatus::Failed, None, 1));
    })
    .await;
}

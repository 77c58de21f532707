//! Workers die, are stopped, sleep and are sent away in the middle of their work; the jobs notice nothing but the time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nix::sys::signal::Signal;
use rotoless_contract::worker::Stage;
use rotoless_contract::{Job, JobStatus, Model};
use serde_json::json;

use super::cloud::{Cloud, JOB, SILENCE, brisk, in_a_cloud, paid};
use super::platform::{End, Settings, Status, WakeFate, WorkerId};
use crate::world::client::Client;
use crate::world::media::Clip;
use crate::world::{Options, World, models, processes};

/// Long enough to be found in the middle of its inference.
const LONG: Clip = Clip { width: 640, height: 360, fps: 25, seconds: 6 };
/// Leases here last 6 s.
const LEASE: Duration = Duration::from_secs(6);
/// A job in the middle of its inference, and who has it.
async fn caught(world: &World, cloud: &Cloud, client: &Client) -> (String, WorkerId) {
    let url = client.upload(&LONG.make(world.scratch())).await;
    let job = client.order(&url).await;
    let worker = taken(cloud, client, &job).await;
    (job, worker)
}

/// Who has a job, in the middle of its inference.
async fn taken(cloud: &Cloud, client: &Client, job: &str) -> WorkerId {
    client.wait(job, JOB, |job: &Job| job.stage == Some(Stage::Matte)).await;
    cloud.hosts.at_work(JOB).await
}

fn ends(cloud: &Cloud) -> Vec<End> {
    cloud.platform(|platform, _| platform.witness.sessions.iter().filter_map(|session| session.end.clone()).collect())
}

/// TW-14: killed while it polls, and while it works; the endpoint believes for ever that both are at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_die_unnoticed_keep_no_job_from_the_next_one() {
    in_a_cloud(brisk(), Options::default(), async |world, cloud, client| {
        cloud.platform(|platform, _| platform.faults.phantoms = true);
        cloud.wake(json!({})).await;
        let polling = cloud.hosts.at_work(JOB).await;
        cloud.hosts.signal(polling, Signal::SIGKILL);
        processes::eventually("the phantom", JOB, || {
            cloud.platform(|platform, _| {
                (platform.up().is_empty() && platform.count(Status::InProgress) == 1).then_some(())
            })
        })
        .await;
        let (job, working) = caught(world, cloud, client).await;
        cloud.hosts.signal(working, Signal::SIGKILL);
        assert_eq!(client.completed(&job, JOB).await.attempts, 2);
        cloud.hosts.nobody_runs(SILENCE).await;
        assert_eq!(cloud.platform(|platform, _| platform.count(Status::InProgress)), 2);
        paid(client, LONG.seconds.into()).await;
    })
    .await;
}

/// The endpoint ends a worker whose session lasts too long, in the poll and in the work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_ended_by_the_execution_timeout_loses_no_job() {
    in_a_cloud(brisk(), Options::default(), async |world, cloud, client| {
        cloud.wake(json!({"executionTimeout": 5000})).await;
        processes::eventually("the end of the poll", JOB, || ends(cloud).contains(&End::TimedOut).then_some(())).await;
        cloud.hosts.nobody_runs(SILENCE).await;

        // The service's own wake is lost; this one does not last for its job.
        cloud.platform(|platform, _| platform.faults.wakes.push_back(WakeFate::Lost));
        let url = client.upload(&LONG.make(world.scratch())).await;
        let job = client.order(&url).await;
        cloud.wake(json!({"executionTimeout": 8000})).await;
        let worker = taken(cloud, client, &job).await;
        // It hangs.
        cloud.hosts.signal(worker, Signal::SIGSTOP);
        assert_eq!(client.completed(&job, JOB).await.attempts, 2);
        processes::eventually("the end of the work", JOB, || {
            (ends(cloud).iter().filter(|end| **end == End::TimedOut).count() == 2).then_some(())
        })
        .await;
        paid(client, LONG.seconds.into()).await;
    })
    .await;
}

/// TW-13: stopped in the middle of its work until another one has done it, then continued.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_sleeps_past_its_lease_is_refused_and_takes_the_next_job() {
    // Alone it would be woken for nothing: the other one must come although the endpoint counts one at work.
    let settings = Settings { workers_max: 2, ..brisk() };
    in_a_cloud(settings, Options::default(), async |world, cloud, client| {
        let (job, sleeper) = caught(world, cloud, client).await;
        cloud.hosts.signal(sleeper, Signal::SIGSTOP);
        tokio::time::sleep(LEASE).await;
        assert_eq!(client.completed(&job, JOB).await.attempts, 2);
        // The other one is gone: who takes the next job can only be the one that slept.
        processes::eventually("the other one's rest", JOB, || {
            cloud.platform(|platform, _| (platform.up() == [sleeper]).then_some(()))
        })
        .await;
        let process = cloud.hosts.process(sleeper);
        cloud.platform(|platform, now| platform.set_workers_max(now, 1));
        cloud.hosts.signal(sleeper, Signal::SIGCONT);
        let next = cloud.order(client).await;
        assert_eq!(client.completed(&next, JOB).await.attempts, 1);
        assert_eq!(cloud.hosts.process(sleeper), process);
        paid(client, u64::from(LONG.seconds) + 1).await;
    })
    .await;
}

/// TW-12: its host is wanted for something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_host_is_taken_away_gives_its_job_back_and_ends_well() {
    in_a_cloud(brisk(), Options::default(), async |world, cloud, client| {
        let (job, worker) = caught(world, cloud, client).await;
        cloud.hosts.take_away(worker);
        let job = client.completed(&job, JOB).await;
        assert!(job.attempts <= 2, "{job:?}");
        paid(client, LONG.seconds.into()).await;
    })
    .await;
}

/// A caller stops a session: its worker drops the job, says nothing of it, and lives on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_cancelled_at_the_endpoint_gives_its_job_to_the_next_one() {
    in_a_cloud(brisk(), Options::default(), async |world, cloud, client| {
        let (job, worker) = caught(world, cloud, client).await;
        let process = cloud.hosts.process(worker);
        cloud.platform(|platform, now| {
            let request = platform.at_work()[&worker].first().cloned().unwrap();
            platform.cancel(now, &request).unwrap();
        });
        let done = client.completed(&job, JOB).await;
        assert!(done.attempts == 2, "{done:?}");
        assert_eq!(cloud.hosts.process(worker), process);
        paid(client, LONG.seconds.into()).await;
    })
    .await;
}

/// TW-20: all attempts of a run fall asleep, the job fails, and is started again with another model; then they wake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_a_failed_run_that_wake_in_the_next_one_change_nothing_of_it() {
    const ATTEMPTS: usize = 3;
    let settings = Settings { workers_max: 4, ..brisk() };
    let scratch = tempfile::tempdir().unwrap();
    let both = scratch.path().join("models");
    models::install_two_free_models(&both);
    let options = Options { models: Some(both), ..Options::default() };
    in_a_cloud(settings, options, async |world, cloud, client| {
        let url = client.upload(&LONG.make(world.scratch())).await;
        let job = client.order(&url).await;
        let mut asleep: Vec<WorkerId> = Vec::new();
        for attempt in 1..=ATTEMPTS {
            client
                .wait(&job, JOB, |job: &Job| job.attempts as usize == attempt && job.stage == Some(Stage::Matte))
                .await;
            let at_work: Vec<WorkerId> = cloud.platform(|platform, _| platform.at_work().into_keys().collect());
            let awake: Vec<WorkerId> = at_work.into_iter().filter(|worker| !asleep.contains(worker)).collect();
            awake.iter().for_each(|worker| cloud.hosts.signal(*worker, Signal::SIGSTOP));
            asleep.extend(awake);
        }
        client.wait(&job, JOB, |job: &Job| job.status == JobStatus::Failed).await;
        paid(client, 0).await;
        let again = json!({"model": "human"});
        client.post(&format!("/v1/jobs/{job}/start"), &again).await.ok();
        client.wait(&job, JOB, |job: &Job| job.stage == Some(Stage::Matte)).await;
        // In the middle of the new run the old one's workers go on where they were.
        asleep.iter().for_each(|worker| cloud.hosts.signal(*worker, Signal::SIGCONT));
        let done = client.completed(&job, JOB).await;
        assert_eq!((done.model, done.attempts as usize), (Model::Human, ATTEMPTS + 1), "{done:?}");
        let shown = serde_json::to_value(&done).unwrap();
        let charged = (shown["credits_charged"].as_f64().unwrap() * 1000.0) as u64;
        // The new run and nothing else was paid for, and nothing is held.
        let [_, held, used] = client.milli_credits().await;
        assert_eq!((held, used), (0, charged));
        assert!(charged > 0);
    })
    .await;
}

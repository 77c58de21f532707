//! From no worker to as many as there may be and back to none, with real workers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rotoless_contract::JobStatus;

use super::cloud::{Cloud, JOB, SILENCE, all_completed, brisk, in_a_cloud, paid};
use super::platform::{SECOND, Scaler, Settings};
use crate::world::Options;
use crate::world::client::Client;

/// Jobs, workers and how long it all may take.
struct Load {
    jobs: usize,
    workers: u32,
    limit: Duration,
}

/// From zero to `workers` and back to zero. What is billed is compared with the work.
async fn from_zero_to_zero(load: Load) {
    // The quicker one: it brings all that are allowed at once.
    let scaler = Scaler::RequestCount(1);
    let settings = Settings { workers_max: load.workers, scaler, ..brisk() };
    let idle = settings.idle_timeout;
    // So many workers on a small machine are late with their heartbeats.
    let options = Options { args: ["--lease-seconds", "30"].map(str::to_owned).into(), ..Options::default() };
    in_a_cloud(settings, options, async |_, cloud, client| {
        let began = Instant::now();
        assert!(cloud.platform(|platform, _| platform.up().is_empty()));
        let jobs = cloud.orders(client, load.jobs).await;
        for job in &jobs {
            let left = load.limit.saturating_sub(began.elapsed());
            assert_eq!(client.completed(job, left).await.attempts, 1);
        }
        let worked = began.elapsed();
        cloud.hosts.nobody_runs(SILENCE).await;
        let silence = began.elapsed() - worked;
        paid(client, load.jobs as u64).await;
        report(cloud, &load, idle, worked, silence);
    })
    .await;
}

fn report(cloud: &Cloud, load: &Load, idle: u64, worked: Duration, silence: Duration) {
    cloud.platform(|platform, now| {
        let witness = &platform.witness;
        let (handled, empty) = witness.handled();
        let workers: BTreeSet<_> = witness.bill.iter().map(|span| span.worker).collect();
        let (billed, in_sessions) = (witness.seconds_billed(now), witness.time_in_sessions() / SECOND);
        let share = |seconds: u64| seconds as f64 / billed as f64;
        let useful = witness.time_of_handled() / SECOND;
        eprintln!(
            "{} jobs in {worked:.1?}, at {} workers of {}, {silence:.1?} of silence; {billed} s billed in {} spans, \
             {in_sessions} s in sessions ({:.2}), {useful} s in those with a message ({:.2}); {handled} with a message, \
             {empty} without; {} pings",
            load.jobs,
            workers.len(),
            load.workers,
            witness.bill.len(),
            share(in_sessions),
            share(useful),
            witness.pings,
        );
        assert_eq!(handled, load.jobs, "a session a message, a message a session");
        assert_eq!(workers.len(), load.workers as usize);
        // Beside its sessions a worker starts and takes while others wait, and rests for at most the idle timeout.
        let (parted, spans) = (witness.parted / SECOND, witness.bill.len() as u64);
        let rests = spans * (idle / SECOND + 3);
        let most = in_sessions + parted + rests + load.jobs as u64 / 2;
        assert!(billed <= most, "{billed} s billed, {in_sessions} s in sessions, {parted} s parted");
    });
}

/// TW-16, G-17, I-8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_jobs_bring_three_workers_from_nothing_and_leave_none() {
    from_zero_to_zero(Load { jobs: 20, workers: 3, limit: JOB }).await;
}

/// `make test-runpod`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes of work"]
async fn two_hundred_jobs_bring_eight_workers_from_nothing_and_leave_none() {
    from_zero_to_zero(Load { jobs: 200, workers: 8, limit: Duration::from_secs(1800) }).await;
}

/// TW-13: FlashBoot puts an idle worker to sleep in the middle of a take and wakes it for the next request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_slept_in_a_take_serves_the_request_that_woke_it() {
    in_a_cloud(brisk(), Options::default(), async |_, cloud, client| {
        let first = cloud.order(client).await;
        client.completed(&first, JOB).await;
        let worker = cloud.platform(|platform, _| platform.witness.sessions[0].worker);
        cloud.hosts.nobody_runs(SILENCE).await;
        let process = cloud.hosts.process(worker);
        // Long enough for it to be noticed by either clock, and for every lease and visibility to be over.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let second = cloud.order(client).await;
        assert_eq!(client.completed(&second, JOB).await.attempts, 1);
        assert_eq!(cloud.hosts.process(worker), process, "the same process went on");
        let workers: BTreeSet<_> =
            cloud.platform(|platform, _| platform.witness.sessions.iter().map(|session| session.worker).collect());
        assert_eq!(workers, BTreeSet::from([worker]));
        paid(client, 2).await;
    })
    .await;
}

/// TW-16: without FlashBoot, an idle worker ends when it is asked to, and leaves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_ends_at_once_when_it_is_asked_to() {
    let settings = Settings { flashboot: false, ..brisk() };
    in_a_cloud(settings, Options::default(), async |_, cloud, client| {
        for _ in 0..2 {
            let job = cloud.order(client).await;
            client.completed(&job, JOB).await;
            cloud.hosts.nobody_runs(SILENCE).await;
        }
        // Each by a process of its own, and perhaps one for a wake that a look posted too many.
        assert!(cloud.hosts.starts() >= 2);
    })
    .await;
}

/// TW-15
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_wait_while_no_worker_may_start_and_are_done_when_one_may() {
    in_a_cloud(brisk(), Options::default(), async |_, cloud, client| {
        cloud.platform(|platform, _| platform.faults.throttled = true);
        let jobs = cloud.orders(client, 2).await;
        still_pending(client, &jobs).await;
        assert_eq!(cloud.platform(|platform, now| platform.health(now)["workers"]["throttled"].clone()), 2);
        cloud.platform(|platform, _| platform.faults.throttled = false);
        all_completed(client, &jobs).await;
        cloud.hosts.nobody_runs(SILENCE).await;

        cloud.set_workers_max(0).await;
        let jobs = cloud.orders(client, 2).await;
        still_pending(client, &jobs).await;
        assert!(cloud.platform(|platform, _| platform.up().is_empty()));
        cloud.set_workers_max(2).await;
        all_completed(client, &jobs).await;
        paid(client, 4).await;
    })
    .await;
}

async fn still_pending(client: &Client, jobs: &[String]) {
    tokio::time::sleep(Duration::from_secs(3)).await;
    for job in jobs {
        assert_eq!(client.job(job).await.status, JobStatus::Pending);
    }
}

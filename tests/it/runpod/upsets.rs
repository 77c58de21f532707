//! Whatever happens to wakes and calls, real workers do each job once, and it is paid once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::cloud::{JOB, all_completed, brisk, in_a_cloud, paid};
use super::platform::{Platform, Route, SECOND, Settings, Trouble, WakeFate};
use crate::world::{Options, processes};

/// TW-14
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_that_is_lost_doubled_delayed_or_purged_costs_a_job_nothing_but_time() {
    in_a_cloud(brisk(), Options::default(), async |_, cloud, client| {
        let fates = [
            WakeFate::Lost,
            WakeFate::Doubled,
            WakeFate::Held { lasts: 8 * SECOND, counted: true },
            WakeFate::Held { lasts: 8 * SECOND, counted: false },
        ];
        let mut jobs = Vec::new();
        for fate in fates {
            cloud.platform(|platform, _| platform.faults.wakes.push_back(fate));
            jobs.push(cloud.order(client).await);
            assert_eq!(client.completed(jobs.last().unwrap(), JOB).await.attempts, 1, "{fate:?}");
        }
        // Nobody has taken it yet: a worker needs longer than that to come.
        jobs.push(cloud.order(client).await);
        cloud.platform(|platform, now| platform.purge(now)).unwrap();
        jobs.push(cloud.order(client).await);
        all_completed(client, &jobs).await;
        assert!(!cloud.platform(|platform, _| platform.faults.unmet()));
        paid(client, jobs.len() as u64).await;
    })
    .await;
}

/// TW-14: whoever died is believed to be at work for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phantoms_in_progress_keep_no_job_from_a_worker() {
    in_a_cloud(brisk(), Options::default(), async |_, cloud, client| {
        (0..3).for_each(|_| cloud.platform(Platform::haunt));
        cloud.platform(|platform, _| platform.faults.wakes.push_back(WakeFate::Lost));
        let job = cloud.order(client).await;
        assert_eq!(client.completed(&job, JOB).await.attempts, 1);
        paid(client, 1).await;
    })
    .await;
}

/// TW-14: the endpoint's callers meet refusals and silence for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_done_soon_after_the_endpoint_answers_its_callers_again() {
    in_a_cloud(brisk(), Options::default(), async |_, cloud, client| {
        let mut jobs = Vec::new();
        for trouble in [Trouble::Refuse(429), Trouble::Refuse(500), Trouble::Hang, Trouble::Deny(502)] {
            cloud.platform(|platform, _| {
                platform.faults.trouble(Route::Run, trouble, 2);
                platform.faults.trouble(Route::Health, trouble, 1);
                platform.faults.trouble(Route::Management, trouble, 1);
            });
            jobs.push(cloud.order(client).await);
            assert_eq!(client.completed(jobs.last().unwrap(), JOB).await.attempts, 1, "{trouble:?}");
        }
        paid(client, jobs.len() as u64).await;
    })
    .await;
}

/// TW-14, and that what a worker is told of its calls' fate costs no job anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_meet_refusals_and_silence_do_each_job_once() {
    let settings = Settings { workers_max: 2, init_timeout: 20 * SECOND, ..brisk() };
    in_a_cloud(settings, Options::default(), async |_, cloud, client| {
        cloud.platform(|platform, _| {
            for trouble in [Trouble::Refuse(500), Trouble::Refuse(429), Trouble::Deny(503)] {
                platform.faults.trouble(Route::Take, trouble, 1);
            }
            for trouble in [Trouble::Refuse(500), Trouble::Deny(502), Trouble::Refuse(429)] {
                platform.faults.trouble(Route::Done, trouble, 1);
            }
            for trouble in [Trouble::Refuse(503), Trouble::Hang, Trouble::Refuse(404)] {
                platform.faults.trouble(Route::Ping, trouble, 1);
            }
        });
        let jobs = cloud.orders(client, 4).await;
        for job in all_completed(client, &jobs).await {
            assert_eq!(job.attempts, 1);
        }
        processes::eventually("every fault", JOB, || {
            cloud.platform(|platform, _| (!platform.faults.unmet()).then_some(()))
        })
        .await;
        paid(client, 4).await;
    })
    .await;
}

/// A worker whose take is never answered is as good as none: the endpoint replaces it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_take_hangs_is_replaced() {
    let settings = Settings { init_timeout: 15 * SECOND, ..brisk() };
    in_a_cloud(settings, Options::default(), async |_, cloud, client| {
        cloud.platform(|platform, _| platform.faults.trouble(Route::Take, Trouble::Hang, 1));
        let job = cloud.order(client).await;
        assert_eq!(client.completed(&job, JOB).await.attempts, 1);
        assert!(cloud.hosts.starts() >= 2);
    })
    .await;
}

/// TW-15 of a single host: its worker says so, ends, and another one does the job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_not_fit_says_so_and_takes_nothing() {
    in_a_cloud(brisk(), Options::default(), async |_, cloud, client| {
        // More free memory than any host has.
        cloud.hosts.set("RUNPOD_MIN_MEMORY_GB", "1000000");
        let job = cloud.order(client).await;
        let unfit = processes::eventually("word of it", Duration::from_secs(60), || {
            cloud.platform(|platform, _| platform.witness.unfit.first().cloned())
        })
        .await;
        assert!(unfit.1.contains("memory"), "{unfit:?}");
        assert_eq!(cloud.platform(|platform, _| platform.witness.sessions.len()), 0);
        cloud.hosts.set("RUNPOD_MIN_MEMORY_GB", "0");
        client.completed(&job, JOB).await;
    })
    .await;
}

//! Two versions of the functions serve together, as they do while one is being deployed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rotoless_contract::{Job, JobStatus};

use super::deployment::{Deployment, FUNCTIONS, Options, WORKER, schedule};
use super::runtime_api::Outcome;
use crate::world::client::Client;
use crate::world::media::Clip;

const JOBS: u64 = 20;
/// Of a job of `Clip::SMALL`.
const PRICE: u64 = 750;
const PATIENCE: Duration = Duration::from_secs(600);

/// TO-2: twenty jobs, every call of a function by turns to this version and to the one before; some workers are killed.
/// `make test-upgrade FROM=v1.2.3` builds the other version, which `ROTOLESS_BEFORE` names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the programs of another version: make test-upgrade"]
#[expect(clippy::disallowed_methods, reason = "told by the Makefile")]
async fn twenty_jobs_in_the_middle_of_a_deployment_complete_once_and_are_paid_once() {
    let before = PathBuf::from(std::env::var("ROTOLESS_BEFORE").expect("ROTOLESS_BEFORE: see make test-upgrade"));
    let options = Options { other_programs: Some(before), ..Options::default() };
    let deployment = Deployment::start_with(options).await;
    let client = deployment.client("acme", 100.0).await;
    let video_url = client.upload(&Clip::SMALL.make(deployment.scratch())).await;
    let mut ids = Vec::new();
    for _ in 0..JOBS {
        ids.push(client.order(&video_url).await);
    }
    work_off(&deployment, &client, &ids).await;
    for _ in 0..4 {
        deployment.function("DeliverFunction").invoke(&schedule()).await.answer();
        deployment.sweep().await;
    }
    assert_eq!(client.milli_credits().await, [100_000 - JOBS * PRICE, 0, JOBS * PRICE]);
    assert!(deployment.queue_is_empty().await);
    for (name, _) in FUNCTIONS.iter().filter(|(name, _)| *name != WORKER) {
        assert!(deployment.function(name).started() >= 2, "{name}: both versions served");
    }
}

/// Every seventh turn of the worker is killed at its beginning.
async fn work_off(deployment: &Deployment, client: &Client, ids: &[String]) {
    let deadline = Instant::now() + PATIENCE;
    let whole = deployment.function(WORKER).time;
    for turn in 0_u32.. {
        let mut open = 0;
        for id in ids {
            open += usize::from(!is_done(&client.job(id).await));
        }
        if open == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{open} jobs are open after {turn} turns");
        let time = if turn % 7 == 3 { Duration::from_millis(400) } else { whole };
        if let Some(polled) = deployment.poll_once(1, whole, time).await {
            assert!(!matches!(polled.outcome, Outcome::Failed(_)), "{polled:?}");
        }
        deployment.sweep().await;
    }
}

fn is_done(job: &Job) -> bool {
    assert!(job.status != JobStatus::Failed, "{job:?}");
    job.status == JobStatus::Completed
}

//! The worker as a Lambda function: SQS hands it messages, and takes it away after a while.

use std::path::Path;
use std::time::{Duration, Instant};

use rotoless_contract::worker::FailureReason;
use rotoless_contract::{Job, JobStatus};
use tempfile::TempDir;

use super::deployment::{Deployment, Options, WORKER};
use super::runtime_api::Outcome;
use crate::world::client::Client;
use crate::world::media::{self, Clip};
use crate::world::models;

/// Milli-credits of a second of `light`.
const SECOND: u64 = 750;
/// On a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(300);
/// Long enough that it takes several short turns.
const LONG: Clip = Clip { width: 640, height: 360, fps: 25, seconds: 16 };

async fn alpha_of(client: &Client, job: &Job, dir: &Path) -> Vec<u8> {
    let file = dir.join("output.webm");
    client.download(job, &file).await;
    media::alpha(&file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_through_a_deployment_without_any_machine_of_its_own() {
    let deployment = Deployment::start().await;
    let client = deployment.client("acme", 10.0).await;
    let clip = Clip::SMALL.make(deployment.scratch());
    let url = client.upload(&clip).await;
    let mut processes = Vec::new();
    // The second one in a process that was stopped between the two.
    for _ in 0..2 {
        let id = client.order(&url).await;
        let polled = deployment.poll(1).await;
        assert!(polled.failed.is_empty() && polled.messages.len() == 1, "{polled:?}");
        let job = client.job(&id).await;
        assert_eq!((job.status, job.attempts), (JobStatus::Completed, 1));
        let difference = media::difference(&alpha_of(&client, &job, deployment.scratch()).await, &media::truth(&clip));
        assert!(difference < 0.004, "the matte is off by {difference}");
        processes.push(deployment.function(WORKER).process().await);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert!(processes[0].is_some() && processes[0] == processes[1], "{processes:?}");
    assert_eq!(client.milli_credits().await, [10_000 - 2 * SECOND, 0, 2 * SECOND]);
    assert!(deployment.queue_is_empty().await);
}

/// G-39
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_only_what_was_not_done_comes_again() {
    let deployment = Deployment::start().await;
    let client = deployment.client("acme", 10.0).await;
    let url = client.upload(&Clip::SMALL.make(deployment.scratch())).await;
    let id = client.order(&url).await;
    let send = deployment.clients.sqs.send_message().queue_url(deployment.queue()).message_body("not of ours");
    let strange = send.send().await.unwrap().message_id.unwrap();
    let polled = deployment.poll(2).await;
    assert_eq!((polled.messages.len(), &polled.failed), (2, &vec![strange]), "{polled:?}");
    assert_eq!(client.job(&id).await.status, JobStatus::Completed);
}

/// G-11: the time limit of a turn is met again and again. Nothing is made twice, and the output is that of a job that
/// nobody interrupted, though every matte of this model depends on all frames before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_that_takes_many_turns_is_the_same_as_one_done_in_one_and_paid_once() {
    let own = TempDir::new().unwrap();
    let models = own.path().join("models");
    models::install_lingering_model(&models);
    let options = Options { models: Some(models), parameters: &[("SegmentSeconds", "1")], ..Options::default() };
    let deployment = Deployment::start_with(options).await;
    let client = deployment.client("acme", 100.0).await;
    let url = client.upload(&LONG.make(deployment.scratch())).await;

    let undisturbed = client.order(&url).await;
    let began = Instant::now();
    assert!(deployment.poll(1).await.failed.is_empty());
    let took = began.elapsed();
    let done = client.job(&undisturbed).await;
    assert_eq!((done.status, done.attempts), (JobStatus::Completed, 1));
    let expected = alpha_of(&client, &done, deployment.scratch()).await;

    let id = client.order(&url).await;
    let turn = (took / 4 + Duration::from_secs(4)).max(Duration::from_secs(8));
    let deadline = Instant::now() + PATIENCE;
    let mut turns = 0;
    while client.job(&id).await.status != JobStatus::Completed {
        assert!(Instant::now() < deadline, "not done after {turns} turns of {turn:?}");
        let polled = deployment.poll_for(1, turn, turn).await;
        assert!(matches!(polled.outcome, Outcome::Answered(_)), "killed in turn {turns}: {polled:?}");
        turns += 1;
    }
    let job = client.job(&id).await;
    println!("{took:?} in one turn; {turns} turns of {turn:?}");
    // More than may fail, and none of them counts.
    assert!(turns > 1 && job.attempts == turns, "{turns} turns, {} attempts", job.attempts);
    assert!(alpha_of(&client, &job, deployment.scratch()).await == expected, "another output");
    let used = 2 * u64::from(LONG.seconds) * SECOND;
    assert_eq!(client.milli_credits().await, [100_000 - used, 0, used]);
    assert_eq!(deployment.function(WORKER).started(), 1, "no turn ended with a kill");
    let log = deployment.function(WORKER).log();
    let resumed = log.matches("\"is_resumed\":true").count();
    assert!(
        resumed >= usize::try_from(turns).unwrap() - 1,
        "{resumed} of {turns} turns went on where the last one was"
    );
}

/// G-05: what cannot be done in one turn and leaves nothing behind is not tried for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_whose_turns_leave_nothing_behind_fails_after_three_of_them() {
    let options = Options { parameters: &[("SegmentSeconds", "0")], ..Options::default() };
    let deployment = Deployment::start_with(options).await;
    let client = deployment.client("acme", 100.0).await;
    let long = Clip { seconds: 120, ..LONG };
    let id = client.order(&client.upload(&long.make(deployment.scratch())).await).await;
    let turn = Duration::from_secs(8);
    for attempt in 1..=3 {
        assert_eq!(client.job(&id).await.status, JobStatus::Pending);
        let polled = deployment.poll_for(1, turn, turn).await;
        assert!(matches!(polled.outcome, Outcome::Answered(_)), "{polled:?}");
        assert_eq!(polled.failed.is_empty(), attempt == 3, "{polled:?}");
    }
    let job = client.job(&id).await;
    assert_eq!((job.status, job.error_code), (JobStatus::Failed, Some(FailureReason::TimedOut)));
    assert_eq!(client.milli_credits().await, [100_000, 0, 0]);
    assert!(deployment.queue_is_empty().await);
}

/// G-11, K2: Lambda kills whatever runs when the time is over, and may do so earlier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_is_killed_delays_its_job_and_is_followed_by_another() {
    let options = Options { parameters: &[("SegmentSeconds", "1")], ..Options::default() };
    let deployment = Deployment::start_with(options).await;
    let client = deployment.client("acme", 100.0).await;
    let id = client.order(&client.upload(&LONG.make(deployment.scratch())).await).await;
    let function = deployment.function(WORKER);
    let polled = deployment.poll_for(1, function.time, Duration::from_secs(4)).await;
    assert_eq!((polled.outcome, polled.failed.len()), (Outcome::TimedOut, 1));
    assert_eq!(client.job(&id).await.status, JobStatus::Processing);

    // Lease and message have to be free again: 120 s, though the queue's own timeout is longer than a turn.
    let deadline = Instant::now() + PATIENCE;
    while client.job(&id).await.status != JobStatus::Completed {
        assert!(Instant::now() < deadline, "not done");
        deployment.sweep().await;
        deployment.poll_once(1, function.time, function.time).await;
    }
    assert_eq!((client.job(&id).await.attempts, function.started()), (2, 2));
    let used = u64::from(LONG.seconds) * SECOND;
    assert_eq!(client.milli_credits().await, [100_000 - used, 0, used]);
}

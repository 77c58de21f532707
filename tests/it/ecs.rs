//! Workers that are tasks of ECS and drain the queue, from none to one and back: `rotoless up` wakes them as the functions
//! do, by a stand-in of ECS that starts real worker processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;

use std::time::Duration;

use self::cluster::{Cluster, Home};
use crate::world::client::Client;
use crate::world::media::Clip;
use crate::world::processes::eventually;
use crate::world::proxy::{EVER, Exchange, Fault, Moment, Rule};
use crate::world::{Options, World, in_a_world};

/// A job with everything that happens to it, on a machine that is busy with other tests.
const JOB: Duration = Duration::from_secs(120);
/// A look of the sweep, a start, and a worker's last look.
const SOON: Duration = Duration::from_secs(60);

/// A service that wakes tasks of this cluster, one at once.
fn woken_by(cluster: &Cluster) -> Options {
    let args = ["--waker", "ecs", "--workers-max", "1", "--lease-seconds", "6"];
    Options { no_worker: true, args: args.map(str::to_owned).into(), env: cluster.environment(), ..Options::default() }
}

async fn customer(world: &mut World) -> (Client, String) {
    let client = world.client("acme", 100.0).await;
    let url = client.upload(&Clip::SMALL.make(world.scratch())).await;
    (client, url)
}

/// G-17, TW-16: several jobs are one worker's, and when there are no more there is no worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_jobs_start_one_task_and_their_end_is_its_end() {
    let cluster = Cluster::start().await;
    in_a_world(woken_by(&cluster), async |world| {
        let home = Home::of(world, &cluster).await;
        let (client, url) = customer(world).await;
        let mut jobs = Vec::new();
        for _ in 0..3 {
            jobs.push(client.order(&url).await);
        }
        for job in &jobs {
            assert_eq!(client.completed(job, JOB).await.attempts, 1);
        }
        eventually("the end of the task", SOON, || (cluster.alive() == 0).then_some(())).await;
        let tasks = cluster.tasks();
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        assert_eq!(tasks[0].exit, Some(0), "{tasks:?}");
        assert_eq!(tasks[0].protected, [true, false].repeat(3), "asked for with each message, and given back");
        // From none again.
        let job = client.order(&url).await;
        client.completed(&job, JOB).await;
        eventually("the end of the second task", SOON, || (cluster.alive() == 0).then_some(())).await;
        assert_eq!(cluster.tasks().len(), 2);
        home.end(world).await;
    })
    .await;
}

/// G-17, TW-14: *nothing came · send · see somebody awake · sleep*, which would strand the message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_sent_while_the_worker_goes_to_sleep_is_its_own() {
    let cluster = Cluster::start().await;
    in_a_world(woken_by(&cluster), async |world| {
        let home = Home::of(world, &cluster).await;
        let (client, url) = customer(world).await;
        let asleep = Rule {
            exchange: Exchange::Asleep,
            job: None,
            attempt: None,
            says: "",
            times: 1,
            fault: Fault::Hold(Moment::Before),
        };
        let goes = home.proxy.set(asleep);
        let first = client.order(&url).await;
        client.completed(&first, JOB).await;
        goes.met().await;
        let second = client.order(&url).await;
        goes.open();
        client.completed(&second, JOB).await;
        eventually("the end of the task", SOON, || (cluster.alive() == 0).then_some(())).await;
        let logs = world.logs();
        assert!(logs.contains("a message was announced since the last look"), "{logs}");
        assert_eq!(cluster.tasks().len(), 1, "the worker that was awake found it: nobody else was started for it");
        home.end(world).await;
    })
    .await;
}

/// G-17, TW-15: the home has no room; the sweep asks again until it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_finds_no_room_is_repeated_by_the_sweep() {
    let cluster = Cluster::start().await;
    cluster.refuse(2);
    in_a_world(woken_by(&cluster), async |world| {
        let home = Home::of(world, &cluster).await;
        let (client, url) = customer(world).await;
        let job = client.order(&url).await;
        client.completed(&job, JOB).await;
        assert!(cluster.calls("RunTask") >= 3, "{}", cluster.calls("RunTask"));
        assert_eq!(cluster.tasks().len(), 1);
        eventually("the end of the task", SOON, || (cluster.alive() == 0).then_some(())).await;
        home.end(world).await;
    })
    .await;
}

/// G-17, TW-14: a task is lost before it comes to life, and a worker dies that counted as awake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_lost_is_followed_by_another_one() {
    let cluster = Cluster::start().await;
    cluster.lose(1);
    in_a_world(woken_by(&cluster), async |world| {
        let home = Home::of(world, &cluster).await;
        let (client, url) = customer(world).await;
        let job = client.order(&url).await;
        client.completed(&job, JOB).await;
        assert_eq!(cluster.tasks().len(), 2);
        eventually("the end of the task", SOON, || (cluster.alive() == 0).then_some(())).await;
        home.end(world).await;
    })
    .await;
}

/// G-39: a control plane of the version before knows nothing of who is awake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_nobody_counts_serves_what_there_is_and_ends() {
    let cluster = Cluster::start().await;
    in_a_world(woken_by(&cluster), async |world| {
        let home = Home::of(world, &cluster).await;
        let unknown = Rule {
            exchange: Exchange::Awake,
            job: None,
            attempt: None,
            says: "",
            times: EVER,
            fault: Fault::Status(404),
        };
        home.proxy.set(unknown);
        let (client, url) = customer(world).await;
        let job = client.order(&url).await;
        client.completed(&job, JOB).await;
        eventually("the end of the task", SOON, || (cluster.alive() == 0).then_some(())).await;
        assert!(cluster.tasks().iter().all(|task| task.exit == Some(0)), "{:?}", cluster.tasks());
        home.end(world).await;
    })
    .await;
}

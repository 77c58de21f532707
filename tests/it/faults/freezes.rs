//! Workers are stopped and continued after others have done their work: they are refused everywhere, and go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use nix::sys::signal::Signal;
use rotoless_contract::Job;
use rotoless_contract::worker::Stage;

use super::{JOB, LEASE, WOKEN, all_completed, bare, orders, paid};
use crate::world::fleet::Fleet;
use crate::world::media::Clip;
use crate::world::proxy::{Exchange, Fault, Moment, Rule};
use crate::world::{Options, in_a_world};

/// What a worker says that was stopped in the middle of its report, when it wakes.
const WORKER_WOKEN: [&str; 1] = ["report had no success"];

/// Long enough that a heartbeat finds it in the middle of its inference.
const LONG: Clip = Clip { width: 640, height: 360, fps: 25, seconds: 6 };
const FROZEN: usize = 4;

/// K8, TW-13, G-10, G-11, G-19: stopped in the inference, before the manifest, before the report, before the delete;
/// continued when another one has completed the job and the queue is empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_wakes_after_its_job_was_completed_is_refused_and_takes_the_next_one() {
    in_a_world(Options { expected_errors: &WORKER_WOKEN, ..bare() }, async |world| {
        let (client, mut jobs) = orders(world, FROZEN - 1).await;
        let long = client.order(&client.upload(&LONG.make(world.scratch())).await).await;
        jobs.insert(0, long);
        let mut fleet = Fleet::of(world);
        let at = [
            (Exchange::Heartbeat, Moment::Between),
            (Exchange::PutManifest, Moment::Before),
            (Exchange::Report, Moment::Before),
            (Exchange::Delete, Moment::Before),
        ];
        let mut traps = Vec::new();
        for (job, (exchange, moment)) in jobs.iter().zip(at) {
            let says = if exchange == Exchange::Heartbeat { "\"stage\":\"matte\"" } else { "" };
            traps.push(fleet.proxy.set(Rule { says, ..Rule::once(job, exchange, Fault::Freeze(moment)) }));
        }
        for _ in 0..FROZEN {
            fleet.hire(world).await;
        }
        for trap in &traps {
            trap.met().await;
        }
        let processes: Vec<i32> = (0..FROZEN).map(|worker| fleet.process(worker)).collect();
        let other = fleet.hire(world).await;
        let done = all_completed(&client, &jobs).await;
        assert_eq!(done.iter().map(|job| job.attempts).collect::<Vec<_>>(), [2, 2, 1, 1]);
        world.queue_empties().await;
        fleet.dismiss(other).await;

        traps.iter().for_each(crate::world::proxy::Trap::open);
        // The next four, one for each: none of them is lost, and none was started anew.
        let next = super::more_orders(world, &client, FROZEN).await;
        let mut takers = Vec::new();
        let held: Vec<_> = next
            .iter()
            .map(|job| fleet.proxy.set(Rule::once(job, Exchange::Probed, Fault::Hold(Moment::Before))))
            .collect();
        for trap in &held {
            takers.extend(trap.met().await);
        }
        takers.sort_unstable();
        assert_eq!(takers, (0..FROZEN).collect::<Vec<_>>());
        assert_eq!((0..FROZEN).map(|worker| fleet.process(worker)).collect::<Vec<_>>(), processes);
        held.iter().for_each(crate::world::proxy::Trap::open);
        for job in &next {
            assert_eq!(client.completed(job, JOB).await.attempts, 1);
        }
        assert_eq!(fleet.proxy.answers(&jobs[0], Exchange::PutManifest), [Some(200)]);
        assert_eq!(fleet.proxy.answers(&jobs[1], Exchange::PutManifest), [Some(200), Some(412)]);
        assert_eq!(fleet.proxy.answers(&jobs[2], Exchange::Report), [Some(409)]);
        // What is gone may be deleted again.
        assert_eq!(fleet.proxy.answers(&jobs[3], Exchange::Delete), [Some(200), Some(200)]);
        paid(&client, u64::from(LONG.seconds) + (FROZEN - 1 + next.len()) as u64).await;
        fleet.end(world).await;
    })
    .await;
}

/// TW-13, G-20: the whole host sleeps past the lease, service and worker alike, and wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_sleeps_past_every_lease_completes_its_job_when_it_wakes() {
    in_a_world(Options { expected_errors: &WOKEN, ..bare() }, async |world| {
        let client = world.client("acme", super::CREDITS as f64).await;
        let job = client.order(&client.upload(&LONG.make(world.scratch())).await).await;
        let mut fleet = Fleet::of(world);
        let worker = fleet.hire(world).await;
        client.wait(&job, JOB, |job: &Job| job.stage == Some(Stage::Matte)).await;
        fleet.signal(worker, Signal::SIGSTOP);
        world.signal(Signal::SIGSTOP);
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        fleet.signal(worker, Signal::SIGCONT);
        world.signal(Signal::SIGCONT);
        assert!(client.completed(&job, JOB).await.attempts <= 2);
        paid(&client, LONG.seconds.into()).await;
        fleet.end(world).await;
    })
    .await;
}

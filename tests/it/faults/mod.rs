//! Faults between real processes: `rotoless up`, workers attached to it, and the proxy that does to their exchanges
//! what each test says. The oracle judges every world at its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attach;
mod canaries;
mod cancels;
mod disks;
mod endpoint;
mod endurance;
mod freezes;
mod kills;
mod passing;
mod receivers;
mod segments;
mod service;
mod site;
mod soak;
mod sources;

use std::time::Duration;

use futures::{StreamExt as _, stream};
use rotoless_contract::Job;

use crate::world::client::Client;
use crate::world::fleet::short_leases;
use crate::world::media::Clip;
use crate::world::{Options, World};

/// A job with everything that happens to it, on a machine that is busy with other tests.
const JOB: Duration = Duration::from_secs(120);
/// Lease and visibility in these worlds: the shortest that a worker takes.
const LEASE: Duration = Duration::from_secs(6);
/// What one second of `light` costs, in milli-credits.
const SECOND: u64 = 750;
/// Enough for every job of a test.
const CREDITS: u64 = 100;

/// What a service says that was stopped in the middle of a call, when it wakes.
const WOKEN: [&str; 2] = ["dependency failed error=timed out", "could not list what is due error=timed out"];

/// Without a worker of the service's own, with short leases.
fn bare() -> Options {
    Options { no_worker: true, args: short_leases(), ..Options::default() }
}

/// Jobs of one second each, which nobody has begun.
async fn orders(world: &mut World, count: usize) -> (Client, Vec<String>) {
    let client = world.client("acme", CREDITS as f64).await;
    let ids = more_orders(world, &client, count).await;
    (client, ids)
}

/// The same, of a client that is there already.
async fn more_orders(world: &World, client: &Client, count: usize) -> Vec<String> {
    let url = client.upload(&Clip::SMALL.make(world.scratch())).await;
    stream::iter((0..count).map(|_| client.order(&url))).buffered(3).collect().await
}

/// Waits for each job, one after the other: asked for all at once, the service would be busy with answering that.
async fn all_completed(client: &Client, jobs: &[String]) -> Vec<Job> {
    let mut done = Vec::new();
    for job in jobs {
        done.push(client.completed(job, JOB).await);
    }
    done
}

/// So many seconds of `light` were paid, and nothing is held.
async fn paid(client: &Client, seconds: u64) {
    let used = seconds * SECOND;
    assert_eq!(client.milli_credits().await, [CREDITS * 1000 - used, 0, used]);
}

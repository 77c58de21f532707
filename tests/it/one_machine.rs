//! What the one-machine service promises about its data directory and its memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use crate::world::media::Clip;
use crate::world::{Options, in_a_world, processes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_key_and_credits_survive_a_restart_and_are_made_once() {
    in_a_world(Options { no_worker: true, ..Options::default() }, async |world| {
        let first = world.first_client();
        assert_eq!(first.milli_credits().await, [1_000_000, 0, 0]);
        world.interrupt().await;
        world.up().await;
        world.kill_service(Duration::from_secs(10)).await;
        world.up().await;
        assert_eq!(world.first_client().key, first.key);
        assert_eq!(first.milli_credits().await, [1_000_000, 0, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_service_on_the_same_data_directory_is_refused_and_the_first_goes_on() {
    in_a_world(Options { no_worker: true, ..Options::default() }, async |world| {
        let (status, said) = world.second_service();
        assert!(!status.success());
        assert!(said.contains("in use by another process"), "{said}");
        assert_eq!(world.first_client().milli_credits().await, [1_000_000, 0, 0]);
    })
    .await;
}

async fn peak_after(seconds: u32) -> u64 {
    let mut peak = 0;
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 100.0).await;
        let clip = Clip { width: 320, height: 180, fps: 25, seconds }.make(world.scratch());
        let id = client.order(&client.upload(&clip).await).await;
        let job = client.completed(&id, Duration::from_secs(400)).await;
        assert_eq!(job.output.map(|output| output.info.frames), Some(u64::from(seconds) * 25));
        peak = processes::peak_memory(world.worker().await);
    })
    .await;
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_memory_does_not_grow_with_the_clip() {
    let (short, long) = (peak_after(10).await, peak_after(60).await);
    println!("peak of the worker: {short} KiB after 10 s, {long} KiB after 60 s");
    assert!(long * 10 <= short * 11, "{short} KiB after 10 s, {long} KiB after 60 s");
}

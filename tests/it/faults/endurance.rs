//! One worker, many jobs: nothing grows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use futures::future::join_all;

use super::{CREDITS, JOB, bare, paid};
use crate::world::fleet::Fleet;
use crate::world::in_a_world;
use crate::world::media::Clip;

/// The worker has made its caches and pools.
const WARM: usize = 5;
const MORE: usize = 15;
const TINY: Clip = Clip { width: 64, height: 64, fps: 4, seconds: 1 };

/// What a process has.
#[derive(Debug)]
struct Belongings {
    memory_kib: u64,
    files: usize,
    threads: usize,
    /// Children, dead ones among them.
    children: usize,
}

fn of(process: i32) -> Belongings {
    let dir = std::path::Path::new("/proc").join(process.to_string());
    let status = fs::read_to_string(dir.join("status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let count = |name: &str| fs::read_dir(dir.join(name)).unwrap().count();
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let tasks = fs::read_dir(dir.join("task")).unwrap();
    let children = tasks.map(|task| children(task.unwrap()).split_whitespace().count()).sum();
    Belongings { memory_kib: field("VmRSS:"), files: count("fd"), threads: count("task"), children }
}

/// TW-19, G-13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_jobs_in_one_worker_leave_it_as_the_first_five_did() {
    in_a_world(bare(), async |world| {
        let client = world.client("acme", CREDITS as f64).await;
        let url = client.upload(&TINY.make(world.scratch())).await;
        let mut fleet = Fleet::of(world);
        let worker = fleet.hire(world).await;
        let process = fleet.process(worker);
        let mut found = Vec::new();
        for count in [WARM, MORE] {
            let jobs = join_all((0..count).map(|_| client.order(&url))).await;
            for job in &jobs {
                assert_eq!(client.completed(job, JOB).await.attempts, 1);
            }
            world.queue_empties().await;
            found.push(of(process));
        }
        assert_eq!(fleet.process(worker), process, "it is the same one");
        let [warm, after] = &found[..] else { panic!("two looks") };
        eprintln!("after {WARM}: {warm:?}; after {}: {after:?}", WARM + MORE);
        assert!(after.memory_kib <= warm.memory_kib * 11 / 10 + 8 * 1024, "{warm:?} {after:?}");
        assert!(after.files <= warm.files + 3 && after.threads <= warm.threads + 3, "{warm:?} {after:?}");
        assert_eq!((warm.children, after.children), (0, 0));
        paid(&client, (WARM + MORE) as u64).await;
        fleet.end(world).await;
    })
    .await;
}

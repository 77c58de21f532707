//! A long video whose worker dies: the next one goes on where it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use futures::{StreamExt as _, stream};
use rotoless_contract::Job;
use tempfile::TempDir;

use super::{CREDITS, JOB, SECOND, bare};
use crate::world::client::Client;
use crate::world::fleet::Fleet;
use crate::world::media::{Clip, alpha};
use crate::world::proxy::{Exchange, Fault, Moment, Proxy, Rule};
use crate::world::{Options, in_a_world, models};

/// Of one second each.
const SEGMENTS: usize = 10;
const LONG: Clip = Clip { width: 256, height: 144, fps: 12, seconds: SEGMENTS as u32 };

/// The worker dies when it would store the segment of this number, and has stored all before it.
const WRITES: [&str; SEGMENTS - 1] = [
    r#""write":0"#,
    r#""write":1"#,
    r#""write":2"#,
    r#""write":3"#,
    r#""write":4"#,
    r#""write":5"#,
    r#""write":6"#,
    r#""write":7"#,
    r#""write":8"#,
];

fn stored(proxy: &Proxy, job: &str) -> usize {
    proxy.answers(job, Exchange::PutSegment).iter().filter(|status| **status == Some(200)).count()
}

async fn alpha_of(client: &Client, job: &Job, dir: &Path) -> Vec<u8> {
    let file = dir.join("output.webm");
    client.download(job, &file).await;
    alpha(&file)
}

/// G-11, K2: at every tenth of a long video. No segment is made twice, and the output is that of a job that nothing
/// happened to, though every matte of this model depends on all frames before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_at_every_tenth_of_a_long_video_loses_one_segment_and_the_output_is_the_same() {
    let own = TempDir::new().unwrap();
    models::install_lingering_model(&own.path().join("models"));
    let mut options = Options { models: Some(own.path().join("models")), ..bare() };
    options.args.extend(["--segment-seconds", "1"].map(str::to_owned));
    in_a_world(options, async |world| {
        let client = world.client("acme", CREDITS as f64).await;
        let url = client.upload(&LONG.make(world.scratch())).await;
        let jobs: Vec<String> = stream::iter((0..SEGMENTS).map(|_| client.order(&url))).buffered(3).collect().await;
        let mut fleet = Fleet::of(world);
        let traps: Vec<_> = jobs
            .iter()
            .zip(WRITES)
            .map(|(job, says)| {
                let kill = Rule::once(job, Exchange::Segments, Fault::Kill(Moment::Before));
                fleet.proxy.set(Rule { says, ..kill })
            })
            .collect();
        for _ in 0..3 {
            fleet.hire(world).await;
        }
        let undisturbed = jobs.last().unwrap();
        let done = client.completed(undisturbed, JOB).await;
        assert_eq!((done.attempts, stored(&fleet.proxy, undisturbed)), (1, SEGMENTS - 1));
        let expected = alpha_of(&client, &done, world.scratch()).await;
        for (trap, job) in traps.iter().zip(&jobs) {
            trap.met().await;
            let done = client.completed(job, JOB).await;
            assert_eq!((done.attempts, stored(&fleet.proxy, job)), (2, SEGMENTS - 1), "{:#?}", fleet.proxy.seen(job));
            assert!(alpha_of(&client, &done, world.scratch()).await == expected, "another output");
        }
        let used = (SEGMENTS * SEGMENTS) as u64 * SECOND;
        assert_eq!(client.milli_credits().await, [CREDITS * 1000 - used, 0, used]);
        fleet.end(world).await;
    })
    .await;
}

//! Sources that lie: about their length, about being a video, about being there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use rotoless_contract::JobStatus;
use rotoless_contract::worker::FailureReason;
use serde_json::json;

use super::site::Site;
use super::{CREDITS, JOB, SECOND, bare, paid};
use crate::world::fleet::Fleet;
use crate::world::in_a_world;
use crate::world::media::Clip;
use crate::world::proxy::Exchange;

const FOUR: Clip = Clip { seconds: 4, ..Clip::SMALL };

/// A copy whose header says another length, wherever the service looks for it.
fn lying(clip: &Path, name: &str, claimed_ms: u32) -> PathBuf {
    let mut bytes = std::fs::read(clip).unwrap();
    // The movie's clock ticks in milliseconds: ffmpeg's muxer always does.
    for (kind, skip) in [(b"mvhd", 16), (b"tkhd", 20)] {
        let at = bytes.windows(4).position(|window| window == kind).unwrap() + 4 + skip;
        bytes[at..at + 4].copy_from_slice(&claimed_ms.to_be_bytes());
    }
    let path = clip.with_file_name(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// TS-10, G-04: the hold follows the header, the charge what was decoded; who cannot pay that much pays nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_lies_changes_the_hold_for_a_while_and_never_the_charge() {
    in_a_world(bare(), async |world| {
        let (rich, poor) = (world.client("rich", CREDITS as f64).await, world.client("poor", 1.5).await);
        let short = lying(&FOUR.make(world.scratch()), "short.mp4", 500);
        let long = lying(&Clip::SMALL.make(world.scratch()), "long.mp4", 60_000);
        let says_short = rich.order(&rich.upload(&short).await).await;
        assert_eq!(rich.milli_credits().await[1], SECOND, "as the header says");
        let says_long = rich.order(&rich.upload(&long).await).await;
        assert_eq!(rich.milli_credits().await[1], SECOND + 60 * SECOND);
        let unpaid = poor.order(&poor.upload(&short).await).await;
        assert_eq!(poor.milli_credits().await, [750, 750, 0]);
        // And the one who cannot even pay what the header says.
        let order = json!({"video_url": poor.upload(&long).await, "model": "light"});
        poor.post("/v1/jobs", &order).await.is(402, "insufficient_credits");

        let mut fleet = Fleet::of(world);
        fleet.hire(world).await;
        let four = rich.completed(&says_short, JOB).await;
        assert_eq!(four.output.unwrap().info.frames, FOUR.frames() as u64);
        rich.completed(&says_long, JOB).await;
        paid(&rich, 4 + 1).await;
        let refused = poor.wait(&unpaid, JOB, |job| job.status == JobStatus::Failed).await;
        assert_eq!(refused.error_code, Some(FailureReason::InsufficientCredits));
        assert_eq!(poor.milli_credits().await, [1500, 0, 0]);
        assert!(fleet.proxy.answers(&unpaid, Exchange::PutOutput).is_empty());
        fleet.end(world).await;
    })
    .await;
}

/// TF-2, TF-3, TD-3, G-27, G-28, G-29, G-03: a `video_url` of somebody else's, through the whole service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_elsewhere_is_fetched_once_and_whatever_else_is_there_costs_nothing() {
    let (site, inside) = (Site::start().await, Site::start().await);
    let mut options = bare();
    options.args.extend(["--allow-egress-dangerous".to_owned(), site.address.clone()]);
    in_a_world(options, async |world| {
        let clip = std::fs::read(Clip::SMALL.make(world.scratch())).unwrap();
        let length = clip.len();
        let file =
            |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ncontent-length: {length}\r\n\r\n");
        site.serves("/good.mp4", file(length), clip.clone());
        site.serves("/missing.mp4", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(), Vec::new());
        let moved = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", inside.url("/good.mp4"));
        site.serves("/moved.mp4", moved, Vec::new());
        site.serves("/less.mp4", file(length / 2), clip.clone());
        site.serves("/more.mp4", file(length + 1000), clip.clone());
        site.serves("/huge.mp4", file(10_000_000_000), vec![0; 1 << 20]);
        site.serves("/page.mp4", file(26), b"<!DOCTYPE html><p>Sign in!".to_vec());
        let list = format!("#EXTM3U\n#EXTINF:1,\n{}\n", inside.url("/secret.ts")).into_bytes();
        site.serves("/list.mp4", file(list.len()), list);
        let mut fleet = Fleet::of(world);
        for _ in 0..3 {
            fleet.hire(world).await;
        }
        let client = world.client("acme", CREDITS as f64).await;
        let unreachable = (JobStatus::Failed, Some(FailureReason::SourceUnreachable));
        let invalid = (JobStatus::Failed, Some(FailureReason::InvalidMedia));
        let cases = [
            ("/good.mp4", (JobStatus::Completed, None)),
            ("/missing.mp4", unreachable),
            ("/moved.mp4", unreachable),
            ("/less.mp4", invalid),
            ("/more.mp4", unreachable),
            ("/huge.mp4", (JobStatus::Failed, Some(FailureReason::LimitExceeded))),
            ("/page.mp4", invalid),
            ("/list.mp4", invalid),
        ];
        let mut jobs = Vec::new();
        for (path, _) in &cases {
            jobs.push(client.order(&site.url(path)).await);
        }
        for ((path, expected), id) in cases.iter().zip(&jobs) {
            let job = client.wait(id, JOB, |job| job.status.is_terminal()).await;
            assert_eq!((job.status, job.error_code), *expected, "{path}");
        }
        assert_eq!(site.asked("/good.mp4"), 1);
        assert_eq!(site.asked("/moved.mp4"), 1);
        assert_eq!(inside.asked_for_anything(), 0, "nobody follows, and no list is opened");
        // What no exception names is not even asked for.
        let order = json!({"video_url": inside.url("/good.mp4"), "model": "light"});
        client.post("/v1/jobs", &order).await.is(400, "invalid_request");
        paid(&client, 1).await;
        fleet.end(world).await;
    })
    .await;
}

//! Disks that are full, or have no room for another file: a worker's and the service's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write as _;
use std::path::Path;

use rotoless_contract::JobStatus;
use rotoless_contract::worker::FailureReason;
use serde_json::json;

use super::{CREDITS, JOB, all_completed, bare, orders, paid};
use crate::world::client::send;
use crate::world::fleet::Fleet;
use crate::world::media::Clip;
use crate::world::proxy::{Exchange, Fault, Moment, Rule};
use crate::world::{Options, in_a_world};

/// A worker's directory on a disk of its own: of so many bytes and files.
const SMALL_DISK: &str = "mount -t tmpfs -o \"$DISK\" none \"$WORK_DIR\" && exec \"$@\"";

/// TW-8, G-13: no room for the source, for the output, for a file. The attempts fail for a reason that is not the
/// video's, nothing is charged, and on a disk with room the same jobs succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_full_disk_fails_its_attempts_cleanly_and_a_healthy_one_does_the_jobs() {
    let expected_errors = &["report had no success"];
    in_a_world(Options { expected_errors, ..bare() }, async |world| {
        let (client, jobs) = orders(world, 3).await;
        let source = Clip::SMALL.make(world.scratch()).metadata().unwrap().len();
        let mut fleet = Fleet::of(world);
        // Each disk has its turn with each job.
        let held: Vec<_> = jobs
            .iter()
            .map(|job| fleet.proxy.set(Rule::once(job, Exchange::Claim, Fault::Hold(Moment::Before))))
            .collect();
        let page = 4096;
        let disks =
            [format!("size={page}"), format!("size={}", (source / page + 2) * page), "size=64m,nr_inodes=4".to_owned()];
        let wrap = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh"];
        for disk in &disks {
            fleet
                .hire_with(world, &wrap, |command| {
                    command.env("DISK", disk);
                })
                .await;
        }
        let mut takers = Vec::new();
        for trap in &held {
            takers.extend(trap.met().await);
        }
        takers.sort_unstable();
        assert_eq!(takers, [0, 1, 2]);
        held.iter().for_each(crate::world::proxy::Trap::open);
        for job in &jobs {
            let job = client.wait(job, JOB, |job| job.status == JobStatus::Failed).await;
            // The output's check may be the first to find that the disk did not keep it.
            let ours = [Some(FailureReason::InternalError), Some(FailureReason::VerificationFailed)];
            assert!(ours.contains(&job.error_code) && job.attempts == 3, "{job:#?}");
        }
        paid(&client, 0).await;
        for bad in 0..disks.len() {
            fleet.dismiss(bad).await;
        }
        fleet.hire(world).await;
        for job in &jobs {
            client.post(&format!("/v1/jobs/{job}/start"), &json!({})).await.ok();
        }
        let done = all_completed(&client, &jobs).await;
        assert!(done.iter().all(|job| job.attempts == 4), "{done:#?}");
        paid(&client, jobs.len() as u64).await;
        fleet.end(world).await;
    })
    .await;
}

/// Takes all the room there is, but for so many bytes.
fn fill(path: &Path, but: u64) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![b'x'; size];
        while file.write_all(&block).is_ok() {}
    }
    file.set_len(file.metadata().unwrap().len() - but).unwrap();
}

/// TW-8, G-08, G-35: the service's own disk. What it cannot keep it does not promise; when there is room again it goes
/// on as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_a_full_disk_promises_nothing_and_goes_on_when_there_is_room() {
    let expected_errors = &["database or disk is full", "InternalError"];
    let options = Options { disk: Some("size=48m"), expected_errors, ..bare() };
    in_a_world(options, async |world| {
        let client = world.client("acme", CREDITS as f64).await;
        let clip = Clip::SMALL.make(world.scratch());
        let url = client.upload(&clip).await;
        let before = client.order(&url).await;
        let ballast = world.files().join("ballast");
        // Room for rows, not for media.
        fill(&ballast, 2 << 20);
        let big = world.scratch().join("big.mp4");
        let mut bytes = std::fs::read(&clip).unwrap();
        bytes.resize(8 << 20, 0);
        std::fs::write(&big, bytes).unwrap();
        let uploaded = client.send_form(&big).await;
        assert!(uploaded.status >= 500 && uploaded.json["error"]["request_id"].is_string(), "{uploaded:?}");
        client.get(&format!("/v1/jobs/{before}")).await.ok();

        fill(&ballast, 0);
        let order = json!({"video_url": url, "model": "light"});
        let create = async || {
            let request = client.request(reqwest::Method::POST, "/v1/jobs").header("Idempotency-Key", "when-full");
            send(request.json(&order)).await
        };
        let created = create().await;
        assert!(created.status == 200 || created.status >= 500, "{created:?}");
        assert!(created.status == 200 || created.json["error"]["request_id"].is_string(), "{created:?}");
        std::fs::remove_file(&ballast).unwrap();
        let again = create().await.ok();
        if created.status == 200 {
            assert_eq!(again["id"], created.json["id"]);
        }
        let after = client.order(&client.upload_by_form(&clip).await).await;
        let mut fleet = Fleet::of(world);
        fleet.hire(world).await;
        for job in [before.as_str(), again["id"].as_str().unwrap(), &after] {
            client.completed(job, JOB).await;
        }
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 3);
        paid(&client, 3).await;
        fleet.end(world).await;
    })
    .await;
}

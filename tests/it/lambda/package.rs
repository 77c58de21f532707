//! The worker's package: all that it needs is in it, and it is not too large for Lambda.

use std::path::Path;
use std::process::Command;

use rotoless_contract::JobStatus;
use serde_json::json;
use tempfile::TempDir;

use super::deployment::{Deployment, Options};
use super::sandbox::binary;
use crate::architecture::root;
use crate::world::media::{self, Clip};
use crate::world::models;

/// Fills a directory as `sam build` does, for this machine's processor and with the program as it was built for the
/// tests. Gives what was said.
fn fill(dir: &Path, scratch: &Path) -> String {
    let bootstrap = scratch.join("stripped");
    let stripped = Command::new("strip").arg("-o").arg(&bootstrap).arg(binary("rotoless-worker-function")).status();
    assert!(stripped.unwrap().success());
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let mut command = Command::new(root().join("gpu-handler/lambda/package"));
    command
        .arg(arch)
        .arg(dir)
        .env("BOOTSTRAP", bootstrap)
        .env("ROTOLESS_MODELS", models::fetched().canonicalize().unwrap());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// From the package alone, with the tools and weights that it brings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_done_from_the_package_alone() {
    let own = TempDir::new().unwrap();
    let package = own.path().join("package");
    let said = fill(&package, own.path());
    assert!(said.contains("MB unpacked"), "{said}");
    let deployment = Deployment::start_with(Options { package: Some(package), ..Options::default() }).await;
    let client = deployment.client("acme", 10.0).await;
    let video_url = client.upload(&Clip::SMALL.make(deployment.scratch())).await;
    for model in ["human", "light"] {
        let order = json!({"video_url": video_url, "model": model, "output_format": "webm"});
        let id = client.order_with(order).await;
        assert!(deployment.poll(1).await.failed.is_empty());
        let job = client.job(&id).await;
        assert_eq!((job.status, job.attempts), (JobStatus::Completed, 1), "{model}: {job:#?}");
        let webm = deployment.scratch().join("output.webm");
        client.download(&job, &webm).await;
        assert_eq!(media::alpha(&webm).len(), 256 * 144 * Clip::SMALL.frames());
    }
}

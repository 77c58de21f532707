//! Several processes, one video: `rotoless remove` with segments in a directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::world::media::{Clip, difference, pixels};
use crate::world::{models, processes, program};

const SECONDS: u32 = 16;
const LONG: Clip = Clip { width: 256, height: 144, fps: 12, seconds: SECONDS };
/// For a whole command, on a machine that is busy with other tests.
const COMMAND: Duration = Duration::from_secs(120);

struct Desk {
    dir: TempDir,
    clip: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        models::install_lingering_model(&dir.path().join("models"));
        let clip = LONG.make(dir.path());
        Self { dir, clip }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `rotoless remove` of the clip, in segments of a second.
    fn remove(&self, name: &str, more: &[&str]) -> Child {
        let mut command = Command::new(program());
        command.arg("remove").arg(&self.clip).args(["--model", "light", "--segment-seconds", "1", "--models"]);
        command.arg(self.path("models")).arg("--segments").arg(self.path("segments"));
        command.arg("--keep-matte").arg(self.path(&format!("{name}.mkv"))).args(more);
        command.arg("-o").arg(self.path(&format!("{name}.webm"))).stdin(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn matte(&self, name: &str) -> Vec<u8> {
        pixels(&self.path(&format!("{name}.mkv")), None, "null", "gray")
    }

    /// Numbers of the finished segments.
    fn finished(&self) -> usize {
        let Ok(plans) = std::fs::read_dir(self.path("segments")) else { return 0 };
        let files = plans.flat_map(|plan| std::fs::read_dir(plan.unwrap().path()).into_iter().flatten());
        files.filter(|file| file.as_ref().is_ok_and(|file| is_segment(&file.path()))).count()
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "segment")
}

async fn succeeds(child: Child) -> String {
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let ended = tokio::time::timeout(COMMAND, ended).await.expect("the command hangs").unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    said
}

/// G-11 on one's own desk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_was_killed_goes_on_where_it_was_and_leaves_nothing() {
    let desk = Desk::new();
    let mut killed = desk.remove("killed", &[]);
    processes::eventually("some finished segments", COMMAND, || (desk.finished() >= 3).then_some(())).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = desk.finished();
    assert!(before < SECONDS as usize - 1, "too quick to be killed in the middle");
    succeeds(desk.remove("resumed", &[])).await;
    assert!(!desk.path("segments").exists(), "segments are left behind");
    succeeds(desk.remove("undisturbed", &[])).await;
    assert!(desk.matte("resumed") == desk.matte("undisturbed"));
}

/// Two processes, one clip: who makes what is nobody's decision, and nobody sees where they met.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_one_clip() {
    let desk = Desk::new();
    succeeds(desk.remove("alone", &[])).await;
    // First, so that it has begun when the other one comes, however busy the machine is.
    let assistant = desk.remove("assistant", &["--assist"]);
    processes::eventually("the assistant's first segment", COMMAND, || (desk.finished() >= 1).then_some(())).await;
    succeeds(desk.remove("together", &["--share"])).await;
    let said = succeeds(assistant).await;
    let made: usize = said.trim().split(' ').next().unwrap().parse().unwrap();
    assert!(made >= 1, "{said}");
    assert!(!desk.path("assistant.webm").exists() && !desk.path("assistant.mkv").exists());
    let seams = difference(&desk.matte("together"), &desk.matte("alone"));
    assert!(seams < 1e-3, "the seams are off by {seams}");
}

//! The worker as a child process: started, started again when it dies, drained at the end.
//!
//! Invariant: the child dies with us (it asks the kernel for that at its start), so a killed service leaves no
//! worker that would talk to the next one.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// A drained worker may finish or hand back its job within this time.
const DRAIN: Duration = Duration::from_secs(30);
/// Waits before a worker is started again: doubled up to the greatest, back to the least after a long life.
const RESTART: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
const LONG_LIFE: Duration = Duration::from_secs(60);

/// How the child is started.
#[derive(Clone)]
pub(crate) struct WorkerCommand {
    pub(crate) program: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

/// Keeps one worker running until `stop`; then drains it.
pub(crate) async fn supervise(command: WorkerCommand, stop: CancellationToken) {
    let mut wait = RESTART.0;
    while !stop.is_cancelled() {
        let started = tokio::time::Instant::now();
        match spawn(&command) {
            Ok(child) => {
                if watch(child, &stop).await {
                    return;
                }
            }
            Err(err) => tracing::error!(error = format!("{err:#}"), "worker could not be started"),
        }
        if started.elapsed() >= LONG_LIFE {
            wait = RESTART.0;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RESTART.1);
    }
}

fn spawn(command: &WorkerCommand) -> Result<Child> {
    Command::new(&command.program)
        .arg("gpu-handler")
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", command.program.display()))
}

/// Waits for the child's end, or ends it. `true` when it was ended on purpose.
async fn watch(mut child: Child, stop: &CancellationToken) -> bool {
    tokio::select! {
        status = child.wait() => {
            match status {
                Ok(status) => tracing::warn!(status = %status, "worker ended, starting another one"),
                Err(err) => tracing::error!(error = %err, "worker lost"),
            }
            false
        }
        () = stop.cancelled() => {
            drain(&mut child).await;
            true
        }
    }
}

async fn drain(child: &mut Child) {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended meanwhile; then there is nothing to signal.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    if tokio::time::timeout(DRAIN, child.wait()).await.is_err() {
        tracing::warn!("worker did not drain in time");
        let _ = child.kill().await;
    }
}

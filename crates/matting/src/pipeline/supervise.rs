//! Runs the stages of a pipeline on their threads and tears all of them down as one.
//!
//! Owns: the first error, the watch's progress and cancel flag, the watchdog. Invariants: the first error wins, what
//! follows from it is not reported; after it every child is killed and every queue aborted, so no stage can wait for
//! another; [`supervise`] returns only when every stage has ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rotoless_contract::worker::Stage;

use super::queue::Aborted;
use crate::child::{Child, Killer};
use crate::engine::Watch;
use crate::error::EngineError;

/// How often the watch is asked.
const TICK: Duration = Duration::from_millis(20);

/// Without a finished frame for so long, something hangs (guarantees §8).
pub(crate) const NO_FRAME_LIMIT: Duration = Duration::from_secs(120);

/// Why a stage ended before its work was done.
#[derive(Debug)]
pub(crate) enum StageEnd {
    /// Torn down because another stage failed.
    Aborted,
    /// It failed itself.
    Failed(EngineError),
}

impl From<Aborted> for StageEnd {
    fn from(_: Aborted) -> Self {
        Self::Aborted
    }
}

impl From<EngineError> for StageEnd {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

/// The switch that stops all stages.
#[derive(Default)]
pub(crate) struct Halt<'a> {
    state: Mutex<HaltState<'a>>,
    changed: Condvar,
}

#[derive(Default)]
struct HaltState<'a> {
    reason: Option<EngineError>,
    stops: Vec<Box<dyn Fn() + Send + 'a>>,
    running: usize,
}

impl<'a> Halt<'a> {
    fn lock(&self) -> MutexGuard<'_, HaltState<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done when the pipeline is stopped. Before the stages start.
    pub(crate) fn on_stop(&self, stop: impl Fn() + Send + 'a) {
        self.lock().stops.push(Box::new(stop));
    }

    /// Kills this child when the pipeline is stopped.
    pub(crate) fn kills(&self, child: &Child) {
        let killer: Killer = child.killer();
        self.on_stop(move || killer.kill());
    }

    fn stop(&self, reason: EngineError) {
        let mut state = self.lock();
        if state.reason.is_none() {
            state.reason = Some(reason);
            for stop in &state.stops {
                stop();
            }
        }
    }

    fn ended(&self) {
        self.lock().running -= 1;
        self.changed.notify_all();
    }
}

/// One stage: its name and its work.
pub(crate) struct StageWork<'a> {
    pub name: &'static str,
    pub work: Box<dyn FnOnce() -> Result<(), StageEnd> + Send + 'a>,
}

/// What is told to the watch.
pub(crate) struct Told<'a> {
    pub watch: &'a dyn Watch,
    pub stage: Stage,
    /// Frames finished so far.
    pub done: &'a AtomicU64,
    /// Frames that are worked on and do not count.
    pub alive: &'a AtomicU64,
    pub total: u64,
    /// How long neither may change before something counts as hanging.
    pub patience: Duration,
}

/// Runs all stages to their ends.
pub(crate) fn supervise(halt: &Halt<'_>, told: &Told<'_>, stages: Vec<StageWork<'_>>) -> Result<(), EngineError> {
    std::thread::scope(|scope| {
        halt.lock().running = stages.len();
        for StageWork { name, work } in stages {
            let run = move || {
                // A panic must not leave the other stages waiting for this one.
                match catch_unwind(AssertUnwindSafe(work)) {
                    Ok(Ok(()) | Err(StageEnd::Aborted)) => {}
                    Ok(Err(StageEnd::Failed(error))) => halt.stop(error),
                    Err(_) => halt.stop(EngineError::Panicked { stage: name }),
                }
                halt.ended();
            };
            if let Err(error) = std::thread::Builder::new().name(name.into()).spawn_scoped(scope, run) {
                halt.stop(EngineError::io("cannot start a thread")(error));
                halt.ended();
            }
        }
        watch_over(halt, told);
    });
    match halt.lock().reason.take() {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Reports progress, asks for cancellation, until the last stage has ended.
fn watch_over(halt: &Halt<'_>, told: &Told<'_>) {
    let (mut last_done, mut last_alive) = (0, 0);
    let mut last_change = Instant::now();
    let mut state = halt.lock();
    while state.running > 0 {
        state = halt.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        // The watch is foreign code: not under our lock.
        drop(state);
        let done = told.done.load(Ordering::Relaxed);
        if done != last_done {
            (last_done, last_change) = (done, Instant::now());
            told.watch.progress(told.stage, done, told.total);
        }
        let alive = told.alive.load(Ordering::Relaxed);
        if alive != last_alive {
            (last_alive, last_change) = (alive, Instant::now());
            told.watch.alive();
        }
        if told.watch.cancelled() {
            halt.stop(EngineError::Cancelled);
        } else if last_change.elapsed() > told.patience {
            halt.stop(EngineError::Stalled { after: told.patience });
        }
        state = halt.lock();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::child::Confinement;

    struct Patient;

    impl Watch for Patient {
        fn progress(&self, _stage: Stage, _frames_done: u64, _frames_total: u64) {}

        fn cancelled(&self) -> bool {
            false
        }
    }

    /// G-13: a tool that hangs and says nothing.
    #[test]
    fn a_stage_that_hangs_is_ended_with_its_child() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600"]);
        let limits = Confinement { memory_bytes: 1 << 30, cpu_seconds: 10, file_bytes: 0 };
        let mut child = Child::spawn("a shell", command, limits).unwrap();
        let (halt, done, alive) = (Halt::default(), AtomicU64::new(0), AtomicU64::new(0));
        halt.kills(&child);
        let patience = Duration::from_millis(100);
        let told = Told { watch: &Patient, stage: Stage::Matte, done: &done, alive: &alive, total: 1, patience };
        let work = Box::new(|| Err(child.wait()?.into_tool_error().into()));
        let found = supervise(&halt, &told, vec![StageWork { name: "hang", work }]);
        assert!(matches!(found, Err(EngineError::Stalled { after }) if after == patience), "{found:?}");
    }
}

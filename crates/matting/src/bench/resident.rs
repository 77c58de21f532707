//! Memory of the pipeline alone: a job with a model that needs none.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::free::{Luma, order};
use super::{LIMITS, Unwatched};
use crate::backdrop::Backdrop;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::plan::Plan;

/// Resident memory of this process around one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// Of the clip.
    pub frames: u64,
    /// Bytes before the job: the program, and ONNX Runtime without a model.
    pub before: u64,
    /// Greatest while it ran, bytes; ffmpeg's own processes are not in it.
    pub peak: u64,
}

/// Runs a job with a model that costs nothing and looks at this process meanwhile. Linux only.
///
/// # Errors
/// The job itself fails, or the kernel does not tell.
pub fn measure_resident(engine: &Engine, clip: &Path, work_dir: &Path) -> Result<Resident, EngineError> {
    let probe = engine.probe(clip, &LIMITS)?;
    let (spec, output) = (order(), work_dir.join("bench-output"));
    let task = super::task((clip, &probe), &spec, &output, work_dir);
    let plan = Plan::of(&task, engine.threads());
    // Takes the peak back to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").map_err(EngineError::io("cannot reset the peak of memory"))?;
    let before = status("VmRSS:")?;
    plan.run(engine.config(), &task, Backdrop::Nothing, &mut Luma::default(), &Unwatched)?;
    Ok(Resident { frames: probe.frames, before, peak: status("VmHWM:")? })
}

/// A line of this process's status, bytes.
fn status(name: &str) -> Result<u64, EngineError> {
    let text =
        std::fs::read_to_string("/proc/self/status").map_err(EngineError::io("cannot read the memory's size"))?;
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    let missing = || EngineError::io("cannot read the memory's size")(std::io::ErrorKind::InvalidData.into());
    Ok(kilobytes.ok_or_else(missing)? * 1024)
}

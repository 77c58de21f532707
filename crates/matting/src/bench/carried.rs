//! A model whose mattes are carried, beside the same model on every frame; both beside the true matte, if it is known.

use std::io::Read;
use std::path::Path;
use std::process::ChildStdout;

use rotoless_contract::{JobSpec, Model};
use serde::{Deserialize, Serialize};

use super::{Cost, LIMITS, Unwatched, cost_of, free};
use crate::backdrop::Backdrop;
use crate::child::{Child, Confinement};
use crate::decode::{Filled, fill};
use crate::engine::{Engine, Task};
use crate::error::EngineError;
use crate::frame::{Sight, Size};
use crate::kept::MatteUse;
use crate::media_arguments::{local_file, quiet_ffmpeg};
use crate::model::{Matter, Stopper};
use crate::plan::Plan;
use crate::registry::InputSpec;
use crate::tools::Tools;

/// One clip, with the model on some frames and on all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CarriedReport {
    /// File name of the clip.
    pub clip: String,
    /// Of the clip.
    pub frames: u64,
    /// The job as it is done.
    pub carried: Cost,
    /// The same with the model on every frame.
    pub raw: Cost,
    /// Mean absolute difference to the true matte, times 1000.
    pub carried_mad: Option<f64>,
    /// The same with the model on every frame.
    pub raw_mad: Option<f64>,
}

impl CarriedReport {
    /// Frames a second over those of the model on every frame, by CPU time.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.raw.cpu_seconds / self.carried.cpu_seconds.max(f64::MIN_POSITIVE)
    }

    /// The difference to the true matte over that of the model on every frame.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        Some(self.carried_mad? / self.raw_mad?.max(f64::MIN_POSITIVE))
    }
}

/// Measures one clip. The true matte is a video of gray frames as large as the clip's.
///
/// # Errors
/// The job itself fails, its files cannot be written, or the true matte is another clip's.
pub fn measure_carried(
    engine: &Engine,
    clip: &Path,
    truth: Option<&Path>,
    model: Model,
    work_dir: &Path,
) -> Result<CarriedReport, EngineError> {
    let probe = engine.probe(clip, &LIMITS)?;
    let spec = JobSpec { model, ..free::order() };
    let (output, kept) = (work_dir.join("bench-output"), work_dir.join("bench-matte.mkv"));
    let task = Task { matte: MatteUse::Keep(&kept), ..super::task((clip, &probe), &spec, &output, work_dir) };
    let (tools, plan) = (engine.tools(), Plan::of(&task, engine.threads()));
    let size = plan.decode(&task).size();
    let mad = || truth.map(|truth| difference(tools, &kept, truth, size)).transpose();
    let mut matter = engine.take_model(model)?;
    let carried = cost_of(|| plan.run(engine.config(), &task, Backdrop::Nothing, &mut *matter, &Unwatched).map(drop))?;
    let carried_mad = mad()?;
    let mut every = EveryFrame(matter);
    let raw = cost_of(|| plan.run(engine.config(), &task, Backdrop::Nothing, &mut every, &Unwatched).map(drop))?;
    let raw_mad = mad()?;
    engine.give_back(model, every.0);
    let clip = clip.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(CarriedReport { clip, frames: probe.frames, carried, raw, carried_mad, raw_mad })
}

/// A model that sees every frame.
struct EveryFrame(Box<dyn Matter>);

impl Matter for EveryFrame {
    fn input(&self) -> Option<&InputSpec> {
        self.0.input()
    }

    fn picture_size(&self, source: Size) -> Size {
        self.0.picture_size(source)
    }

    fn matte_size(&self, source: Size) -> Size {
        self.0.matte_size(source)
    }

    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError> {
        self.0.begin(prompt)
    }

    fn forget(&mut self) {
        self.0.forget();
    }

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        self.0.matte(sight, picture, matte)
    }

    fn end(&mut self) -> Result<(), EngineError> {
        self.0.end()
    }

    fn stopper(&self) -> Stopper {
        self.0.stopper()
    }
}

/// Mean absolute difference of two gray videos, times 1000.
fn difference(tools: &Tools, one: &Path, other: &Path, size: Size) -> Result<f64, EngineError> {
    let (mut one, mut other) = (Gray::open(tools, one, size)?, Gray::open(tools, other, size)?);
    let (mut sum, mut frames) = (0_u64, 0_u64);
    loop {
        match (one.next()?, other.next()?) {
            (true, true) => {}
            (false, false) => break,
            (true, false) | (false, true) => {
                return Err(EngineError::MatteMismatch { found: frames, expected: frames + 1 });
            }
        }
        frames += 1;
        sum += one.plane.iter().zip(&other.plane).map(|(one, other)| u64::from(one.abs_diff(*other))).sum::<u64>();
    }
    #[expect(clippy::cast_precision_loss, reason = "sums of differences, for people")]
    let mean = sum as f64 / (frames.max(1) as f64 * size.pixels() as f64 * 255.0);
    Ok(mean * 1000.0)
}

/// The frames of a gray video.
struct Gray {
    child: Child,
    stdout: ChildStdout,
    plane: Vec<u8>,
}

impl Gray {
    fn open(tools: &Tools, file: &Path, size: Size) -> Result<Self, EngineError> {
        let mut command = quiet_ffmpeg(tools);
        command.input(local_file(file)).filter(format!("scale={}:{},format=gray", size.width, size.height));
        command.args(["-f", "rawvideo", "pipe:1"]);
        let confinement = Confinement { memory_bytes: 4 << 30, cpu_seconds: 3600, file_bytes: 0 };
        let mut child = Child::spawn("the decoder of a matte", command, confinement)?;
        child.stdin = None;
        let Some(stdout) = child.stdout.take() else { return Err(child.wait()?.into_tool_error()) };
        Ok(Self { child, stdout, plane: vec![0; size.pixels()] })
    }

    fn next(&mut self) -> Result<bool, EngineError> {
        match fill(self.stdout.by_ref(), &mut self.plane).map_err(EngineError::io("cannot read a matte"))? {
            Filled::Whole => Ok(true),
            Filled::Part | Filled::Nothing => {
                let ended = self.child.wait()?;
                if ended.status.success() { Ok(false) } else { Err(ended.into_tool_error()) }
            }
        }
    }
}

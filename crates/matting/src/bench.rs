//! What a job costs, beside what it must cost at least.
//!
//! Owns: one run that measures the whole job and, on the same frames with the same settings and threads, its floor:
//! ffmpeg decoding alone, the model alone, ffmpeg encoding alone. CPU time is of this process and of the children it
//! waited for, so nothing else may run in the process meanwhile; wall time depends on the machine's other load.

mod carried;
mod free;
mod models;
mod peer;
mod resident;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rotoless_contract::JobSpec;
use rotoless_contract::worker::{MediaLimits, Stage};
use serde::{Deserialize, Serialize};

pub use self::models::{ModelCost, models, models_table};
use crate::backdrop::Backdrop;
use crate::child::{Child, Confinement};
use crate::decode::{DecodeOrder, Decoder};
use crate::encode::{EncodeOrder, Encoder, FramesFrom};
use crate::engine::{Engine, Task, Watch};
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher};
use crate::frame::Frame;
use crate::kept::MatteUse;
use crate::media_arguments::{input_guards, local_file, quiet_ffmpeg};
use crate::model::Matter;
use crate::model_picture::PictureMaker;
use crate::plan::Plan;
use crate::probe::Probe;
use crate::tools::Tools;

pub use self::carried::{CarriedReport, measure_carried};
pub use self::free::{FreeReport, measure_free};
pub use self::peer::{PeerOrder, peer_order};
pub use self::resident::{Resident, measure_resident};

/// Time that something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Of all threads and children, seconds.
    pub cpu_seconds: f64,
    /// Seconds.
    pub wall_seconds: f64,
}

/// A job and its floor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// File name of the clip.
    pub clip: String,
    /// What was ordered.
    pub spec: JobSpec,
    /// The execution provider.
    pub provider: String,
    /// Threads of the model, the decoder and the encoder, each.
    pub threads: usize,
    /// Frames of the clip.
    pub frames: u64,
    /// px.
    pub width: u32,
    /// px.
    pub height: u32,
    /// px: what the model was fed.
    pub picture_width: usize,
    /// px: what the model was fed.
    pub picture_height: usize,
    /// The whole job, from the probe to the verified output; the model was loaded before.
    pub whole: Cost,
    /// ffmpeg alone, decoding the clip to nothing.
    pub decode: Cost,
    /// The model alone, on ready pictures.
    pub inference: Cost,
    /// ffmpeg alone, encoding ready frames with the job's settings.
    pub encode: Cost,
}

impl Cost {
    fn plus(self, other: Self) -> Self {
        Self { cpu_seconds: self.cpu_seconds + other.cpu_seconds, wall_seconds: self.wall_seconds + other.wall_seconds }
    }

    /// The better of two, each figure on its own: other load can only make them worse.
    fn or(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds.min(other.cpu_seconds),
            wall_seconds: self.wall_seconds.min(other.wall_seconds),
        }
    }
}

impl Report {
    /// CPU time of the job over that of its floor: 1 is perfect.
    #[must_use]
    pub fn cpu_ratio(&self) -> f64 {
        self.whole.cpu_seconds
            / (self.decode.cpu_seconds + self.inference.cpu_seconds + self.encode.cpu_seconds).max(f64::MIN_POSITIVE)
    }

    /// Frames a second of the whole job.
    #[must_use]
    pub fn fps(&self) -> f64 {
        self.rate(self.whole)
    }

    /// Frames a second of ffmpeg alone encoding the same frames.
    #[must_use]
    pub fn encode_fps(&self) -> f64 {
        self.rate(self.encode)
    }

    fn rate(&self, cost: Cost) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let frames = self.frames as f64;
        frames / cost.wall_seconds.max(f64::MIN_POSITIVE)
    }

    /// The report for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{}: {} frames, {}x{}, model {} at {}x{} ({}, {} threads), {}\n",
            self.clip,
            self.frames,
            self.width,
            self.height,
            self.spec.model,
            self.picture_width,
            self.picture_height,
            self.provider,
            self.threads,
            self.spec.output_format,
        );
        let rows = [
            ("decode alone", self.decode),
            ("inference alone", self.inference),
            ("encode alone", self.encode),
            ("whole job", self.whole),
        ];
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:<16} {:>9} {:>9} {:>13} {:>9}", "", "CPU s", "wall s", "CPU ms/frame", "fps");
        for (name, cost) in rows {
            #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
            let per_frame = cost.cpu_seconds * 1000.0 / self.frames.max(1) as f64;
            let (cpu, wall, fps) = (cost.cpu_seconds, cost.wall_seconds, self.rate(cost));
            let _ = writeln!(text, "{name:<16} {cpu:>9.2} {wall:>9.2} {per_frame:>13.1} {fps:>9.1}");
        }
        let _ = writeln!(text, "whole / floor in CPU time: {:.3}", self.cpu_ratio());
        text
    }
}

/// One's own clips, whatever their length.
const LIMITS: MediaLimits =
    MediaLimits { max_bytes: 1 << 40, max_side: 8192, max_duration_ms: 24 * 3600 * 1000, max_fps: 240 };

/// A job of a measured clip: no background's file, nothing kept, nobody who pays.
pub(crate) fn task<'a>(
    (clip, probe): (&'a Path, &'a Probe),
    spec: &'a JobSpec,
    output: &'a Path,
    work_dir: &'a Path,
) -> Task<'a> {
    Task {
        input: clip,
        output,
        background: None,
        matte: MatteUse::Forget,
        segments: None,
        work_dir,
        probe,
        spec,
        limits: LIMITS,
        paid_seconds: None,
    }
}

/// Measures one clip. `work_dir` must have room for the clip's raw frames.
///
/// # Errors
/// The job itself fails, or its files cannot be written.
pub fn measure(engine: &Engine, clip: &Path, spec: &JobSpec, work_dir: &Path) -> Result<Report, EngineError> {
    let output = work_dir.join("bench-output");
    let probe = engine.probe(clip, &LIMITS)?;
    let task = task((clip, &probe), spec, &output, work_dir);
    let plan = Plan::of(&task, engine.threads());
    let frames_file = RawFrames(work_dir.join("bench-frames.raw"));

    let mut matter = engine.take_model(spec.model)?;
    matter.begin(spec.text_prompt.as_deref())?;
    let (order, encode) = (plan.decode(&task), plan.encode(&task));
    matter.warm_up(order.size())?;
    let picture = matter.picture_size(order.size());
    let canvas = Canvas {
        frame: order.size(),
        matte: matter.matte_size(order.size()),
        placement: plan.placement,
        has_hard_alpha: plan.codecs.has_hard_alpha(),
        clean_colour: engine.techniques().colour,
    };
    let finisher = Finisher::new(canvas, Backdrop::open(engine.tools(), &plan.backdrop(&task))?);
    let inference = prepare(engine.tools(), order, encode, finisher, &mut *matter, &frames_file.0)?;
    engine.give_back(spec.model, matter);

    let decode = cost_of(|| decode_alone(engine.tools(), order))?;
    let from_file = EncodeOrder { frames_from: FramesFrom::File(&frames_file.0), ..encode };
    let encode = cost_of(|| Encoder::start(engine.tools(), &from_file)?.finish())?;
    let whole = cost_of(|| {
        let probe = engine.probe(clip, &LIMITS)?;
        engine.remove_background(&Task { probe: &probe, ..task }, &Unwatched).map(drop)
    })?;
    Ok(Report {
        clip: clip.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        spec: spec.clone(),
        provider: engine.provider().to_owned(),
        threads: engine.threads(),
        frames: probe.frames,
        width: probe.info.width,
        height: probe.info.height,
        picture_width: picture.width,
        picture_height: picture.height,
        whole,
        decode,
        inference,
        encode,
    })
}

/// Deletes the raw frames, however the measurement ends.
struct RawFrames(PathBuf);

impl Drop for RawFrames {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _stage: Stage, _frames_done: u64, _frames_total: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// Works the clip frame by frame, keeps the frames as they go to the encoder, measures the model's part alone.
fn prepare(
    tools: &Tools,
    decode: DecodeOrder<'_>,
    encode: EncodeOrder<'_>,
    mut finisher: Finisher,
    matter: &mut dyn Matter,
    frames_file: &Path,
) -> Result<Cost, EngineError> {
    let size = decode.size();
    let picture = matter.picture_size(size);
    let mut maker = matter.input().map(|input| PictureMaker::new(size, picture, input));
    let failed = || EngineError::io("cannot write the raw frames");
    let mut raw = BufWriter::new(File::create(frames_file).map_err(failed())?);
    let mut frame = Frame::new(size);
    let mut decoder = Decoder::start(tools, &decode)?;
    let mut spent = Cost::default();
    while decoder.read(frame.yuv_mut())? {
        if let Some(maker) = &mut maker {
            let (colour, values) = frame.colour_and_picture();
            maker.make(colour, values)?;
        }
        let (sight, matte) = frame.sight_and_matte();
        // Only this process: the decoder works on meanwhile, and counts when it is waited for.
        let before = Instant::now();
        let cpu_before = cpu_seconds(UsageWho::RUSAGE_SELF)?;
        matter.matte(sight, picture, matte)?;
        spent.cpu_seconds += cpu_seconds(UsageWho::RUSAGE_SELF)? - cpu_before;
        spent.wall_seconds += before.elapsed().as_secs_f64();
        finisher.make_alpha(&mut frame)?;
        let done = finisher.finish(&mut frame)?;
        let bytes = if encode.codecs.with_alpha { done.frame.yuva() } else { done.frame.yuv() };
        raw.write_all(bytes).map_err(failed())?;
    }
    raw.flush().map_err(failed())?;
    Ok(spent)
}

/// What any program that decodes this clip pays.
fn decode_alone(tools: &Tools, order: DecodeOrder<'_>) -> Result<(), EngineError> {
    let mut command = quiet_ffmpeg(tools);
    command.args(["-threads", &order.threads.to_string()]);
    command.args(input_guards(order.source.container, order.limits)).input(local_file(order.input));
    command.map(format!("0:{}", order.source.video_index)).args(["-f", "null", "-"]);
    let confinement = Confinement { memory_bytes: 8 << 30, cpu_seconds: order.cpu_seconds, file_bytes: 0 };
    let mut child = Child::spawn("the decoder alone", command, confinement)?;
    let ended = child.wait()?;
    if ended.status.success() { Ok(()) } else { Err(ended.into_media_error()) }
}

pub(crate) fn cost_of(work: impl FnOnce() -> Result<(), EngineError>) -> Result<Cost, EngineError> {
    let started = Instant::now();
    let cpu = || Ok::<_, EngineError>(cpu_seconds(UsageWho::RUSAGE_SELF)? + cpu_seconds(UsageWho::RUSAGE_CHILDREN)?);
    let before = cpu()?;
    work()?;
    Ok(Cost { cpu_seconds: cpu()? - before, wall_seconds: started.elapsed().as_secs_f64() })
}

pub(crate) fn cpu_seconds(who: UsageWho) -> Result<f64, EngineError> {
    let usage = getrusage(who).map_err(|error| EngineError::io("cannot read the CPU time")(error.into()))?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.unsigned_abs()).as_secs_f64())
}

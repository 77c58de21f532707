//! How much better mattes are than the model alone, on clips whose true alpha is known.
//!
//! Owns: for each clip and model the mattes of the model alone on every frame, those that a job keeps, and the
//! comparison of both with the truth. For each NAME.mp4 of a directory the truth is NAME.alpha.mkv (gray, the same
//! frames). Does not own: the figures (`figures`). The job is the one that everybody gets: its pipeline, from the file.

mod cache;
mod figures;
mod png;
mod sheet;

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rotoless_contract::media::Quality;
use rotoless_contract::worker::MediaLimits;
use rotoless_contract::{Background, JobSpec, Model, OutputFormat};
use serde::{Deserialize, Serialize};

use self::cache::Cached;
pub use self::figures::Figures;
use self::figures::Tally;
use self::sheet::Sheet;
use crate::backdrop::Backdrop;
use crate::bench::{self, Unwatched, cost_of};
use crate::child::{Child, Confinement};
use crate::decode::Decoder;
use crate::engine::{Engine, Task};
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher};
use crate::frame::{Frame, Size};
use crate::kept::{KeptMatte, MatteOrder, MatteUse};
use crate::media_arguments::{local_file, quiet_ffmpeg};
use crate::model::Matter;
use crate::model_picture::PictureMaker;
use crate::plan::Plan;
use crate::quality;
use crate::scaling::MatteScaler;
use crate::scene::CutDetector;
use crate::techniques::Techniques;
use crate::tools::Tools;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct QualityOrder<'a> {
    /// Where NAME.mp4 and NAME.alpha.mkv are.
    pub clips: &'a Path,
    /// Their roles.
    pub models: &'a [Model],
    /// Numbers of the frames that are measured; all without. Nothing behind them is worked on.
    pub frames: Option<Range<usize>>,
    /// Where contact sheets go.
    pub sheets: Option<&'a Path>,
    /// Where the models' mattes are kept, and taken from in later runs: techniques are tried without inference.
    pub mattes: Option<&'a Path>,
    /// For raw frames and such.
    pub work_dir: &'a Path,
}

/// One clip and model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRow {
    /// Without its extension.
    pub clip: String,
    /// The role.
    pub model: Model,
    /// Frames measured.
    pub frames: usize,
    /// The model alone, on every frame.
    pub raw: Figures,
    /// With all that is added.
    pub ours: Figures,
    /// CPU milliseconds a frame of the model alone; none when its mattes were taken from the cache.
    pub raw_ms: Option<f64>,
    /// CPU milliseconds a frame of the job; without its model when the mattes were taken from the cache.
    pub job_ms: f64,
    /// What a job would say.
    pub quality: Option<Quality>,
}

/// The clips of a directory that have a truth.
///
/// # Errors
/// It cannot be read.
pub fn clips(directory: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let failed = || EngineError::io("cannot read the directory of clips");
    let mut clips = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path.extension().is_some_and(|extension| extension == "mp4") && truth_of(&path).is_file() {
            clips.push(path);
        }
    }
    clips.sort();
    Ok(clips)
}

fn truth_of(clip: &Path) -> PathBuf {
    clip.with_extension("alpha.mkv")
}

/// Measures all clips with all models; `done` is told each row.
///
/// # Errors
/// A clip or its truth cannot be read, or a model is not there.
pub fn measure_quality(
    engine: &Engine,
    order: &QualityOrder<'_>,
    mut done: impl FnMut(&QualityRow),
) -> Result<Vec<QualityRow>, EngineError> {
    let mut rows = Vec::new();
    for clip in clips(order.clips)? {
        for &model in order.models {
            let row = measure_clip(engine, order, &clip, model)?;
            done(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn measure_clip(
    engine: &Engine,
    order: &QualityOrder<'_>,
    clip: &Path,
    model: Model,
) -> Result<QualityRow, EngineError> {
    let name = clip.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let truth = truth_of(clip);
    let beginning = order.work_dir.join("bench-beginning.mkv");
    let clip = match &order.frames {
        Some(range) => {
            keep_beginning(engine.tools(), clip, range.end, &beginning)?;
            beginning.as_path()
        }
        None => clip,
    };
    let spec = JobSpec {
        model,
        background: Background::Transparent,
        output_format: OutputFormat::Webm,
        text_prompt: None,
        composition: None,
    };
    let limits = MediaLimits::default();
    let probe = engine.probe(clip, &limits)?;
    let (output, kept) = (order.work_dir.join("bench-output"), order.work_dir.join("bench-matte.mkv"));
    let task =
        Task { limits, matte: MatteUse::Keep(&kept), ..bench::task((clip, &probe), &spec, &output, order.work_dir) };
    let plan = Plan::of(&task, engine.threads());
    let cache = |kind: &str| order.mattes.map(|directory| directory.join(format!("{name}-{model}-{kind}.f32")));

    let mut matter = Cached::open(engine.load_model(model, engine.techniques())?, cache("ours"))?;
    let mut scores = Vec::new();
    let job = cost_of(|| {
        scores = plan.run(engine.config(), &task, Backdrop::Nothing, &mut matter, &Unwatched)?.scores;
        Ok(())
    })?;
    drop(matter);
    let mut raw = Cached::open(engine.load_model(model, Techniques::NONE)?, cache("raw"))?;
    let frames = usize::try_from(plan.frames).unwrap_or(usize::MAX);
    let range = order.frames.clone().map_or(0..frames, |range| range.start..range.end.min(frames));
    let mut comparison = Comparison::new(engine, &task, &plan, &mut raw, [&kept, &truth])?;
    comparison.sheet = order.sheets.map(|_| Sheet::new(comparison.size, &range));
    while comparison.next(&range)? {}
    if let (Some(directory), Some(sheet)) = (order.sheets, &comparison.sheet) {
        sheet.write(&directory.join(format!("{name}-{model}.png")))?;
    }
    let [of_raw, of_ours] = &comparison.tallies;
    let each = |seconds: f64| seconds * 1000.0 / comparison.number.max(1) as f64;
    let (raw_seconds, is_replayed) = (comparison.raw_seconds, comparison.raw.is_replayed());
    Ok(QualityRow {
        clip: name,
        model,
        frames: of_raw.frames(),
        raw: of_raw.figures(),
        ours: of_ours.figures(),
        raw_ms: (!is_replayed).then(|| each(raw_seconds)),
        job_ms: each(job.cpu_seconds),
        quality: quality::summary(&scores),
    })
}

/// Writes the first frames of a clip to a file of their own, without loss.
fn keep_beginning(tools: &Tools, clip: &Path, frames: usize, to: &Path) -> Result<(), EngineError> {
    let mut command = quiet_ffmpeg(tools);
    command.input(local_file(clip)).map("0:v:0").args(["-frames:v", &frames.to_string(), "-c:v", "ffv1", "-an"]);
    command.args(["-f", "matroska", "-y"]).output(local_file(to));
    let confinement = Confinement { memory_bytes: 4 << 30, cpu_seconds: 3600, file_bytes: 64 << 30 };
    let ended = Child::spawn("the cutter of a clip", command, confinement)?.wait()?;
    if ended.status.success() { Ok(()) } else { Err(ended.into_media_error()) }
}

/// The model's mattes and the job's beside the truth, frame by frame.
struct Comparison<'m> {
    size: Size,
    decoder: Decoder,
    eye: PictureMaker,
    picture: Size,
    cuts: CutDetector,
    raw: &'m mut Cached,
    raw_seconds: f64,
    to_frame: MatteScaler,
    /// What the job kept, and the truth.
    files: [KeptMatte; 2],
    finisher: Finisher,
    frame: Frame,
    number: usize,
    /// Of the model alone, and of the job.
    tallies: [Tally; 2],
    sheet: Option<Sheet>,
}

impl<'m> Comparison<'m> {
    fn new(
        engine: &Engine,
        task: &Task<'_>,
        plan: &Plan,
        raw: &'m mut Cached,
        files: [&Path; 2],
    ) -> Result<Self, EngineError> {
        let decode = plan.decode(task);
        let size = decode.size();
        let (picture, matte) = (raw.picture_size(size), raw.matte_size(size));
        raw.begin(None)?;
        let Some(input) = raw.input() else {
            return Err(EngineError::MissingWeights { model: "a model that looks at pictures".into() });
        };
        let eye = PictureMaker::new(size, picture, input);
        let open = |file| {
            let (rate, frames, threads) = (plan.source.rate, plan.frames, engine.threads());
            let order =
                MatteOrder { file, size, rate, frames, resampled: false, threads, cpu_seconds: plan.cpu_seconds };
            KeptMatte::open(engine.tools(), &order)
        };
        let clean_colour = engine.techniques().colour;
        // Alpha is made already.
        let canvas = Canvas { frame: size, matte: size, placement: None, has_hard_alpha: false, clean_colour };
        Ok(Self {
            size,
            decoder: Decoder::start(engine.tools(), &decode)?,
            eye,
            picture,
            cuts: CutDetector::new(size),
            raw,
            raw_seconds: 0.0,
            to_frame: MatteScaler::new(matte, size),
            files: [open(files[0])?, open(files[1])?],
            finisher: Finisher::new(canvas, Backdrop::Nothing),
            frame: Frame::new(size),
            number: 0,
            tallies: [Tally::new(size), Tally::new(size)],
            sheet: None,
        })
    }

    /// The next frame; false when there is none.
    fn next(&mut self, range: &Range<usize>) -> Result<bool, EngineError> {
        let Self { frame, .. } = self;
        if self.number == range.end || !self.decoder.read(frame.yuv_mut())? {
            return Ok(false);
        }
        let [kept, truth] = &mut self.files;
        let mut plane = Vec::new();
        let mut read = |file: &mut KeptMatte| -> Result<Vec<u8>, EngineError> {
            file.matte(frame.sight_and_matte().0, self.size, &mut plane)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..1 times 255, rounded")]
            let bytes = plane.iter().map(|value| (value * 255.0 + 0.5) as u8).collect();
            Ok(bytes)
        };
        let (ours, truth) = (read(kept)?, read(truth)?);
        // A model that carries something must see what it would have seen; others only what is measured.
        if self.raw.is_recurrent() || range.contains(&self.number) {
            let (colour, picture) = frame.colour_and_picture();
            self.eye.make(colour, picture)?;
            if self.cuts.starts_scene(colour)? {
                self.raw.forget();
            }
            frame.number = self.number as u64;
            let spent = cost_of(|| self.raw.mattes(std::slice::from_mut(frame), self.picture))?;
            self.raw_seconds += spent.cpu_seconds;
        }
        if range.contains(&self.number) {
            let mut raw = vec![0; self.size.pixels()];
            self.to_frame.scale_to_bytes(&frame.matte, &mut raw)?;
            let [of_raw, of_ours] = &mut self.tallies;
            of_raw.count(&raw, &truth);
            of_ours.count(&ours, &truth);
            if let Some(sheet) = self.sheet.as_mut().filter(|sheet| sheet.wants(self.number)) {
                let source = frame.yuv().to_vec();
                frame.planes_and_matte().0.alpha.copy_from_slice(&ours);
                let done = self.finisher.finish(frame)?;
                sheet.add(&source, &raw, done.frame, &truth);
            }
        }
        self.number += 1;
        Ok(true)
    }
}

impl QualityRow {
    /// The heading of [`Self::line`].
    #[must_use]
    pub fn heading() -> String {
        format!(
            "{:<12} {:<9} {:>4}  {:<37} {:<37} {:<29} {}",
            "clip", "model", "n", "raw: MAD MSE Grad dtSSD IoU", "ours", "ratio MAD MSE Grad dtSSD", "CPU ms"
        )
    }

    /// The row for people.
    #[must_use]
    pub fn line(&self) -> String {
        let figures =
            |f: &Figures| format!("{:>7.2} {:>7.2} {:>7.2} {:>6.2} {:>5.3}", f.mad, f.mse, f.gradient, f.dtssd, f.iou);
        let ratio = |ours: f64, raw: f64| if raw == 0.0 && ours == 0.0 { 1.0 } else { ours / raw };
        let (raw, ours) = (&self.raw, &self.ours);
        let mut line = format!(
            "{:<12} {:<9} {:>4} {} | {} | {:>6.3} {:>6.3} {:>6.3} {:>6.3} |",
            self.clip,
            self.model.to_string(),
            self.frames,
            figures(raw),
            figures(ours),
            ratio(ours.mad, raw.mad),
            ratio(ours.mse, raw.mse),
            ratio(ours.gradient, raw.gradient),
            ratio(ours.dtssd, raw.dtssd),
        );
        // Writing to a String does not fail.
        if let Some(ms) = self.raw_ms {
            let _ = write!(line, " model {ms:.0}");
        }
        let _ = write!(line, " job {:.0}", self.job_ms);
        if let Some(quality) = &self.quality {
            let _ = write!(line, " | flicker {:.4} unsure {:?}", quality.flicker, quality.low_confidence_frames);
        }
        line
    }
}

//! How much better mattes are than the model alone, on clips whose true alpha is known.
//!
//! Owns: one run that makes, of each frame, the raw model's matte and ours, and compares both with the truth. For each
//! NAME.mp4 of a directory the truth is NAME.alpha.mkv (gray, the same frames). Does not own: the figures (`figures`).
//! Recurrent models see a clip from its start, still ones from a little before the first frame that is measured.

mod cache;
mod figures;
mod png;
mod sheet;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use nix::sys::resource::UsageWho;
use rotoless_contract::media::Quality;
use rotoless_contract::worker::MediaLimits;
use rotoless_contract::{Background, JobSpec, Model, OutputFormat};
use serde::{Deserialize, Serialize};

use self::cache::CachedMatter;
pub use self::figures::Figures;
use self::figures::Tally;
use self::sheet::Sheet;
use crate::backdrop::Backdrop;
use crate::bench;
use crate::bench::cpu_seconds;
use crate::decode::Decoder;
use crate::engine::{Engine, Task};
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher};
use crate::frame::{Frame, Size};
use crate::kept::{KeptMatte, MatteOrder};
use crate::model::Matter;
use crate::model_picture::PictureMaker;
use crate::plan::Plan;
use crate::quality::{self, Score};
use crate::refine::{LOOK_AHEAD, Refiner};
use crate::scaling::MatteScaler;
use crate::scene::CutDetector;
use crate::techniques::Techniques;

/// Frames that a still model's mattes are steadied over before the first one that is measured.
const WARM_UP: usize = 12;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct QualityOrder<'a> {
    /// Where NAME.mp4 and NAME.alpha.mkv are.
    pub clips: &'a Path,
    /// Their roles.
    pub models: &'a [Model],
    /// Numbers of the frames that are measured; all without.
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
    /// The model alone.
    pub raw: Figures,
    /// With all that is added.
    pub ours: Figures,
    /// CPU milliseconds a frame of the model alone; none when its mattes were taken from the cache.
    pub raw_ms: Option<f64>,
    /// CPU milliseconds a frame of the second looks of a still model.
    pub region_ms: Option<f64>,
    /// CPU milliseconds a frame of steadying, edges and judging.
    pub refine_ms: f64,
    /// CPU milliseconds a frame of cleaning the colour and filling.
    pub finish_ms: f64,
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
    let spec = JobSpec {
        model,
        background: Background::Transparent,
        output_format: OutputFormat::Webm,
        text_prompt: None,
        composition: None,
    };
    let limits = MediaLimits::default();
    let probe = engine.probe(clip, &limits)?;
    let output = order.work_dir.join("bench-output");
    let task = Task { limits, ..bench::task((clip, &probe), &spec, &output, order.work_dir) };
    let plan = Plan::of(&task, engine.threads());
    let decode = plan.decode(&task);
    let size = decode.size();
    let truth_file = truth_of(clip);
    let truth = KeptMatte::open(
        engine.tools(),
        &MatteOrder {
            file: &truth_file,
            size,
            rate: plan.source.rate,
            frames: plan.frames,
            resampled: false,
            threads: engine.threads(),
            cpu_seconds: plan.cpu_seconds,
        },
    )?;
    let name = clip.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let techniques = engine.techniques();
    let cache = |kind: &str| order.mattes.map(|directory| directory.join(format!("{name}-{model}-{kind}.f32")));
    let raw = engine.load_model(model, Techniques::NONE)?;
    let looks_closer = techniques.region && engine.looks_closer(model)?;
    let closer = looks_closer.then(|| engine.load_model(model, techniques)).transpose()?;
    let mut bench = ClipBench::new(
        size,
        techniques,
        CachedMatter::open(raw, cache("raw"), size)?,
        closer.map(|matter| CachedMatter::open(matter, cache("region"), size)).transpose()?,
        truth,
    )?;
    let frames = usize::try_from(plan.frames).unwrap_or(usize::MAX);
    let range = order.frames.clone().map_or(0..frames, |range| range.start..range.end.min(frames));
    bench.sheet = order.sheets.map(|_| Sheet::new(size, &range));
    let mut decoder = Decoder::start(engine.tools(), &decode)?;
    let mut frame = Frame::new(size);
    let first = if bench.raw.is_recurrent() { 0 } else { range.start.saturating_sub(WARM_UP) };
    for number in 0..range.end + LOOK_AHEAD {
        if !decoder.read(frame.yuv_mut())? {
            break;
        }
        frame = bench.take(number, frame, number >= first, &range)?;
    }
    bench.end(&range)?;
    if let (Some(directory), Some(sheet)) = (order.sheets, &bench.sheet) {
        sheet.write(&directory.join(format!("{name}-{model}.png")))?;
    }
    Ok(bench.row(name, model))
}

/// What is on its way for one clip and model.
struct ClipBench {
    size: Size,
    eye: PictureMaker,
    picture: Size,
    cuts: CutDetector,
    raw: CachedMatter,
    closer: Option<CachedMatter>,
    truth: KeptMatte,
    refiner: Refiner,
    finisher: Finisher,
    to_frame: MatteScaler,
    /// Of the frames that wait in the refiner: number, raw alpha, truth.
    waiting: VecDeque<(usize, Vec<u8>, Vec<u8>)>,
    spare: Vec<Frame>,
    tallies: [Tally; 2],
    scores: Vec<Score>,
    costs: Costs,
    sheet: Option<Sheet>,
}

#[derive(Default)]
struct Costs {
    raw: f64,
    region: f64,
    refine: f64,
    finish: f64,
    frames: usize,
}

impl ClipBench {
    fn new(
        size: Size,
        techniques: Techniques,
        mut raw: CachedMatter,
        mut closer: Option<CachedMatter>,
        truth: KeptMatte,
    ) -> Result<Self, EngineError> {
        let (picture, matte) = (raw.matter.picture_size(size), raw.matter.matte_size(size));
        raw.matter.begin(None)?;
        if let Some(closer) = &mut closer {
            closer.matter.begin(None)?;
        }
        let ours = closer.as_ref().map_or(matte, |closer| closer.matter.matte_size(size));
        let Some(input) = raw.matter.input() else {
            return Err(EngineError::MissingWeights { model: "a model that looks at pictures".into() });
        };
        let canvas = Canvas {
            frame: size,
            matte: ours,
            placement: None,
            has_hard_alpha: false,
            clean_colour: techniques.colour,
        };
        Ok(Self {
            size,
            eye: PictureMaker::new(size, picture, input),
            picture,
            cuts: CutDetector::new(size),
            raw,
            closer,
            truth,
            refiner: Refiner::new(techniques, size, ours),
            finisher: Finisher::new(canvas, Backdrop::Nothing),
            to_frame: MatteScaler::new(matte, size),
            waiting: VecDeque::new(),
            spare: Vec::new(),
            tallies: [Tally::new(size), Tally::new(size)],
            scores: Vec::new(),
            costs: Costs::default(),
            sheet: None,
        })
    }

    /// Takes a frame; gives one to decode the next into.
    fn take(
        &mut self,
        number: usize,
        mut frame: Frame,
        is_matted: bool,
        range: &Range<usize>,
    ) -> Result<Frame, EngineError> {
        let mut truth = Vec::new();
        self.truth.matte(frame.sight_and_matte().0, self.size, &mut truth)?;
        if !is_matted {
            return Ok(frame);
        }
        let (colour, picture) = frame.colour_and_picture();
        self.eye.make(colour, picture)?;
        frame.starts_scene = self.cuts.starts_scene(colour)?;
        self.costs.frames += 1;
        if frame.starts_scene {
            self.raw.matter.forget();
        }
        let (sight, matte) = frame.sight_and_matte();
        self.costs.raw += self.raw.matte(number, sight, self.picture, matte)?;
        let mut raw = vec![0; self.size.pixels()];
        self.to_frame.scale_to_bytes(matte, &mut raw)?;
        if let Some(closer) = &mut self.closer {
            if frame.starts_scene {
                closer.matter.forget();
            }
            let (sight, matte) = frame.sight_and_matte();
            self.costs.region += closer.matte(number, sight, self.picture, matte)?;
        }
        let mut bytes = vec![0; truth.len()];
        for (byte, value) in bytes.iter_mut().zip(&truth) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..1 times 255, rounded")]
            let rounded = (value * 255.0 + 0.5) as u8;
            *byte = rounded;
        }
        self.waiting.push_back((number, raw, bytes));
        let mut ready = Vec::new();
        let before = cpu_seconds(UsageWho::RUSAGE_THREAD)?;
        self.refiner.take(frame, |_, frame| {
            ready.push(frame);
            Ok::<_, EngineError>(())
        })?;
        self.costs.refine += cpu_seconds(UsageWho::RUSAGE_THREAD)? - before;
        self.count(ready, range)?;
        Ok(self.spare.pop().unwrap_or_else(|| Frame::new(self.size)))
    }

    fn end(&mut self, range: &Range<usize>) -> Result<(), EngineError> {
        let mut ready = Vec::new();
        self.refiner.end(|_, frame| {
            ready.push(frame);
            Ok::<_, EngineError>(())
        })?;
        self.count(ready, range)
    }

    fn count(&mut self, ready: Vec<Frame>, range: &Range<usize>) -> Result<(), EngineError> {
        for mut frame in ready {
            let Some((number, raw, truth)) = self.waiting.pop_front() else { break };
            self.scores.extend(frame.score);
            if range.contains(&number) {
                let [of_raw, of_ours] = &mut self.tallies;
                of_raw.count(&raw, &truth);
                of_ours.count(frame.alpha(), &truth);
                let wants = self.sheet.as_ref().is_some_and(|sheet| sheet.wants(number));
                let source = wants.then(|| frame.yuv().to_vec());
                let before = cpu_seconds(UsageWho::RUSAGE_THREAD)?;
                let done = self.finisher.finish(&mut frame)?;
                self.costs.finish += cpu_seconds(UsageWho::RUSAGE_THREAD)? - before;
                if let (Some(sheet), Some(source)) = (&mut self.sheet, source) {
                    sheet.add(&source, &raw, done.frame, &truth);
                }
            }
            self.spare.push(frame);
        }
        Ok(())
    }

    fn row(&self, clip: String, model: Model) -> QualityRow {
        let frames = self.costs.frames.max(1) as f64;
        let live = |matter: &CachedMatter, seconds: f64| (!matter.is_replayed()).then_some(seconds * 1000.0 / frames);
        let [raw, ours] = &self.tallies;
        QualityRow {
            clip,
            model,
            frames: raw.frames(),
            raw: raw.figures(),
            ours: ours.figures(),
            raw_ms: live(&self.raw, self.costs.raw),
            region_ms: self.closer.as_ref().and_then(|closer| live(closer, self.costs.region)),
            refine_ms: self.costs.refine * 1000.0 / frames,
            finish_ms: self.costs.finish * 1000.0 / raw.frames().max(1) as f64,
            quality: quality::summary(&self.scores),
        }
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
        if let Some(ms) = self.region_ms {
            let _ = write!(line, " with region {ms:.0}");
        }
        let _ = write!(line, " refine {:.1} finish {:.1}", self.refine_ms, self.finish_ms);
        if let Some(quality) = &self.quality {
            let _ = write!(line, " | flicker {:.4} unsure {:?}", quality.flicker, quality.low_confidence_frames);
        }
        line
    }
}

//! The pipeline with a model that costs nothing, beside ffmpeg alone.
//!
//! What is left when inference is taken away is the pipeline's own cost. The mattes are real ones, made beforehand: how
//! much of a frame is soft decides what refining and cleaning it costs. Beside it two ffmpeg processes do what cannot be
//! done without: one decodes the source to nothing while the other encodes the same finished frames, ready in a file,
//! with the same settings, sound included.

use std::path::Path;

use rotoless_contract::{Background, JobSpec, Model, OutputFormat};
use serde::{Deserialize, Serialize};

use super::{Cost, LIMITS, RawFrames, Unwatched, cost_of, decode_alone, prepare};
use crate::backdrop::Backdrop;
use crate::encode::{EncodeOrder, Encoder, FramesFrom};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher};
use crate::frame::{Sight, Size};
use crate::model::{Matter, Stopper};
use crate::plan::Plan;
use crate::registry::{ChannelOrder, InputSize, InputSpec, Layout};
use crate::verify::verify;

/// The pipeline without inference, beside ffmpeg alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FreeReport {
    /// Of the clip.
    pub frames: u64,
    /// px.
    pub width: u32,
    /// px.
    pub height: u32,
    /// From the source to the whole output, not verified.
    pub pipeline: Cost,
    /// Its verification.
    pub verification: Cost,
    /// ffmpeg alone: decoding the source, encoding the finished frames.
    pub ffmpeg: Cost,
}

impl FreeReport {
    /// Frames a second of the pipeline over those of ffmpeg alone: 1 is perfect.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ffmpeg.wall_seconds / self.pipeline.wall_seconds.max(f64::MIN_POSITIVE)
    }

    /// The same with the output verified.
    #[must_use]
    pub fn verified_ratio(&self) -> f64 {
        self.ffmpeg.wall_seconds / self.pipeline.plus(self.verification).wall_seconds.max(f64::MIN_POSITIVE)
    }

    /// CPU time of ffmpeg alone over that of the pipeline.
    #[must_use]
    pub fn cpu_ratio(&self) -> f64 {
        self.ffmpeg.cpu_seconds / self.pipeline.cpu_seconds.max(f64::MIN_POSITIVE)
    }
}

/// What is ordered: the dearest ordinary output.
pub(super) fn order() -> JobSpec {
    JobSpec {
        model: Model::Human,
        background: Background::Transparent,
        output_format: OutputFormat::Webm,
        text_prompt: None,
        composition: None,
    }
}

/// Measures one clip, the best of so many runs of each. `work_dir` must have room for the clip's raw frames.
///
/// # Errors
/// The job itself fails, or its files cannot be written.
pub fn measure_free(engine: &Engine, clip: &Path, work_dir: &Path, runs: usize) -> Result<FreeReport, EngineError> {
    let probe = engine.probe(clip, &LIMITS)?;
    let spec = order();
    let output = work_dir.join("bench-output");
    let task = super::task((clip, &probe), &spec, &output, work_dir);
    let (tools, plan) = (engine.tools(), Plan::of(&task, engine.threads()));
    let frames_file = RawFrames(work_dir.join("bench-frames.raw"));
    let (decode, encode) = (plan.decode(&task), plan.encode(&task));
    let mut matter = Known::of(engine.take_model(spec.model)?);
    matter.begin(None)?;
    matter.warm_up(decode.size())?;
    let canvas = Canvas {
        frame: decode.size(),
        matte: matter.matte_size(decode.size()),
        placement: None,
        has_hard_alpha: plan.codecs.has_hard_alpha(),
        clean_colour: engine.techniques().colour,
    };
    prepare(tools, decode, encode, Finisher::new(canvas, Backdrop::Nothing), &mut matter, &frames_file.0)?;
    let from_file = EncodeOrder { frames_from: FramesFrom::File(&frames_file.0), ..encode };
    let mut best: Option<[Cost; 3]> = None;
    for _ in 0..runs.max(1) {
        let ffmpeg = cost_of(|| {
            // This thread's children must not outlive it: each process is waited for by the thread that started it.
            std::thread::scope(|scope| {
                let decoding = scope.spawn(|| decode_alone(tools, decode));
                let encoded = Encoder::start(tools, &from_file)?.finish();
                decoding.join().map_err(|_| EngineError::Panicked { stage: "decode" })??;
                encoded
            })
        })?;
        let mut alpha = Vec::new();
        matter.begin(None)?;
        let pipeline = cost_of(|| {
            alpha = plan.run(engine.config(), &task, Backdrop::Nothing, &mut matter, &Unwatched)?.means;
            Ok(())
        })?;
        let verification = cost_of(|| verify(tools, &plan.file, &plan.promise(&task, &alpha), &Unwatched).map(drop))?;
        let run = [pipeline, verification, ffmpeg];
        best = Some(best.map_or(run, |best| std::array::from_fn(|n| best[n].or(run[n]))));
    }
    engine.give_back(spec.model, matter.model);
    let [pipeline, verification, ffmpeg] = best.unwrap_or_default();
    let (width, height) = (probe.info.width, probe.info.height);
    Ok(FreeReport { frames: probe.frames, width, height, pipeline, verification, ffmpeg })
}

/// A model that costs nothing from the second time on: what it was asked before it knows by heart.
struct Known {
    model: Box<dyn Matter>,
    /// Of the clip's first frames.
    mattes: Vec<Vec<f32>>,
    next: usize,
}

impl Known {
    fn of(model: Box<dyn Matter>) -> Self {
        Self { model, mattes: Vec::new(), next: 0 }
    }
}

impl Matter for Known {
    fn input(&self) -> Option<&InputSpec> {
        self.model.input()
    }

    fn picture_size(&self, source: Size) -> Size {
        self.model.picture_size(source)
    }

    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError> {
        self.next = 0;
        self.model.begin(prompt)
    }

    fn warm_up(&mut self, source: Size) -> Result<(), EngineError> {
        self.model.warm_up(source)
    }

    fn forget(&mut self) {}

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        if let Some(known) = self.mattes.get(self.next) {
            matte.clone_from(known);
        } else {
            self.model.matte(sight, picture, matte)?;
            self.mattes.push(matte.clone());
        }
        self.next += 1;
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        self.model.stopper()
    }
}

/// A model that costs nothing and keeps nothing: what is bright is the subject. Its picture is as large as `human`'s.
#[derive(Debug)]
pub(super) struct Luma(InputSpec);

impl Default for Luma {
    fn default() -> Self {
        Self(InputSpec {
            name: "picture".to_owned(),
            size: InputSize::Free { multiple_of: 1, long_side: 512, close_up_long_side: 512 },
            layout: Layout::Nchw,
            channels: ChannelOrder::Rgb,
            scale: 1.0 / 255.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        })
    }
}

impl Matter for Luma {
    fn input(&self) -> Option<&InputSpec> {
        Some(&self.0)
    }

    fn picture_size(&self, source: Size) -> Size {
        let long = source.width.max(source.height).max(1);
        let side = |side: usize| (side * 512 / long).max(1);
        Size { width: side(source.width), height: side(source.height) }
    }

    fn begin(&mut self, _prompt: Option<&str>) -> Result<(), EngineError> {
        Ok(())
    }

    fn forget(&mut self) {}

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        matte.clear();
        let green = sight.picture.iter().skip(picture.pixels()).take(picture.pixels());
        matte.extend(green.map(|value| (value * 4.0 - 1.2).clamp(0.0, 1.0)));
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        Stopper::of_nothing()
    }
}

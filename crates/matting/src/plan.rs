//! What follows from a task before anything is done: the timeline, the orders of every stage, the promise to keep.

use std::path::{Path, PathBuf};

use rotoless_contract::Background;

use crate::backdrop::{Backdrop, BackdropOrder};
use crate::decode::DecodeOrder;
use crate::encode::{Codecs, ENCODER, EncodeOrder, Extent, FramesFrom};
use crate::engine::{EngineConfig, Task, Watch};
use crate::error::EngineError;
use crate::finish::Placement;
use crate::frame::Size;
use crate::kept::{MatteOrder, MatteUse};
use crate::model::Matter;
use crate::pipeline::outlet::PartsOrder;
use crate::pipeline::stretch::Stretch;
use crate::pipeline::{self, Budget, Made, Pipeline};
use crate::probe::Source;
use crate::sound::Sound;
use crate::tools::Tools;
use crate::verify::Promise;

/// What follows from a task.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) codecs: Codecs,
    /// The source on the output's timeline.
    pub(crate) source: Source,
    /// Frames on that timeline.
    pub(crate) frames: u64,
    pub(crate) placement: Option<Placement>,
    /// The output while it is being written.
    pub(crate) file: PathBuf,
    pub(crate) threads: usize,
    pub(crate) cpu_seconds: u64,
}

impl Plan {
    pub(crate) fn of(task: &Task<'_>, threads: usize) -> Self {
        let format = task.spec.output_format;
        let with_alpha = format.has_alpha() && matches!(task.spec.background, Background::Transparent);
        let codecs = Codecs { format, with_alpha };
        let (mut source, mut frames) = (task.probe.source.clone(), task.probe.frames);
        let rate = codecs.rate_of(&source);
        if rate != source.rate {
            frames = source.rate.resampled(frames, rate);
            source.rate = rate;
        }
        let size = Size { width: source.width as usize, height: source.height as usize };
        // Wall time of an attempt (guarantees §8) on all threads.
        let wall_seconds = (task.probe.duration_ms / 1000 * 20).clamp(600, 7200);
        Self {
            codecs,
            source,
            frames,
            placement: task.spec.composition.as_ref().map(|composition| Placement::of(composition, size)),
            file: task.work_dir.join(format!("output.{}", format.extension())),
            threads,
            cpu_seconds: wall_seconds * threads as u64,
        }
    }

    /// Of the output.
    pub(crate) fn canvas(&self) -> Size {
        let source = Size { width: self.source.width as usize, height: self.source.height as usize };
        self.placement.map_or(source, |placement| placement.canvas)
    }

    pub(crate) fn mattes<'a>(&self, file: &'a Path) -> MatteOrder<'a> {
        MatteOrder {
            file,
            size: Size { width: self.source.width as usize, height: self.source.height as usize },
            rate: self.source.rate,
            frames: self.frames,
            resampled: false,
            threads: self.threads,
            cpu_seconds: self.cpu_seconds,
        }
    }

    pub(crate) fn decode<'a>(&'a self, task: &'a Task<'_>) -> DecodeOrder<'a> {
        DecodeOrder {
            input: task.input,
            source: &self.source,
            frames: self.frames,
            from: 0,
            limits: &task.limits,
            threads: self.threads,
            cpu_seconds: self.cpu_seconds,
        }
    }

    pub(crate) fn backdrop<'a>(&self, task: &'a Task<'_>) -> BackdropOrder<'a> {
        BackdropOrder {
            background: &task.spec.background,
            file: task.background,
            canvas: self.canvas(),
            rate: self.source.rate,
            limits: &task.limits,
            threads: self.threads,
            cpu_seconds: self.cpu_seconds,
        }
    }

    pub(crate) fn encode<'a>(&'a self, task: &'a Task<'_>) -> EncodeOrder<'a> {
        EncodeOrder {
            codecs: self.codecs,
            size: self.canvas(),
            rate: self.source.rate,
            frames: self.frames,
            threads: self.threads,
            cpu_seconds: self.cpu_seconds,
            frames_from: FramesFrom::Pipe,
            sound: self.sound(task),
            extent: Extent::Whole,
            output: &self.file,
        }
    }

    /// What the output is to have of it.
    pub(crate) fn sound<'a>(&'a self, task: &'a Task<'_>) -> Option<Sound<'a>> {
        let index = self.source.audio_index.filter(|_| self.codecs.format.has_audio())?;
        Some(Sound { input: task.input, source: &self.source, index, limits: &task.limits })
    }

    /// The encoder reads the sound itself and cannot tell whose fault it is that it failed.
    pub(crate) fn blamed(&self, tools: &Tools, task: &Task<'_>, error: EngineError) -> EngineError {
        match (&error, self.sound(task)) {
            (EngineError::Tool { program: ENCODER, .. }, Some(sound)) => sound.check(tools).err().unwrap_or(error),
            _ => error,
        }
    }

    pub(crate) fn warnings(&self, task: &Task<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        let (fps, found) = (self.source.rate.fps(), task.probe.source.rate.fps());
        let format = self.codecs.format;
        if fps < found {
            warnings.push(format!("{format} plays at most {fps:.0} frames a second; the source has {found:.3}"));
        }
        let (sound_ms, max_ms) = (self.source.audio_ms.unwrap_or(0), task.limits.max_duration_ms);
        if format.has_audio() && sound_ms > max_ms {
            warnings.push(format!("the sound is {sound_ms} ms long and was cut after {max_ms} ms"));
        }
        if !format.has_audio() && self.source.audio_index.is_some() {
            warnings.push(format!("{format} has no sound; the source's was left out"));
        }
        warnings
    }

    /// Frames that are paid for, when somebody pays.
    ///
    /// # Errors
    /// The timestamps tell of more.
    pub(crate) fn budget(&self, task: &Task<'_>) -> Result<Option<Budget>, EngineError> {
        let Some(paid_seconds) = task.paid_seconds else { return Ok(None) };
        let frames = self.source.rate.frames_in(paid_seconds);
        if self.frames > frames {
            return Err(EngineError::BeyondPaidLength { paid_seconds });
        }
        Ok(Some(Budget { frames, paid_seconds }))
    }

    /// Runs all of the source through.
    pub(crate) fn run(
        &self,
        config: &EngineConfig,
        task: &Task<'_>,
        backdrop: Backdrop,
        matter: &mut dyn Matter,
        watch: &dyn Watch,
    ) -> Result<Made, EngineError> {
        pipeline::run(self.pipeline(config, task, backdrop, matter, (Stretch::WHOLE, None))?, watch)
    }

    /// The pipeline over a stretch of the source.
    pub(crate) fn pipeline<'p>(
        &'p self,
        config: &'p EngineConfig,
        task: &'p Task<'_>,
        backdrop: Backdrop,
        matter: &'p mut dyn Matter,
        (stretch, parts): (Stretch<'p>, Option<PartsOrder<'p>>),
    ) -> Result<Pipeline<'p>, EngineError> {
        Ok(Pipeline {
            tools: &config.tools,
            techniques: config.techniques,
            decode: self.decode(task),
            encode: self.encode(task),
            backdrop,
            placement: self.placement,
            matter,
            prompt: task.spec.text_prompt.as_deref(),
            kept: match task.matte {
                MatteUse::Keep(file) => Some(self.mattes(file)),
                MatteUse::Reuse { .. } | MatteUse::Forget => None,
            },
            stretch,
            parts,
            budget: self.budget(task)?,
        })
    }

    pub(crate) fn promise<'a>(&self, task: &'a Task<'_>, alpha: &'a [f32]) -> Promise<'a> {
        // As much of the sound as is encoded.
        let sound_ms = self.source.audio_ms.map(|ms| ms.min(task.limits.max_duration_ms));
        Promise {
            codecs: self.codecs,
            size: self.canvas(),
            rate: self.source.rate,
            alpha,
            sound_ms: sound_ms.filter(|_| self.codecs.format.has_audio()),
            threads: self.threads,
            cpu_seconds: self.cpu_seconds,
            limits: &task.limits,
        }
    }
}

//! The engine: from a file to a verified file.
//!
//! Owns: the public API, which model is loaded, the order of one job's steps. Everything blocks; callers use threads.
//! Invariants: an output exists under its name only after it held its check; what a job leaves in its work directory
//! is its own; one model stays loaded between jobs, and no job's state does.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rotoless_contract::media::{InputInfo, OutputInfo, Quality};
use rotoless_contract::spec::Composition;
use rotoless_contract::worker::{MediaLimits, Stage};
use rotoless_contract::{Background, JobSpec, Model};

use crate::backdrop::{Backdrop, BackdropOrder};
use crate::decode::DecodeOrder;
use crate::encode::{Codecs, ENCODER, EncodeOrder, FramesFrom};
use crate::error::{EngineError, Unsupported};
use crate::finish::Placement;
use crate::frame::Size;
use crate::kept::{KeptMatte, MatteOrder, MatteUse};
use crate::model::{self, Matter};
use crate::pipeline::{self, Budget, Made, Pipeline};
use crate::probe::{self, Probe, Source};
use crate::quality;
use crate::registry::{Registry, Work};
use crate::sound::Sound;
use crate::techniques::Techniques;
use crate::tools::Tools;
use crate::verify::{Promise, verify};

/// What an engine works with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Weights, ONNX Runtime's library, and an operator's `registry.toml` if there is one.
    pub models_dir: PathBuf,
    /// ffmpeg and ffprobe.
    pub tools: Tools,
    /// Threads of the model, the decoder and the encoder, each; 0: the cores of the cgroup.
    pub threads: usize,
    /// What is added to the models' own mattes.
    pub techniques: Techniques,
}

/// Removes backgrounds. One serves any number of jobs, on any thread.
pub struct Engine {
    config: EngineConfig,
    registry: Registry,
    /// The model of the last job, ready for the next one. Taken out while it works.
    loaded: Mutex<Option<(Model, Box<dyn Matter>)>>,
}

/// One job.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The source, a local file.
    pub input: &'a Path,
    /// Where the output goes; written only when it is whole and verified.
    pub output: &'a Path,
    /// The background's picture or video, a local file, when the order has one.
    pub background: Option<&'a Path>,
    /// What is done with the matte.
    pub matte: MatteUse<'a>,
    /// A directory of this job's own.
    pub work_dir: &'a Path,
    /// What [`Engine::probe`] found of `input`.
    pub probe: &'a Probe,
    /// What was ordered.
    pub spec: &'a JobSpec,
    /// What may be worked on.
    pub limits: MediaLimits,
    /// Seconds of output that are paid for; the job ends with an error beyond them.
    pub paid_seconds: Option<u64>,
}

/// The caller's eyes and hand on a running job.
pub trait Watch: Sync {
    /// Told when frames were finished; both counts start at 0 with each stage. From the calling thread, often.
    fn progress(&self, stage: Stage, frames_done: u64, frames_total: u64);

    /// Asked many times a second; `true` stops the job, which then ends with [`EngineError::Cancelled`].
    fn cancelled(&self) -> bool;
}

/// A job that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The source as measured.
    pub input: InputInfo,
    /// The output as verified.
    pub output: OutputInfo,
    /// How sure the engine is of its matte, when it can tell.
    pub quality: Option<Quality>,
    /// What the client should know.
    pub warnings: Vec<String>,
}

/// Whether the engine can serve these options. The same answer before a job is accepted and when it is worked on.
///
/// # Errors
/// What it cannot serve.
pub fn supported(spec: &JobSpec) -> Result<(), Unsupported> {
    if matches!(spec.background, Background::Transparent) && !spec.output_format.has_alpha() {
        return Err(Unsupported::TransparentIn(spec.output_format));
    }
    let Some(Composition { width, height, scale, .. }) = spec.composition else { return Ok(()) };
    if [width, height].into_iter().any(|side| !(16..=4096).contains(&side) || side % 2 != 0) {
        return Err(Unsupported::Canvas { width, height });
    }
    if (0.01..=16.0).contains(&scale) { Ok(()) } else { Err(Unsupported::Scale(scale)) }
}

impl Engine {
    /// Reads the registry and loads ONNX Runtime. Weights are loaded by the first job that needs them.
    ///
    /// # Errors
    /// The registry is wrong, or ONNX Runtime is missing or does not load.
    pub fn open(config: EngineConfig) -> Result<Self, EngineError> {
        let registry = Registry::load(&config.models_dir)?;
        model::load_runtime(&registry, &config.models_dir)?;
        Ok(Self { config, registry, loaded: Mutex::new(None) })
    }

    /// The execution provider that runs the models: `cpu`.
    #[must_use]
    pub const fn provider(&self) -> &'static str {
        "cpu"
    }

    /// Whether a role's weights are there.
    ///
    /// # Errors
    /// They are not; the error names the command that fetches them.
    pub fn check_model(&self, model: Model) -> Result<(), EngineError> {
        model::installed(&self.registry, &self.config.models_dir, model).map(drop)
    }

    /// Measures a source, within caps of bytes and time.
    ///
    /// # Errors
    /// It is no video, is damaged, or is more than the limits accept.
    pub fn probe(&self, input: &Path, limits: &MediaLimits) -> Result<Probe, EngineError> {
        probe::probe(&self.config.tools, input, limits)
    }

    /// Does one job.
    ///
    /// # Errors
    /// See [`EngineError`]; there is no output then, and no process is left.
    pub fn remove_background(&self, task: &Task<'_>, watch: &dyn Watch) -> Result<Finished, EngineError> {
        supported(task.spec)?;
        let plan = Plan::of(task, self.threads());
        let rate = plan.source.rate;
        let budget =
            task.paid_seconds.map(|paid_seconds| Budget { frames: rate.frames_in(paid_seconds), paid_seconds });
        if let Some(budget) = budget.filter(|budget| plan.frames > budget.frames) {
            return Err(EngineError::BeyondPaidLength { paid_seconds: budget.paid_seconds });
        }
        // Before the model is loaded: it may be the slower of both.
        let backdrop = Backdrop::open(&self.config.tools, &plan.backdrop(task))?;
        let result = match task.matte {
            MatteUse::Reuse { file, made_for } => {
                let kept_at = Codecs { format: made_for, with_alpha: false }.rate_of(&task.probe.source);
                let order = MatteOrder { resampled: kept_at != plan.source.rate, ..plan.mattes(file) };
                let mut matter = KeptMatte::open(&self.config.tools, &order)?;
                plan.matte(&self.config, task, backdrop, &mut matter, budget, watch)
            }
            MatteUse::Keep(_) | MatteUse::Forget => {
                let mut matter = self.take_model(task.spec.model)?;
                let result = plan.matte(&self.config, task, backdrop, &mut *matter, budget, watch);
                // Also after an error: a network's run leaves nothing behind that `begin` does not clear.
                self.give_back(task.spec.model, matter);
                result
            }
        };
        let made = result.map_err(|error| plan.blamed(&self.config.tools, task, error))?;
        let alpha = made.means;
        watch.progress(Stage::Verify, 0, alpha.len() as u64);
        let output = verify(&self.config.tools, &plan.file, &plan.promise(task, &alpha), watch)?;
        move_file(&plan.file, task.output)?;
        let mut info = task.probe.info.clone();
        info.duration_seconds = output.duration_ms as f64 / 1000.0;
        let mut warnings = task.probe.warnings.clone();
        warnings.extend(plan.warnings(task));
        Ok(Finished { input: info, output, quality: quality::summary(&made.scores), warnings })
    }

    pub(crate) fn threads(&self) -> usize {
        match self.config.threads {
            // Knows the cgroup's quota and the affinity mask.
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }

    pub(crate) fn techniques(&self) -> Techniques {
        self.config.techniques
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.config.tools
    }

    /// The loaded model of that role, or a newly loaded one. Another job may hold the loaded one: then there are two.
    pub(crate) fn take_model(&self, model: Model) -> Result<Box<dyn Matter>, EngineError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded.take() {
            Some((role, matter)) if role == model => return Ok(matter),
            // Dropped before the next is loaded: two at once may not fit.
            Some(_) | None => {}
        }
        drop(loaded);
        self.load_model(model, self.config.techniques)
    }

    /// A newly loaded model.
    pub(crate) fn load_model(&self, model: Model, techniques: Techniques) -> Result<Box<dyn Matter>, EngineError> {
        let entry = model::installed(&self.registry, &self.config.models_dir, model)?;
        model::load(&self.registry, entry, &self.config.models_dir, self.threads(), techniques)
    }

    /// Whether the model of a role looks at its subject a second time, if it may.
    pub(crate) fn looks_closer(&self, model: Model) -> Result<bool, EngineError> {
        let entry = model::installed(&self.registry, &self.config.models_dir, model)?;
        Ok(match &entry.work {
            Work::Matte(spec) => spec.closer_looks > 0,
            Work::Ground(_) => false,
        })
    }

    pub(crate) fn give_back(&self, model: Model, matter: Box<dyn Matter>) {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some((model, matter));
    }
}

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

    fn mattes<'a>(&self, file: &'a Path) -> MatteOrder<'a> {
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
            output: &self.file,
        }
    }

    /// What the output is to have of it.
    fn sound<'a>(&'a self, task: &'a Task<'_>) -> Option<Sound<'a>> {
        let index = self.source.audio_index.filter(|_| self.codecs.format.has_audio())?;
        Some(Sound { input: task.input, source: &self.source, index, limits: &task.limits })
    }

    /// The encoder reads the sound itself and cannot tell whose fault it is that it failed.
    fn blamed(&self, tools: &Tools, task: &Task<'_>, error: EngineError) -> EngineError {
        match (&error, self.sound(task)) {
            (EngineError::Tool { program: ENCODER, .. }, Some(sound)) => sound.check(tools).err().unwrap_or(error),
            _ => error,
        }
    }

    fn warnings(&self, task: &Task<'_>) -> Vec<String> {
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

    fn matte(
        &self,
        config: &EngineConfig,
        task: &Task<'_>,
        backdrop: Backdrop,
        matter: &mut dyn Matter,
        budget: Option<Budget>,
        watch: &dyn Watch,
    ) -> Result<Made, EngineError> {
        let (decode, encode) = (self.decode(task), self.encode(task));
        let placement = self.placement;
        let prompt = task.spec.text_prompt.as_deref();
        let kept = match task.matte {
            MatteUse::Keep(file) => Some(self.mattes(file)),
            MatteUse::Reuse { .. } | MatteUse::Forget => None,
        };
        let EngineConfig { tools, techniques, .. } = config;
        let techniques = *techniques;
        pipeline::run(
            Pipeline { tools, decode, encode, backdrop, placement, matter, prompt, kept, budget, techniques },
            watch,
        )
    }

    fn promise<'a>(&self, task: &'a Task<'_>, alpha: &'a [f32]) -> Promise<'a> {
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

/// Into place in one step; by way of a copy when the work directory is on another file system.
fn move_file(from: &Path, to: &Path) -> Result<(), EngineError> {
    let failed = || EngineError::io("cannot put the output into its place");
    match std::fs::rename(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            let mut beside = to.as_os_str().to_owned();
            beside.push(".part");
            std::fs::copy(from, &beside).map_err(failed())?;
            std::fs::rename(&beside, to).map_err(failed())?;
            std::fs::remove_file(from).map_err(failed())
        }
        Err(error) => Err(failed()(error)),
    }
}

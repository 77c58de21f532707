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

use crate::backdrop::Backdrop;
use crate::device::{Compute, Hardware};
use crate::encode::Codecs;
use crate::error::{EngineError, Unsupported};
use crate::kept::{KeptMatte, MatteOrder, MatteUse};
use crate::model::{self, Matter};
use crate::pipeline::Made;
use crate::plan::Plan;
use crate::probe::{self, Probe};
use crate::quality;
use crate::registry::{ModelEntry, Registry};
use crate::segments::Segments;
use crate::techniques::Techniques;
use crate::tools::Tools;
use crate::verify::verify;

/// What an engine works with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Weights, ONNX Runtime's library, and an operator's `registry.toml` if there is one.
    pub models_dir: PathBuf,
    /// ffmpeg and ffprobe.
    pub tools: Tools,
    /// Threads of the model, the decoder and the encoder, each; 0: the cores of the cgroup.
    pub threads: usize,
    /// What models run on.
    pub compute: Compute,
    /// What is added to the models' own mattes.
    pub techniques: Techniques,
}

/// Removes backgrounds. One serves any number of jobs, on any thread.
pub struct Engine {
    config: EngineConfig,
    registry: Registry,
    /// The model of the last job, ready for the next one. Taken out while it works.
    loaded: Mutex<Option<(Model, Box<dyn Matter>)>>,
    /// Shows whether the device works.
    pub(crate) proof: fn(&Hardware) -> Result<(), EngineError>,
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
    /// Where finished segments are kept, so that another attempt can go on where this one ends.
    pub segments: Option<Segments<'a>>,
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

    /// Told of signs of life that are no frames: what an earlier attempt did is passed over, a segment was fetched.
    fn alive(&self) {}

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
    /// Reads the registry, loads ONNX Runtime and shows on a small network that the device works. Weights are loaded by
    /// the first job that needs them.
    ///
    /// # Errors
    /// The registry is wrong, ONNX Runtime is missing or does not load, or the device cannot be used.
    pub fn open(config: EngineConfig) -> Result<Self, EngineError> {
        let registry = Registry::load(&config.models_dir)?;
        let engine = Self { config, registry, loaded: Mutex::new(None), proof: model::prove_device };
        model::open_device(&engine.registry, &engine.config.models_dir, &engine.hardware())?;
        Ok(engine)
    }

    /// The execution provider that runs the models: `cpu`, `cuda` or `tensorrt`.
    #[must_use]
    pub const fn provider(&self) -> &'static str {
        self.config.compute.device.provider()
    }

    fn hardware(&self) -> Hardware {
        Hardware::new(self.config.compute, self.threads(), &self.config.models_dir)
    }

    /// Whether a role's weights are there.
    ///
    /// # Errors
    /// They are not; the error names the command that fetches them.
    pub fn check_model(&self, model: Model) -> Result<(), EngineError> {
        model::installed(&self.registry, &self.config.models_dir, model).map(drop)
    }

    /// Loads the model of a role and runs it on two frames, so that the first job finds it ready. A role that needs a
    /// prompt is only loaded.
    ///
    /// # Errors
    /// Its weights are not there, or the device cannot run it.
    pub fn warm_up(&self, model: Model) -> Result<(), EngineError> {
        self.with_model(model, |matter| model::run_on_blank_frames(matter, 2))
    }

    /// Measures a source, within caps of bytes and time.
    ///
    /// # Errors
    /// It is no video, is damaged, or is more than the limits accept.
    pub fn probe(&self, input: &Path, limits: &MediaLimits) -> Result<Probe, EngineError> {
        probe::probe(&self.config.tools, input, limits)
    }

    /// Does one job. A model that fails is given a second try, with one frame at a time, if the device still works.
    ///
    /// # Errors
    /// See [`EngineError`]; there is no output then, and no process is left.
    pub fn remove_background(&self, task: &Task<'_>, watch: &dyn Watch) -> Result<Finished, EngineError> {
        supported(task.spec)?;
        self.with_second_try(watch, |engine| engine.make(task, watch))
    }

    fn make(&self, task: &Task<'_>, watch: &dyn Watch) -> Result<Finished, EngineError> {
        let plan = Plan::of(task, self.threads());
        plan.budget(task)?;
        let (made, output) = match self.segmented(task, &plan)? {
            Some(segmented) => segmented.run(watch)?,
            None => {
                let made = self.in_one_piece(task, &plan, watch);
                let made = made.map_err(|error| plan.blamed(&self.config.tools, task, error))?;
                let output = self.verified(task, &plan, &made.means, watch)?;
                (made, output)
            }
        };
        move_file(&plan.file, task.output)?;
        let mut info = task.probe.info.clone();
        info.duration_seconds = output.duration_ms as f64 / 1000.0;
        let mut warnings = task.probe.warnings.clone();
        warnings.extend(plan.warnings(task));
        Ok(Finished { input: info, output, quality: quality::summary(&made.scores), warnings })
    }

    /// Works on segments of a job that another engine leads, until there is none left to begin with. Returns how many
    /// were made. There is no output.
    ///
    /// # Errors
    /// See [`EngineError`]; what was stored counts all the same.
    pub fn assist(&self, task: &Task<'_>, watch: &dyn Watch) -> Result<u32, EngineError> {
        supported(task.spec)?;
        let plan = Plan::of(task, self.threads());
        plan.budget(task)?;
        match self.segmented(task, &plan)? {
            Some(segmented) => segmented.assist(watch),
            None => Ok(0),
        }
    }

    fn in_one_piece(&self, task: &Task<'_>, plan: &Plan, watch: &dyn Watch) -> Result<Made, EngineError> {
        let tools = &self.config.tools;
        // Before the model is loaded: it may be the slower of both.
        let backdrop = Backdrop::open(tools, &plan.backdrop(task))?;
        match task.matte {
            MatteUse::Reuse { file, made_for } => {
                let kept_at = Codecs { format: made_for, with_alpha: false }.rate_of(&task.probe.source);
                let order = MatteOrder { resampled: kept_at != plan.source.rate, ..plan.mattes(file) };
                let mut matter = KeptMatte::open(tools, &order)?;
                plan.run(&self.config, task, backdrop, &mut matter, watch)
            }
            MatteUse::Keep(_) | MatteUse::Forget => {
                self.with_model(task.spec.model, |matter| plan.run(&self.config, task, backdrop, matter, watch))
            }
        }
    }

    /// The output as it is, once it was compared with what was written.
    pub(crate) fn verified(
        &self,
        task: &Task<'_>,
        plan: &Plan,
        alpha: &[f32],
        watch: &dyn Watch,
    ) -> Result<OutputInfo, EngineError> {
        watch.progress(Stage::Verify, 0, alpha.len() as u64);
        verify(&self.config.tools, &plan.file, &plan.promise(task, alpha), watch)
    }

    /// Work with the model of a role.
    pub(crate) fn with_model<T>(
        &self,
        role: Model,
        work: impl FnOnce(&mut dyn Matter) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut matter = self.take_model(role)?;
        let result = work(&mut *matter);
        // Also after an error: a network's run leaves nothing behind that `begin` does not clear.
        self.give_back(role, matter);
        result
    }

    /// The files that make a role's mattes: names and digests.
    pub(crate) fn weights_of(&self, role: Model) -> Result<Vec<(&str, String)>, EngineError> {
        let entry = model::installed(&self.registry, &self.config.models_dir, role)?;
        let files = self.registry.with_partners(entry).flat_map(ModelEntry::files);
        Ok(files.map(|file| (file.name.as_str(), file.sha256.to_string())).collect())
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

    /// Another engine of the same files and tools.
    pub(crate) fn beside(&self, config: EngineConfig) -> Self {
        Self { config, registry: self.registry.clone(), loaded: Mutex::new(None), proof: self.proof }
    }

    /// Lets go of the model that is loaded, if none works with it.
    pub(crate) fn unload(&self) {
        drop(self.loaded.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Shows on a small network that the device works.
    pub(crate) fn prove_device(&self) -> Result<(), EngineError> {
        (self.proof)(&self.hardware())
    }

    pub(crate) const fn config(&self) -> &EngineConfig {
        &self.config
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
        model::load(&self.registry, entry, &self.config.models_dir, &self.hardware(), techniques)
    }

    /// The entry that fills a role.
    pub(crate) fn entry(&self, model: Model) -> Result<(&ModelEntry, PathBuf), EngineError> {
        let entry = model::installed(&self.registry, &self.config.models_dir, model)?;
        Ok((entry, entry.file.path(&self.config.models_dir)))
    }

    /// The entry that has the weights of a role in the graph as it was published, and its file.
    pub(crate) fn published(&self, model: Model) -> Result<(&ModelEntry, PathBuf), EngineError> {
        let (entry, path) = self.entry(model)?;
        let Some(name) = &entry.published else { return Ok((entry, path)) };
        let missing = || EngineError::MissingWeights { model: name.clone() };
        let entry = self.registry.by_name(name).ok_or_else(missing)?;
        let path = entry.file.path(&self.config.models_dir);
        if path.is_file() { Ok((entry, path)) } else { Err(missing()) }
    }

    pub(crate) fn give_back(&self, model: Model, matter: Box<dyn Matter>) {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some((model, matter));
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

//! ONNX Runtime: the only module that knows the `ort` crate.
//!
//! Owns: loading the library once a process, sessions, running them, stopping a run from another thread.
//! Invariants: every run is given its own tensors; a state tensor is handed from one run's output to the next run's
//! input without a copy; spinning is off, because the encoder wants the cores while inference waits.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorRef};
use serde::{Deserialize, Serialize};

use crate::error::EngineError;

/// The crate allows one environment a process, for good: a second could not be made after the first is gone.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Loads ONNX Runtime, unless that was done before: then the path does not matter.
pub(super) fn load_runtime(library: &Path) -> Result<(), EngineError> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if environment.is_some() {
        return Ok(());
    }
    if !library.is_file() {
        return Err(EngineError::MissingRuntime { path: library.display().to_string() });
    }
    let failed = |detail: String| EngineError::Runtime { detail };
    let built = ort::init_from(library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("rotoless")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    // With a logger of one's own the runtime starts at its most talkative.
    built.set_log_level(LogLevel::Warning);
    *environment = Some(built);
    Ok(())
}

/// Its words become ours. None is an error here: those come back from the call that failed.
fn log(level: LogLevel, category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => {
            tracing::debug!(runtime.category = category, runtime.place = place, "{message}")
        }
        LogLevel::Warning | LogLevel::Error | LogLevel::Fatal => {
            tracing::warn!(runtime.category = category, runtime.place = place, "{message}");
        }
    }
}

/// A loaded network.
pub(super) struct Network {
    session: Session,
    options: Arc<RunOptions>,
}

/// Stops a network's run from another thread.
#[derive(Clone)]
pub(crate) struct Terminator(Arc<RunOptions>);

impl Terminator {
    /// The run in progress fails soon; so do later ones until the network is made ready again.
    pub(crate) fn terminate(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(%error, "a run of the model could not be stopped");
        }
    }
}

/// A tensor that is fed.
pub(super) struct Feed<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub values: Numbers<'a>,
}

/// The values of a tensor that is fed.
pub(super) enum Numbers<'a> {
    Floats(&'a [f32]),
    Integers(&'a [i64]),
}

/// An output that was read.
pub(super) struct Answer<'a> {
    pub shape: &'a [i64],
    pub values: &'a [f32],
}

/// The same, in memory of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StateTensor {
    pub shape: Vec<i64>,
    pub values: Vec<f32>,
}

/// A tensor that is carried from one run to the next.
pub(super) struct Carried(DynValue);

impl Carried {
    pub(super) fn zeros(shape: &[usize]) -> Result<Self, ort::Error> {
        let zeros = vec![0.0_f32; shape.iter().product()];
        Ok(Self(Tensor::from_array((shape.to_vec(), zeros))?.into_dyn()))
    }

    pub(super) fn of(state: StateTensor) -> Result<Self, ort::Error> {
        Ok(Self(Tensor::from_array((state.shape, state.values))?.into_dyn()))
    }

    pub(super) fn read(&self) -> Result<StateTensor, ort::Error> {
        let (shape, values) = self.0.try_extract_tensor::<f32>()?;
        Ok(StateTensor { shape: shape.to_vec(), values: values.to_vec() })
    }
}

/// What a run needs besides its feeds.
pub(super) struct Run<'a> {
    pub feeds: &'a [Feed<'a>],
    /// Name of the input and its value.
    pub carried_in: Vec<(&'a str, Carried)>,
    /// Names of the outputs that are carried on.
    pub carried_out: &'a [&'a str],
    /// Names of the outputs that are read, f32.
    pub read: &'a [&'a str],
}

impl Network {
    /// Loads a network from its file.
    pub(super) fn load(file: &Path, threads: usize) -> Result<Self, ort::Error> {
        let environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let environment = environment.ok_or_else(|| ort::Error::new("the runtime is not loaded"))?;
        let mut builder = Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            .with_intra_op_spinning(false)?
            .with_log_level(LogLevel::Warning)?;
        Ok(Self { session: builder.commit_from_file(file)?, options: Arc::new(RunOptions::new()?) })
    }

    pub(super) fn terminator(&self) -> Terminator {
        Terminator(Arc::clone(&self.options))
    }

    /// Makes it usable after a [`Terminator`] was used.
    pub(super) fn make_ready(&self) -> Result<(), ort::Error> {
        self.options.unterminate()
    }

    /// Runs it once; `take` gets the outputs that are read, in the order of [`Run::read`].
    pub(super) fn run<R>(
        &mut self,
        run: Run<'_>,
        take: impl FnOnce(&[Answer<'_>]) -> R,
    ) -> Result<(R, Vec<Carried>), ort::Error> {
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
        for feed in run.feeds {
            let shape = feed.shape.to_vec();
            let value: SessionInputValue<'_> = match feed.values {
                Numbers::Floats(values) => TensorRef::from_array_view((shape, values))?.into(),
                Numbers::Integers(values) => TensorRef::from_array_view((shape, values))?.into(),
            };
            inputs.push((Cow::Borrowed(feed.name), value));
        }
        for (name, value) in run.carried_in {
            inputs.push((Cow::Borrowed(name), value.0.into()));
        }
        let mut outputs = self.session.run_with_options(inputs, &*self.options)?;
        let missing = |name: &str| ort::Error::new(format!("it has no output `{name}`"));
        let mut answers = Vec::with_capacity(run.read.len());
        for name in run.read {
            let (shape, values) = outputs.get(*name).ok_or_else(|| missing(name))?.try_extract_tensor::<f32>()?;
            answers.push(Answer { shape, values });
        }
        let taken = take(&answers);
        drop(answers);
        let carried =
            run.carried_out.iter().map(|&name| outputs.remove(name).map(Carried).ok_or_else(|| missing(name)));
        Ok((taken, carried.collect::<Result<_, _>>()?))
    }
}

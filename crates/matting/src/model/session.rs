//! ONNX Runtime: with its submodules the only place that knows the `ort` crate.
//!
//! Owns: sessions, running them, stopping a run from another thread. Does not own: the library and the proof of a device
//! (`session/provider`), the GPUs' options (`session/gpu`), where nodes were placed (`session/placement`).
//! Invariants: nothing of a run stays bound when it is over; what is carried from run to run stays in the device's
//! memory and is handed on without a copy, and only what is read comes back; whatever the device, this is the way;
//! spinning is off, because the encoder wants the cores while inference waits.

mod gpu;
mod placement;
mod provider;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use ort::memory::{AllocationDevice, Allocator, MemoryInfo};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorValueType};
use serde::{Deserialize, Serialize};

use self::gpu::Placing;
#[cfg(test)]
pub(super) use self::provider::runtime_for_tests;
pub(super) use self::provider::{open_device, probe};
use crate::device::Hardware;
use crate::error::EngineError;

/// A loaded network.
pub(super) struct Network {
    session: Session,
    /// Its inputs and outputs, empty between runs.
    binding: IoBinding,
    options: Arc<RunOptions>,
    staging: Staging,
    /// Where the network works.
    device: MemoryInfo<'static>,
    host: MemoryInfo<'static>,
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
    /// Equal parts that follow each other along the first axis.
    Parts(&'a [&'a [f32]]),
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

/// A tensor that is carried from one run to the next, wherever it lies.
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
        let tensor = self.0.view().downcast::<TensorValueType<f32>>()?;
        if !tensor.memory_info().is_cpu_accessible() {
            let here = tensor.to(AllocationDevice::CPU, 0)?;
            let (shape, values) = here.try_extract_tensor::<f32>()?;
            return Ok(StateTensor { shape: shape.to_vec(), values: values.to_vec() });
        }
        let (shape, values) = tensor.try_extract_tensor::<f32>()?;
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

/// A network as it is stored.
#[derive(Clone, Copy)]
pub(super) enum Stored<'a> {
    File(&'a Path),
    /// In memory, with the input whose first axis takes 1 to so many pictures of these sides, if there is one.
    Bytes(&'a [u8], Option<(&'a str, [usize; 3], usize)>),
}

impl Network {
    /// Loads a network onto a device; `name` is what errors call it.
    pub(super) fn load(name: &str, stored: Stored<'_>, hardware: &Hardware) -> Result<Self, EngineError> {
        let failed = |error: ort::Error| EngineError::Model { model: name.to_owned(), detail: error.to_string() };
        let device = hardware.compute.device;
        let refused = |source| EngineError::Device { device, source };
        let batches = match stored {
            Stored::File(_) => None,
            Stored::Bytes(_, batches) => batches,
        };
        let placing = Placing { hardware, network: name, batches };
        let mut builder = gpu::onto(builder(hardware).map_err(failed)?, &placing).map_err(refused)?;
        let session = match stored {
            Stored::File(file) => builder.commit_from_file(file),
            Stored::Bytes(bytes, _) => builder.commit_from_memory(bytes),
        };
        let session = session.map_err(failed)?;
        placement::check(&session, device, name).map_err(failed)?.map_err(refused)?;
        Self::around(session, hardware).map_err(failed)
    }

    fn around(session: Session, hardware: &Hardware) -> Result<Self, ort::Error> {
        Ok(Self {
            binding: session.create_binding()?,
            options: Arc::new(RunOptions::new()?),
            staging: Staging::new(provider::staging_memory(&session, hardware.compute.device)),
            device: provider::memory(hardware.compute.device)?,
            host: MemoryInfo::default(),
            session,
        })
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
        let result = self.run_bound(run, take);
        // The outputs too: bound again they would be written into while they are the next run's input.
        self.binding.clear();
        result
    }

    fn run_bound<R>(
        &mut self,
        run: Run<'_>,
        take: impl FnOnce(&[Answer<'_>]) -> R,
    ) -> Result<(R, Vec<Carried>), ort::Error> {
        let Self { session, binding, options, staging, device, host } = self;
        for feed in run.feeds {
            match feed.values {
                Numbers::Floats(values) => bind(binding, staging, |s| &mut s.floats, feed, &[values])?,
                Numbers::Parts(parts) => bind(binding, staging, |s| &mut s.floats, feed, parts)?,
                Numbers::Integers(values) => bind(binding, staging, |s| &mut s.integers, feed, &[values])?,
            }
        }
        for (name, value) in &run.carried_in {
            binding.bind_input(*name, &value.0)?;
        }
        for name in run.carried_out {
            binding.bind_output_to_device(*name, device)?;
        }
        for name in run.read {
            binding.bind_output_to_device(*name, host)?;
        }
        // A copy to the device may still be under way.
        binding.synchronize_inputs()?;
        let mut outputs = session.run_binding_with_options(binding, options)?;
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

fn builder(hardware: &Hardware) -> Result<SessionBuilder, ort::Error> {
    let environment = provider::environment().ok_or_else(|| ort::Error::new("the runtime is not loaded"))?;
    Ok(Session::builder(&environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(hardware.threads)?
        .with_intra_op_spinning(false)?
        .with_log_level(ort::logging::LogLevel::Warning)?
        .with_config_entry(placement::RECORD, "1")?)
}

/// The tensors that pictures are put into, kept from run to run: a binding wants memory of its own, and a GPU's
/// transfers are quick from memory that stays where it is.
struct Staging {
    memory: Allocator,
    floats: Vec<(String, Tensor<f32>)>,
    integers: Vec<(String, Tensor<i64>)>,
}

impl Staging {
    fn new(memory: Allocator) -> Self {
        Self { memory, floats: Vec::new(), integers: Vec::new() }
    }
}

/// Fills the kept tensor of that name, made anew where the shape is another one, and binds it.
fn bind<T: PrimitiveTensorElementType + std::fmt::Debug + Copy>(
    binding: &mut IoBinding,
    staging: &mut Staging,
    kept: impl Fn(&mut Staging) -> &mut Vec<(String, Tensor<T>)>,
    feed: &Feed<'_>,
    parts: &[&[T]],
) -> Result<(), ort::Error> {
    let has_shape = |tensor: &Tensor<T>| tensor.shape().iter().copied().eq(feed.shape.iter().map(|&side| side as i64));
    let kept_at = kept(staging).iter().position(|(name, _)| name == feed.name);
    let index = match kept_at.filter(|&index| kept(staging).get(index).is_some_and(|(_, tensor)| has_shape(tensor))) {
        Some(index) => index,
        None => {
            let tensor = Tensor::new(&staging.memory, feed.shape.to_vec())?;
            let all = kept(staging);
            if let Some(index) = kept_at {
                all.remove(index);
            }
            all.push((feed.name.to_owned(), tensor));
            all.len() - 1
        }
    };
    let Some((_, tensor)) = kept(staging).get_mut(index) else { return Err(ort::Error::new("unreachable")) };
    let (_, values) = tensor.try_extract_tensor_mut::<T>()?;
    if values.len() != parts.iter().map(|part| part.len()).sum::<usize>() {
        return Err(ort::Error::new(format!(
            "`{}` is fed values that do not fill its shape {:?}",
            feed.name, feed.shape
        )));
    }
    let mut rest = values;
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    binding.bind_input(feed.name, tensor)
}

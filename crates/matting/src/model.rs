//! Models: a picture in, a matte out.
//!
//! Owns: the seam between the pipeline and any model ([`Matter`]), running the still and recurrent families as the
//! registry describes them. Does not own: which model fills which role (`registry`), making the picture
//! (`model_picture`), anything of ONNX Runtime but through `session`.
//! Invariants: state never outlives a job ([`Matter::begin`]) or a change of the picture's size; a matte that comes
//! out is finite and within 0..1.

mod attention;
mod choice;
mod crop;
mod detector;
mod found;
mod grounded;
mod heat;
mod session;
mod tracker;

use std::path::Path;

use rotoless_contract::Model;

use self::attention::AttentiveMatter;
pub(crate) use self::found::Region;
use self::grounded::GroundedMatter;
use self::session::{Answer, Carried, Feed, Network, Numbers, Run, Terminator};
use crate::child::Killer;
use crate::error::EngineError;
use crate::frame::{Sight, Size};
use crate::registry::{
    Activation, InputSize, InputSpec, InstalledFile, Layout, MatteSpec, ModelEntry, Registry, StateSpec, Work,
};
use crate::techniques::Techniques;

/// What makes mattes of frames.
pub(crate) trait Matter: Send {
    /// What the picture of a whole frame must look like; none when it looks at none.
    fn input(&self) -> Option<&InputSpec>;

    /// The picture size that serves best for a source of this size.
    fn picture_size(&self, source: Size) -> Size;

    /// The size of the mattes that it makes for such a source.
    fn matte_size(&self, source: Size) -> Size {
        self.picture_size(source)
    }

    /// Whether a matte depends on the frames before.
    fn is_recurrent(&self) -> bool {
        false
    }

    /// A new job: nothing of the last one is left. The prompt is for the family grounded.
    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError>;

    /// A new scene: what is carried from frame to frame starts anew.
    fn forget(&mut self);

    /// The matte of the next frame, 0..1. `picture` is the size of the picture in `sight`.
    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError>;

    /// There are no more frames. An error means that mattes were wrong.
    fn end(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Stops [`Matter::matte`] from another thread.
    fn stopper(&self) -> Stopper;
}

/// Stops a model's work from another thread; what is asked of it then fails until it begins anew.
pub(crate) struct Stopper {
    networks: Vec<Terminator>,
    children: Vec<Killer>,
}

impl Stopper {
    fn of_networks(networks: Vec<Terminator>) -> Self {
        Self { networks, children: Vec::new() }
    }

    pub(crate) fn of_child(child: Killer) -> Self {
        Self { networks: Vec::new(), children: vec![child] }
    }

    pub(crate) fn stop(&self) {
        self.networks.iter().for_each(Terminator::terminate);
        self.children.iter().for_each(Killer::kill);
    }
}

/// Loads the model of an entry with all that it works with.
pub(crate) fn load(
    registry: &Registry,
    entry: &ModelEntry,
    models_dir: &Path,
    threads: usize,
    techniques: Techniques,
) -> Result<Box<dyn Matter>, EngineError> {
    match &entry.work {
        Work::Matte(spec) => {
            let network = NetworkMatter::load(entry, spec, models_dir, threads)?;
            let looks = if techniques.region { spec.closer_looks as usize } else { 0 };
            Ok(if looks > 0 { Box::new(AttentiveMatter::new(network, looks)) } else { Box::new(network) })
        }
        Work::Ground(grounding) => Ok(Box::new(GroundedMatter::load(registry, entry, grounding, models_dir, threads)?)),
    }
}

/// The entry that fills a role, with all of its files checked to be there.
pub(crate) fn installed<'r>(
    registry: &'r Registry,
    models_dir: &Path,
    role: Model,
) -> Result<&'r ModelEntry, EngineError> {
    let missing = || EngineError::MissingWeights { model: role.to_string() };
    let entry = registry.for_role(role).ok_or_else(missing)?;
    let is_there = |file: &InstalledFile| file.path(models_dir).is_file();
    if registry.with_partners(entry).all(|entry| entry.files().all(is_there)) { Ok(entry) } else { Err(missing()) }
}

/// Loads ONNX Runtime for this machine from the models directory.
pub(crate) fn load_runtime(registry: &Registry, models_dir: &Path) -> Result<(), EngineError> {
    let path = registry.runtime_path(models_dir).ok_or_else(|| EngineError::MissingRuntime {
        path: format!("(no entry for {}/{})", std::env::consts::OS, std::env::consts::ARCH),
    })?;
    session::load_runtime(&path)
}

/// A network of the still or the recurrent family; a still one carries no state.
pub(crate) struct NetworkMatter {
    name: String,
    input: InputSpec,
    spec: MatteSpec,
    network: Network,
    states: Vec<Carried>,
    /// The size that `states` belong to.
    last_size: Option<Size>,
}

impl NetworkMatter {
    fn load(entry: &ModelEntry, spec: &MatteSpec, models_dir: &Path, threads: usize) -> Result<Self, EngineError> {
        let network = load_network(entry, models_dir, threads)?;
        let (name, input) = (entry.name.clone(), entry.input.clone());
        Ok(Self { name, input, spec: spec.clone(), network, states: Vec::new(), last_size: None })
    }

    fn failed(&self, error: &ort::Error) -> EngineError {
        EngineError::Model { model: self.name.clone(), detail: error.to_string() }
    }

    fn fresh_states(&self) -> Result<Vec<Carried>, EngineError> {
        let zeros = |state: &StateSpec| Carried::zeros(&state.initial).map_err(|error| self.failed(&error));
        self.spec.states.iter().map(zeros).collect()
    }

    /// The matte of a picture, of the picture's size.
    fn infer(&mut self, picture: &[f32], size: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        if self.last_size != Some(size) {
            self.states = self.fresh_states()?;
            self.last_size = Some(size);
        }
        let shape = shape_of(&self.input, size);
        let mut feeds = vec![Feed { name: &self.input.name, shape: &shape, values: Numbers::Floats(picture) }];
        let ratio = [downsample_ratio(&self.input.size, size)];
        if let Some(name) = &self.spec.downsample_ratio {
            feeds.push(Feed { name, shape: &[1], values: Numbers::Floats(&ratio) });
        }
        let (names, outputs): (Vec<&str>, Vec<&str>) =
            self.spec.states.iter().map(|state| (state.input.as_str(), state.output.as_str())).unzip();
        let run = Run {
            feeds: &feeds,
            carried_in: names.into_iter().zip(std::mem::take(&mut self.states)).collect(),
            carried_out: &outputs,
            read: &[&self.spec.output.matte],
        };
        let activation = self.spec.output.activation;
        let result = self.network.run(run, |answers| {
            let [Answer { shape, values }] = answers else { return Err("it did not answer".to_owned()) };
            if values.len() != size.pixels() {
                return Err(format!("its matte has shape {shape:?} for a picture of {}x{}", size.width, size.height));
            }
            matte.clear();
            matte.extend(values.iter().map(|&value| activated(value, activation)));
            Ok(())
        });
        match result {
            Ok((Ok(()), states)) => {
                self.states = states;
                Ok(())
            }
            Ok((Err(detail), _)) => Err(EngineError::Model { model: self.name.clone(), detail }),
            Err(error) => Err(self.failed(&error)),
        }
    }
}

fn load_network(entry: &ModelEntry, models_dir: &Path, threads: usize) -> Result<Network, EngineError> {
    Network::load(&entry.path(models_dir), threads)
        .map_err(|error| EngineError::Model { model: entry.name.clone(), detail: error.to_string() })
}

/// Of the tensor that a picture of this size is.
fn shape_of(input: &InputSpec, size: Size) -> [usize; 4] {
    match input.layout {
        Layout::Nchw => [1, 3, size.height, size.width],
        Layout::Nhwc => [1, size.height, size.width, 3],
    }
}

impl Matter for NetworkMatter {
    fn input(&self) -> Option<&InputSpec> {
        Some(&self.input)
    }

    fn picture_size(&self, source: Size) -> Size {
        match self.input.size {
            InputSize::Fixed { width, height, .. } => Size { width: width as usize, height: height as usize },
            // A model that shrinks the picture itself is fed all of it.
            InputSize::Free { multiple_of, .. } if self.spec.downsample_ratio.is_some() => {
                scaled_to(source, source.width.max(source.height), multiple_of as usize)
            }
            InputSize::Free { multiple_of, long_side, close_up_long_side } => {
                let long = source.width.max(source.height);
                // A source no larger than the close-up size is fed whole; of a larger one nobody knows yet how much
                // the subject fills.
                let side = if long <= close_up_long_side as usize { long } else { long_side as usize };
                scaled_to(source, side, multiple_of as usize)
            }
        }
    }

    fn is_recurrent(&self) -> bool {
        !self.spec.states.is_empty()
    }

    fn begin(&mut self, _prompt: Option<&str>) -> Result<(), EngineError> {
        self.forget();
        self.network.make_ready().map_err(|error| self.failed(&error))
    }

    fn forget(&mut self) {
        self.states = Vec::new();
        self.last_size = None;
    }

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        self.infer(sight.picture, picture, matte)
    }

    fn stopper(&self) -> Stopper {
        Stopper::of_networks(vec![self.network.terminator()])
    }
}

/// Of NaN it makes 0.
#[expect(clippy::manual_clamp, reason = "`clamp` lets NaN through, `max` does not")]
fn activated(value: f32, activation: Activation) -> f32 {
    let value = match activation {
        Activation::None => value,
        Activation::Sigmoid => 1.0 / (1.0 + (-value).exp()),
    };
    value.max(0.0).min(1.0)
}

/// The size of the same shape whose longer side is about `long`, each side a multiple.
fn scaled_to(source: Size, long: usize, multiple_of: usize) -> Size {
    let multiple = multiple_of.max(1);
    let longest = source.width.max(source.height).max(1);
    let fit = |side: usize| {
        let scaled = (side * long + longest / 2) / longest;
        ((scaled + multiple / 2) / multiple).max(1) * multiple
    };
    Size { width: fit(source.width), height: fit(source.height) }
}

fn downsample_ratio(input: &InputSize, picture: Size) -> f32 {
    match *input {
        InputSize::Fixed { .. } => 1.0,
        #[expect(clippy::cast_precision_loss, reason = "sides of pictures")]
        InputSize::Free { long_side, .. } => (long_side as f32 / picture.width.max(picture.height) as f32).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matte_is_finite_and_in_range() {
        assert_eq!(activated(f32::NAN, Activation::None), 0.0);
        assert_eq!(activated(-3.0, Activation::None), 0.0);
        assert_eq!(activated(3.0, Activation::None), 1.0);
        assert_eq!(activated(0.0, Activation::Sigmoid), 0.5);
    }

    #[test]
    fn a_scaled_picture_keeps_its_shape_and_fits_the_multiple() {
        let hd = Size { width: 1920, height: 1080 };
        assert_eq!(scaled_to(hd, 512, 1), Size { width: 512, height: 288 });
        assert_eq!(scaled_to(hd, 512, 32), Size { width: 512, height: 288 });
        assert_eq!(scaled_to(Size { width: 4096, height: 16 }, 512, 16), Size { width: 512, height: 16 });
    }
}

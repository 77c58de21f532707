//! A network of the still or the recurrent family, run as its registry entry says; a still one carries no state.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::batch_axis::{self, BatchAxis};
use super::session::{Answer, Carried, Feed, Network, Numbers, Run, StateTensor, Stored};
use super::{Matter, Stopper, from_bytes, scaled_to, to_bytes};
use crate::device::{Device, Hardware};
use crate::error::EngineError;
use crate::frame::{Frame, Sight, Size};
use crate::pipeline::stretch::broken_handover;
use crate::registry::{Activation, InputSize, InputSpec, Layout, MatteSpec, ModelEntry, StateSpec};

/// Frames that a recurrent model sees before its mattes count, where it could not take up what was carried.
const RECURRENT_LEAD_IN: u64 = 24;

/// Frames of a scene's beginning that a recurrent model is shown beforehand, every second of them.
const REHEARSAL: usize = 8;
const REHEARSAL_STEP: usize = 2;

/// A network of the still or the recurrent family; a still one carries no state.
pub(super) struct NetworkMatter {
    name: String,
    pub(super) input: InputSpec,
    spec: MatteSpec,
    pub(super) network: Network,
    states: Vec<Carried>,
    /// The size that `states` belong to.
    last_size: Option<Size>,
    /// Pictures that it takes at once.
    group: usize,
    device: Device,
    /// The size of picture that the device was made ready for.
    warm_for: Option<Size>,
}

impl NetworkMatter {
    pub(super) fn load(
        entry: &ModelEntry,
        spec: &MatteSpec,
        models_dir: &Path,
        hardware: &Hardware,
    ) -> Result<Self, EngineError> {
        // What is carried from frame to frame is carried one frame at a time.
        let most = if spec.states.is_empty() { hardware.compute.batch() } else { 1 };
        if most > 1
            && let Some(network) = load_for_many(entry, models_dir, most, hardware)?
        {
            let mut matter = Self::around(network, entry, spec, hardware);
            matter.group = most;
            if matter.takes_many()? {
                return Ok(matter);
            }
            tracing::info!(model = entry.name, "the model takes one frame at a time");
        }
        Ok(Self::around(load_network(entry, models_dir, hardware)?, entry, spec, hardware))
    }

    fn around(network: Network, entry: &ModelEntry, spec: &MatteSpec, hardware: &Hardware) -> Self {
        Self {
            name: entry.name.clone(),
            input: entry.input.clone(),
            spec: spec.clone(),
            network,
            states: Vec::new(),
            last_size: None,
            group: 1,
            device: hardware.compute.device,
            warm_for: None,
        }
    }

    /// Whether two pictures together come out as each does alone: nodes may count on one picture.
    fn takes_many(&mut self) -> Result<bool, EngineError> {
        let size = self.picture_size(Size { width: 640, height: 360 });
        let values = shape_of(&self.input, 1, size).iter().product();
        // A bright half, the first and the second; brighter and darker than any picture is after its normalisation.
        let half = |second: bool| -> Vec<f32> {
            (0..values).map(|index| if (index >= values / 2) == second { 2.0 } else { -2.0 }).collect()
        };
        let pictures = [half(false), half(true)];
        let [first, second] = &pictures;
        let (mut alone, mut together) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let [alone_first, alone_second] = &mut alone;
        self.infer(first, size, alone_first)?;
        self.infer(second, size, alone_second)?;
        let [together_first, together_second] = &mut together;
        let result = self.infer_group(&[first, second], size, &mut [together_first, together_second]);
        self.forget();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < SAME_MATTE;
        Ok(result.is_ok() && alone.iter().zip(&together).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(close)))
    }

    fn failed(&self, error: &ort::Error) -> EngineError {
        EngineError::Model { model: self.name.clone(), detail: error.to_string() }
    }

    fn fresh_states(&self) -> Result<Vec<Carried>, EngineError> {
        let zeros = |state: &StateSpec| Carried::zeros(&state.initial).map_err(|error| self.failed(&error));
        self.spec.states.iter().map(zeros).collect()
    }

    /// The matte of a picture, of the picture's size.
    pub(super) fn infer(&mut self, picture: &[f32], size: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        self.infer_group(&[picture], size, &mut [matte])
    }

    /// The mattes of pictures of one size, at most as many as it takes at once.
    fn infer_group(
        &mut self,
        pictures: &[&[f32]],
        size: Size,
        mattes: &mut [&mut Vec<f32>],
    ) -> Result<(), EngineError> {
        if self.last_size != Some(size) {
            self.states = self.fresh_states()?;
            self.last_size = Some(size);
        }
        let shape = shape_of(&self.input, pictures.len(), size);
        let mut feeds = vec![Feed { name: &self.input.name, shape: &shape, values: Numbers::Parts(pictures) }];
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
            if values.len() != mattes.len() * size.pixels() {
                let (count, Size { width, height }) = (mattes.len(), size);
                return Err(format!("its matte has shape {shape:?} for {count} pictures of {width}x{height}"));
            }
            for (matte, values) in mattes.iter_mut().zip(values.chunks_exact(size.pixels())) {
                matte.clear();
                matte.extend(values.iter().map(|&value| activated(value, activation)));
            }
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

/// Mattes that differ by less are the same: a GPU adds in another order for another count of pictures.
const SAME_MATTE: f32 = 0.02;

/// The network made to take many pictures at once; none where it is stored for a number of its own.
fn load_for_many(
    entry: &ModelEntry,
    models_dir: &Path,
    most: usize,
    hardware: &Hardware,
) -> Result<Option<Network>, EngineError> {
    let mut bytes = std::fs::read(entry.path(models_dir)).map_err(EngineError::io("cannot read a model"))?;
    match batch_axis::free(&mut bytes, &entry.input.name) {
        Ok(BatchAxis::Freed | BatchAxis::WasFree) => {
            let sides = match entry.input.size {
                InputSize::Fixed { width, height, .. } => {
                    let size = Size { width: width as usize, height: height as usize };
                    let [_, sides @ ..] = shape_of(&entry.input, 1, size);
                    Some((entry.input.name.as_str(), sides, most))
                }
                InputSize::Free { .. } => None,
            };
            Network::load(&entry.name, Stored::Bytes(&bytes, sides), hardware).map(Some)
        }
        // Whoever loads it as it is will say what is wrong with it.
        Ok(BatchAxis::Fixed) | Err(batch_axis::Malformed) => Ok(None),
    }
}

pub(super) fn load_network(entry: &ModelEntry, models_dir: &Path, hardware: &Hardware) -> Result<Network, EngineError> {
    Network::load(&entry.name, Stored::File(&entry.path(models_dir)), hardware)
}

/// Of the tensor that so many pictures of this size are.
pub(super) fn shape_of(input: &InputSpec, count: usize, size: Size) -> [usize; 4] {
    match input.layout {
        Layout::Nchw => [count, 3, size.height, size.width],
        Layout::Nhwc => [count, size.height, size.width, 3],
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

    fn every(&self) -> u32 {
        self.spec.every
    }

    fn is_recurrent(&self) -> bool {
        !self.spec.states.is_empty()
    }

    fn begin(&mut self, _prompt: Option<&str>) -> Result<(), EngineError> {
        self.forget();
        self.network.make_ready().map_err(|error| self.failed(&error))
    }

    /// TensorRT builds what it runs for the shapes that it sees: of the first picture, and with what it carries.
    fn warm_up(&mut self, source: Size) -> Result<(), EngineError> {
        let size = self.picture_size(source);
        if !matches!(self.device, Device::TensorRt(_)) || self.warm_for == Some(size) {
            return Ok(());
        }
        tracing::info!(model = self.name, "TensorRT builds the model unless it did before: that takes minutes");
        let blank = vec![0.0; shape_of(&self.input, 1, size).iter().product()];
        let mut matte = Vec::new();
        for _ in 0..2 {
            self.infer(&blank, size, &mut matte)?;
        }
        self.forget();
        self.warm_for = Some(size);
        Ok(())
    }

    fn group(&self) -> usize {
        self.group
    }

    fn forget(&mut self) {
        self.states = Vec::new();
        self.last_size = None;
    }

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        self.infer(sight.picture, picture, matte)
    }

    fn lead_in(&self) -> u64 {
        if self.spec.states.is_empty() { 0 } else { RECURRENT_LEAD_IN }
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        let tensors = self.states.iter().map(Carried::read).collect::<Result<_, _>>();
        let tensors = tensors.map_err(|error| self.failed(&error))?;
        to_bytes(&SavedStates { size: self.last_size.map(|size| (size.width, size.height)), tensors })
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), EngineError> {
        let SavedStates { size, tensors } = from_bytes(saved)?;
        if tensors.len() > self.spec.states.len() {
            return Err(broken_handover(&"it has more states than the model"));
        }
        let states = tensors.into_iter().map(Carried::of).collect::<Result<_, _>>();
        self.states = states.map_err(|error| broken_handover(&error))?;
        self.last_size = size.map(|(width, height)| Size { width, height });
        Ok(())
    }

    fn rehearsal(&self) -> usize {
        if self.is_recurrent() { REHEARSAL } else { 0 }
    }

    /// Backwards, so that it ends at the frame that the scene begins with.
    fn rehearse(&mut self, frames: &[Frame], picture: Size) -> Result<(), EngineError> {
        let mut matte = Vec::new();
        for frame in frames.iter().skip(1).step_by(REHEARSAL_STEP).rev() {
            self.infer(&frame.picture, picture, &mut matte)?;
        }
        Ok(())
    }

    fn mattes(&mut self, frames: &mut [Frame], picture: Size) -> Result<(), EngineError> {
        for group in frames.chunks_mut(self.group) {
            let (pictures, mut mattes): (Vec<&[f32]>, Vec<&mut Vec<f32>>) = group
                .iter_mut()
                .filter(|frame| frame.turn.is_some())
                .map(|frame| {
                    let (sight, matte) = frame.sight_and_matte();
                    (sight.picture, matte)
                })
                .unzip();
            if !pictures.is_empty() {
                self.infer_group(&pictures, picture, &mut mattes)?;
            }
        }
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        Stopper::of_networks(vec![self.network.terminator()])
    }
}

/// The states of a network and the size of the picture that they belong to.
#[derive(Debug, Serialize, Deserialize)]
struct SavedStates {
    size: Option<(usize, usize)>,
    tensors: Vec<StateTensor>,
}

/// Of NaN it makes 0.
#[expect(clippy::manual_clamp, reason = "`clamp` lets NaN through, `max` does not")]
pub(super) fn activated(value: f32, activation: Activation) -> f32 {
    let value = match activation {
        Activation::None => value,
        Activation::Sigmoid => 1.0 / (1.0 + (-value).exp()),
    };
    value.max(0.0).min(1.0)
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
}

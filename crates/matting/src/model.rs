//! Models: a picture in, a matte out.
//!
//! Owns: the seam between the pipeline and any model ([`Matter`]), running the still and recurrent families as the
//! registry describes them. Does not own: which model fills which role (`registry`), making the picture
//! (`model_picture`), anything of ONNX Runtime but through `session`.
//! Invariants: state never outlives a job ([`Matter::begin`]) or a change of the picture's size; a matte that comes
//! out is finite and within 0..1.

mod attention;
mod batch_axis;
mod choice;
mod crop;
mod detector;
mod found;
mod grounded;
#[cfg(test)]
mod group_tests;
mod heat;
mod network;
mod session;
mod tracker;
mod turns;

use std::path::Path;

use rotoless_contract::Model;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::attention::AttentiveMatter;
pub(crate) use self::attention::fused_by;
pub(crate) use self::found::Region;
use self::grounded::GroundedMatter;
use self::network::{NetworkMatter, load_network, shape_of};
use self::session::Terminator;
use self::turns::TurningMatter;
use crate::child::Killer;
use crate::device::Hardware;
use crate::error::EngineError;
use crate::frame::{Frame, Sight, Size};
use crate::model_picture::PictureMaker;
use crate::pipeline::stretch::broken_handover;
use crate::registry::{InputSpec, InstalledFile, ModelEntry, Registry, Work};
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

    /// It is run on every so-manyth frame; the mattes between are carried ([`crate::carried`]).
    fn every(&self) -> u32 {
        1
    }

    /// Whether it looks at the whole frame and closer at a part of it by turns ([`crate::frame::Turn`]).
    fn takes_turns(&self) -> bool {
        false
    }

    /// Frames of a scene's beginning that it is shown before their mattes are asked for ([`Matter::rehearse`]).
    fn rehearsal(&self) -> usize {
        0
    }

    /// Whether a matte depends on the frames before.
    fn is_recurrent(&self) -> bool {
        false
    }

    /// A new job: nothing of the last one is left. The prompt is for the family grounded.
    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError>;

    /// Does beforehand what the device would do at the first pictures of such a source, where that takes minutes.
    fn warm_up(&mut self, _source: Size) -> Result<(), EngineError> {
        Ok(())
    }

    /// Most frames of one scene that it takes at once. What it makes of a frame may differ in its last bits with how
    /// many were there beside it, so who groups them does it by their numbers.
    fn group(&self) -> usize {
        1
    }

    /// A new scene: what is carried from frame to frame starts anew.
    fn forget(&mut self);

    /// The matte of the next frame, 0..1. `picture` is the size of the picture in `sight`.
    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Frames after which hardly anything is left of not having seen those before.
    fn lead_in(&self) -> u64 {
        0
    }

    /// What is carried from frame to frame, so that another run can go on with the next one.
    fn save(&self) -> Result<Vec<u8>, EngineError> {
        Ok(Vec::new())
    }

    /// Goes on where [`Matter::save`] was asked; after [`Matter::begin`] with the same prompt.
    fn restore(&mut self, _saved: &[u8]) -> Result<(), EngineError> {
        Ok(())
    }

    /// Sees the first frames of a scene beforehand, at most [`Matter::rehearsal`].
    fn rehearse(&mut self, _frames: &[Frame], _picture: Size) -> Result<(), EngineError> {
        Ok(())
    }

    /// The mattes of those of the next frames that have a turn, all of one scene: at most [`Matter::group`] of them, or
    /// all up to one that is seen whole.
    fn mattes(&mut self, frames: &mut [Frame], picture: Size) -> Result<(), EngineError> {
        for frame in frames.iter_mut().filter(|frame| frame.turn.is_some()) {
            let (sight, matte) = frame.sight_and_matte();
            self.matte(sight, picture, matte)?;
        }
        Ok(())
    }

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

    /// For what cannot be stopped, or need not be.
    pub(crate) fn of_nothing() -> Self {
        Self { networks: Vec::new(), children: Vec::new() }
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
    hardware: &Hardware,
    techniques: Techniques,
) -> Result<Box<dyn Matter>, EngineError> {
    match &entry.work {
        Work::Matte(spec) => {
            let looks = if techniques.region { spec.closer_looks as usize } else { 0 };
            if looks == 0 {
                return Ok(Box::new(NetworkMatter::load(entry, spec, models_dir, hardware)?));
            }
            // Regions come one by one.
            let network = NetworkMatter::load(entry, spec, models_dir, &hardware.one_at_a_time())?;
            if spec.every > 1 {
                return Ok(Box::new(TurningMatter::new(network, looks)));
            }
            Ok(Box::new(AttentiveMatter::new(network, looks)))
        }
        Work::Ground(grounding) => {
            let hardware = hardware.one_at_a_time();
            Ok(Box::new(GroundedMatter::load(registry, entry, grounding, models_dir, &hardware)?))
        }
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

/// Loads ONNX Runtime from the models directory and shows that the device works.
pub(crate) fn open_device(registry: &Registry, models_dir: &Path, hardware: &Hardware) -> Result<(), EngineError> {
    session::open_device(registry, models_dir, hardware)
}

/// Shows that a device that was opened works.
pub(crate) fn prove_device(hardware: &Hardware) -> Result<(), EngineError> {
    session::probe(hardware)
}

#[cfg(test)]
pub(crate) fn runtime_for_tests(library: &Path) -> ort::environment::Environment {
    session::runtime_for_tests(library)
}

/// Has a model do on gray frames what a job would have it do first.
pub(crate) fn run_on_blank_frames(matter: &mut dyn Matter, count: usize) -> Result<(), EngineError> {
    let size = Size { width: 1280, height: 720 };
    let picture = matter.picture_size(size);
    matter.begin(None)?;
    matter.warm_up(size)?;
    let mut frame = Frame::new(size);
    frame.yuv_mut().fill(128);
    if let Some(input) = matter.input() {
        let mut maker = PictureMaker::new(size, picture, input);
        let (colour, tensor) = frame.colour_and_picture();
        maker.make(colour, tensor)?;
    }
    for _ in 0..count {
        let (sight, matte) = frame.sight_and_matte();
        matter.matte(sight, picture, matte)?;
    }
    matter.forget();
    Ok(())
}

fn to_bytes(state: &impl Serialize) -> Result<Vec<u8>, EngineError> {
    postcard::to_stdvec(state).map_err(|error| broken_handover(&error))
}

fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EngineError> {
    postcard::from_bytes(bytes).map_err(|error| broken_handover(&error))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_picture_keeps_its_shape_and_fits_the_multiple() {
        let hd = Size { width: 1920, height: 1080 };
        assert_eq!(scaled_to(hd, 512, 1), Size { width: 512, height: 288 });
        assert_eq!(scaled_to(hd, 512, 32), Size { width: 512, height: 288 });
        assert_eq!(scaled_to(Size { width: 4096, height: 16 }, 512, 16), Size { width: 512, height: 16 });
    }
}

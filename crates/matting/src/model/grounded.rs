//! The family grounded: a text chooses the subject, its region is followed, and a still model makes the matte of the
//! region's crop at that model's full resolution.
//!
//! ```text
//! picture ─ finder (detector | heat map) ─ found ─ tracker ─ regions ─ crops ─ still model ─ matte of the frame
//! ```
//! Does not own: the grammar of prompts (`rotoless_contract::prompt`). Without a prompt the still model is shown the
//! whole frame: the salient subject. Where nothing is found the matte is empty.

use std::path::Path;

use super::choice::Scene;
use super::crop::{Cropper, greatest};
use super::detector::read_head;
use super::found::{Found, distinct};
use super::heat::HeatMapFinder;
use super::session::{Feed, Network, Numbers, Run};
use super::tracker::{PATIENCE, Track, Tracker};
use super::{Matter, NetworkMatter, Stopper, load_network, shape_of};
use crate::device::{Device, Hardware};
use crate::error::{EngineError, Unsupported};
use crate::frame::{Sight, Size};
use crate::model_picture::Inset;
use crate::registry::{DetectorHead, Finder, Grounding, InputSize, InputSpec, ModelEntry, PictureFit, Registry, Work};

/// The longer side of a matte, px: finer than any model sees its subject.
const MAX_MATTE_SIDE: usize = 1920;

/// A model of the family grounded.
pub(super) struct GroundedMatter {
    name: String,
    input: InputSpec,
    network: Network,
    finder: RunningFinder,
    still: NetworkMatter,
    /// Of the job.
    tracker: Option<Tracker>,
    cropper: Cropper,
    device: Device,
}

enum RunningFinder {
    Detector { vocabulary: rotoless_contract::prompt::Vocabulary, heads: Vec<DetectorHead> },
    HeatMap(Box<HeatMapFinder>),
}

impl GroundedMatter {
    pub(super) fn load(
        registry: &Registry,
        entry: &ModelEntry,
        grounding: &Grounding,
        models_dir: &Path,
        hardware: &Hardware,
    ) -> Result<Self, EngineError> {
        let partner = registry.by_name(&grounding.matte);
        let still = match partner.map(|partner| (partner, &partner.work)) {
            Some((partner, Work::Matte(spec))) => NetworkMatter::load(partner, spec, models_dir, hardware)?,
            Some((_, Work::Ground(_))) | None => {
                return Err(EngineError::MissingWeights { model: grounding.matte.clone() });
            }
        };
        let finder = match &grounding.finder {
            Finder::Detector { vocabulary, heads } => {
                let (vocabulary, heads) = (vocabulary.clone(), heads.clone());
                RunningFinder::Detector { vocabulary, heads }
            }
            Finder::HeatMap { output, activation, words } => {
                let finder = HeatMapFinder::load(&entry.name, output, *activation, words, models_dir)?;
                RunningFinder::HeatMap(Box::new(finder))
            }
        };
        Ok(Self {
            name: entry.name.clone(),
            input: entry.input.clone(),
            network: load_network(entry, models_dir, hardware)?,
            finder,
            still,
            tracker: None,
            cropper: Cropper::default(),
            device: hardware.compute.device,
        })
    }

    fn find(&mut self, sight: Sight<'_>, picture: Size) -> Result<Vec<Found>, EngineError> {
        let failed = |detail| EngineError::Model { model: self.name.clone(), detail };
        let shape = shape_of(&self.input, 1, picture);
        let feed = Feed { name: &self.input.name, shape: &shape, values: Numbers::Floats(sight.picture) };
        let inset = Inset::of(sight.size, picture, self.input.size.fit());
        match &self.finder {
            RunningFinder::Detector { vocabulary, heads } => {
                let read: Vec<&str> =
                    heads.iter().flat_map(|head| [head.scores.as_str(), head.sides.as_str()]).collect();
                let run = Run { feeds: &[feed], carried_in: Vec::new(), carried_out: &[], read: &read };
                let (found, _) = self
                    .network
                    .run(run, |answers| {
                        let mut found = Vec::new();
                        for (head, answers) in heads.iter().zip(answers.chunks_exact(2)) {
                            if let [scores, sides] = answers {
                                read_head(head, [scores, sides], vocabulary.len(), &inset, &mut found)?;
                            }
                        }
                        Ok::<_, String>(distinct(found))
                    })
                    .map_err(|error| failed(error.to_string()))?;
                found.map_err(failed)
            }
            RunningFinder::HeatMap(finder) => finder.find(&mut self.network, feed, &inset).map_err(failed),
        }
    }
}

impl Matter for GroundedMatter {
    fn input(&self) -> Option<&InputSpec> {
        Some(&self.input)
    }

    fn picture_size(&self, source: Size) -> Size {
        match self.input.size {
            InputSize::Fixed { width, height, .. } => Size { width: width as usize, height: height as usize },
            InputSize::Free { multiple_of, long_side, .. } => {
                super::scaled_to(source, long_side as usize, multiple_of as usize)
            }
        }
    }

    fn matte_size(&self, source: Size) -> Size {
        match &self.tracker {
            None => self.still.picture_size(source),
            Some(_) => super::scaled_to(source, source.width.max(source.height).min(MAX_MATTE_SIDE), 1),
        }
    }

    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError> {
        self.still.begin(None)?;
        self.network
            .make_ready()
            .map_err(|error| EngineError::Model { model: self.name.clone(), detail: error.to_string() })?;
        self.tracker = match prompt {
            None => None,
            Some(text) => {
                let subjects = match &mut self.finder {
                    RunningFinder::Detector { vocabulary, .. } => {
                        let prompt = vocabulary.parse(text).map_err(|error| Unsupported::Prompt(error.to_string()))?;
                        prompt.subjects
                    }
                    RunningFinder::HeatMap(finder) => finder.begin(text)?,
                };
                Some(Tracker::new(&subjects))
            }
        };
        Ok(())
    }

    fn warm_up(&mut self, source: Size) -> Result<(), EngineError> {
        self.still.warm_up(source)?;
        if !matches!(self.device, Device::TensorRt(_)) {
            return Ok(());
        }
        let picture = self.picture_size(source);
        let blank = vec![0.0; shape_of(&self.input, 1, picture).iter().product()];
        let sight = Sight { colour: [&[], &[], &[]], size: source, picture: &blank };
        self.find(sight, picture).map(drop)
    }

    fn forget(&mut self) {
        self.still.forget();
        if let Some(tracker) = &mut self.tracker {
            tracker.forget();
        }
    }

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        if self.tracker.is_none() {
            return self.cropper.whole(sight, &mut self.still, matte);
        }
        let found = self.find(sight, picture)?;
        let scene = Scene { colour: sight.colour, size: sight.size };
        let regions = self.tracker.as_mut().map(|tracker| tracker.follow(&found, &scene)).unwrap_or_default();
        let whole = self.matte_size(sight.size);
        matte.clear();
        matte.resize(whole.pixels(), 0.0);
        for region in &regions {
            self.cropper.add(region, sight, &mut self.still, whole, matte, greatest)?;
        }
        Ok(())
    }

    fn lead_in(&self) -> u64 {
        // Longer, and who is followed is the same: nobody is waited for after that.
        u64::from(PATIENCE) + 1
    }

    fn save(&self) -> Result<Vec<u8>, EngineError> {
        super::to_bytes(&self.tracker.as_ref().map(Tracker::tracks).unwrap_or_default())
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), EngineError> {
        let tracks: Vec<Vec<Track>> = super::from_bytes(saved)?;
        if let Some(tracker) = &mut self.tracker {
            tracker.resume(tracks);
        }
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        Stopper::of_networks(vec![self.still.network.terminator(), self.network.terminator()])
    }
}

impl InputSize {
    fn fit(&self) -> PictureFit {
        match self {
            Self::Fixed { fit, .. } => *fit,
            Self::Free { .. } => PictureFit::Stretch,
        }
    }
}

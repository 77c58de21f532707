//! What another program is told so that it does the same job: `bench/peer.py`.

use std::path::{Path, PathBuf};

use rotoless_contract::{JobSpec, Model};

use super::{LIMITS, free};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::plan::Plan;
use crate::registry::Family;

/// A job in terms of files and tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerOrder {
    /// The model's file, as it was published.
    pub weights: PathBuf,
    /// How it is run.
    pub family: Family,
    /// Width and height of what it is fed, px.
    pub picture: [usize; 2],
    /// Of the model, and of the encoder.
    pub threads: usize,
    /// ffmpeg's arguments for picture and sound.
    pub encoder: Vec<String>,
}

/// What a clip and a model come to.
///
/// # Errors
/// The clip cannot be measured, or the model is not there.
pub fn peer_order(engine: &Engine, clip: &Path, model: Model) -> Result<PeerOrder, EngineError> {
    let probe = engine.probe(clip, &LIMITS)?;
    let spec = JobSpec { model, ..free::order() };
    let task = super::task((clip, &probe), &spec, clip, Path::new("/"));
    let plan = Plan::of(&task, engine.threads());
    let size = plan.decode(&task).size();
    let matter = engine.take_model(model)?;
    let picture = matter.picture_size(size);
    engine.give_back(model, matter);
    // The graph as its author published it: what we made of it is part of what is compared.
    let (entry, weights) = engine.published(model)?;
    let mut encoder = plan.codecs.video(size, plan.threads)?;
    encoder.extend(plan.codecs.sound());
    Ok(PeerOrder {
        weights,
        family: entry.family(),
        picture: [picture.width, picture.height],
        threads: plan.threads,
        encoder,
    })
}

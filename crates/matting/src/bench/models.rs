//! What each installed model costs on the device, alone, on ready pictures.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use nix::sys::resource::UsageWho;
use rotoless_contract::worker::MediaLimits;
use rotoless_contract::{Background, JobSpec, Model, OutputFormat};
use serde::{Deserialize, Serialize};

use super::cpu_seconds;
use crate::decode::Decoder;
use crate::engine::{Engine, Task};
use crate::error::EngineError;
use crate::frame::Frame;
use crate::model_picture::PictureMaker;
use crate::plan::Plan;

/// Groups that are timed, after one that is not: a device makes itself ready at the first.
const GROUPS: usize = 3;

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCost {
    /// Its role.
    pub model: Model,
    /// px: what it was fed.
    pub picture_width: usize,
    /// px: what it was fed.
    pub picture_height: usize,
    /// Frames at once.
    pub batch: usize,
    /// From the file to a loaded model and, with TensorRT, a built one; 0 when it was loaded before.
    pub load_seconds: f64,
    /// The first group: algorithms are chosen, memory is taken.
    pub first_ms: f64,
    /// A frame, from the picture in the host's memory to the matte there.
    pub wall_ms: f64,
    /// The processor's part of it.
    pub cpu_ms: f64,
}

/// Measures every installed model on the clip's first frames.
///
/// # Errors
/// The clip cannot be read or is too short, or a model fails.
pub fn models(engine: &Engine, clip: &Path, work_dir: &Path) -> Result<Vec<ModelCost>, EngineError> {
    let installed = Model::ALL.iter().copied().filter(|model| engine.check_model(*model).is_ok());
    installed.map(|model| cost(engine, clip, model, work_dir)).collect()
}

fn cost(engine: &Engine, clip: &Path, model: Model, work_dir: &Path) -> Result<ModelCost, EngineError> {
    let limits = MediaLimits::default();
    let probe = engine.probe(clip, &limits)?;
    let (background, output_format) = (Background::Transparent, OutputFormat::Webm);
    let spec = JobSpec { model, background, output_format, text_prompt: None, composition: None };
    let output = work_dir.join("none");
    let task = Task { limits, ..super::task((clip, &probe), &spec, &output, work_dir) };
    let plan = Plan::of(&task, engine.threads());
    let order = plan.decode(&task);
    let size = order.size();

    let began = Instant::now();
    let mut matter = engine.take_model(model)?;
    matter.begin(None)?;
    matter.warm_up(size)?;
    let load_seconds = began.elapsed().as_secs_f64();
    let (picture, batch) = (matter.picture_size(size), matter.group());
    let mut maker = matter.input().map(|input| PictureMaker::new(size, picture, input));
    let mut decoder = Decoder::start(engine.tools(), &order)?;
    let mut next_group = || -> Result<Vec<Frame>, EngineError> {
        let mut group = Vec::with_capacity(batch);
        while group.len() < batch {
            let mut frame = Frame::new(size);
            if !decoder.read(frame.yuv_mut())? {
                let needed = (GROUPS + 1) * batch;
                return Err(EngineError::Damaged { detail: format!("it is shorter than {needed} frames") });
            }
            if let Some(maker) = &mut maker {
                let (colour, values) = frame.colour_and_picture();
                maker.make(colour, values)?;
            }
            group.push(frame);
        }
        Ok(group)
    };
    let mut milliseconds = Vec::new();
    let mut cpu = 0.0;
    for _ in 0..=GROUPS {
        let mut group = next_group()?;
        let cpu_before = cpu_seconds(UsageWho::RUSAGE_SELF)?;
        let began = Instant::now();
        matter.mattes(&mut group, picture)?;
        milliseconds.push(began.elapsed().as_secs_f64() * 1000.0);
        if milliseconds.len() > 1 {
            cpu += cpu_seconds(UsageWho::RUSAGE_SELF)? - cpu_before;
        }
    }
    engine.give_back(model, matter);
    let frames = (GROUPS * batch) as f64;
    let first_ms = milliseconds.remove(0);
    Ok(ModelCost {
        model,
        picture_width: picture.width,
        picture_height: picture.height,
        batch,
        load_seconds,
        first_ms,
        wall_ms: milliseconds.iter().sum::<f64>() / frames,
        cpu_ms: cpu * 1000.0 / frames,
    })
}

/// The figures for people.
#[must_use]
pub fn models_table(provider: &str, costs: &[ModelCost]) -> String {
    let mut text = format!(
        "{:<20} {:>11} {:>6} {:>8} {:>9} {:>9} {:>9}\n",
        format!("each model, {provider}"),
        "picture",
        "batch",
        "load s",
        "first ms",
        "ms/frame",
        "CPU ms"
    );
    for cost in costs {
        let ModelCost { model, picture_width, picture_height, batch, load_seconds, first_ms, wall_ms, cpu_ms } = cost;
        let picture = format!("{picture_width}x{picture_height}");
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "{:<20} {picture:>11} {batch:>6} {load_seconds:>8.1} {first_ms:>9.1} {wall_ms:>9.1} {cpu_ms:>9.1}",
            model.as_str()
        );
    }
    text
}

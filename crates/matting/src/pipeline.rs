//! Decode, model, refine, encode: four stages on their threads, frames going round between them.
//!
//! Owns: the stages and the queues between them. Does not own: what a stage does with a frame (`decode`,
//! `model_picture`, `model`, `refine`, `finish`, `encode`).
//! Invariants: memory is bounded by [`FRAMES_IN_FLIGHT`], whatever the length; the stages overlap; any of them failing
//! ends all of them (`supervise`).
//!
//! The model's stage does nothing but inference: it is the slowest, and its threads idle while it does anything else.

pub(crate) mod queue;
pub(crate) mod supervise;

use std::sync::atomic::{AtomicU64, Ordering};

use rotoless_contract::worker::Stage;

use self::queue::Queue;
use self::supervise::{Halt, NO_FRAME_LIMIT, StageEnd, StageWork, Told, supervise};
use crate::backdrop::Backdrop;
use crate::decode::{DecodeOrder, Decoder};
use crate::encode::{EncodeOrder, Encoder};
use crate::engine::Watch;
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher, Placement};
use crate::frame::{Frame, Size};
use crate::kept::{MatteOrder, MatteWriter};
use crate::model::Matter;
use crate::model_picture::PictureMaker;
use crate::quality::Score;
use crate::refine::{LOOK_AHEAD, Refiner};
use crate::scene::CutDetector;
use crate::techniques::Techniques;
use crate::tools::Tools;

/// One in each stage, one waiting before each, and those that the refiner looks ahead to.
const FRAMES_IN_FLIGHT: usize = 8 + LOOK_AHEAD;

/// All that the pipeline is given.
pub(crate) struct Pipeline<'a> {
    pub tools: &'a Tools,
    pub decode: DecodeOrder<'a>,
    pub encode: EncodeOrder<'a>,
    pub backdrop: Backdrop,
    /// The foreground's place, unless the canvas is the frame.
    pub placement: Option<Placement>,
    pub matter: &'a mut dyn Matter,
    /// What the model is asked for, when it listens to words.
    pub prompt: Option<&'a str>,
    /// Where the mattes go beside the output.
    pub kept: Option<MatteOrder<'a>>,
    /// Frames that may be decoded before the source counts as longer than was paid for.
    pub budget: Option<Budget>,
    pub techniques: Techniques,
}

/// What was paid for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub frames: u64,
    pub paid_seconds: u64,
}

/// The queues between the stages.
struct Queues {
    free: Queue<Frame>,
    decoded: Queue<Frame>,
    matted: Queue<Frame>,
    refined: Queue<Frame>,
}

impl Queues {
    fn new(size: Size) -> Result<Self, EngineError> {
        let queues = Self {
            free: Queue::new(FRAMES_IN_FLIGHT),
            decoded: Queue::new(FRAMES_IN_FLIGHT),
            matted: Queue::new(FRAMES_IN_FLIGHT),
            refined: Queue::new(FRAMES_IN_FLIGHT),
        };
        for _ in 0..FRAMES_IN_FLIGHT {
            // As large as the pool: there is always room.
            let _ = queues.free.push(Frame::new(size));
        }
        Ok(queues)
    }

    fn abort(&self) {
        self.free.abort();
        self.decoded.abort();
        self.matted.abort();
        self.refined.abort();
    }
}

/// What is known of the frames that were written.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Mean alpha of each, 0..1.
    pub means: Vec<f32>,
    /// Of each whose matte was made here.
    pub scores: Vec<Score>,
}

/// Runs a whole clip through.
pub(crate) fn run(pipeline: Pipeline<'_>, watch: &dyn Watch) -> Result<Made, EngineError> {
    let Pipeline { tools, decode, encode, backdrop, placement, matter, prompt, kept, budget, techniques } = pipeline;
    let size = decode.size();
    matter.begin(prompt)?;
    let picture = matter.picture_size(size);
    let eye = matter
        .input()
        .map(|input| Eye { maker: PictureMaker::new(size, picture, input), cuts: CutDetector::new(size) });
    let background_stopper = backdrop.stopper();
    let canvas = Canvas {
        frame: size,
        matte: matter.matte_size(size),
        placement,
        has_hard_alpha: encode.codecs.has_hard_alpha(),
        clean_colour: techniques.colour,
    };
    // What looks at no picture gives mattes that were refined before.
    let refiner = matter.input().map(|_| Refiner::new(techniques, size, canvas.matte));
    let finisher = Finisher::new(canvas, backdrop);

    let queues = Queues::new(size)?;
    let written = AtomicU64::new(0);
    let mut made = Made::default();
    // This thread starts the children and stays until they are gone: their death signal hangs on it.
    let decoder = Decoder::start(tools, &decode)?;
    let mut encoder = Encoder::start(tools, &encode)?;
    let packer = encoder.take_packer();
    let keeper = kept.map(|order| MatteWriter::start(tools, &order)).transpose()?;
    let halt = Halt::default();
    halt.kills(&decoder.child);
    halt.kills(&encoder.child);
    if let Some(keeper) = &keeper {
        halt.kills(&keeper.child);
    }
    halt.on_stop(|| queues.abort());
    let stopper = matter.stopper();
    halt.on_stop(move || stopper.stop());
    if let Some(stopper) = background_stopper {
        halt.on_stop(move || stopper.stop());
    }

    let mut stages = vec![
        StageWork { name: "decode", work: Box::new(|| decode_stage(decoder, eye, budget, &queues)) },
        StageWork { name: "model", work: Box::new(|| model_stage(matter, picture, &queues)) },
        StageWork { name: "refine", work: Box::new(|| refine_stage(refiner, &queues)) },
        StageWork {
            name: "encode",
            work: Box::new(|| {
                let outlet = Outlet { encoder, with_alpha: encode.codecs.with_alpha, keeper };
                made = encode_stage(outlet, finisher, &queues, &written)?;
                Ok(())
            }),
        },
    ];
    if let Some(packer) = packer {
        stages.push(StageWork { name: "pack", work: Box::new(|| packer.run()) });
    }
    let told = Told { watch, stage: Stage::Matte, done: &written, total: decode.frames, patience: NO_FRAME_LIMIT };
    supervise(&halt, &told, stages)?;
    drop(halt);
    Ok(made)
}

/// What looks at a frame before the model does.
struct Eye {
    maker: PictureMaker,
    cuts: CutDetector,
}

fn decode_stage(
    mut decoder: Decoder,
    mut eye: Option<Eye>,
    budget: Option<Budget>,
    queues: &Queues,
) -> Result<(), StageEnd> {
    let mut decoded = 0;
    while let Some(mut frame) = queues.free.pop()? {
        if !decoder.read(frame.yuv_mut())? {
            break;
        }
        decoded += 1;
        if let Some(budget) = budget.filter(|budget| decoded > budget.frames) {
            return Err(EngineError::BeyondPaidLength { paid_seconds: budget.paid_seconds }.into());
        }
        if let Some(eye) = &mut eye {
            let (colour, picture) = frame.colour_and_picture();
            eye.maker.make(colour, picture)?;
            frame.starts_scene = eye.cuts.starts_scene(colour)?;
        }
        queues.decoded.push(frame)?;
    }
    queues.decoded.close();
    Ok(())
}

fn model_stage(matter: &mut dyn Matter, picture: Size, queues: &Queues) -> Result<(), StageEnd> {
    while let Some(mut frame) = queues.decoded.pop()? {
        if frame.starts_scene {
            matter.forget();
        }
        let (sight, matte) = frame.sight_and_matte();
        matter.matte(sight, picture, matte)?;
        queues.matted.push(frame)?;
    }
    matter.end()?;
    queues.matted.close();
    Ok(())
}

fn refine_stage(refiner: Option<Refiner>, queues: &Queues) -> Result<(), StageEnd> {
    let give = |_: &mut Refiner, frame: Frame| queues.refined.push(frame).map_err(StageEnd::from);
    match refiner {
        None => {
            while let Some(frame) = queues.matted.pop()? {
                queues.refined.push(frame)?;
            }
        }
        Some(mut refiner) => {
            while let Some(frame) = queues.matted.pop()? {
                refiner.take(frame, give)?;
            }
            refiner.end(give)?;
        }
    }
    queues.refined.close();
    Ok(())
}

/// Where finished frames go.
struct Outlet {
    encoder: Encoder,
    with_alpha: bool,
    keeper: Option<MatteWriter>,
}

fn encode_stage(
    outlet: Outlet,
    mut finisher: Finisher,
    queues: &Queues,
    written: &AtomicU64,
) -> Result<Made, StageEnd> {
    let Outlet { mut encoder, with_alpha, mut keeper } = outlet;
    let mut made = Made::default();
    while let Some(mut frame) = queues.refined.pop()? {
        match frame.score.take() {
            Some(score) => made.scores.push(score),
            None => finisher.make_alpha(&mut frame)?,
        }
        if let Some(keeper) = &mut keeper {
            keeper.write(frame.alpha())?;
        }
        let done = finisher.finish(&mut frame)?;
        #[expect(clippy::cast_possible_truncation, reason = "a mean within 0..1")]
        made.means.push(done.mean as f32);
        encoder.write(if with_alpha { done.frame.yuva() } else { done.frame.yuv() })?;
        written.fetch_add(1, Ordering::Relaxed);
        queues.free.push(frame)?;
    }
    encoder.finish()?;
    if let Some(keeper) = keeper {
        keeper.finish()?;
    }
    Ok(made)
}

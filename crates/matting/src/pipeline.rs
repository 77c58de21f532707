//! Decode, model, encode: three stages on their threads, frames going round between them.
//!
//! Owns: the stages and the queues between them. Does not own: what a stage does with a frame (`decode`,
//! `model_picture`, `model`, `finish`, `encode`).
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
use crate::carried::{Carrier, Pace};
use crate::decode::{DecodeOrder, Decoder};
use crate::encode::{EncodeOrder, Encoder};
use crate::engine::Watch;
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher, Placement};
use crate::frame::{Frame, Size};
use crate::kept::{MatteOrder, MatteWriter};
use crate::model::Matter;
use crate::model_picture::PictureMaker;
use crate::scene::CutDetector;
use crate::tools::Tools;

/// One in each stage and one waiting before each.
const FRAMES_IN_FLIGHT: usize = 6;

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
    /// Between the model and what carries its mattes.
    seen: Queue<Frame>,
    matted: Queue<Frame>,
}

impl Queues {
    /// `held` frames wait within the stages.
    fn new(size: Size, held: usize) -> Self {
        let frames = FRAMES_IN_FLIGHT + held;
        let queue = || Queue::new(frames);
        let queues = Self { free: queue(), decoded: queue(), seen: queue(), matted: queue() };
        for _ in 0..frames {
            // As large as the pool: there is always room.
            let _ = queues.free.push(Frame::new(size));
        }
        queues
    }

    fn abort(&self) {
        self.free.abort();
        self.decoded.abort();
        self.seen.abort();
        self.matted.abort();
    }
}

/// Runs a whole clip through. Returns the mean alpha of each frame that was written.
pub(crate) fn run(pipeline: Pipeline<'_>, watch: &dyn Watch) -> Result<Vec<f32>, EngineError> {
    let Pipeline { tools, decode, encode, backdrop, placement, matter, prompt, kept, budget } = pipeline;
    let size = decode.size();
    matter.begin(prompt)?;
    let picture = matter.picture_size(size);
    let every = matter.every();
    let eye = matter.input().map(|input| Eye {
        maker: PictureMaker::new(size, picture, input),
        cuts: CutDetector::new(size),
        pace: Pace::new(size, every),
        held: None,
    });
    let carrier = (every > 1).then(|| Carrier::new(size, matter.matte_size(size)));
    let background_stopper = backdrop.stopper();
    let canvas = Canvas {
        frame: size,
        matte: matter.matte_size(size),
        placement,
        has_hard_alpha: encode.codecs.has_hard_alpha(),
    };
    let finisher = Finisher::new(canvas, backdrop);

    // One before the model, until it is known whether its scene goes on, and all between two that the model sees.
    let queues = Queues::new(size, if carrier.is_some() { every as usize + 1 } else { 0 });
    let written = AtomicU64::new(0);
    let mut means = Vec::new();
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

    let after_model = if carrier.is_some() { &queues.seen } else { &queues.matted };
    let mut stages = vec![
        StageWork { name: "decode", work: Box::new(|| decode_stage(decoder, eye, budget, &queues)) },
        StageWork { name: "model", work: Box::new(|| model_stage(matter, picture, &queues.decoded, after_model)) },
        StageWork {
            name: "encode",
            work: Box::new(|| {
                let outlet = Outlet { encoder, with_alpha: encode.codecs.with_alpha, keeper };
                means = encode_stage(outlet, finisher, &queues, &written)?;
                Ok(())
            }),
        },
    ];
    if let Some(carrier) = carrier {
        stages.push(StageWork { name: "carry", work: Box::new(|| carry_stage(carrier, &queues)) });
    }
    if let Some(packer) = packer {
        stages.push(StageWork { name: "pack", work: Box::new(|| packer.run()) });
    }
    let told = Told { watch, stage: Stage::Matte, done: &written, total: decode.frames, patience: NO_FRAME_LIMIT };
    supervise(&halt, &told, stages)?;
    drop(halt);
    Ok(means)
}

/// What looks at a frame before the model does.
struct Eye {
    maker: PictureMaker,
    cuts: CutDetector,
    pace: Pace,
    /// The last frame, until it is known whether it is the last of its scene: the model sees that.
    held: Option<Frame>,
}

impl Eye {
    /// Looks at the next frame; gives the one that is ready for the model.
    fn look(&mut self, mut frame: Frame) -> Result<Option<Frame>, EngineError> {
        let (colour, small) = frame.colour_and_small();
        let starts_scene = self.cuts.starts_scene(colour)?;
        let is_due = self.pace.is_due(starts_scene, colour, small)?;
        (frame.starts_scene, frame.for_model) = (starts_scene, is_due);
        if self.pace.is_every_frame() {
            return self.made_ready(frame).map(Some);
        }
        let before = self.held.replace(frame);
        before.map(|before| self.ready(before, starts_scene)).transpose()
    }

    fn ready(&mut self, mut frame: Frame, ends_scene: bool) -> Result<Frame, EngineError> {
        frame.for_model |= ends_scene;
        if frame.for_model { self.made_ready(frame) } else { Ok(frame) }
    }

    fn made_ready(&mut self, mut frame: Frame) -> Result<Frame, EngineError> {
        let (colour, picture) = frame.colour_and_picture();
        self.maker.make(colour, picture)?;
        Ok(frame)
    }
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
        let ready = match &mut eye {
            Some(eye) => eye.look(frame)?,
            None => Some(frame),
        };
        if let Some(frame) = ready {
            queues.decoded.push(frame)?;
        }
    }
    if let Some((mut eye, last)) = eye.and_then(|mut eye| eye.held.take().map(|last| (eye, last))) {
        queues.decoded.push(eye.ready(last, true)?)?;
    }
    queues.decoded.close();
    Ok(())
}

fn model_stage(
    matter: &mut dyn Matter,
    picture: Size,
    decoded: &Queue<Frame>,
    next: &Queue<Frame>,
) -> Result<(), StageEnd> {
    while let Some(mut frame) = decoded.pop()? {
        if frame.starts_scene {
            matter.forget();
        }
        if frame.for_model {
            let (sight, matte) = frame.sight_and_matte();
            matter.matte(sight, picture, matte)?;
        }
        next.push(frame)?;
    }
    matter.end()?;
    next.close();
    Ok(())
}

fn carry_stage(mut carrier: Carrier, queues: &Queues) -> Result<(), StageEnd> {
    while let Some(frame) = queues.seen.pop()? {
        carrier.take(frame, |frame| queues.matted.push(frame))?;
    }
    queues.matted.close();
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
) -> Result<Vec<f32>, StageEnd> {
    let Outlet { mut encoder, with_alpha, mut keeper } = outlet;
    let mut means = Vec::new();
    while let Some(mut frame) = queues.matted.pop()? {
        finisher.make_alpha(&mut frame)?;
        if let Some(keeper) = &mut keeper {
            keeper.write(frame.alpha())?;
        }
        let done = finisher.finish(&mut frame)?;
        #[expect(clippy::cast_possible_truncation, reason = "a mean within 0..1")]
        means.push(done.mean as f32);
        encoder.write(if with_alpha { done.frame.yuva() } else { done.frame.yuv() })?;
        written.fetch_add(1, Ordering::Relaxed);
        queues.free.push(frame)?;
    }
    encoder.finish()?;
    if let Some(keeper) = keeper {
        keeper.finish()?;
    }
    Ok(means)
}

//! Decode, model, encode: three stages on their threads, frames going round between them.
//!
//! Owns: the stages and the queues between them. Does not own: what a stage does with a frame (`decode`,
//! `model_picture`, `model`, `finish`, `encode`).
//! Invariants: memory is bounded by [`frames_in_flight`], whatever the length; the stages overlap; any of them failing
//! ends all of them (`supervise`).
//!
//! The model's stage does nothing but inference: it is the slowest, and its threads idle while it does anything else.

pub(crate) mod outlet;
pub(crate) mod queue;
pub(crate) mod stretch;
pub(crate) mod supervise;

use std::sync::atomic::{AtomicU64, Ordering};

use rotoless_contract::worker::Stage;

use self::outlet::{FinishedPart, Outlet, Parts, PartsOrder};
use self::queue::Queue;
use self::stretch::{Border, Crossing, Handover, Stretch};
use self::supervise::{Halt, NO_FRAME_LIMIT, StageEnd, StageWork, Told, supervise};
use crate::backdrop::Backdrop;
use crate::child::Leash;
use crate::decode::{DecodeOrder, Decoder};
use crate::encode::EncodeOrder;
use crate::engine::Watch;
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher, Placement};
use crate::frame::{Frame, Size};
use crate::kept::MatteOrder;
use crate::model::Matter;
use crate::model_picture::PictureMaker;
use crate::scene::CutDetector;
use crate::tools::Tools;

/// One in each stage and one waiting before each.
const FRAMES_IN_FLIGHT: usize = 6;

/// Frames behind a border that must be seen before the one at it is finished.
const LOOK_AHEAD: u64 = 0;
/// The same where the model takes groups: one with the model, the next one waiting.
const fn frames_in_flight(group: usize) -> usize {
    FRAMES_IN_FLIGHT + 2 * group.saturating_sub(1)
}

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
    pub stretch: Stretch<'a>,
    /// Where the segments go, when the output is made in segments.
    pub parts: Option<PartsOrder<'a>>,
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
    matted: Queue<Frame>,
}

impl Queues {
    fn new(size: Size, frames: usize) -> Result<Self, EngineError> {
        let queues = Self { free: Queue::new(frames), decoded: Queue::new(frames), matted: Queue::new(frames) };
        for _ in 0..frames {
            // As large as the pool: there is always room.
            let _ = queues.free.push(Frame::new(size));
        }
        Ok(queues)
    }

    fn abort(&self) {
        self.free.abort();
        self.decoded.abort();
        self.matted.abort();
    }
}

/// Runs a stretch of a clip through. Returns the mean alpha of each frame that was written.
pub(crate) fn run(pipeline: Pipeline<'_>, watch: &dyn Watch) -> Result<Vec<f32>, EngineError> {
    let Pipeline { tools, decode, encode, mut backdrop, placement, matter, prompt, kept, stretch, parts, budget } =
        pipeline;
    let size = decode.size();
    matter.begin(prompt)?;
    matter.warm_up(size)?;
    let picture = matter.picture_size(size);
    let mut eye = matter
        .input()
        .map(|input| Eye { maker: PictureMaker::new(size, picture, input), cuts: CutDetector::new(size) });
    if let Some(carried) = &stretch.carried {
        matter.restore(&carried.matter)?;
        if let Some(eye) = &mut eye {
            eye.cuts.resume(carried.cuts.clone());
        }
    }
    let background = backdrop.leash();
    backdrop.skip(stretch.first, watch)?;
    let canvas = Canvas {
        frame: size,
        matte: matter.matte_size(size),
        placement,
        has_hard_alpha: encode.codecs.has_hard_alpha(),
    };
    let finisher = Finisher::new(canvas, backdrop);

    let queues = Queues::new(size, frames_in_flight(matter.group()))?;
    let stored = Queue::new(usize::MAX);
    let (written, alive) = (AtomicU64::new(stretch.first), AtomicU64::new(0));
    let mut means = Vec::new();
    // This thread starts the children and stays until they are gone: their death signal hangs on it.
    let halt = Halt::default();
    if let Some(leash) = background {
        halt.on_stop(move || leash.stop());
    }
    let decoder = Decoder::start(tools, &DecodeOrder { from: stretch.decoded_from(), ..decode })?;
    halt.kills(&decoder.child);
    let leash = Leash::default();
    let holding = leash.clone();
    halt.on_stop(move || holding.stop());
    let store = parts.as_ref().map(|order| order.sink);
    let parts = parts.map(|order| Parts::new(order, &stretch, &stored));
    let mut outlet = Outlet::open(tools, encode, kept, parts, leash)?;
    let packer = outlet.take_packer();
    halt.on_stop(|| {
        queues.abort();
        stored.abort();
    });
    let stopper = matter.stopper();
    halt.on_stop(move || stopper.stop());

    let mut stages = vec![
        StageWork { name: "decode", work: Box::new(|| decode_stage(decoder, eye, budget, &stretch, &alive, &queues)) },
        StageWork { name: "model", work: Box::new(|| model_stage(matter, picture, &queues)) },
        StageWork {
            name: "encode",
            work: Box::new(|| {
                means = encode_stage(outlet, finisher, stretch.first, &queues, [&written, &alive])?;
                stored.close();
                Ok(())
            }),
        },
    ];
    if let Some(packer) = packer {
        stages.push(StageWork { name: "pack", work: Box::new(|| packer.run()) });
    }
    if let Some(store) = store {
        stages.push(StageWork { name: "store", work: Box::new(|| store_stage(store, &stored)) });
    }
    let told = Told {
        watch,
        stage: Stage::Matte,
        done: &written,
        alive: &alive,
        total: decode.frames,
        patience: NO_FRAME_LIMIT,
    };
    supervise(&halt, &told, stages)?;
    drop(halt);
    Ok(means)
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
    stretch: &Stretch<'_>,
    alive: &AtomicU64,
    queues: &Queues,
) -> Result<(), StageEnd> {
    let mut left = None;
    while decoder.passes_over() {
        let Some(mut frame) = queues.free.pop()? else { break };
        decoder.read(frame.yuv_mut())?;
        alive.fetch_add(1, Ordering::Relaxed);
        queues.free.push(frame)?;
    }
    for number in stretch.decoded_from().. {
        let Some(mut frame) = queues.free.pop()? else { break };
        if left == Some(0) || !decoder.read(frame.yuv_mut())? {
            break;
        }
        if let Some(budget) = budget.filter(|budget| number >= budget.frames) {
            return Err(EngineError::BeyondPaidLength { paid_seconds: budget.paid_seconds }.into());
        }
        frame.number = number;
        frame.border = None;
        if let (Some(borders), true, None) = (stretch.borders, number > stretch.first, left) {
            let crossing = borders.crossing(number);
            if crossing != Crossing::Inside {
                let cuts = eye.as_ref().map(|eye| eye.cuts.seen().clone()).unwrap_or_default();
                let handover = Handover { cuts, matter: Vec::new() };
                let ends_stretch = crossing == Crossing::End;
                left = ends_stretch.then_some(LOOK_AHEAD + 1);
                frame.border = Some(Box::new(Border { handover, ends_stretch }));
            }
        }
        if let Some(eye) = &mut eye {
            let (colour, picture) = frame.colour_and_picture();
            eye.maker.make(colour, picture)?;
            frame.starts_scene = eye.cuts.starts_scene(colour)?;
        }
        left = left.map(|left| left - 1);
        queues.decoded.push(frame)?;
    }
    queues.decoded.close();
    Ok(())
}

fn model_stage(matter: &mut dyn Matter, picture: Size, queues: &Queues) -> Result<(), StageEnd> {
    // Groups are counted from a scene's first frame, or a segment's: which frames are together never hangs on who was
    // quicker, nor on where an earlier attempt ended.
    let most = matter.group();
    let mut group = Vec::with_capacity(most);
    let work_off = |group: &mut Vec<Frame>, matter: &mut dyn Matter| -> Result<(), StageEnd> {
        matter.mattes(group, picture)?;
        group.drain(..).try_for_each(|frame| Ok(queues.matted.push(frame)?))
    };
    while let Some(mut frame) = queues.decoded.pop()? {
        if frame.border.is_some() {
            work_off(&mut group, matter)?;
        }
        if let Some(border) = &mut frame.border {
            border.handover.matter = matter.save()?;
        }
        if frame.starts_scene {
            work_off(&mut group, matter)?;
            matter.forget();
        }
        group.push(frame);
        if group.len() == most {
            work_off(&mut group, matter)?;
        }
    }
    work_off(&mut group, matter)?;
    matter.end()?;
    queues.matted.close();
    Ok(())
}

fn encode_stage(
    mut outlet: Outlet<'_>,
    mut finisher: Finisher,
    first: u64,
    queues: &Queues,
    [written, alive]: [&AtomicU64; 2],
) -> Result<Vec<f32>, StageEnd> {
    let mut means = Vec::new();
    let mut has_ended = false;
    while let Some(mut frame) = queues.matted.pop()? {
        if let Some(border) = frame.border.take() {
            has_ended = border.ends_stretch;
            outlet.cross(frame.number, *border)?;
        }
        if frame.number >= first && !has_ended {
            finisher.make_alpha(&mut frame)?;
            outlet.keep(frame.alpha())?;
            let done = finisher.finish(&mut frame)?;
            #[expect(clippy::cast_possible_truncation, reason = "a mean within 0..1")]
            let mean = done.mean as f32;
            means.push(mean);
            outlet.write(done.frame, mean)?;
            written.fetch_add(1, Ordering::Relaxed);
        } else {
            alive.fetch_add(1, Ordering::Relaxed);
        }
        queues.free.push(frame)?;
    }
    outlet.finish()?;
    Ok(means)
}

/// Stores segments beside the work on the next ones.
fn store_stage(
    store: &(dyn Fn(FinishedPart) -> Result<(), EngineError> + Sync),
    finished: &Queue<FinishedPart>,
) -> Result<(), StageEnd> {
    while let Some(part) = finished.pop()? {
        store(part)?;
    }
    Ok(())
}

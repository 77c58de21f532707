//! Decode, model, encode: stages on their threads, frames going round between them.
//!
//! Owns: the stages' threads and the queues between them. Does not own: what a stage does with a frame (`stages`).
//! Invariants: memory is bounded by the frames in flight, whatever the length; the stages overlap; any of them failing
//! ends all of them (`supervise`).
//!
//! The model's stage does nothing but inference: it is the slowest, and its threads idle while it does anything else.

mod eye;
pub(crate) mod outlet;
pub(crate) mod queue;
mod stages;
pub(crate) mod stretch;
pub(crate) mod supervise;

use std::sync::atomic::AtomicU64;

use rotoless_contract::worker::Stage;

use self::eye::Eye;
use self::outlet::{Outlet, Parts, PartsOrder};
use self::queue::Queue;
use self::stretch::Stretch;
use self::supervise::{Halt, NO_FRAME_LIMIT, StageWork, Told, supervise};
use crate::backdrop::Backdrop;
use crate::carried::Carrier;
use crate::child::Leash;
use crate::decode::{DecodeOrder, Decoder};
use crate::encode::EncodeOrder;
use crate::engine::Watch;
use crate::error::EngineError;
use crate::finish::{Canvas, Finisher, Placement};
use crate::frame::{Frame, Size};
use crate::kept::MatteOrder;
use crate::model::Matter;
use crate::quality::Score;
use crate::refine::{LOOK_AHEAD, Refiner};
use crate::techniques::Techniques;
use crate::tools::Tools;

/// One in each stage and one waiting before each.
const FRAMES_IN_FLIGHT: usize = 8;

/// The same where the model takes groups, one with the model and the next one waiting, is shown a scene's beginning
/// first, or sees one frame in so many: all between two that it sees wait, and one before it until it is known whether
/// its scene goes on. Where it looks by turns, a frame behind a closer look waits for the next closer one, three turns
/// away, and that one for the look at the whole frame behind it.
fn frames_in_flight(matter: &dyn Matter) -> usize {
    let every = matter.every() as usize;
    let held = match (every > 1, matter.takes_turns()) {
        (false, _) => 0,
        (true, false) => every + 1,
        (true, true) => 3 * every + 1,
    };
    let group = matter.group().max(matter.rehearsal() / 2);
    FRAMES_IN_FLIGHT + LOOK_AHEAD + 2 * group.saturating_sub(1) + held
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
    /// What is added to the model's own mattes.
    pub techniques: Techniques,
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
    refined: Queue<Frame>,
}

impl Queues {
    fn new(size: Size, frames: usize) -> Self {
        let queue = || Queue::new(frames);
        let queues = Self { free: queue(), decoded: queue(), seen: queue(), matted: queue(), refined: queue() };
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
        self.refined.abort();
    }
}

/// What is known of the frames that were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    /// Mean alpha of each, 0..1.
    pub means: Vec<f32>,
    /// Of each whose matte was made here.
    pub scores: Vec<Score>,
}

/// Runs a stretch of a clip through.
pub(crate) fn run(pipeline: Pipeline<'_>, watch: &dyn Watch) -> Result<Made, EngineError> {
    let Pipeline {
        tools,
        decode,
        encode,
        mut backdrop,
        placement,
        matter,
        prompt,
        kept,
        stretch,
        parts,
        techniques,
        budget,
    } = pipeline;
    let (size, total) = (decode.size(), decode.frames);
    matter.begin(prompt)?;
    matter.warm_up(size)?;
    if let Some(carried) = &stretch.carried {
        matter.restore(&carried.matter)?;
    }
    let (picture, matte) = (matter.picture_size(size), matter.matte_size(size));
    let eye = Eye::of(matter, size, &stretch);
    let carrier = (matter.every() > 1).then(|| Carrier::new(size, matte, matter.takes_turns()));
    let background = backdrop.leash();
    backdrop.skip(stretch.first, watch)?;
    let (has_hard_alpha, clean_colour) = (encode.codecs.has_hard_alpha(), techniques.colour);
    let canvas = Canvas { frame: size, matte, placement, has_hard_alpha, clean_colour };
    // What looks at no picture gives mattes that were refined before.
    let mut refiner = matter.input().map(|_| Refiner::new(techniques, size, matte));
    if let (Some(refiner), Some(carried)) = (&mut refiner, &stretch.carried) {
        refiner.resume(carried.refine.clone());
    }
    let finisher = Finisher::new(canvas, backdrop);

    let queues = Queues::new(size, frames_in_flight(matter));
    let stored = Queue::new(usize::MAX);
    let (written, alive) = (AtomicU64::new(stretch.first), AtomicU64::new(0));
    let mut made = Made::default();
    // This thread starts the children and stays until they are gone: their death signal hangs on it.
    let decoder = Decoder::start(tools, &DecodeOrder { from: stretch.decoded_from(), ..decode })?;
    let leash = Leash::default();
    let store = parts.as_ref().map(|order| order.sink);
    let parts = parts.map(|order| Parts::new(order, &stretch, &stored));
    let mut outlet = Outlet::open(tools, encode, kept, parts, leash.clone())?;
    let packer = outlet.take_packer();
    let halt = Halt::default();
    halt.kills(&decoder.child);
    for leash in background.into_iter().chain([leash]) {
        halt.on_stop(move || leash.stop());
    }
    halt.on_stop(|| {
        queues.abort();
        stored.abort();
    });
    let stopper = matter.stopper();
    halt.on_stop(move || stopper.stop());

    let mut stages = Vec::new();
    let mut stage = |name, work| stages.push(StageWork { name, work });
    stage("decode", Box::new(|| stages::decode(decoder, eye, budget, &stretch, &alive, &queues)));
    let after_model = if carrier.is_some() { &queues.seen } else { &queues.matted };
    stage("model", Box::new(|| stages::model(matter, picture, &queues.decoded, after_model)));
    if let Some(carrier) = carrier {
        stage("carry", Box::new(|| stages::carry(carrier, &queues)));
    }
    stage("refine", Box::new(|| stages::refine(refiner, &queues)));
    stage(
        "encode",
        Box::new(|| {
            made = stages::encode(outlet, finisher, stretch.first, &queues, [&written, &alive])?;
            stored.close();
            Ok(())
        }),
    );
    if let Some(packer) = packer {
        stage("pack", Box::new(|| packer.run()));
    }
    if let Some(store) = store {
        stage("store", Box::new(|| stages::store(store, &stored)));
    }
    let told = Told { watch, stage: Stage::Matte, done: &written, alive: &alive, total, patience: NO_FRAME_LIMIT };
    supervise(&halt, &told, stages)?;
    drop(halt);
    Ok(made)
}

//! A job in segments: what is there is taken, what is missing is made, then all is joined.
//!
//! Owns: the order of that, what counts as the same job ([`identity`]), the segments' files while the job lasts.
//! Invariants: a segment that cannot be read or does not fit is made again; the store failing costs nothing but what it
//! would have kept; what a job holds in memory does not grow with its segments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rotoless_contract::JobSpec;
use rotoless_contract::media::OutputInfo;
use rotoless_contract::worker::Stage;
use serde::Serialize;

use super::file::{Description, Files, pack, unpack};
use super::schedule::{self, Lean, Role};
use super::{Cut, Segments, Stored};
use crate::backdrop::Backdrop;
use crate::engine::{Engine, Task, Watch};
use crate::error::EngineError;
use crate::join::{Part, join_mattes, join_pictures};
use crate::kept::MatteUse;
use crate::model::Matter;
use crate::pipeline::outlet::{FinishedPart, PartFiles, PartsOrder};
use crate::pipeline::stretch::{Borders, Crossing, Handover, Stretch};
use crate::pipeline::{self, Made};
use crate::plan::Plan;
use crate::refine;
use crate::registry::Sha256;

/// Of what is handed over, and of everything in the engine that decides a matte's bits: one that differs takes no
/// segment of another. Grows with every such change.
const FORM: u32 = 2;

/// A job that is worked on in segments.
pub(crate) struct Segmented<'a> {
    engine: &'a Engine,
    task: &'a Task<'a>,
    plan: &'a Plan,
    segments: Segments<'a>,
    cut: Cut,
    /// Of the store's segments.
    name: String,
    dir: PathBuf,
    made: Mutex<BTreeMap<u32, Segment>>,
    /// The last segment that was made here was made by somebody else as well.
    is_overtaken: AtomicBool,
}

/// A segment whose files are here.
#[derive(Debug)]
struct Segment {
    made: Made,
    pictures: PathBuf,
    mattes: Option<PathBuf>,
    /// It was made by another attempt, or another engine.
    was_fetched: bool,
}

impl Segment {
    fn frames(&self) -> u64 {
        self.made.means.len() as u64
    }
}

/// Everything that decides what is in a segment.
#[derive(Serialize)]
struct Identity<'a> {
    form: u32,
    engine: &'static str,
    source: String,
    background: Option<String>,
    spec: &'a JobSpec,
    weights: Vec<(&'a str, String)>,
    timeline: String,
    length: u64,
    keeps_mattes: bool,
    /// What is added to the model's mattes, and groups of frames: both change bits.
    engine_config: String,
    /// Segments made before were not good.
    anew: bool,
}

impl Engine {
    /// The job in segments, unless it is to be made in one piece.
    pub(crate) fn segmented<'a>(
        &'a self,
        task: &'a Task<'a>,
        plan: &'a Plan,
    ) -> Result<Option<Segmented<'a>>, EngineError> {
        let Some(segments) = task.segments.filter(|_| !matches!(task.matte, MatteUse::Reuse { .. })) else {
            return Ok(None);
        };
        let cut = Cut::of(plan.frames, plan.source.rate.frames_in(segments.seconds));
        if cut.count() < 2 {
            return Ok(None);
        }
        let dir = task.work_dir.join("segments");
        std::fs::create_dir_all(&dir).map_err(EngineError::io("cannot make a directory for segments"))?;
        let name = identity(self, task, plan, cut, false)?;
        let (made, is_overtaken) = (Mutex::default(), AtomicBool::new(false));
        Ok(Some(Segmented { engine: self, task, plan, segments, cut, name, dir, made, is_overtaken }))
    }
}

fn identity(engine: &Engine, task: &Task<'_>, plan: &Plan, cut: Cut, anew: bool) -> Result<String, EngineError> {
    let digest = |file: &Path| {
        let digest = Sha256::of_file(file, u64::MAX).map_err(EngineError::io("cannot read the source"))?;
        Ok::<_, EngineError>(digest.to_string())
    };
    // How often and how closely it looks decides what is carried.
    let work = &engine.entry(task.spec.model)?.0.work;
    let identity = Identity {
        form: FORM,
        engine: env!("CARGO_PKG_VERSION"),
        source: digest(task.input)?,
        background: task.background.map(digest).transpose()?,
        spec: task.spec,
        weights: engine.weights_of(task.spec.model)?,
        timeline: format!("{:?} {}", plan.source, plan.frames),
        length: cut.first(1),
        keeps_mattes: matches!(task.matte, MatteUse::Keep(_)),
        engine_config: format!("{:?} {} {:?}", engine.techniques(), engine.config().compute.batch(), work),
        anew,
    };
    let text = serde_json::to_vec(&identity).map_err(|error| EngineError::Handover { detail: error.to_string() })?;
    let mut digest = Sha256::of(&text).to_string();
    digest.truncate(32);
    Ok(digest)
}

impl Segmented<'_> {
    /// Makes the output. Returns what is known of its frames, and the output as verified.
    pub(crate) fn run(mut self, watch: &dyn Watch) -> Result<(Made, OutputInfo), EngineError> {
        let outcome = self.attempt(watch);
        let has_fetched = self.lock().values().any(|made| made.was_fetched);
        match outcome {
            // What others made may be broken in a way that its digest does not tell. Once more, without it.
            Err(EngineError::Verification { detail }) if has_fetched => {
                tracing::warn!(detail, "the output of segments that were kept failed its check; they are made anew");
                self.name = identity(self.engine, self.task, self.plan, self.cut, true)?;
                self.lock().clear();
                self.attempt(watch)
            }
            outcome => outcome,
        }
    }

    fn attempt(&self, watch: &dyn Watch) -> Result<(Made, OutputInfo), EngineError> {
        self.make(Role::Lead, watch)?;
        let tools = self.engine.tools();
        let joined = self.join();
        let made = joined.map_err(|error| self.plan.blamed(tools, self.task, error))?;
        let output = self.engine.verified(self.task, self.plan, &made.means, watch)?;
        Ok((made, output))
    }

    /// Makes segments for another engine; returns how many.
    pub(crate) fn assist(self, watch: &dyn Watch) -> Result<u32, EngineError> {
        self.make(Role::Assist, watch)?;
        let made = self.lock().values().filter(|made| !made.was_fetched).count();
        Ok(u32::try_from(made).unwrap_or(u32::MAX))
    }

    /// Until every segment is here, or for an assistant until there is none to begin with.
    fn make(&self, role: Role, watch: &dyn Watch) -> Result<(), EngineError> {
        let mut has_worked = false;
        loop {
            let there = self.there();
            let next = schedule::next(&there, role, has_worked, Lean::random());
            if let Some(index) = next.and_then(|index| u32::try_from(index).ok()) {
                self.stretch(index, there, watch)?;
                has_worked = true;
            } else if role == Role::Assist || !self.fetch_all(watch)? {
                return Ok(());
            }
        }
    }

    /// Of each segment, whether somebody has finished it.
    fn there(&self) -> Vec<bool> {
        let stored = self.segments.store.finished(&self.name).unwrap_or_else(|error| {
            tracing::warn!(error = %shown(&error), "finished segments are not known");
            std::collections::BTreeSet::new()
        });
        let made = self.lock();
        (0..self.cut.count()).map(|index| made.contains_key(&index) || stored.contains(&index)).collect()
    }

    /// Fetches what others made. `true` when something of it was not good, and must be made after all.
    fn fetch_all(&self, watch: &dyn Watch) -> Result<bool, EngineError> {
        let mut is_missing = false;
        for index in 0..self.cut.count() {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            watch.alive();
            if !self.lock().contains_key(&index) && self.fetch(index).is_none() {
                self.stretch_of_one(index, watch)?;
                is_missing = true;
            }
        }
        Ok(is_missing)
    }

    /// Takes a segment from the store; gives what it hands over, `Some(None)` for the last one.
    fn fetch(&self, index: u32) -> Option<Option<Handover>> {
        let packed = self.dir.join(format!("{index}.fetched"));
        let keeps = matches!(self.task.matte, MatteUse::Keep(_));
        let first = self.cut.first(index);
        let PartFiles { pictures, mattes } = PartFiles::of(&self.dir, first);
        let mattes = keeps.then_some(mattes);
        let fetched = self.segments.store.fetch(&self.name, index, &packed);
        let unpacked = fetched.map_err(|error| shown(&error)).and_then(|()| {
            let files = Files { pictures: &pictures, mattes: mattes.as_deref() };
            unpack(&packed, &self.name, index, files).map_err(|error| shown(&error))
        });
        let _ = std::fs::remove_file(&packed);
        let (description, handover) = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) => {
                tracing::warn!(segment = index, error, "a segment cannot be taken and is made again");
                return None;
            }
        };
        let frames = description.means.len() as u64;
        let fits = self.cut.frames(index).map_or(frames > 0, |expected| frames == expected);
        if description.first != first || !fits {
            tracing::warn!(segment = index, frames, "a segment is not what it should be and is made again");
            return None;
        }
        let made = Made { means: description.means, scores: description.scores };
        self.lock().insert(index, Segment { made, pictures, mattes, was_fetched: true });
        Some(handover)
    }

    /// Works from a segment on, until finished work or the end; `there` says of each segment whether it is finished.
    fn stretch(&self, index: u32, there: Vec<bool>, watch: &dyn Watch) -> Result<(), EngineError> {
        // Of a segment that was made here the state is not kept: whoever made it has gone on from there.
        let before = index.checked_sub(1).filter(|before| there.get(*before as usize) == Some(&true));
        let carried = before.and_then(|before| self.fetch(before)).flatten();
        let finished = count(&there);
        self.work(index, carried, finished, &Meeting { job: self, there }, watch)
    }

    /// Works on one segment alone.
    fn stretch_of_one(&self, index: u32, watch: &dyn Watch) -> Result<(), EngineError> {
        let carried = index.checked_sub(1).and_then(|before| self.fetch(before)).flatten();
        self.work(index, carried, count(&self.there()), &Single(self.cut), watch)
    }

    fn work(
        &self,
        index: u32,
        carried: Option<Handover>,
        finished: u64,
        borders: &dyn Borders,
        watch: &dyn Watch,
    ) -> Result<(), EngineError> {
        let (task, plan) = (self.task, self.plan);
        let backdrop = Backdrop::open(self.engine.tools(), &plan.backdrop(task))?;
        let sink = |part| self.finished(part);
        let parts = PartsOrder { dir: &self.dir, sink: &sink };
        tracing::info!(segment = index, of = self.cut.count(), is_resumed = carried.is_some(), "working on segments");
        self.engine.with_model(task.spec.model, |matter: &mut dyn Matter| {
            let lead_in = if carried.is_some() { 0 } else { matter.lead_in() + refine::LEAD_IN };
            let stretch = Stretch { first: self.cut.first(index), lead_in, carried, borders: Some(borders) };
            let already = finished * self.cut.first(1);
            let watch = Ahead { watch, first: stretch.first, already };
            pipeline::run(plan.pipeline(self.engine.config(), task, backdrop, matter, (stretch, Some(parts)))?, &watch)
                .map(drop)
        })
    }

    /// A segment's encoders have ended. On a thread beside the pipeline's stages.
    fn finished(&self, part: FinishedPart) -> Result<(), EngineError> {
        let FinishedPart { first, made, pictures, mattes, handover } = part;
        let Some(index) = self.cut.beginning_at(first) else { return Ok(()) };
        let is_last = handover.is_none();
        let Made { means, scores } = made;
        let description = Description { v: 1, plan: self.name.clone(), index, first, means, scores };
        // The last one a lone engine makes is in its output in a moment.
        let is_needed = self.segments.shared || !is_last;
        if is_needed {
            let packed = self.dir.join(format!("{index}.packed"));
            let handover = handover.map(|handover| postcard::to_stdvec(&handover)).transpose();
            let handover = handover.map_err(|error| EngineError::Handover { detail: error.to_string() })?;
            let files = Files { pictures: &pictures, mattes: mattes.as_deref() };
            pack(&description, handover.as_deref(), files, &packed)
                .map_err(EngineError::io("cannot write a segment"))?;
            match self.segments.store.store(&self.name, index, &packed) {
                Ok(Stored::New) => tracing::debug!(segment = index, "segment stored"),
                // Somebody works right here.
                Ok(Stored::WasThere) => self.is_overtaken.store(true, Ordering::Relaxed),
                Err(error) => tracing::warn!(segment = index, error = shown(&error), "a segment is not kept"),
            }
            let _ = std::fs::remove_file(&packed);
        }
        let made = Made { means: description.means, scores: description.scores };
        self.lock().insert(index, Segment { made, pictures, mattes, was_fetched: false });
        Ok(())
    }

    fn join(&self) -> Result<Made, EngineError> {
        let segments = self.lock();
        let part = |file: &PathBuf, segment: &Segment| Part { file: file.clone(), frames: segment.frames() };
        let pictures: Vec<Part> = segments.values().map(|segment| part(&segment.pictures, segment)).collect();
        let mattes = segments.values().filter_map(|segment| segment.mattes.as_ref().map(|file| part(file, segment)));
        let tools = self.engine.tools();
        join_pictures(tools, &pictures, &self.plan.encode(self.task))?;
        if let MatteUse::Keep(file) = self.task.matte {
            join_mattes(tools, &mattes.collect::<Vec<_>>(), &self.plan.mattes(file))?;
        }
        let mut all = Made::default();
        for Segment { made, .. } in segments.values() {
            all.means.extend(&made.means);
            all.scores.extend(&made.scores);
        }
        Ok(all)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Segment>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many segments are finished.
fn count(there: &[bool]) -> u64 {
    there.iter().filter(|is_there| **is_there).count() as u64
}

/// Goes on until it meets finished work.
struct Meeting<'s, 'a> {
    job: &'s Segmented<'a>,
    /// What was there when the stretch began: of a job that nobody else works on, all there ever will be.
    there: Vec<bool>,
}

impl Borders for Meeting<'_, '_> {
    fn crossing(&self, number: u64) -> Crossing {
        let Some(index) = self.job.cut.beginning_at(number) else { return Crossing::Inside };
        let is_there = |there: &[bool]| there.get(index as usize) == Some(&true);
        let meets = is_there(&self.there)
            || self.job.segments.shared
                && (self.job.is_overtaken.swap(false, Ordering::Relaxed) || is_there(&self.job.there()));
        if meets { Crossing::End } else { Crossing::Border }
    }
}

/// Ends at the next border.
struct Single(Cut);

impl Borders for Single {
    fn crossing(&self, number: u64) -> Crossing {
        if self.0.beginning_at(number).is_some() { Crossing::End } else { Crossing::Inside }
    }
}

/// Tells a stretch's progress as the job's.
struct Ahead<'a> {
    watch: &'a dyn Watch,
    first: u64,
    /// Frames that were there before, about.
    already: u64,
}

impl Watch for Ahead<'_> {
    fn progress(&self, stage: Stage, frames_done: u64, frames_total: u64) {
        let done = self.already + frames_done.saturating_sub(self.first);
        self.watch.progress(stage, done.min(frames_total), frames_total);
    }

    fn alive(&self) {
        self.watch.alive();
    }

    fn cancelled(&self) -> bool {
        self.watch.cancelled()
    }
}

/// An error with its causes.
fn shown(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

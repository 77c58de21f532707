//! `rotoless bench --all`: every figure of the pipeline, each beside what it is compared with, in one run.
//!
//! Owns: the clips it is measured on, the processes that are compared with, the table. Does not own: measuring the
//! pipeline itself (`rotoless_matting::bench`).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rotoless_contract::Model;
use rotoless_contract::worker::{MediaLimits, Stage};
use rotoless_matting::Techniques;
use rotoless_matting::bench::{
    CarriedReport, Cost, FreeReport, PeerOrder, Report, Resident, measure, measure_carried, measure_free,
    measure_resident, peer_order,
};
use rotoless_matting::registry::Family;
use rotoless_matting::{Engine, MatteUse, Task, Tools, Watch};
use serde::{Deserialize, Serialize};

use super::{keep, order, summary};
use crate::cli::PipelineBenchArgs;
use crate::models::models_dir;
use crate::remove::open_engine;

/// Of what depends on the clock: the best of so many counts.
const RUNS: usize = 3;

/// How often the clip is repeated to see whether memory grows.
const LONG: u32 = 6;

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Figures {
    /// How the program was built: `dev` or `release`.
    profile: &'static str,
    /// `human` at 720p.
    floor: Report,
    /// At 1080p.
    free: FreeReport,
    peers: Vec<Peer>,
    carried: Vec<CarriedReport>,
    /// At 1080p: the clip, and the clip many times.
    resident: Vec<Resident>,
    /// From the start of the process to the first frame given to the encoder, `human`.
    first_frame_seconds: f64,
}

/// A job of ours and the same job by `bench/peer.py`.
#[derive(Debug, Serialize)]
struct Peer {
    model: Model,
    frames: u64,
    width: u32,
    height: u32,
    /// Probe and verification included.
    ours: Cost,
    theirs: Cost,
}

/// What the peer prints.
#[derive(Debug, Deserialize)]
struct PeerAnswer {
    frames: u64,
    #[serde(flatten)]
    cost: Cost,
}

pub(super) fn run(args: &PipelineBenchArgs) -> Result<()> {
    let engine = open_engine(&models_dir(&args.models), args.threads, args.compute.into(), Techniques::ALL)?;
    let work = tempfile::tempdir()?;
    let clips = Clips { tools: find_tools()?, source: args.clip()?, work: work.path() };
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    say(format_args!("profile {profile}\n"))?;
    // First: what later measurements leave in the allocator would hide growth.
    let hd = clips.scaled("1080p.mp4", 1080, 1)?;
    let mut resident = Vec::new();
    for clip in [&hd, &clips.scaled("long.mp4", 1080, LONG)?] {
        resident.push(measure_resident(&engine, clip, work.path())?);
        resident.last().map_or(Ok(()), |found| say(resident_line(found)))?;
    }
    let times = (0..RUNS).map(|_| time_to_first_frame(args)).collect::<Result<Vec<_>>>()?;
    let first_frame_seconds = summary::median(times.into_iter());
    say(format_args!("first frame of human out after {first_frame_seconds:.2} s"))?;
    let free = measure_free(&engine, &hd, work.path(), RUNS)?;
    say(free_table(&free)?)?;
    let middle = clips.scaled("720p.mp4", 720, 1)?;
    let floor = measure(&engine, &middle, &order(Model::Human), work.path())?;
    say(format_args!("\n{}", floor.table().trim_end()))?;
    let mut carried = Vec::new();
    for (clip, truth) in light_clips(args)? {
        let report = measure_carried(&engine, &clip, truth.as_deref(), Model::Light, work.path())?;
        say(carried_table(&report)?)?;
        carried.push(report);
    }
    let mut peers = Vec::new();
    if let Some(python) = &args.peer {
        for model in [Model::Human, Model::Light] {
            let found = peer(&engine, python, model, &middle, work.path())?;
            say(peer_table(&found)?)?;
            peers.push(found);
        }
    }
    keep(args, &Figures { profile, floor, free, peers, carried, resident, first_frame_seconds })
}

fn find_tools() -> Result<Tools> {
    Tools::find(std::env::var_os("PATH").as_deref()).context("run `rotoless doctor`")
}

/// Clips made of one.
struct Clips<'a> {
    tools: Tools,
    source: &'a Path,
    work: &'a Path,
}

impl Clips<'_> {
    /// So high and so many times as long, sound and all.
    fn scaled(&self, name: &str, height: u32, times: u32) -> Result<PathBuf> {
        let made = self.work.join(name);
        let status = Command::new(&self.tools.ffmpeg)
            .args(["-nostdin", "-loglevel", "error", "-stream_loop", &(times - 1).to_string(), "-i"])
            .arg(self.source)
            .args(["-vf", &format!("scale=-2:{height}"), "-c:v", "libx264", "-preset", "veryfast", "-crf", "16"])
            .args(["-c:a", "copy"])
            .arg(&made)
            .status()?;
        if !status.success() {
            bail!("ffmpeg could not make {name} of {}", self.source.display());
        }
        Ok(made)
    }
}

/// The clip itself and those of `--clips`, each with its true matte where there is one.
fn light_clips(args: &PipelineBenchArgs) -> Result<Vec<(PathBuf, Option<PathBuf>)>> {
    let sample = args.clip()?;
    let mut clips = vec![sample.to_owned()];
    if let Some(dir) = &args.clips {
        let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut found = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "mp4"));
        found.sort();
        // The first one has been measured when it is the sample.
        found.retain(|path| path.file_name() != sample.file_name());
        clips.extend(found);
    }
    Ok(clips
        .into_iter()
        .map(|clip| {
            let truth = clip.with_extension("alpha.mkv");
            let truth = truth.is_file().then_some(truth);
            (clip, truth)
        })
        .collect())
}

fn peer(engine: &Engine, python: &Path, model: Model, clip: &Path, work: &Path) -> Result<Peer> {
    let PeerOrder { weights, family, picture: [width, height], threads, encoder } = peer_order(engine, clip, model)?;
    let family = match family {
        Family::Still => "still",
        Family::Recurrent => "recurrent",
        Family::Grounded => bail!("the peer follows no prompts"),
    };
    let ours = measure(engine, clip, &order(model), work)?;
    let answer = Command::new(python)
        .arg("bench/peer.py")
        .arg("--clip")
        .arg(clip)
        .arg("--output")
        .arg(work.join("peer.webm"))
        .arg("--weights")
        .arg(weights)
        .args(["--family", family, "--picture", &format!("{width}x{height}"), "--threads", &threads.to_string()])
        .args(["--encoder", &serde_json::to_string(&encoder)?])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !answer.status.success() {
        bail!("bench/peer.py ended with {}", answer.status);
    }
    let answer: PeerAnswer = serde_json::from_slice(&answer.stdout).context("bench/peer.py did not answer")?;
    if answer.frames != ours.frames {
        bail!("bench/peer.py saw {} frames of {}", answer.frames, ours.frames);
    }
    Ok(Peer {
        model,
        frames: ours.frames,
        width: ours.width,
        height: ours.height,
        ours: ours.whole,
        theirs: answer.cost,
    })
}

/// Starts this program anew and waits for its first frame.
fn time_to_first_frame(args: &PipelineBenchArgs) -> Result<f64> {
    let started = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["bench", "--first-frame", "--model", Model::Human.as_str(), "--threads", &args.threads.to_string()])
        .arg("--models")
        .arg(models_dir(&args.models))
        .arg("--clip")
        .arg(args.clip()?)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no pipe")?;
    let read = BufReader::new(stdout).read_line(&mut line);
    let seconds = started.elapsed().as_secs_f64();
    let status = child.wait()?;
    read?;
    if !status.success() || line.is_empty() {
        bail!("no first frame: {status}");
    }
    Ok(seconds)
}

/// Says when the first frame is out and ends there.
pub(super) fn first_frame(args: &PipelineBenchArgs) -> Result<()> {
    let engine = open_engine(&models_dir(&args.models), args.threads, args.compute.into(), Techniques::ALL)?;
    let limits = MediaLimits::default();
    let probe = engine.probe(args.clip()?, &limits)?;
    let work = tempfile::tempdir()?;
    let output = work.path().join("output.webm");
    let task = Task {
        input: args.clip()?,
        output: &output,
        background: None,
        matte: MatteUse::Forget,
        segments: None,
        work_dir: work.path(),
        probe: &probe,
        spec: &order(args.model),
        limits,
        paid_seconds: None,
    };
    let first = First::default();
    // Ends as cancelled.
    match engine.remove_background(&task, &first) {
        _ if first.0.load(Ordering::Relaxed) => Ok(()),
        Ok(_) => bail!("no frame came out"),
        Err(error) => Err(error.into()),
    }
}

/// Cancels the job after its first frame.
#[derive(Default)]
struct First(AtomicBool);

impl Watch for First {
    fn progress(&self, stage: Stage, frames_done: u64, _frames_total: u64) {
        if stage == Stage::Matte && frames_done > 0 && !self.0.swap(true, Ordering::Relaxed) {
            let mut out = std::io::stdout().lock();
            // Nobody to tell is no reason to go on.
            let _ = writeln!(out, "{frames_done}").and_then(|()| out.flush());
        }
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says what was measured as soon as it was: the whole takes minutes.
fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn free_table(report: &FreeReport) -> Result<String> {
    let FreeReport { frames, width, height, pipeline, verification, ffmpeg } = *report;
    let mut text = format!("\nfree model, {width}x{height}, {frames} frames, best of {RUNS}\n");
    for (name, cost) in [("pipeline", pipeline), ("its verification", verification), ("ffmpeg alone", ffmpeg)] {
        row(&mut text, name, cost, frames)?;
    }
    let (wall, verified, cpu) = (report.ratio(), report.verified_ratio(), report.cpu_ratio());
    write!(text, "frames/s over ffmpeg's: {wall:.3}, verified {verified:.3}; CPU time of ffmpeg over ours: {cpu:.3}")?;
    Ok(text)
}

fn peer_table(Peer { model, frames, width, height, ours, theirs }: &Peer) -> Result<String> {
    let mut text = format!("\n{model} beside a plain Python loop, {width}x{height}\n");
    row(&mut text, "ours, verified", *ours, *frames)?;
    row(&mut text, "theirs", *theirs, *frames)?;
    let (wall, cpu) = (theirs.wall_seconds / ours.wall_seconds, theirs.cpu_seconds / ours.cpu_seconds);
    write!(text, "frames/s over theirs: {wall:.2}; CPU time of theirs over ours: {cpu:.2}")?;
    Ok(text)
}

fn carried_table(report: &CarriedReport) -> Result<String> {
    let CarriedReport { clip, frames, carried, raw, carried_mad, raw_mad } = report;
    let mut text = format!("\nlight, {clip}\n");
    row(&mut text, "carried", *carried, *frames)?;
    row(&mut text, "model on every frame", *raw, *frames)?;
    write!(text, "CPU time of every frame over carried: {:.2}", report.speed())?;
    if let (Some(carried), Some(raw), Some(error)) = (carried_mad, raw_mad, report.error()) {
        write!(text, "; MAD·10³ {carried:.2}, on every frame {raw:.2}: {:+.1} %", (error - 1.0) * 100.0)?;
    }
    Ok(text)
}

fn resident_line(Resident { frames, before, peak }: &Resident) -> String {
    let (before, more) = (before >> 20, peak.saturating_sub(*before) >> 20);
    format!("resident memory, 1080p, {frames} frames: {before} MiB, at most {more} MiB more")
}

fn row(text: &mut String, name: &str, cost: Cost, frames: u64) -> std::fmt::Result {
    let (cpu, wall) = (cost.cpu_seconds, cost.wall_seconds);
    let (per_frame, fps) = (cpu * 1000.0 / frames.max(1) as f64, frames as f64 / wall.max(f64::MIN_POSITIVE));
    writeln!(text, "{name:<20} {cpu:>9.2} CPU s {wall:>9.2} s {per_frame:>9.1} CPU ms/frame {fps:>8.1} fps")
}

//! Long videos in segments: an attempt that dies loses at most one, and nobody can tell from the output.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rotoless_contract::spec::{Background, JobSpec, Model, OutputFormat, Rgb};
use rotoless_contract::worker::{MediaLimits, Stage};
use rotoless_matting::segments::{DirectoryStore, SegmentStore, SegmentStoreError, Segments, Stored};
use rotoless_matting::{Engine, EngineError, Finished, MatteUse, Task, Watch};

use crate::support::{Bench, carrying_engine, lingering_engine, mad, raw, spec, transparent};

/// Frames a second of the clips, and of a segment: each is one second long.
const RATE: u64 = 10;

/// A white box on its way, first across the dark and after a cut down in front of gray, with a tone.
fn clip(bench: &Bench, name: &str, seconds: u64) -> PathBuf {
    let half = seconds as f64 / 2.0;
    let scene = |name: &str, ground: &str, way: &str| {
        format!(
            "color=c={ground}:s=160x96:r={RATE}:d={half}[{name}g];color=c=white:s=48x40:r={RATE}:d={half}[{name}w];\
             [{name}g][{name}w]overlay={way},gblur=2[{name}]"
        )
    };
    let (across, down) = (scene("a", "0x101010", "x=8+6*t:y=30"), scene("b", "0x606060", "x=60:y=8*t"));
    let picture = format!("{across};{down};[a][b]concat=n=2,format=yuv420p[v]");
    let tone = format!("sine=f=440:r=44100:d={seconds}");
    let tags = ["-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"];
    let sources = ["-f", "lavfi", "-i", &tone, "-filter_complex", &picture, "-map", "[v]", "-map", "0:a"];
    bench.make(name, &[&sources[..], &["-c:v", "libx264", "-crf", "8", "-c:a", "aac"], &tags].concat())
}

/// Counts what is asked of it, and can be told to fail.
#[derive(Debug)]
struct Store {
    directory: DirectoryStore,
    stored: Mutex<Vec<u32>>,
    fetched: Mutex<Vec<u32>>,
    is_down: bool,
}

impl Store {
    fn new(bench: &Bench) -> Self {
        let directory = DirectoryStore::new(bench.path("store"));
        Self { directory, stored: Mutex::default(), fetched: Mutex::default(), is_down: false }
    }

    fn stored(&self) -> Vec<u32> {
        std::mem::take(&mut self.stored.lock().unwrap())
    }

    fn fetched(&self) -> Vec<u32> {
        std::mem::take(&mut self.fetched.lock().unwrap())
    }

    fn check(&self) -> Result<(), SegmentStoreError> {
        let down = || SegmentStoreError { what: "the store is down", source: "no answer".into() };
        if self.is_down { Err(down()) } else { Ok(()) }
    }
}

impl SegmentStore for Store {
    fn finished(&self, plan: &str) -> Result<BTreeSet<u32>, SegmentStoreError> {
        self.check()?;
        self.directory.finished(plan)
    }

    fn fetch(&self, plan: &str, index: u32, file: &Path) -> Result<(), SegmentStoreError> {
        self.check()?;
        self.fetched.lock().unwrap().push(index);
        self.directory.fetch(plan, index, file)
    }

    fn store(&self, plan: &str, index: u32, file: &Path) -> Result<Stored, SegmentStoreError> {
        self.check()?;
        self.stored.lock().unwrap().push(index);
        self.directory.store(plan, index, file)
    }
}

/// Stops a job once so many frames are done.
#[derive(Default)]
struct StopAt {
    frames: Option<u64>,
    done: AtomicU64,
}

impl Watch for StopAt {
    fn progress(&self, stage: Stage, frames_done: u64, _frames_total: u64) {
        if stage == Stage::Matte {
            let before = self.done.swap(frames_done, Ordering::Relaxed);
            assert!(before <= frames_done, "progress fell from {before} to {frames_done}");
        }
    }

    fn cancelled(&self) -> bool {
        self.frames.is_some_and(|frames| self.done.load(Ordering::Relaxed) >= frames)
    }
}

/// One attempt, in a work directory of its own, as on another machine.
fn attempt(
    bench: &Bench,
    engine: &Engine,
    (clip, spec): (&Path, &JobSpec),
    segments: Option<Segments<'_>>,
    watch: &StopAt,
) -> Result<(PathBuf, PathBuf, Finished), EngineError> {
    let probe = engine.probe(clip, &MediaLimits::default()).unwrap();
    let work_dir = tempfile::tempdir_in(bench.directory.path()).unwrap();
    let name = work_dir.path().file_name().unwrap().to_str().unwrap().to_owned();
    let output = bench.path(&format!("{name}.{}", spec.output_format.extension()));
    let matte = bench.path(&format!("{name}.matte.mkv"));
    let task = Task {
        input: clip,
        output: &output,
        background: bench.background.as_deref(),
        matte: MatteUse::Keep(&matte),
        segments,
        work_dir: work_dir.path(),
        probe: &probe,
        spec,
        limits: MediaLimits::default(),
        paid_seconds: None,
    };
    engine.remove_background(&task, watch).map(|finished| (output, matte, finished))
}

const fn second_by_second(store: &dyn SegmentStore) -> Option<Segments<'_>> {
    Some(Segments { seconds: 1, store, shared: false })
}

fn gray(path: &Path) -> Vec<u8> {
    raw(path, &[], "null", "gray")
}

#[test]
fn an_attempt_stopped_anywhere_loses_one_segment_and_the_mattes_are_bit_equal() {
    let bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 9);
    let order = transparent(Model::Human);
    let (whole, whole_matte, _) = attempt(&bench, &engine, (&clip, &order), None, &StopAt::default()).unwrap();
    let undisturbed = Store { directory: DirectoryStore::new(bench.path("other")), ..Store::new(&bench) };
    let (pieces, matte, finished) =
        attempt(&bench, &engine, (&clip, &order), second_by_second(&undisturbed), &StopAt::default()).unwrap();
    assert_eq!(undisturbed.stored(), (0..8).collect::<Vec<_>>(), "all but the last one");
    assert_eq!(finished.output.frames, 9 * RATE);
    assert!(gray(&matte) == gray(&whole_matte), "segments change the matte");

    let store = Store::new(&bench);
    let mut made = Vec::new();
    for stop in [3, 14, 15, 37, 60, 89] {
        let watch = StopAt { frames: Some(stop), ..StopAt::default() };
        let ended = attempt(&bench, &engine, (&clip, &order), second_by_second(&store), &watch);
        assert!(matches!(ended, Err(EngineError::Cancelled)), "{ended:?}");
        made.extend(store.stored());
        // What is finished when it is stopped may still be on its way into the store.
        assert!(made.len() as u64 + 1 >= stop / RATE, "stopped at {stop}, and of the segments are there {made:?}");
    }
    let watch = StopAt::default();
    let (resumed, resumed_matte, finished) =
        attempt(&bench, &engine, (&clip, &order), second_by_second(&store), &watch).unwrap();
    made.extend(store.stored());
    assert_eq!(made, (0..8).collect::<Vec<_>>(), "some were made twice");
    assert_eq!(finished.output.frames, 9 * RATE);
    assert!(gray(&resumed_matte) == gray(&whole_matte), "mattes differ after a resume");
    assert!(is_same(&resumed, &pieces), "the outputs differ");
    // The encoder begins anew at each border, and so differs in its losses.
    let alpha = |path: &Path| raw(path, &["-c:v", "libvpx-vp9"], "alphaextract", "gray");
    assert!(mad(&alpha(&resumed), &alpha(&whole)) < 0.01);
}

/// The model sees every fourth frame, which is not the grid of the segments; all of it, or closer by turns.
#[test]
fn mattes_that_are_carried_between_frames_are_the_same_after_a_resume() {
    let bench = Bench::new();
    let clip = clip(&bench, "in.mp4", 5);
    let order = transparent(Model::Human);
    let mut mattes = Vec::new();
    for closer_looks in [0, 1] {
        let engine = carrying_engine(&bench, 4, closer_looks);
        let undisturbed = Store { directory: DirectoryStore::new(bench.path("other")), ..Store::new(&bench) };
        let run = |segments, watch: &StopAt| attempt(&bench, &engine, (&clip, &order), segments, watch);
        let (_, whole, _) = run(second_by_second(&undisturbed), &StopAt::default()).unwrap();
        let store = Store::new(&bench);
        run(second_by_second(&store), &StopAt { frames: Some(27), ..StopAt::default() }).unwrap_err();
        let (_, resumed, _) = run(second_by_second(&store), &StopAt::default()).unwrap();
        assert!(store.fetched().len() >= 2, "it was resumed");
        assert!(gray(&resumed) == gray(&whole));
        mattes.push(gray(&resumed));
    }
    assert!(mattes[0] != mattes[1], "nothing was looked at closer");
    assert!(mad(&mattes[0], &mattes[1]) < 0.01, "both looks see the same box");
}

#[test]
fn every_format_is_joined_of_its_segments() {
    let bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 4);
    let green = Background::Color { color: Rgb([0, 255, 0]) };
    for (format, background) in [
        (OutputFormat::Webm, Background::Transparent),
        (OutputFormat::Mov, Background::Transparent),
        (OutputFormat::Mp4, green),
        (OutputFormat::Gif, Background::Transparent),
        (OutputFormat::Webp, Background::Transparent),
        (OutputFormat::PngSequence, Background::Blur),
    ] {
        let order = spec(Model::Human, format, background);
        let store = Store { directory: DirectoryStore::new(bench.path(&format!("{format}"))), ..Store::new(&bench) };
        let segments = second_by_second(&store);
        let (output, _, finished) = attempt(&bench, &engine, (&clip, &order), segments, &StopAt::default()).unwrap();
        // Decoded and compared with the mattes frame by frame, or it would not be here.
        assert_eq!((finished.output.frames, finished.output.has_audio), (4 * RATE, format.has_audio()), "{format}");
        assert_eq!(store.stored(), [0, 1, 2]);
        let (again, _, _) = attempt(&bench, &engine, (&clip, &order), segments, &StopAt::default()).unwrap();
        assert_eq!((store.stored(), store.fetched()), (vec![], vec![2, 0, 1]));
        assert!(is_same(&again, &output), "{format} differs when resumed");
    }
}

#[test]
fn a_looped_background_goes_on_where_it_was() {
    let mut bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 4);
    bench.background = Some(bench.make(
        "back.mp4",
        &["-f", "lavfi", "-i", "testsrc=s=160x96:r=10:d=1.3", "-pix_fmt", "yuv420p", "-c:v", "libx264"],
    ));
    let background = Background::Video { video_url: "upl_x".to_owned(), fit: rotoless_contract::spec::Fit::Cover };
    let order = spec(Model::Human, OutputFormat::Mp4, background);
    let store = Store::new(&bench);
    let segments = second_by_second(&store);
    let (undisturbed, _, _) = attempt(&bench, &engine, (&clip, &order), segments, &StopAt::default()).unwrap();
    std::fs::remove_file(only_plan(&bench.path("store")).join("2.segment")).unwrap();
    let (resumed, _, _) = attempt(&bench, &engine, (&clip, &order), segments, &StopAt::default()).unwrap();
    assert!(is_same(&resumed, &undisturbed));
}

/// The same bytes, but for the random names that a WebM has for its tracks.
fn is_same(one: &Path, other: &Path) -> bool {
    if one.extension().is_some_and(|extension| extension == "webm") {
        let [one, other] = [one, other].map(|path| raw(path, &["-c:v", "libvpx-vp9"], "null", "yuva420p"));
        return one == other;
    }
    std::fs::read(one).unwrap() == std::fs::read(other).unwrap()
}

fn only_plan(store: &Path) -> PathBuf {
    let plans: Vec<PathBuf> = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(plans.len(), 1, "{plans:?}");
    plans[0].clone()
}

#[test]
fn a_broken_or_foreign_segment_is_made_again() {
    let bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 5);
    let order = transparent(Model::Human);
    let store = Store::new(&bench);
    let segments = second_by_second(&store);
    let (undisturbed, matte, _) = attempt(&bench, &engine, (&clip, &order), segments, &StopAt::default()).unwrap();
    let plan = only_plan(&bench.path("store"));
    let mut bytes = std::fs::read(plan.join("1.segment")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(plan.join("1.segment"), bytes).unwrap();
    std::fs::copy(plan.join("0.segment"), plan.join("3.segment")).unwrap();
    let (again, matte_again, _) = attempt(&bench, &engine, (&clip, &order), segments, &StopAt::default()).unwrap();
    assert_eq!(std::fs::metadata(again).unwrap().len(), std::fs::metadata(&undisturbed).unwrap().len());
    // The one behind a broken one is begun with the frames before it instead of a state.
    assert!(mad(&gray(&matte_again), &gray(&matte)) < 1e-3);
}

#[test]
fn another_order_takes_nothing_of_it() {
    let bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 3);
    let store = Store::new(&bench);
    let segments = second_by_second(&store);
    attempt(&bench, &engine, (&clip, &transparent(Model::Human)), segments, &StopAt::default()).unwrap();
    let other = spec(Model::Human, OutputFormat::Mov, Background::Transparent);
    attempt(&bench, &engine, (&clip, &other), segments, &StopAt::default()).unwrap();
    assert!(store.fetched().is_empty());
}

#[test]
fn a_store_that_is_down_does_not_stop_the_job() {
    let bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 3);
    let store = Store { is_down: true, ..Store::new(&bench) };
    let order = transparent(Model::Human);
    let segments = second_by_second(&store);
    let (_, _, finished) = attempt(&bench, &engine, (&clip, &order), segments, &StopAt::default()).unwrap();
    assert_eq!(finished.output.frames, 3 * RATE);
}

#[test]
fn a_clip_of_one_segment_is_made_in_one_piece() {
    let bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 1);
    let store = Store::new(&bench);
    let order = transparent(Model::Human);
    attempt(&bench, &engine, (&clip, &order), second_by_second(&store), &StopAt::default()).unwrap();
    assert!(store.stored().is_empty() && store.fetched().is_empty());
}

#[test]
fn a_kept_matte_of_segments_serves_exports() {
    let bench = Bench::new();
    let engine = lingering_engine(&bench);
    let clip = clip(&bench, "in.mp4", 3);
    let store = Store::new(&bench);
    let order = transparent(Model::Human);
    let (_, matte, _) =
        attempt(&bench, &engine, (&clip, &order), second_by_second(&store), &StopAt::default()).unwrap();
    let probe = engine.probe(&clip, &MediaLimits::default()).unwrap();
    let (work_dir, output) = (tempfile::tempdir().unwrap(), bench.path("export.mov"));
    let export = spec(Model::Human, OutputFormat::Mov, Background::Transparent);
    let task = Task {
        input: &clip,
        output: &output,
        background: None,
        matte: MatteUse::Reuse { file: &matte, made_for: OutputFormat::Webm },
        segments: second_by_second(&store),
        work_dir: work_dir.path(),
        probe: &probe,
        spec: &export,
        limits: MediaLimits::default(),
        paid_seconds: None,
    };
    assert_eq!(engine.remove_background(&task, &StopAt::default()).unwrap().output.frames, 3 * RATE);
}

#[test]
fn two_engines_share_a_clip_and_the_seams_cannot_be_seen() {
    let bench = Bench::new();
    let (lead, assistant) = (lingering_engine(&bench), lingering_engine(&bench));
    let clip = clip(&bench, "in.mp4", 12);
    let order = transparent(Model::Human);
    let (_, alone, _) = attempt(&bench, &lead, (&clip, &order), None, &StopAt::default()).unwrap();
    let store = Store::new(&bench);
    let shared = Segments { seconds: 1, store: &store, shared: true };
    let probe = lead.probe(&clip, &MediaLimits::default()).unwrap();
    let (work_dir, matte) = (tempfile::tempdir().unwrap(), bench.path("unused.mkv"));
    let task = Task {
        input: &clip,
        output: &bench.path("unused.webm"),
        background: None,
        matte: MatteUse::Keep(&matte),
        segments: Some(shared),
        work_dir: work_dir.path(),
        probe: &probe,
        spec: &order,
        limits: MediaLimits::default(),
        paid_seconds: None,
    };
    // One after the other, so that what each finds does not hang on their speed: the assistant makes its half first.
    let assisted = assistant.assist(&task, &StopAt::default()).unwrap();
    assert_eq!(assisted, 11, "it leaves one to the leader");
    store.stored();
    let (_, together, finished) = attempt(&bench, &lead, (&clip, &order), Some(shared), &StopAt::default()).unwrap();
    assert_eq!(store.stored().len(), 1);
    assert_eq!(finished.output.frames, 12 * RATE);
    let error = mad(&gray(&together), &gray(&alone));
    assert!(error < 1e-3, "the seams are off by {error}");
    // At the same time: nothing is lost or torn.
    let store = Store { directory: DirectoryStore::new(bench.path("other")), ..Store::new(&bench) };
    let shared = Segments { store: &store, ..shared };
    let task = Task { segments: Some(shared), ..task };
    let (_, together, finished) = std::thread::scope(|scope| {
        let helping = scope.spawn(|| assistant.assist(&task, &StopAt::default()));
        let led = attempt(&bench, &lead, (&clip, &order), Some(shared), &StopAt::default());
        helping.join().unwrap().unwrap();
        led.unwrap()
    });
    assert_eq!(finished.output.frames, 12 * RATE);
    let error = mad(&gray(&together), &gray(&alone));
    assert!(error < 1e-3, "the seams are off by {error}");
}

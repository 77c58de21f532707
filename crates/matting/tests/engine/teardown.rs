//! Jobs that end early end whole: soon, with the right reason, and without a process left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rotoless_contract::spec::Model;
use rotoless_contract::worker::{FailureReason, MediaLimits, Stage};
use rotoless_matting::{EngineError, MatteUse, Task, Watch};

use crate::support::{
    Bench, Counting, box_clip, engine, free_engine, free_engine_with, processes_with, sample, scripted_ffmpeg, tools,
    transparent,
};

/// What a teardown may take on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(3);

/// Cancels after the first frame, or after some time without one.
#[derive(Default)]
struct Cancelling {
    at: std::sync::Mutex<Option<Instant>>,
    seen: AtomicBool,
    patience: Option<(Instant, Duration)>,
}

impl Watch for Cancelling {
    fn progress(&self, _stage: Stage, _frames_done: u64, _frames_total: u64) {
        self.seen.store(true, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        let impatient = self.patience.is_some_and(|(since, patience)| since.elapsed() > patience);
        let cancel = impatient || self.seen.load(Ordering::Relaxed);
        if cancel {
            self.at.lock().unwrap().get_or_insert_with(Instant::now);
        }
        cancel
    }
}

impl Cancelling {
    fn after(patience: Duration) -> Self {
        Self { patience: Some((Instant::now(), patience)), ..Self::default() }
    }

    #[track_caller]
    fn assert_soon(&self) {
        let since = self.at.lock().unwrap().expect("it was never asked").elapsed();
        assert!(since < SOON, "{since:?}");
    }
}

/// G-14
#[test]
fn cancelling_stops_within_a_moment_and_leaves_no_process() {
    let bench = Bench::new();
    let clip = bench.path("portrait.mp4");
    std::fs::copy(sample("portrait.mp4"), &clip).unwrap();
    let probe = engine().probe(&clip, &MediaLimits::default()).unwrap();
    let watch = Cancelling::default();
    let found = bench.run_probed(engine(), &clip, &transparent(Model::Human), &probe, &watch);
    watch.assert_soon();
    let error = found.unwrap_err();
    assert!(error.is_cancelled(), "{error:?}");
    assert_eq!(error.reason(), FailureReason::Cancelled);
    assert_eq!(processes_with(bench.directory.path().as_os_str()), 0);
    assert!(!bench.path("result.webm").exists());
    // The engine is as good as before.
    bench.run(engine(), &bench.cut(2), &transparent(Model::Human)).unwrap();
}

#[test]
fn a_decoder_or_encoder_that_hangs_can_be_cancelled() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 100, &[]);
    for hangs in ["*pipe:1", "*pipe:0*"] {
        let script = format!("case \"$*\" in {hangs}) exec sleep 600;; esac\nexec \"$real\" \"$@\"");
        let engine = free_engine_with(&bench, scripted_ffmpeg(&bench, &script));
        let probe = engine.probe(&clip, &MediaLimits::default()).unwrap();
        let watch = Cancelling::after(Duration::from_millis(300));
        let found = bench.run_probed(&engine, &clip, &transparent(Model::Human), &probe, &watch);
        watch.assert_soon();
        assert!(found.unwrap_err().is_cancelled());
        assert_eq!(processes_with(bench.directory.path().as_os_str()), 0);
    }
}

#[test]
fn an_encoder_that_fails_ends_the_job_with_its_words() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 100, &[]);
    for fails in ["echo no room >&2; exit 1", "head -c 100000 >/dev/null; echo no room >&2; exit 1"] {
        let script = format!("case \"$*\" in *pipe:0*) {fails};; esac\nexec \"$real\" \"$@\"");
        let engine = free_engine_with(&bench, scripted_ffmpeg(&bench, &script));
        let error = bench.run(&engine, &clip, &transparent(Model::Human)).unwrap_err();
        assert!(matches!(&error, EngineError::Tool { stderr, .. } if stderr.contains("no room")), "{error:?}");
        assert_eq!(error.reason(), FailureReason::InternalError);
        assert_eq!(processes_with(bench.directory.path().as_os_str()), 0);
    }
}

/// G-15, TW-17, TW-18: an encoder that is killed, or fails when all is written, or leaves something else behind, or nothing.
#[test]
fn an_output_counts_only_if_its_encoder_ended_well_and_left_it_whole() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 20, &[]);
    let output = "for last; do :; done; file=${last#file:}";
    for (fault, reason) in [
        ("head -c 360000 | \"$real\" \"$@\"; kill -9 $$".to_owned(), FailureReason::InternalError),
        ("\"$real\" \"$@\"; exit 1".to_owned(), FailureReason::InternalError),
        (format!("\"$real\" \"$@\"; {output}; echo no video > $file"), FailureReason::VerificationFailed),
        (format!("\"$real\" \"$@\"; {output}; : > $file"), FailureReason::VerificationFailed),
        // Cut off at the end, as on a disk that ran full unnoticed.
        (format!("\"$real\" \"$@\"; {output}; truncate -s -300 $file"), FailureReason::VerificationFailed),
        // Whole, but without its sound.
        (
            format!(
                "\"$real\" \"$@\"; {output}; \"$real\" -v error -i $file -an -c copy -f webm -y $file.2; mv $file.2 $file"
            ),
            FailureReason::VerificationFailed,
        ),
    ] {
        let script = format!("case \"$*\" in *pipe:0*) {fault};; *) exec \"$real\" \"$@\";; esac");
        let engine = free_engine_with(&bench, scripted_ffmpeg(&bench, &script));
        let error = bench.run(&engine, &clip, &transparent(Model::Human)).expect_err(&fault);
        assert_eq!(error.reason(), reason, "{fault}: {error:?}");
        assert!(!bench.path("result.webm").exists());
        assert_eq!(processes_with(bench.directory.path().as_os_str()), 0);
    }
}

/// G-15: an encoder that says it went well and wrote half of it.
#[test]
fn an_output_that_is_not_whole_fails_its_check() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 20, &[]);
    let half = 10 * 160 * 90 * 5 / 2;
    let lying = [
        format!("head -c {half} | \"$real\" \"$@\"; exit 0"),
        // The whole length, but the alpha of another picture.
        "tr '\\377' '\\200' | \"$real\" \"$@\"; exit 0".to_owned(),
    ];
    for lie in lying {
        let script = format!("case \"$*\" in *pipe:0*) {lie};; esac\nexec \"$real\" \"$@\"");
        let engine = free_engine_with(&bench, scripted_ffmpeg(&bench, &script));
        let error = bench.run(&engine, &clip, &transparent(Model::Human)).unwrap_err();
        assert!(matches!(error, EngineError::Verification { .. }), "{error:?}");
        assert!(!bench.path("result.webm").exists());
    }
}

#[test]
fn absent_weights_name_the_command_that_fetches_them() {
    let bench = Bench::new();
    let engine = free_engine_with(&bench, tools());
    let error = engine.check_model(Model::Light).unwrap_err();
    assert_eq!(error.to_string(), "weights of model `light` are not installed: run `rotoless models fetch light`");
    assert_eq!(error.reason(), FailureReason::ModelUnavailable);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 2, &[]);
    let found = bench.run(&engine, &clip, &transparent(Model::Light));
    assert!(matches!(found, Err(EngineError::MissingWeights { .. })), "{found:?}");
}

/// G-04
#[test]
fn a_clip_longer_than_was_paid_for_is_not_worked_on() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 26, &[]);
    let limits = MediaLimits::default();
    let probe = engine.probe(&clip, &limits).unwrap();
    let (output, spec) = (bench.path("out.webm"), transparent(Model::Human));
    let work_dir = bench.directory.path();
    let mut task = Task {
        input: &clip,
        output: &output,
        background: None,
        matte: MatteUse::Forget,
        segments: None,
        work_dir,
        probe: &probe,
        spec: &spec,
        limits,
        paid_seconds: Some(1),
    };
    let watch = Counting::default();
    let error = engine.remove_background(&task, &watch).unwrap_err();
    assert_eq!(error.reason(), FailureReason::InsufficientCredits);
    task.paid_seconds = Some(2);
    engine.remove_background(&task, &watch).unwrap();
    assert_eq!(watch.done.load(Ordering::Relaxed), 26);
}

//! The matte is kept, and other outputs are made of it without a model.

use std::path::Path;

use rotoless_contract::spec::{Background, Model, OutputFormat, Rgb};
use rotoless_contract::worker::{FailureReason, MediaLimits};
use rotoless_matting::{Engine, EngineError, Finished, MatteUse, Task};

use crate::support::{Bench, Counting, free_engine, models_dir, open, raw, spec, transparent, webm_alpha};

fn run(
    bench: &Bench,
    engine: &Engine,
    input: &Path,
    spec: &rotoless_contract::JobSpec,
    matte: MatteUse<'_>,
    name: &str,
) -> Result<(std::path::PathBuf, Finished), EngineError> {
    let probe = engine.probe(input, &MediaLimits::default())?;
    let (output, work_dir) = (bench.path(name), bench.path("work"));
    std::fs::create_dir_all(&work_dir).unwrap();
    let task = Task {
        input,
        output: &output,
        background: None,
        matte,
        segments: None,
        work_dir: &work_dir,
        probe: &probe,
        spec,
        limits: MediaLimits::default(),
        paid_seconds: None,
    };
    engine.remove_background(&task, &Counting::default()).map(|finished| (output, finished))
}

const fn reuse(file: &Path) -> MatteUse<'_> {
    MatteUse::Reuse { file, made_for: OutputFormat::Webm }
}

/// An engine without any weights: only ONNX Runtime, which it loads when it is opened.
fn engine_without_weights(bench: &Bench) -> Engine {
    let dir = bench.path("no-weights");
    std::fs::create_dir_all(&dir).unwrap();
    let registry = rotoless_matting::registry::Registry::builtin().unwrap();
    let runtime = registry.runtime_path(&models_dir()).unwrap().canonicalize().unwrap();
    std::os::unix::fs::symlink(&runtime, dir.join(runtime.file_name().unwrap())).unwrap();
    open(dir)
}

#[test]
fn what_is_made_of_a_kept_matte_is_what_the_model_would_have_made() {
    let bench = Bench::new();
    let engine = &free_engine(&bench);
    let clip = bench.cut(12);
    let matte = bench.path("matte.mkv");
    let keep = MatteUse::Keep(&matte);
    run(&bench, engine, &clip, &transparent(Model::Human), keep, "first.webm").unwrap();
    assert!(std::fs::metadata(&matte).unwrap().len() > 0);

    let weightless = engine_without_weights(&bench);
    let green = Background::Color { color: Rgb([0, 255, 0]) };
    for (format, background) in [
        (OutputFormat::Mov, Background::Transparent),
        (OutputFormat::Mp4, green),
        (OutputFormat::PngSequence, Background::Blur),
        (OutputFormat::Gif, Background::Transparent),
    ] {
        let order = spec(Model::Human, format, background);
        let name = |kind: &str| format!("{kind}.{}", format.extension());
        let (by_model, _) = run(&bench, engine, &clip, &order, MatteUse::Forget, &name("model")).unwrap();
        let (by_matte, finished) = run(&bench, &weightless, &clip, &order, reuse(&matte), &name("matte")).unwrap();
        assert_eq!(finished.output.frames, 12);
        assert!(std::fs::read(by_model).unwrap() == std::fs::read(by_matte).unwrap(), "{format}");
    }
}

#[test]
fn a_matte_of_another_video_is_refused() {
    let bench = Bench::new();
    let engine = &free_engine(&bench);
    let (long, short) = (bench.make("long.mp4", &["-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=2"]), {
        bench.make("short.mp4", &["-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=1"])
    });
    let matte = bench.path("matte.mkv");
    run(&bench, engine, &short, &transparent(Model::Human), MatteUse::Keep(&matte), "short.webm").unwrap();
    let error = run(&bench, engine, &long, &transparent(Model::Human), reuse(&matte), "long.webm");
    let error = error.unwrap_err();
    assert!(matches!(error, EngineError::MatteMismatch { found: 10, expected: 20 }), "{error}");
    assert_eq!(error.reason(), FailureReason::SourceMissing);
    assert!(!bench.path("long.webm").exists());
}

/// 60 frames a second are too many for a GIF, whose matte then has 50.
#[test]
fn a_matte_kept_at_another_rate_serves_as_well() {
    let bench = Bench::new();
    let engine = &free_engine(&bench);
    let clip = bench.make("clip.mp4", &["-f", "lavfi", "-i", "testsrc=s=64x48:r=60:d=0.5"]);
    let matte = bench.path("matte.mkv");
    let gif = spec(Model::Human, OutputFormat::Gif, Background::Transparent);
    let (_, first) = run(&bench, engine, &clip, &gif, MatteUse::Keep(&matte), "first.gif").unwrap();
    assert_eq!(first.output.frames, 25);
    let from_gif = MatteUse::Reuse { file: &matte, made_for: OutputFormat::Gif };
    let (_, second) = run(&bench, engine, &clip, &transparent(Model::Human), from_gif, "second.webm").unwrap();
    assert_eq!(second.output.frames, 30);
}

#[test]
fn a_damaged_matte_is_an_error_and_never_a_wrong_picture() {
    let bench = Bench::new();
    let engine = &free_engine(&bench);
    let clip = bench.make("clip.mp4", &["-f", "lavfi", "-i", "testsrc=s=320x240:r=10:d=1"]);
    let matte = bench.path("matte.mkv");
    let keep = MatteUse::Keep(&matte);
    let (first, _) = run(&bench, engine, &clip, &transparent(Model::Human), keep, "first.webm").unwrap();
    let (whole, right) = (std::fs::read(&matte).unwrap(), webm_alpha(&first));
    let again = |damaged: &[u8]| {
        std::fs::write(&matte, damaged).unwrap();
        run(&bench, engine, &clip, &transparent(Model::Human), reuse(&matte), "again.webm")
    };
    for part in 1..8 {
        let mut flipped = whole.clone();
        flipped[whole.len() * part / 8] ^= 0x55;
        // A time that nobody reads may be what was hit.
        if let Ok((output, _)) = again(&flipped) {
            assert!(webm_alpha(&output) == right, "byte {part}/8");
        }
    }
    for damaged in [&whole[..whole.len() / 2], &whole[..100], b""] {
        assert!(again(damaged).is_err(), "{} bytes", damaged.len());
    }
}

#[test]
fn a_kept_matte_is_what_alpha_shows() {
    let bench = Bench::new();
    let engine = &free_engine(&bench);
    let clip = bench.cut(5);
    let matte = bench.path("matte.mkv");
    let mov = spec(Model::Human, OutputFormat::Mov, Background::Transparent);
    let (output, _) = run(&bench, engine, &clip, &mov, MatteUse::Keep(&matte), "first.mov").unwrap();
    let alpha = raw(&output, &[], "alphaextract", "gray");
    let kept = raw(&matte, &[], "null", "gray");
    let error = crate::support::mad(&alpha, &kept);
    assert!(error < 0.004, "{error}");
}

//! What models run on, and how many frames they take at once.

use std::time::{Duration, Instant};

use rotoless_contract::spec::{Model, OutputFormat};
use rotoless_contract::worker::{FailureReason, MediaLimits};
use rotoless_matting::{Compute, Device, Engine, EngineConfig, EngineError, MatteUse, Task};

use rotoless_matting::segments::{DirectoryStore, Segments};

use crate::support::{
    Bench, Counting, box_clip, free_engine, free_engine_on, models_dir, narrow_engine, raw, tools, transparent,
    webm_alpha,
};

/// Two scenes of 11 and 6 frames, so that groups of four are cut short twice.
#[test]
fn grouping_frames_changes_nothing_of_the_output() {
    let bench = Bench::new();
    let scene = |name: &str, source: &str, frames: u32| {
        let picture = format!("{source}=s=128x96:r=10:d={}", f64::from(frames) / 10.0);
        bench.make(name, &["-f", "lavfi", "-i", &picture, "-c:v", "libx264", "-crf", "10"])
    };
    let (first, second) = (scene("a.mp4", "testsrc2", 11), scene("b.mp4", "rgbtestsrc", 6));
    let (first, second) = (first.to_str().unwrap().to_owned(), second.to_str().unwrap().to_owned());
    let both = ["-i", &first, "-i", &second, "-filter_complex", "[0:v][1:v]concat", "-c:v", "libx264", "-crf", "10"];
    let clip = bench.make("clip.mp4", &both);
    let made_by = |batch: usize| {
        let engine = free_engine_on(&bench, tools(), Compute { batch, ..Compute::default() });
        let probe = engine.probe(&clip, &MediaLimits::default()).unwrap();
        let (output, matte) = (bench.path(&format!("{batch}.mov")), bench.path(&format!("{batch}.mkv")));
        let spec = rotoless_contract::JobSpec { output_format: OutputFormat::Mov, ..transparent(Model::Human) };
        let task = Task {
            input: &clip,
            output: &output,
            background: None,
            matte: MatteUse::Keep(&matte),
            segments: None,
            work_dir: bench.directory.path(),
            probe: &probe,
            spec: &spec,
            limits: MediaLimits::default(),
            paid_seconds: None,
        };
        let finished = engine.remove_background(&task, &Counting::default()).unwrap();
        assert_eq!(finished.output.frames, 17);
        // Matroska gives each file a number of its own, so what is in it is compared.
        (std::fs::read(output).unwrap(), raw(&matte, &[], "null", "gray"))
    };
    let alone = made_by(1);
    assert_eq!(alone.1.len(), 17 * 128 * 96);
    for batch in [4, 32] {
        assert!(made_by(batch) == alone, "groups of {batch}");
    }
}

/// TW-7: what a device has no room for many frames at once it may have room for one by one.
#[test]
fn a_model_that_fails_with_many_frames_at_once_is_given_them_one_by_one() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "clip.mp4", "128x96", 10, 21, &[]);
    let expected = bench.run(&free_engine(&bench), &clip, &transparent(Model::Human)).unwrap().0;
    let expected = webm_alpha(&expected);
    for (batch, segments) in [(2, false), (4, false), (8, true)] {
        let engine = narrow_engine(&bench, batch);
        let kept = DirectoryStore::new(bench.path(&format!("segments-{batch}")));
        let probe = engine.probe(&clip, &MediaLimits::default()).unwrap();
        let output = bench.path(&format!("{batch}.webm"));
        let work_dir = tempfile::tempdir_in(bench.directory.path()).unwrap();
        let task = Task {
            input: &clip,
            output: &output,
            background: None,
            matte: MatteUse::Forget,
            segments: segments.then_some(Segments { seconds: 1, store: &kept, shared: false }),
            work_dir: work_dir.path(),
            probe: &probe,
            spec: &transparent(Model::Human),
            limits: MediaLimits::default(),
            paid_seconds: None,
        };
        engine.remove_background(&task, &Counting::default()).unwrap();
        assert!(webm_alpha(&output) == expected, "{batch}");
    }
}

/// There is a GPU here or there is none: whatever is asked for is used, or the engine does not open.
#[test]
fn a_gpu_is_used_or_its_absence_is_an_error_at_once() {
    for device in [Device::Cuda(0), Device::TensorRt(0)] {
        let began = Instant::now();
        let opened = Engine::open(EngineConfig {
            models_dir: models_dir(),
            tools: tools(),
            threads: 0,
            compute: Compute::on(device),
            techniques: rotoless_matting::Techniques::ALL,
        });
        match opened {
            Ok(engine) => assert_eq!(engine.provider(), device.provider()),
            Err(error @ (EngineError::Device { .. } | EngineError::MissingRuntime { .. })) => {
                assert!(began.elapsed() < Duration::from_secs(30));
                let expected = [FailureReason::InternalError, FailureReason::ModelUnavailable];
                assert!(expected.contains(&error.reason()));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

//! What the engine's tests share: the tools, the models, clips made by ffmpeg, reading frames back.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rotoless_contract::spec::{Background, JobSpec, Model, OutputFormat};
use rotoless_contract::worker::{MediaLimits, Stage};
use rotoless_matting::onnx_writer::{Attribute, Dim, GraphWriter, Tensor};
use rotoless_matting::registry::Registry;
use rotoless_matting::{
    Compute, Engine, EngineConfig, EngineError, Finished, MatteUse, Probe, Task, Techniques, Tools, Watch, tiny,
};

pub(crate) fn tools() -> Tools {
    Tools::find(std::env::var_os("PATH").as_deref()).expect("the tests need ffmpeg and ffprobe in the path")
}

/// `ROTOLESS_MODELS`, or `models` of the repository.
pub(crate) fn models_dir() -> PathBuf {
    let named = std::env::var_os("ROTOLESS_MODELS").map(PathBuf::from);
    named.unwrap_or_else(|| repository().join("models"))
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn sample(name: &str) -> PathBuf {
    repository().join("samples").join(name)
}

/// The engine with the real weights. Absent weights fail the test that asks for them: nothing is skipped.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| open(models_dir()))
}

pub(crate) fn open(models_dir: PathBuf) -> Engine {
    let shown = models_dir.display().to_string();
    let (tools, compute, techniques) = (tools(), Compute::default(), Techniques::ALL);
    Engine::open(EngineConfig { models_dir, tools, threads: 0, compute, techniques })
        .unwrap_or_else(|error| panic!("{error}; models are looked for in {shown} (ROTOLESS_MODELS)"))
}

pub(crate) fn spec(model: Model, output_format: OutputFormat, background: Background) -> JobSpec {
    JobSpec { model, background, output_format, text_prompt: None, composition: None }
}

pub(crate) fn transparent(model: Model) -> JobSpec {
    spec(model, OutputFormat::Webm, Background::Transparent)
}

/// Counts, never cancels.
#[derive(Default)]
pub(crate) struct Counting {
    pub(crate) done: AtomicU64,
}

impl Watch for Counting {
    fn progress(&self, stage: Stage, frames_done: u64, _frames_total: u64) {
        if stage == Stage::Matte {
            self.done.store(frames_done, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}

/// A directory for one test's files, and the way of a file through the engine.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    /// What jobs are given as their background's file.
    pub(crate) background: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), background: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs ffmpeg with the arguments, the file to write last.
    pub(crate) fn make(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.path(name);
        let made = Command::new(tools().ffmpeg)
            .args(["-nostdin", "-v", "error", "-y"])
            .args(arguments)
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    }

    /// The first frames of the sample, with their sound.
    pub(crate) fn cut(&self, frames: u32) -> PathBuf {
        let source = sample("portrait.mp4");
        let seconds = f64::from(frames) / 25.0;
        let arguments = ["-i", source.to_str().unwrap(), "-t", &seconds.to_string(), "-c:v", "libx264", "-crf", "12"];
        let tags = ["-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"];
        self.make("cut.mp4", &[&arguments[..], &tags[..], &["-c:a", "aac"]].concat())
    }

    pub(crate) fn run(
        &self,
        engine: &Engine,
        input: &Path,
        spec: &JobSpec,
    ) -> Result<(PathBuf, Finished), EngineError> {
        let probe = engine.probe(input, &MediaLimits::default())?;
        self.run_probed(engine, input, spec, &probe, &Counting::default())
    }

    pub(crate) fn run_probed(
        &self,
        engine: &Engine,
        input: &Path,
        spec: &JobSpec,
        probe: &Probe,
        watch: &dyn Watch,
    ) -> Result<(PathBuf, Finished), EngineError> {
        let output = self.path(&format!("result.{}", spec.output_format.extension()));
        let work_dir = self.path("work");
        std::fs::create_dir_all(&work_dir).unwrap();
        let limits = MediaLimits::default();
        let task = Task {
            input,
            output: &output,
            background: self.background.as_deref(),
            matte: MatteUse::Forget,
            segments: None,
            work_dir: &work_dir,
            probe,
            spec,
            limits,
            paid_seconds: None,
        };
        engine.remove_background(&task, watch).map(|finished| (output, finished))
    }
}

/// Decodes a file to raw frames. `before` stands before the input, `filter` makes what is wanted.
pub(crate) fn raw(path: &Path, before: &[&str], filter: &str, format: &str) -> Vec<u8> {
    let decoded = Command::new(tools().ffmpeg)
        .args(["-nostdin", "-v", "error"])
        .args(before)
        .arg("-i")
        .arg(path)
        .args(["-map", "0:v:0", "-vf", filter, "-f", "rawvideo", "-pix_fmt", format, "-"])
        .output()
        .unwrap();
    assert!(decoded.status.success(), "{}", String::from_utf8_lossy(&decoded.stderr));
    decoded.stdout
}

/// Alpha of a VP9 file.
pub(crate) fn webm_alpha(path: &Path) -> Vec<u8> {
    raw(path, &["-c:v", "libvpx-vp9"], "alphaextract", "gray")
}

/// Mean absolute difference, 0..1.
pub(crate) fn mad(found: &[u8], expected: &[u8]) -> f64 {
    assert_eq!(found.len(), expected.len(), "not as many pixels");
    let sum: u64 = found.iter().zip(expected).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / (found.len() as f64 * 255.0)
}

/// One field of ffprobe's description.
pub(crate) fn described(path: &Path, stream: &str, field: &str) -> String {
    let found = Command::new(tools().ffprobe)
        .args(["-v", "error", "-select_streams", stream, "-show_entries"])
        .arg(format!("stream={field}:stream_tags={field}:format={field}"))
        .args(["-of", "default=nk=1:nw=1"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&found.stdout).lines().next().unwrap_or_default().to_owned()
}

/// Processes whose command line holds the text: none may be left of a job.
pub(crate) fn processes_with(text: &OsStr) -> usize {
    let wanted = text.to_string_lossy().into_owned();
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(&wanted))
        .count()
}

/// Bright is subject: a white box on a dim busy ground, with a tone. Tagged BT.709, `rate` frames a second.
pub(crate) fn box_clip(bench: &Bench, name: &str, size: &str, rate: u32, frames: u32, more: &[&str]) -> PathBuf {
    let seconds = f64::from(frames) / f64::from(rate);
    let picture = format!(
        "testsrc2=s={size}:r={rate}:d={seconds},format=yuv420p,lutyuv=y=val/4+16,\
         drawbox=x=iw/8:y=ih/4:w=iw/4:h=ih/2:color=white:t=fill"
    );
    let tone = format!("sine=f=440:r=44100:d={seconds}");
    let sources = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone];
    let tags = ["-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"];
    bench.make(name, &[&sources[..], &["-c:v", "libx264", "-crf", "8", "-c:a", "aac"], &tags, more].concat())
}

/// An engine whose `human` takes bright for subject and costs nothing. Needs ONNX Runtime, no weights.
pub(crate) fn free_engine(bench: &Bench) -> Engine {
    free_engine_with(bench, tools())
}

pub(crate) fn free_engine_with(bench: &Bench, tools: Tools) -> Engine {
    free_engine_on(bench, tools, Compute::default())
}

pub(crate) fn free_engine_on(bench: &Bench, tools: Tools, compute: Compute) -> Engine {
    let model = tiny::luma_threshold_model(0.7, 10.0);
    let entry = tiny::registry_entry("free", Some(Model::Human), "free.onnx", &model);
    engine_of(bench, tools, compute, ("free.onnx", &model, &entry))
}

/// The same, but its model fails in the middle of a job when it is given more than two frames at once.
pub(crate) fn narrow_engine(bench: &Bench, batch: usize) -> Engine {
    let mut graph = GraphWriter::new();
    let side = |name: &str| Dim::Named(name.to_owned());
    let input = graph.input(tiny::INPUT, &[Dim::Fixed(1), Dim::Fixed(3), side("height"), side("width")]);
    let weights = Tensor { shape: vec![1, 3, 1, 1], ..Tensor::floats(&tiny::LUMA.map(|weight| weight * 10.0)) };
    let (weights, bias) = (graph.constant(weights), graph.constant(Tensor::floats(&[-7.0])));
    let raw = graph.node("Conv", &[&input, &weights, &bias], &[("kernel_shape", Attribute::Ints(vec![1, 1]))]);
    // Nothing is added, but it is looked for at the place of the last frame, and there are two places.
    let (first, one) = (graph.constant(Tensor::integers(&[0])), graph.constant(Tensor::integers(&[1])));
    let shape = graph.node("Shape", &[&input], &[]);
    let count = graph.node("Gather", &[&shape, &first], &[("axis", Attribute::Int(0))]);
    let last = graph.node("Sub", &[&count, &one], &[]);
    let nothing = graph.constant(Tensor::floats(&[0.0, 0.0]));
    let nothing = graph.node("Gather", &[&nothing, &last], &[("axis", Attribute::Int(0))]);
    let raw = graph.node("Add", &[&raw, &nothing], &[]);
    let (zero, one) = (graph.constant(Tensor::scalar(0.0)), graph.constant(Tensor::scalar(1.0)));
    let alpha = graph.node("Clip", &[&raw, &zero, &one], &[]);
    graph.output(&alpha, tiny::MATTE, &[Dim::Fixed(1), Dim::Fixed(1), side("height"), side("width")]);
    let model = graph.finish();
    let entry = tiny::registry_entry("narrow", Some(Model::Human), "narrow.onnx", &model);
    engine_of(bench, tools(), Compute { batch, ..Compute::default() }, ("narrow.onnx", &model, &entry))
}

/// An engine whose `human` says of every frame what it says of it and all frames before it.
pub(crate) fn lingering_engine(bench: &Bench) -> Engine {
    let entry = tiny::lingering_entry("lingering", Some(Model::Human), "lingering.onnx");
    engine_of(bench, tools(), Compute::default(), ("lingering.onnx", &tiny::lingering_model(), &entry))
}

/// An engine whose `human` sees one frame in so many, by turns closer when there are closer looks.
pub(crate) fn carrying_engine(bench: &Bench, every: u32, closer_looks: u32) -> Engine {
    let model = tiny::luma_threshold_model(0.5, 8.0);
    let entry = tiny::registry_entry("free", Some(Model::Human), "free.onnx", &model);
    let entry =
        entry.replace("[model.input]", &format!("every = {every}\ncloser_looks = {closer_looks}\n[model.input]"));
    engine_of(bench, tools(), Compute::default(), ("free.onnx", &model, &entry))
}

fn engine_of(bench: &Bench, tools: Tools, compute: Compute, (file, model, entry): (&str, &[u8], &str)) -> Engine {
    let directory = bench.path("models");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(file), model).unwrap();
    std::fs::write(directory.join("registry.toml"), entry).unwrap();
    let library = Registry::builtin().unwrap().runtime_path(&models_dir()).expect("no runtime for this machine");
    let link = directory.join(library.file_name().unwrap());
    if !link.exists() {
        std::os::unix::fs::symlink(&library, link).unwrap();
    }
    let techniques = Techniques::ALL;
    Engine::open(EngineConfig { models_dir: directory, tools, threads: 0, compute, techniques })
        .unwrap_or_else(|error| panic!("{error}; it is looked for at {} (ROTOLESS_MODELS)", library.display()))
}

/// ffmpeg replaced by a shell script in which `$real` is the real one. ffprobe stays.
pub(crate) fn scripted_ffmpeg(bench: &Bench, script: &str) -> Tools {
    use std::os::unix::fs::PermissionsExt;
    let real = tools();
    let path = bench.path("ffmpeg.sh");
    std::fs::write(&path, format!("#!/bin/sh\nreal={}\n{script}\n", real.ffmpeg.display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Tools { ffmpeg: path, ffprobe: real.ffprobe }
}

//! `rotoless remove`: one file through the same engine, without a service.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rotoless_contract::api::{BackgroundRequest, JobRequest};
use rotoless_contract::worker::{MediaLimits, Stage};
use rotoless_contract::{JobSpec, OutputFormat};
use rotoless_core::header::sniff;
use rotoless_core::policy::Policy;
use rotoless_core::request;
use rotoless_matting::segments::{DirectoryStore, Segments};
use rotoless_matting::{Compute, Engine, EngineConfig, Finished, MatteUse, Probe, Task, Techniques, Tools, Watch};
use serde_json::Value;

use crate::cli::RemoveArgs;
use crate::models::{models_dir, prompts};

/// One file of one's own may be larger than what a service takes from strangers.
const LIMITS: MediaLimits =
    MediaLimits { max_bytes: 1 << 40, max_side: 8192, max_duration_ms: 24 * 3600 * 1000, max_fps: 240 };

pub(crate) fn run(args: &RemoveArgs) -> Result<()> {
    let mut orders = args.outputs.iter().map(|output| Order::of(args, output)).collect::<Result<Vec<_>>>()?;
    // The matte is kept at the rate of the first one, and these formats may have a lower one than the source.
    orders.sort_by_key(|order| matches!(order.spec.output_format, OutputFormat::Gif | OutputFormat::Webp));
    let (compute, techniques) = (args.compute.into(), args.techniques.left()?);
    let engine = open_engine(&models_dir(&args.models), args.threads, compute, techniques)?;
    let input = args.input.canonicalize().with_context(|| format!("cannot read {}", args.input.display()))?;
    let probe = engine.probe(&input, &LIMITS)?;
    stop_at_ctrl_c()?;
    let kept = tempfile::Builder::new().prefix("rotoless-").tempdir().context("cannot make a temporary directory")?;
    let (mut matte, passing) = (args.matte.clone(), kept.path().join("matte.mkv"));
    let made_for =
        orders.first().filter(|_| args.matte.is_none()).map_or(OutputFormat::Webm, |order| order.spec.output_format);
    let store = args.segments.clone().map(DirectoryStore::new);
    for (index, order) in orders.iter().enumerate() {
        let keep = args.keep_matte.as_deref().or((orders.len() > 1).then_some(&*passing)).filter(|_| index == 0);
        let matte_use = match (&matte, keep) {
            // The first was one without a rate of its own, if there was any.
            (Some(file), _) => MatteUse::Reuse { file, made_for },
            (None, Some(file)) => MatteUse::Keep(file),
            (None, None) => MatteUse::Forget,
        };
        if !matches!(matte_use, MatteUse::Reuse { .. }) {
            engine.check_model(order.spec.model)?;
        }
        let segments = store.as_ref().filter(|_| index == 0).map(|store| Segments {
            seconds: args.segment_seconds.into(),
            store,
            shared: args.share || args.assist,
        });
        let source = Source { input: &input, probe: &probe };
        if args.assist {
            return order.assist(&engine, source, matte_use, segments);
        }
        order.carry_out(&engine, source, matte_use, segments)?;
        matte = matte.or_else(|| keep.map(Path::to_owned));
    }
    match store.filter(|_| !args.share) {
        Some(store) => store.clear().context("cannot remove the segments"),
        None => Ok(()),
    }
}

/// A video and what was measured of it.
#[derive(Clone, Copy)]
struct Source<'a> {
    input: &'a Path,
    probe: &'a Probe,
}

/// One output.
struct Order<'a> {
    output: &'a Path,
    spec: JobSpec,
    background: Option<PathBuf>,
}

impl<'a> Order<'a> {
    fn of(args: &RemoveArgs, output: &'a Path) -> Result<Self> {
        let (spec, background) = order(args, output)?;
        Ok(Self { output, spec, background })
    }

    fn carry_out(
        &self,
        engine: &Engine,
        source: Source<'_>,
        matte: MatteUse<'_>,
        segments: Option<Segments<'_>>,
    ) -> Result<()> {
        let work = self.work_dir()?;
        let watch = Bar::new(source.probe.frames);
        let finished = engine.remove_background(&self.task(source, matte, segments, work.path()), &watch)?;
        watch.bar.finish_and_clear();
        self.say(&finished)
    }

    fn assist(
        &self,
        engine: &Engine,
        source: Source<'_>,
        matte: MatteUse<'_>,
        segments: Option<Segments<'_>>,
    ) -> Result<()> {
        use std::io::Write;
        let work = self.work_dir()?;
        let watch = Bar::new(source.probe.frames);
        let made = engine.assist(&self.task(source, matte, segments, work.path()), &watch)?;
        watch.bar.finish_and_clear();
        writeln!(std::io::stderr(), "{made} segments made")?;
        Ok(())
    }

    /// Beside the output, so that the finished file is moved and not copied.
    fn work_dir(&self) -> Result<tempfile::TempDir> {
        let parent = self.output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = tempfile::Builder::new().prefix(".rotoless-").tempdir_in(parent);
        made.with_context(|| format!("cannot write to {}", parent.display()))
    }

    fn task<'t>(
        &'t self,
        source: Source<'t>,
        matte: MatteUse<'t>,
        segments: Option<Segments<'t>>,
        work_dir: &'t Path,
    ) -> Task<'t> {
        Task {
            input: source.input,
            output: self.output,
            background: self.background.as_deref(),
            matte,
            segments,
            work_dir,
            probe: source.probe,
            spec: &self.spec,
            limits: LIMITS,
            paid_seconds: None,
        }
    }

    fn say(&self, finished: &Finished) -> Result<()> {
        use std::io::Write;
        let mut err = std::io::stderr().lock();
        for warning in &finished.warnings {
            writeln!(err, "warning: {warning}")?;
        }
        let output = &finished.output;
        let size = output.size_bytes as f64 / 1e6;
        let sound = if output.has_audio { "with sound" } else { "no sound" };
        writeln!(
            err,
            "{}: {}x{}, {} frames, {:.2} s, {sound}, {size:.2} MB",
            self.output.display(),
            output.width,
            output.height,
            output.frames,
            output.duration_ms as f64 / 1000.0
        )?;
        Ok(())
    }
}

/// The engine over what this machine has.
pub(crate) fn open_engine(models: &Path, threads: usize, compute: Compute, techniques: Techniques) -> Result<Engine> {
    let tools = Tools::find(std::env::var_os("PATH").as_deref()).context("run `rotoless doctor`")?;
    Engine::open(EngineConfig { models_dir: models.to_owned(), tools, threads, compute, techniques })
        .context("run `rotoless doctor` to see what is missing")
}

/// The same validation as the API's: the flags are one of its requests. With the background's file, if it is one.
fn order(args: &RemoveArgs, output: &Path) -> Result<(JobSpec, Option<PathBuf>)> {
    let mut body = JobRequest {
        model: Some(args.model.to_string()),
        output_format: Some(format(args, output)?.to_string()),
        text_prompt: args.prompt.clone(),
        ..JobRequest::default()
    };
    let mut file = None;
    match args.background.as_deref() {
        None => {}
        Some(color) if color.starts_with('#') => {
            body.bg_type = Some("color".to_owned());
            body.bg_color = Some(Value::String(color.to_owned()));
        }
        Some(name) if BACKGROUNDS.contains(&name) => body.bg_type = Some(name.to_owned()),
        Some(path) => {
            let found = Path::new(path);
            let found = found.canonicalize().with_context(|| {
                format!("the background {path} is neither a file nor one of {}, #RRGGBB", BACKGROUNDS.join(", "))
            })?;
            let background = BackgroundRequest {
                kind: if is_image(&found)? { "image" } else { "video" }.to_owned(),
                image_url: Some(path.to_owned()),
                video_url: Some(path.to_owned()),
                fit: args.fit,
                color: None,
                unknown: serde_json::Map::new(),
            };
            body.background = Some(background);
            file = Some(found);
        }
    }
    let policy = Policy { allow_http: true, prompts: prompts(&models_dir(&args.models))?, ..Policy::default() };
    let order = request::validate(&body, &policy)?;
    rotoless_matting::supported(&order.spec)?;
    Ok((order.spec, file))
}

/// Backgrounds that need no file.
const BACKGROUNDS: [&str; 6] = ["transparent", "green", "white", "black", "blue", "blur"];

/// By content. What is no picture may be a video, which the engine finds out.
fn is_image(file: &Path) -> Result<bool> {
    let mut first = Vec::new();
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    opened.take(64).read_to_end(&mut first).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(sniff(&first).is_some_and(|file_type| file_type.is_image()))
}

fn format(args: &RemoveArgs, output: &Path) -> Result<OutputFormat> {
    if let Some(format) = args.format {
        return Ok(format);
    }
    let extension = output.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let by_name = OutputFormat::ALL.iter().find(|format| format.extension().eq_ignore_ascii_case(extension));
    match by_name {
        Some(format) => Ok(*format),
        None => bail!("{} does not name a format: give --format", output.display()),
    }
}

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C end the job instead of this program, so that what is half done is removed. The second one ends both.
fn stop_at_ctrl_c() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("ctrl-c".to_owned()).spawn(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(())
}

/// Frames, frames a second, time left; Ctrl-C stops within a frame.
struct Bar {
    bar: ProgressBar,
}

impl Bar {
    fn new(frames: u64) -> Self {
        let style = ProgressStyle::with_template("{msg:>8} [{bar:32}] {pos}/{len} frames  {per_sec}  ETA {eta}");
        let bar = ProgressBar::new(frames).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }
}

impl Watch for Bar {
    fn progress(&self, stage: Stage, frames_done: u64, frames_total: u64) {
        self.bar.set_message(stage.as_str());
        self.bar.set_length(frames_total);
        self.bar.set_position(frames_done);
    }

    fn cancelled(&self) -> bool {
        INTERRUPTED.load(Ordering::Relaxed)
    }
}

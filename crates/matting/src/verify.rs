//! The check of our own output before it counts (G-15).
//!
//! Owns: decoding the output again and comparing it with what was put in. A file that does not hold the check is not
//! an output. Invariants: alpha is decoded by a decoder that knows it, and compared frame by frame with the matte that
//! was written; nothing is believed because an encoder ended with success.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicU64, Ordering};

use rotoless_contract::OutputFormat;
use rotoless_contract::media::OutputInfo;
use rotoless_contract::worker::{MediaLimits, Stage};
use sha2::{Digest, Sha256};

use crate::child::{Child, Confinement};
use crate::encode::Codecs;
use crate::engine::Watch;
use crate::error::EngineError;
use crate::frame::Size;
use crate::media_arguments::{input_guards, local_file, quiet_ffmpeg};
use crate::pipeline::supervise::{Halt, StageEnd, StageWork, Told, supervise};
use crate::probe::{Probe, probe};
use crate::timeline::Rate;
use crate::tools::Tools;

const MEMORY_BYTES: u64 = 8 << 30;

/// Each decoded frame is averaged down to this: enough to see that alpha is there, and right.
const SAMPLE: Size = Size { width: 16, height: 16 };

/// Greatest difference of a frame's mean alpha, 0..1, to what was written: what lossy codecs do, and rounding.
const ALPHA_TOLERANCE: f64 = 0.02;

/// Sound may end this much apart from the source's: a codec's frame, priming and padding.
const SOUND_TOLERANCE_MS: u64 = 150;

/// What the output must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise<'a> {
    pub codecs: Codecs,
    pub size: Size,
    pub rate: Rate,
    /// Mean alpha of each frame that was written, 0..1: as many as there are frames.
    pub alpha: &'a [f32],
    /// Length of the source's sound, when the output is to have it.
    pub sound_ms: Option<u64>,
    pub threads: usize,
    pub cpu_seconds: u64,
    pub limits: &'a MediaLimits,
}

/// Decodes the file and compares it with the promise.
pub(crate) fn verify(
    tools: &Tools,
    file: &Path,
    promise: &Promise<'_>,
    watch: &dyn Watch,
) -> Result<OutputInfo, EngineError> {
    let found = look(tools, file, promise)?;
    check_description(&found, promise)?;
    let frames = decode(tools, file, &found, promise, watch)?;
    if frames != promise.alpha.len() as u64 {
        return Err(failed(format!("{frames} of {} frames decode", promise.alpha.len())));
    }
    let (size_bytes, sha256) = digest(file)?;
    Ok(OutputInfo {
        format: promise.codecs.format,
        size_bytes,
        sha256,
        width: found.info.width,
        height: found.info.height,
        fps: promise.rate.fps(),
        frames,
        duration_ms: promise.rate.duration_ms(frames),
        has_alpha: promise.codecs.with_alpha,
        has_audio: found.info.has_audio,
    })
}

fn failed(detail: String) -> EngineError {
    EngineError::Verification { detail }
}

/// Our own file is looked at with the same guards as a stranger's; only its size and length are no news.
fn look(tools: &Tools, file: &Path, promise: &Promise<'_>) -> Result<Probe, EngineError> {
    let limits = MediaLimits {
        max_bytes: u64::MAX,
        max_duration_ms: promise.limits.max_duration_ms.saturating_add(60_000),
        max_fps: promise.limits.max_fps.saturating_add(1),
        ..*promise.limits
    };
    probe(tools, file, &limits).map_err(|error| match error {
        EngineError::NotAVideo | EngineError::NoVideoStream | EngineError::Damaged { .. } | EngineError::Limit(_) => {
            failed(error.to_string())
        }
        other @ (EngineError::BeyondPaidLength { .. }
        | EngineError::MissingWeights { .. }
        | EngineError::MissingRuntime { .. }
        | EngineError::Model { .. }
        | EngineError::Runtime { .. }
        | EngineError::Registry(_)
        | EngineError::Unsupported(_)
        | EngineError::Verification { .. }
        | EngineError::Tool { .. }
        | EngineError::Stalled { .. }
        | EngineError::Io { .. }
        | EngineError::Panicked { .. }
        | EngineError::Cancelled) => other,
    })
}

fn check_description(found: &Probe, promise: &Promise<'_>) -> Result<(), EngineError> {
    let info = &found.info;
    if (info.width as usize, info.height as usize) != (promise.size.width, promise.size.height) {
        return Err(failed(format!(
            "it is {}x{}, not {}x{}",
            info.width, info.height, promise.size.width, promise.size.height
        )));
    }
    let fps = promise.rate.fps();
    // The rate of a single frame cannot be measured.
    if promise.alpha.len() > 1 && (info.fps / fps - 1.0).abs() > 0.001 {
        return Err(failed(format!("it has {:.4} frames a second, not {fps:.4}", info.fps)));
    }
    let expected_ms = promise.rate.duration_ms(promise.alpha.len() as u64);
    let frame_ms = promise.rate.duration_ms(1) + 1;
    if promise.alpha.len() > 1 && found.duration_ms.abs_diff(expected_ms) > frame_ms {
        return Err(failed(format!("its picture lasts {} ms, not {expected_ms} ms", found.duration_ms)));
    }
    match (promise.sound_ms, found.source.audio_ms) {
        (None, None) => Ok(()),
        (Some(expected), Some(sound)) if expected.abs_diff(sound) <= SOUND_TOLERANCE_MS => Ok(()),
        (expected, sound) => Err(failed(format!("its sound lasts {sound:?} ms, not {expected:?} ms"))),
    }
}

/// Decodes all frames, compares their alpha, counts them.
fn decode(
    tools: &Tools,
    file: &Path,
    found: &Probe,
    promise: &Promise<'_>,
    watch: &dyn Watch,
) -> Result<u64, EngineError> {
    let mut command = quiet_ffmpeg(tools);
    command.args(["-xerror", "-err_detect", "explode", "-threads", &promise.threads.to_string()]);
    if promise.codecs.format == OutputFormat::Webm {
        // ffmpeg's own decoder drops the alpha of VP9 without a word.
        command.args(["-c:v", "libvpx-vp9"]);
    }
    command.args(input_guards(found.source.container, promise.limits)).input(local_file(file));
    let plane = if promise.codecs.with_alpha { "alphaextract," } else { "" };
    let Size { width, height } = SAMPLE;
    command.map(format!("0:{}", found.source.video_index)).args(["-an", "-sn", "-dn"]);
    command.filter(format!("{plane}scale={width}:{height}:flags=area,format=gray"));
    command.args(["-f", "rawvideo", "pipe:1"]);

    let confinement = Confinement { memory_bytes: MEMORY_BYTES, cpu_seconds: promise.cpu_seconds, file_bytes: 0 };
    let mut child = Child::spawn("the check of the output", command, confinement)?;
    child.stdin = None;
    let Some(stdout) = child.stdout.take() else { return Err(child.wait()?.into_tool_error()) };
    let halt = Halt::default();
    halt.kills(&child);
    let frames = AtomicU64::new(0);
    let told = Told { watch, stage: Stage::Verify, done: &frames, total: promise.alpha.len() as u64 };
    let work = || {
        compare(stdout, promise, &frames)?;
        let ended = child.wait()?;
        if ended.status.success() { Ok(()) } else { Err(StageEnd::Failed(failed(ended.stderr))) }
    };
    supervise(&halt, &told, vec![StageWork { name: "verify", work: Box::new(work) }])?;
    Ok(frames.into_inner())
}

fn compare(mut stdout: ChildStdout, promise: &Promise<'_>, frames: &AtomicU64) -> Result<(), StageEnd> {
    let mut sample = [0; SAMPLE.pixels()];
    loop {
        match stdout.read_exact(&mut sample) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(EngineError::io("cannot read from the check of the output")(error).into()),
        }
        let number = frames.fetch_add(1, Ordering::Relaxed);
        let expected = usize::try_from(number).ok().and_then(|number| promise.alpha.get(number));
        let Some(&expected) = expected else {
            return Err(failed(format!("more than {} frames decode", promise.alpha.len())).into());
        };
        if !promise.codecs.with_alpha {
            continue;
        }
        let sum: u32 = sample.iter().map(|&value| u32::from(value)).sum();
        let mean = f64::from(sum) / (SAMPLE.pixels() as f64 * 255.0);
        if (mean - f64::from(expected)).abs() > ALPHA_TOLERANCE {
            return Err(failed(format!("frame {number} has a mean alpha of {mean:.3}, not {expected:.3}")).into());
        }
    }
}

/// Size and SHA-256 of a file.
fn digest(file: &Path) -> Result<(u64, String), EngineError> {
    let mut file = File::open(file).map_err(EngineError::io("cannot open the output"))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((size, hex::encode(hash.finalize()))),
            Ok(count) => {
                size += count as u64;
                hash.update(&chunk[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(EngineError::io("cannot read the output")(error)),
        }
    }
}

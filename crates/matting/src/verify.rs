//! The check of our own output before it counts (G-15).
//!
//! Owns: decoding the output again and comparing it with what was put in. A file that does not hold the check is not
//! an output. Invariants: alpha is decoded by a decoder that knows it, and compared frame by frame with the matte that
//! was written; nothing is believed because an encoder ended with success.

pub(crate) mod gif;
pub(crate) mod webp;
pub(crate) mod zip;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU64, Ordering};

use rotoless_contract::OutputFormat;
use rotoless_contract::media::OutputInfo;
use rotoless_contract::worker::{MediaLimits, Stage};
use sha2::{Digest, Sha256};

use self::gif::Gif;
use self::webp::Webp;
use self::zip::Archive;
use crate::child::{Child, Confinement};
use crate::encode::Codecs;
use crate::engine::Watch;
use crate::error::EngineError;
use crate::frame::Size;
use crate::media_arguments::{input_guards, local_file, quiet_ffmpeg};
use crate::pack::{Frames, stills_of};
use crate::pipeline::supervise::{Halt, NO_FRAME_LIMIT, StageEnd, StageWork, Told, supervise};
use crate::probe::{Probe, probe};
use crate::stills::Still;
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
    let frames = match promise.codecs.format {
        OutputFormat::Webm | OutputFormat::Mov | OutputFormat::Mp4 => video(tools, file, promise, watch),
        OutputFormat::Gif => animated_gif(tools, file, promise, watch),
        OutputFormat::Webp => animated_webp(tools, file, promise, watch),
        OutputFormat::PngSequence => png_sequence(tools, file, promise, watch),
    }?;
    if frames != promise.frames() {
        return Err(failed(format!("{frames} of {} frames decode", promise.frames())));
    }
    let (size_bytes, sha256) = digest(file)?;
    Ok(OutputInfo {
        format: promise.codecs.format,
        size_bytes,
        sha256,
        width: side(promise.size.width),
        height: side(promise.size.height),
        fps: promise.rate.fps(),
        frames,
        duration_ms: promise.rate.duration_ms(frames),
        has_alpha: promise.codecs.with_alpha,
        has_audio: promise.sound_ms.is_some(),
    })
}

impl Promise<'_> {
    fn frames(&self) -> u64 {
        self.alpha.len() as u64
    }
}

/// Sides are bounded far below `u32::MAX`.
fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}

/// A container that players know: ffprobe describes it.
fn video(tools: &Tools, file: &Path, promise: &Promise<'_>, watch: &dyn Watch) -> Result<u64, EngineError> {
    let found = look(tools, file, promise)?;
    check_description(&found, promise)?;
    let mut arguments = Vec::new();
    if promise.codecs.format == OutputFormat::Webm {
        // ffmpeg's own decoder drops the alpha of VP9 without a word.
        arguments.extend(["-c:v", "libvpx-vp9"].map(str::to_owned));
    }
    arguments.extend(input_guards(found.source.container, promise.limits));
    let input = Input { arguments, map: format!("0:{}", found.source.video_index), from: Feed::File(file) };
    decode(tools, input, promise, watch)
}

fn animated_gif(tools: &Tools, file: &Path, promise: &Promise<'_>, watch: &dyn Watch) -> Result<u64, EngineError> {
    let found = Gif::read(file).map_err(unreadable)?;
    check_sides((found.width, found.height), promise)?;
    // A single picture has no time: it stays.
    if promise.frames() > 1 {
        check_times(found.delays.iter().map(|delay| u64::from(*delay) * 10), 10, promise)?;
    }
    let arguments = picture_guards("gif", promise);
    decode(tools, Input { arguments, map: "0:v:0".to_owned(), from: Feed::File(file) }, promise, watch)
}

fn animated_webp(tools: &Tools, file: &Path, promise: &Promise<'_>, watch: &dyn Watch) -> Result<u64, EngineError> {
    let mut webp = Webp::open(file).map_err(unreadable)?;
    check_sides((webp.head.width, webp.head.height), promise)?;
    if webp.head.has_alpha != promise.codecs.with_alpha {
        return Err(failed("its header is wrong about alpha".to_owned()));
    }
    let frames = decode_pictures(tools, &mut webp, promise, watch)?;
    check_times(webp.durations.iter().map(|ms| u64::from(*ms)), 1, promise)?;
    Ok(frames)
}

fn png_sequence(tools: &Tools, file: &Path, promise: &Promise<'_>, watch: &dyn Watch) -> Result<u64, EngineError> {
    let frames = Frames { size: promise.size, rate: promise.rate, with_alpha: promise.codecs.with_alpha };
    let mut archive = Archive::open(file, frames, promise.frames()).map_err(unreadable)?;
    decode_pictures(tools, &mut archive, promise, watch)
}

/// Whole pictures, one after another.
trait Pictures: Send {
    /// Puts the next one in place of what `picture` holds; `false` after the last.
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, EngineError>;
}

fn decode_pictures(
    tools: &Tools,
    pictures: &mut dyn Pictures,
    promise: &Promise<'_>,
    watch: &dyn Watch,
) -> Result<u64, EngineError> {
    let arguments = picture_guards(stills_of(promise.codecs.format).map_or("", Still::demuxer), promise);
    decode(tools, Input { arguments, map: "0:v:0".to_owned(), from: Feed::Pictures(pictures) }, promise, watch)
}

fn picture_guards(demuxer: &str, promise: &Promise<'_>) -> Vec<String> {
    // Decoders round sides up to their blocks.
    let max_pixels = ((promise.size.width + 256) * (promise.size.height + 256)).to_string();
    let protocols = "file,pipe";
    ["-protocol_whitelist", protocols, "-format_whitelist", demuxer, "-max_pixels", &max_pixels, "-f", demuxer]
        .map(str::to_owned)
        .to_vec()
}

fn unreadable(error: std::io::Error) -> EngineError {
    failed(format!("it cannot be read: {error}"))
}

fn check_sides(found: (u32, u32), promise: &Promise<'_>) -> Result<(), EngineError> {
    let expected = (side(promise.size.width), side(promise.size.height));
    if found == expected {
        return Ok(());
    }
    Err(failed(format!("it is {}x{}, not {}x{}", found.0, found.1, expected.0, expected.1)))
}

/// Each frame's time, ms, in steps that the format can write; the sums must not drift.
fn check_times(times: impl Iterator<Item = u64>, step: u64, promise: &Promise<'_>) -> Result<(), EngineError> {
    let mut shown = 0;
    for (number, time) in (1..).zip(times) {
        shown += time;
        let expected = promise.rate.duration_ms(number);
        if shown.abs_diff(expected) > step {
            return Err(failed(format!("its first {number} frames last {shown} ms, not {expected} ms")));
        }
    }
    Ok(())
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
        // A canvas may be larger than what is accepted of a source.
        max_side: promise.limits.max_side.max(side(promise.size.width)).max(side(promise.size.height)),
    };
    probe(tools, file, &limits).map_err(|error| match error {
        EngineError::NotAVideo
        | EngineError::NoVideoStream
        | EngineError::Codec { .. }
        | EngineError::Damaged { .. }
        | EngineError::Limit(_) => failed(error.to_string()),
        other @ (EngineError::BeyondPaidLength { .. }
        | EngineError::NotAPicture
        | EngineError::MatteMismatch { .. }
        | EngineError::Background(_)
        | EngineError::MissingWeights { .. }
        | EngineError::MissingRuntime { .. }
        | EngineError::Device { .. }
        | EngineError::DeviceLost { .. }
        | EngineError::Model { .. }
        | EngineError::Runtime { .. }
        | EngineError::Registry(_)
        | EngineError::Unsupported(_)
        | EngineError::Verification { .. }
        | EngineError::Tool { .. }
        | EngineError::Stalled { .. }
        | EngineError::Io { .. }
        | EngineError::Handover { .. }
        | EngineError::Panicked { .. }
        | EngineError::Cancelled) => other,
    })
}

fn check_description(found: &Probe, promise: &Promise<'_>) -> Result<(), EngineError> {
    let info = &found.info;
    check_sides((info.width, info.height), promise)?;
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

/// What is to be decoded.
struct Input<'a> {
    /// Before `-i`.
    arguments: Vec<String>,
    /// The stream.
    map: String,
    from: Feed<'a>,
}

enum Feed<'a> {
    File(&'a Path),
    Pictures(&'a mut dyn Pictures),
}

/// Decodes all frames, compares their alpha, counts them.
fn decode(tools: &Tools, input: Input<'_>, promise: &Promise<'_>, watch: &dyn Watch) -> Result<u64, EngineError> {
    let mut command = quiet_ffmpeg(tools);
    command.args(["-xerror", "-err_detect", "explode", "-threads", &promise.threads.to_string()]);
    command.args(&input.arguments);
    match input.from {
        Feed::File(file) => command.input(local_file(file)),
        Feed::Pictures(_) => command.input("pipe:0"),
    };
    let plane = match (promise.codecs.with_alpha, promise.codecs.format) {
        (false, _) => "",
        // A frame that is opaque everywhere comes without an alpha plane.
        (true, OutputFormat::Webp) => "format=yuva420p,alphaextract,",
        (true, _) => "alphaextract,",
    };
    let Size { width, height } = SAMPLE;
    command.map(&input.map).args(["-an", "-sn", "-dn"]);
    // New timestamps: whatever the container's are, no frame is dropped or shown twice on the way to us.
    command.filter(format!("{plane}scale={width}:{height}:flags=area,format=gray,settb=1/25,setpts=N"));
    command.args(["-r", "25", "-f", "rawvideo", "pipe:1"]);
    if promise.sound_ms.is_some() {
        // Its length is known by now; that it decodes is not.
        command.map("0:a:0").args(["-f", "null", "pipe:2"]);
    }

    let confinement = Confinement { memory_bytes: MEMORY_BYTES, cpu_seconds: promise.cpu_seconds, file_bytes: 0 };
    let mut child = Child::spawn("the check of the output", command, confinement)?;
    let stdin = child.stdin.take();
    let Some(stdout) = child.stdout.take() else { return Err(child.wait()?.into_tool_error()) };
    let halt = Halt::default();
    halt.kills(&child);
    let frames = AtomicU64::new(0);
    let told = Told {
        watch,
        stage: Stage::Verify,
        alive: &AtomicU64::new(0),
        done: &frames,
        total: promise.frames(),
        patience: NO_FRAME_LIMIT,
    };
    let work = || {
        compare(stdout, promise, &frames)?;
        let ended = child.wait()?;
        if ended.status.success() { Ok(()) } else { Err(StageEnd::Failed(failed(ended.stderr))) }
    };
    let mut stages = vec![StageWork { name: "verify", work: Box::new(work) }];
    if let (Feed::Pictures(pictures), Some(stdin)) = (input.from, stdin) {
        stages.push(StageWork { name: "unpack", work: Box::new(move || feed(pictures, stdin)) });
    }
    supervise(&halt, &told, stages)?;
    Ok(frames.into_inner())
}

fn feed(pictures: &mut dyn Pictures, mut stdin: ChildStdin) -> Result<(), StageEnd> {
    let mut picture = Vec::new();
    while pictures.next(&mut picture)? {
        match stdin.write_all(&picture) {
            Ok(()) => {}
            // It ended: why, the other stage finds.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(StageEnd::Aborted),
            Err(error) => return Err(EngineError::io("cannot write to the check of the output")(error).into()),
        }
    }
    Ok(())
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

//! The bounded look at an untrusted source.
//!
//! Owns: running ffprobe on a local file, choosing the streams, the picture's size after rotation and with square
//! pixels, the measured length, what has to be converted. Does not own: the timeline's rules (`timeline`), decoding.
//! Invariants: the content is known to be an accepted container before ffprobe opens it; ffprobe is told the demuxer
//! and gets a `file:` path, never a URL; what is billed ([`Probe::duration_ms`]) comes from timestamps.

mod picture;
mod report;

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rotoless_contract::media::InputInfo;
use rotoless_contract::worker::MediaLimits;

use self::picture::Picture;
use self::report::{Description, Stamps, Stream, Unreadable, Wanted};
use crate::child::{Child, Confinement};
use crate::container::Container;
use crate::error::{EngineError, LimitExceeded};
use crate::media_arguments::{input_guards, local_file};
use crate::timeline::{NoTimeline, Rate, Timeline};
use crate::tools::Tools;

/// Streams that a file may have.
const MAX_STREAMS: usize = 16;

/// Where ffprobe itself stops making streams; above [`MAX_STREAMS`] so that the error can be ours.
const HARD_MAX_STREAMS: usize = 32;

const MAX_DESCRIPTION_BYTES: u64 = 4 << 20;
const MAX_PACKETS_BYTES: u64 = 256 << 20;
const MAX_PACKETS: usize = 2_000_000;
const MAX_SECONDS: u64 = 60;

/// Headers, an index and one frame's buffers; a source that needs more to be described is hostile.
const CONFINEMENT: Confinement = Confinement { memory_bytes: 4 << 30, cpu_seconds: MAX_SECONDS, file_bytes: 0 };

/// A source as measured.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What clients are told.
    pub info: InputInfo,
    /// Length on the constant timeline, from timestamps: what is billed.
    pub duration_ms: u64,
    /// Frames expected on the constant timeline.
    pub frames: u64,
    /// What was converted or did not fit what the header says.
    pub warnings: Vec<String>,
    pub(crate) source: Source,
}

/// What decoding needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub container: Container,
    pub video_index: usize,
    pub audio_index: Option<usize>,
    /// Length of the sound.
    pub audio_ms: Option<u64>,
    pub rate: Rate,
    /// The picture is shown so many seconds earlier.
    pub shift_seconds: f64,
    /// Even.
    pub width: u32,
    /// Even.
    pub height: u32,
    /// Filters between the timeline and the 8-bit BT.709 planes, comma separated.
    pub filters: String,
}

/// Measures a local file.
pub(crate) fn probe(tools: &Tools, input: &Path, limits: &MediaLimits) -> Result<Probe, EngineError> {
    let bytes = std::fs::metadata(input).map_err(EngineError::io("cannot open the source"))?.len();
    if bytes > limits.max_bytes {
        return Err(LimitExceeded::Bytes { bytes, max: limits.max_bytes }.into());
    }
    let container = Container::of_file(input)?;
    let description = describe(tools, input, container, limits)?;
    if description.streams.len() > MAX_STREAMS {
        return Err(LimitExceeded::Streams { streams: description.streams.len(), max: MAX_STREAMS }.into());
    }
    let video = description
        .streams
        .iter()
        .find(|stream| stream.codec_type == "video" && stream.disposition.attached_pic == 0)
        .ok_or(EngineError::NoVideoStream)?;
    let audio = description.streams.iter().find(|stream| stream.codec_type == "audio");
    let mut picture = Picture::of(video, limits)?;

    let wanted = Wanted { video: video.index, audio: audio.map(|stream| stream.index), max_packets: MAX_PACKETS };
    let stamps = stamps(tools, input, container, limits, wanted)?;
    let origin = description.format.start_time.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let shown = stamps.video.len();
    let timeline =
        Timeline::build(stamps.video, tick_seconds(video), origin, declared_rate(video), limits).map_err(|reason| {
            match reason {
                NoTimeline::Empty => EngineError::Damaged { detail: "the video stream shows no frame".into() },
                NoTimeline::Limit(limit) => limit.into(),
            }
        })?;
    let mut warnings = std::mem::take(&mut picture.warnings);
    warnings.extend(timeline_warnings(&timeline, shown, &description));
    let audio = audio.zip(stamps.audio).map(|(stream, span)| (stream, sound_ms(stream, span)));
    Ok(measured(container, video, audio, picture, &timeline, warnings))
}

/// A track without a single packet has no length, and is no sound.
fn sound_ms(stream: &Stream, (first, last): (i64, i64)) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "a length in ms, not a count")]
    let seconds = last.saturating_sub(first) as f64 * tick_seconds(stream);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let ms = (seconds * 1000.0).round() as u64;
    ms
}

fn measured(
    container: Container,
    video: &Stream,
    audio: Option<(&Stream, u64)>,
    picture: Picture,
    timeline: &Timeline,
    warnings: Vec<String>,
) -> Probe {
    let duration_ms = timeline.rate.duration_ms(timeline.frames);
    #[expect(clippy::cast_precision_loss, reason = "a length in ms, not a count")]
    let duration_seconds = duration_ms as f64 / 1000.0;
    Probe {
        info: InputInfo {
            width: picture.width,
            height: picture.height,
            fps: timeline.rate.fps(),
            codec: video.codec_name.clone(),
            has_audio: audio.is_some(),
            duration_seconds,
        },
        duration_ms,
        frames: timeline.frames,
        warnings,
        source: Source {
            container,
            video_index: video.index,
            audio_index: audio.map(|(stream, _)| stream.index),
            audio_ms: audio.map(|(_, ms)| ms),
            rate: timeline.rate,
            shift_seconds: timeline.shift_seconds,
            width: picture.width,
            height: picture.height,
            filters: picture.filters,
        },
    }
}

fn tick_seconds(stream: &Stream) -> f64 {
    Rate::parse(&stream.time_base).map_or(0.0, Rate::fps)
}

fn declared_rate(stream: &Stream) -> Option<Rate> {
    Rate::parse(&stream.r_frame_rate).or_else(|| Rate::parse(&stream.avg_frame_rate))
}

fn timeline_warnings(timeline: &Timeline, shown: usize, description: &Description) -> Vec<String> {
    let mut warnings = Vec::new();
    if timeline.is_variable {
        warnings.push(format!(
            "variable frame rate: {shown} frames were put on a constant {:.3} fps timeline of {}",
            timeline.rate.fps(),
            timeline.frames
        ));
    }
    // The container's length is the longest of all its tracks, so only a header that claims less is telling.
    let claimed = description.format.duration.as_deref().and_then(|text| text.parse::<f64>().ok());
    #[expect(clippy::cast_precision_loss, reason = "a length in ms, not a count")]
    let measured = timeline.rate.duration_ms(timeline.frames) as f64 / 1000.0;
    if let Some(claimed) = claimed.filter(|claimed| measured > claimed + 1.0 || *claimed > 10.0 * measured + 1.0) {
        warnings.push(format!("the file claims {claimed:.1} s; its picture is {measured:.1} s long, which counts"));
    }
    warnings
}

fn describe(
    tools: &Tools,
    input: &Path,
    container: Container,
    limits: &MediaLimits,
) -> Result<Description, EngineError> {
    let mut command = ffprobe(tools, input, container, limits);
    command.args(["-show_streams", "-show_format"]);
    run(command, MAX_DESCRIPTION_BYTES, |json| {
        let mut bytes = Vec::new();
        json.read_to_end(&mut bytes).map_err(EngineError::io("cannot read from ffprobe"))?;
        serde_json::from_slice(&bytes).map_err(|error| EngineError::Damaged { detail: error.to_string() })
    })
}

fn stamps(
    tools: &Tools,
    input: &Path,
    container: Container,
    limits: &MediaLimits,
    wanted: Wanted,
) -> Result<Stamps, EngineError> {
    let mut command = ffprobe(tools, input, container, limits);
    command.args(["-show_entries", "packet=stream_index,pts,dts,duration,flags"]);
    run(command, MAX_PACKETS_BYTES, |json| {
        Stamps::read(json, wanted).map_err(|reason| match reason {
            Unreadable::TooMany => {
                LimitExceeded::Description { max_bytes: MAX_PACKETS_BYTES, max_packets: MAX_PACKETS }.into()
            }
            Unreadable::Syntax(error) => EngineError::Damaged { detail: error.to_string() },
        })
    })
}

fn ffprobe(tools: &Tools, input: &Path, container: Container, limits: &MediaLimits) -> Command {
    let mut command = Command::new(&tools.ffprobe);
    command.args(["-hide_banner", "-loglevel", "error", "-of", "json=c=1"]);
    command.args(input_guards(container, limits)).args(["-max_streams", &HARD_MAX_STREAMS.to_string()]);
    command.arg("-i").arg(local_file(input));
    command
}

/// Runs ffprobe under its caps and gives its output to `parse`.
fn run<T>(
    command: Command,
    max_bytes: u64,
    parse: impl FnOnce(&mut dyn Read) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let mut child = Child::spawn("ffprobe", command, CONFINEMENT)?;
    let deadline = child.killer().kill_after(Duration::from_secs(MAX_SECONDS))?;
    let Some(stdout) = child.stdout.take() else { return Err(child.wait()?.into_tool_error()) };
    let mut capped = stdout.take(max_bytes);
    let parsed = parse(&mut capped);
    if capped.limit() == 0 {
        return Err(LimitExceeded::Description { max_bytes, max_packets: MAX_PACKETS }.into());
    }
    if let Err(error @ EngineError::Limit(_)) = parsed {
        return Err(error);
    }
    let ended = child.wait()?;
    if deadline.has_passed() {
        return Err(EngineError::Damaged { detail: format!("it could not be described within {MAX_SECONDS} s") });
    }
    // The exit status comes first: what a failed ffprobe wrote is not JSON, which is no news.
    if ended.status.success() { parsed } else { Err(ended.into_media_error()) }
}

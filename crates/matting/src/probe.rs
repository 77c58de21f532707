//! The bounded look at an untrusted source.
//!
//! Owns: running ffprobe on a local file, choosing the streams, the picture's size after rotation and with square
//! pixels, the measured length, what has to be converted. Does not own: the timeline's rules (`timeline`), decoding.
//! Invariants: the content is known to be an accepted container before ffprobe opens it; ffprobe is told the demuxer
//! and gets a `file:` path, never a URL; what is billed ([`Probe::duration_ms`]) comes from timestamps.

mod colour;
mod picture;
mod report;
mod streams;

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rotoless_contract::media::InputInfo;
use rotoless_contract::worker::MediaLimits;

use self::picture::Picture;
use self::report::{Description, Span, Stamps, Stream, Unreadable, Wanted};
use self::streams::Chosen;
use crate::child::{Child, Confinement};
use crate::container::Container;
use crate::error::{EngineError, LimitExceeded};
use crate::media_arguments::{file_guards, input_guards, local_file, quiet_ffprobe};
use crate::timeline::{NoTimeline, Rate, Timeline};
use crate::tools::Tools;

/// The longest hole in a sound track, and before it. It is filled with silence, which ffmpeg makes in one piece: for
/// eight channels half a gigabyte.
const MAX_SILENCE_SECONDS: u32 = 300;

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
    /// When the sound ends, counted from the start of the timeline.
    pub audio_ms: Option<u64>,
    pub rate: Rate,
    /// An expression of `setpts`, seconds: when a frame is shown on the timeline.
    pub shown_at: String,
    /// Even.
    pub width: u32,
    /// Even.
    pub height: u32,
    /// Filters before the timeline, each with a comma behind it.
    pub early_filters: String,
    /// Filters between the timeline and the 8-bit BT.709 planes, comma separated.
    pub filters: String,
    /// The decoder that must be used, when ffmpeg's own choice would lose something.
    pub decoder: Option<&'static str>,
    /// Whether frames of another size than the first one's can be taken.
    pub takes_any_size: bool,
}

/// Measures a local file.
pub(crate) fn probe(tools: &Tools, input: &Path, limits: &MediaLimits) -> Result<Probe, EngineError> {
    let bytes = std::fs::metadata(input).map_err(EngineError::io("cannot open the source"))?.len();
    if bytes > limits.max_bytes {
        return Err(LimitExceeded::Bytes { bytes, max: limits.max_bytes }.into());
    }
    let container = Container::of_file(input)?;
    let file = Subject { tools, input, container, limits };
    let description = file.describe().map_err(|error| file.unsupported_codec().unwrap_or(error))?;
    let chosen = Chosen::of(&description)?;
    let picture = Picture::of(chosen.video, limits)?;
    let wanted =
        Wanted { video: chosen.video.index, audio: chosen.audio.map(|stream| stream.index), max_packets: MAX_PACKETS };
    let stamps = file.stamps(wanted)?;
    let shown = stamps.video.len();
    let (video, origin) = (chosen.video, description.format.start_seconds());
    let timeline = Timeline::build(stamps.video, tick_seconds(video), origin, declared_rate(video), limits);
    let timeline = timeline.map_err(|reason| match reason {
        NoTimeline::Empty => EngineError::Damaged { detail: "the video stream shows no frame".into() },
        NoTimeline::Limit(limit) => limit.into(),
    })?;
    let timeline_warnings = timeline_warnings(&timeline, shown, &description);
    // A track without a single packet has no length, and is no sound.
    let audio = chosen.audio.zip(stamps.audio);
    let audio = audio.map(|(stream, span)| Track::of(stream, span, origin)).transpose()?;
    let mut found = measured(container, video, audio, picture, &timeline);
    found.source.shown_at = if stamps.video_lacks_pts {
        // Decoding starts earlier than showing, by as many frames as the codec reorders: the first frame's time is
        // known, and the distances are right.
        format!("PTS-STARTPTS+{:.6}/TB", timeline.first_seconds)
    } else {
        format!("PTS-{:.6}/TB", timeline.shift_seconds)
    };
    found.warnings.extend(chosen.warnings);
    found.warnings.extend(timeline_warnings);
    Ok(found)
}

/// The sound that was chosen.
struct Track {
    index: usize,
    end_ms: u64,
}

impl Track {
    fn of(stream: &Stream, span: Span, origin: f64) -> Result<Self, EngineError> {
        #[expect(clippy::cast_precision_loss, reason = "ticks beyond 2^53 are no time that any limit lets through")]
        let seconds = |ticks: i64| ticks as f64 * tick_seconds(stream);
        let silence = seconds(span.hole).max(seconds(span.start) - origin);
        if silence > f64::from(MAX_SILENCE_SECONDS) {
            return Err(LimitExceeded::Silence { seconds: silence, max_seconds: MAX_SILENCE_SECONDS }.into());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let end_ms = ((seconds(span.end) - origin) * 1000.0).round() as u64;
        Ok(Self { index: stream.index, end_ms })
    }
}

fn measured(
    container: Container,
    video: &Stream,
    audio: Option<Track>,
    picture: Picture,
    timeline: &Timeline,
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
        warnings: picture.warnings,
        source: Source {
            container,
            video_index: video.index,
            audio_index: audio.as_ref().map(|track| track.index),
            audio_ms: audio.map(|track| track.end_ms),
            rate: timeline.rate,
            shown_at: String::new(),
            width: picture.width,
            height: picture.height,
            early_filters: picture.early_filters,
            filters: picture.filters,
            decoder: picture.decoder,
            takes_any_size: picture.takes_any_size,
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

/// A file that ffprobe is asked about.
#[derive(Clone, Copy)]
struct Subject<'a> {
    tools: &'a Tools,
    input: &'a Path,
    container: Container,
    limits: &'a MediaLimits,
}

impl Subject<'_> {
    fn describe(self) -> Result<Description, EngineError> {
        described_by(self.ffprobe(&["-show_streams", "-show_format"]))
    }

    /// ffprobe ends with an error when a stream of any kind has a codec that is not on the list. What the headers
    /// alone say, with no frame decoded, tells whether that was it.
    fn unsupported_codec(self) -> Option<EngineError> {
        let mut command = quiet_ffprobe(self.tools);
        command.args(["-of", "json=c=1"]).args(file_guards(self.container, self.limits));
        command.args(["-nofind_stream_info", "-show_streams", "-i"]).arg(local_file(self.input));
        described_by(command).ok()?.unsupported_codec()
    }

    fn stamps(self, wanted: Wanted) -> Result<Stamps, EngineError> {
        let command = self.ffprobe(&["-show_entries", "packet=stream_index,pts,dts,duration,flags"]);
        run(command, MAX_PACKETS_BYTES, |json| {
            Stamps::read(json, wanted).map_err(|reason| match reason {
                Unreadable::TooMany => {
                    LimitExceeded::Description { max_bytes: MAX_PACKETS_BYTES, max_packets: MAX_PACKETS }.into()
                }
                Unreadable::Syntax(error) => EngineError::Damaged { detail: error.to_string() },
            })
        })
    }

    fn ffprobe(self, question: &[&str]) -> Command {
        let mut command = quiet_ffprobe(self.tools);
        command.args(["-of", "json=c=1"]).args(input_guards(self.container, self.limits)).args(question);
        command.arg("-i").arg(local_file(self.input));
        command
    }
}

fn described_by(command: Command) -> Result<Description, EngineError> {
    run(command, MAX_DESCRIPTION_BYTES, |json| {
        let mut bytes = Vec::new();
        json.read_to_end(&mut bytes).map_err(EngineError::io("cannot read from ffprobe"))?;
        Description::read(&bytes).map_err(|error| EngineError::Damaged { detail: error.to_string() })
    })
}

/// What the parsers of ffprobe's answers make of any bytes: all that is done with them.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_answers(bytes: &[u8]) {
    let limits = MediaLimits::default();
    if let Ok(description) = Description::read(bytes) {
        description.unsupported_codec();
        if let Ok(chosen) = Chosen::of(&description) {
            let _ = Picture::of(chosen.video, &limits);
        }
    }
    let wanted = Wanted { video: 0, audio: Some(1), max_packets: 1000 };
    if let Ok(stamps) = Stamps::read(bytes, wanted) {
        for tick in [1e-9, 0.001, 0.04, 1.0] {
            let _ = Timeline::build(stamps.video.clone(), tick, 0.0, Rate::parse("25/1"), &limits);
        }
    }
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

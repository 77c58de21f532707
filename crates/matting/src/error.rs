//! Why the engine could not do what was asked.
//!
//! Owns: the one error type of the engine and what it means for a job ([`EngineError::reason`]).
//! Invariant: nobody has to read an error's text to decide anything.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use rotoless_contract::OutputFormat;
use rotoless_contract::worker::FailureReason;

use crate::device::{Device, DeviceError};
use crate::registry::RegistryError;

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The content is none of the containers that are accepted, whatever its name says.
    #[error("the file is not an MP4, MOV, WebM, MKV or AVI video")]
    NotAVideo,
    /// A container without a picture.
    #[error("the file has no video stream")]
    NoVideoStream,
    /// A kept matte that is not the source's.
    #[error("the matte has {found} frames and the source {expected}")]
    MatteMismatch {
        /// Frames of the matte.
        found: u64,
        /// Frames of the source.
        expected: u64,
    },
    /// A stream of a codec that is not accepted.
    #[error("the file's codec `{name}` is not supported")]
    Codec {
        /// As ffmpeg calls it.
        name: String,
    },
    /// The picture, or the sound, cannot be decoded to its end.
    #[error("the video is damaged: {detail}")]
    Damaged {
        /// What was found, for the operator.
        detail: String,
    },
    /// Not a picture that is accepted, whatever its name says.
    #[error("the file is not a PNG, JPEG or WebP picture")]
    NotAPicture,
    /// The background's picture or video cannot be used; why, its source says.
    #[error("the background cannot be used")]
    Background(#[source] Box<EngineError>),
    /// More than what is accepted.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The stream holds more frames than the hold pays for.
    #[error("the video is longer than the {paid_seconds} s that were paid for")]
    BeyondPaidLength {
        /// Seconds that the hold covers.
        paid_seconds: u64,
    },
    /// The weights are not in the models directory.
    #[error("weights of model `{model}` are not installed: run `rotoless models fetch {model}`")]
    MissingWeights {
        /// Name of the model in the registry.
        model: String,
    },
    /// ONNX Runtime's library is not in the models directory.
    #[error("ONNX Runtime is not installed at {path}: run `rotoless models fetch {name}`")]
    MissingRuntime {
        /// Where it was looked for.
        path: String,
        /// The name by which it is fetched.
        name: &'static str,
    },
    /// Models cannot run on the device that was asked for. There is no other way: nothing falls back to the processor.
    #[error("models cannot run on {device}")]
    Device {
        /// What was asked for.
        device: Device,
        /// Why.
        source: DeviceError,
    },
    /// The device was there when the engine was opened, and does not work any more.
    #[error("{device} is lost")]
    DeviceLost {
        /// What the models ran on.
        device: Device,
        /// What its proof came to.
        source: Box<EngineError>,
    },
    /// The weights or the runtime library cannot be used.
    #[error("model `{model}` cannot be run: {detail}")]
    Model {
        /// Name of the model in the registry.
        model: String,
        /// What the runtime said.
        detail: String,
    },
    /// ONNX Runtime's library is there and does not load.
    #[error("ONNX Runtime cannot be loaded: {detail}")]
    Runtime {
        /// What the loader said.
        detail: String,
    },
    /// The registry of models cannot be used.
    #[error("the model registry cannot be used")]
    Registry(#[from] RegistryError),
    /// The options ask for what the engine cannot do.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The output did not hold its own check.
    #[error("the output failed its check: {detail}")]
    Verification {
        /// What was found.
        detail: String,
    },
    /// A tool ended in a way that is not the media's fault.
    #[error("{program} failed ({}): {stderr}", ShownStatus(*status))]
    Tool {
        /// Which tool and what for.
        program: &'static str,
        /// How it ended, when it started at all.
        status: Option<ExitStatus>,
        /// The end of what it wrote.
        stderr: String,
    },
    /// No frame came for too long.
    #[error("no frame was finished for {} s", after.as_secs())]
    Stalled {
        /// How long was waited.
        after: Duration,
    },
    /// Reading or writing a local file failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What an earlier attempt handed over cannot be taken up.
    #[error("a segment's state cannot be taken up: {detail}")]
    Handover {
        /// What is wrong with it.
        detail: String,
    },
    /// A stage of the pipeline panicked: a fault of ours.
    #[error("the {stage} stage panicked")]
    Panicked {
        /// Which one.
        stage: &'static str,
    },
    /// The caller's watch asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl EngineError {
    /// What this means for the job.
    #[must_use]
    pub const fn reason(&self) -> FailureReason {
        match self {
            Self::NotAVideo | Self::NotAPicture | Self::NoVideoStream | Self::Codec { .. } | Self::Damaged { .. } => {
                FailureReason::InvalidMedia
            }
            // The source is not the one that the matte was made of.
            Self::MatteMismatch { .. } => FailureReason::SourceMissing,
            Self::Background(_) => FailureReason::InvalidBackground,
            Self::Limit(_) => FailureReason::LimitExceeded,
            Self::BeyondPaidLength { .. } => FailureReason::InsufficientCredits,
            Self::MissingWeights { .. } | Self::MissingRuntime { .. } => FailureReason::ModelUnavailable,
            Self::Unsupported(_) => FailureReason::UnsupportedOptions,
            Self::Verification { .. } => FailureReason::VerificationFailed,
            Self::Stalled { .. } => FailureReason::TimedOut,
            Self::Cancelled => FailureReason::Cancelled,
            Self::Device { .. }
            | Self::DeviceLost { .. }
            | Self::Model { .. }
            | Self::Runtime { .. }
            | Self::Registry(_)
            | Self::Tool { .. }
            | Self::Io { .. }
            | Self::Handover { .. }
            | Self::Panicked { .. } => FailureReason::InternalError,
        }
    }

    /// Whether the caller's own watch ended the work.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// The same of the background: what is wrong with a file is wrong with that one.
    pub(crate) fn of_background(self) -> Self {
        let is_of_the_file = matches!(
            self,
            Self::NotAVideo
                | Self::NotAPicture
                | Self::NoVideoStream
                | Self::Codec { .. }
                | Self::Damaged { .. }
                | Self::Limit(_)
        );
        if is_of_the_file { Self::Background(Box::new(self)) } else { self }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

struct ShownStatus(Option<ExitStatus>);

impl fmt::Display for ShownStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("not started"),
        }
    }
}

/// A source that is more than what is accepted. Measured on the stream, not taken from a header.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum LimitExceeded {
    /// Size of the file.
    #[error("the file has {bytes} bytes, more than {max}")]
    Bytes {
        /// Found.
        bytes: u64,
        /// Accepted.
        max: u64,
    },
    /// Size of the picture.
    #[error("the picture is {width}x{height}, sides must be {min} to {max} px")]
    Side {
        /// Found, px.
        width: u32,
        /// Found, px.
        height: u32,
        /// Least side, px.
        min: u32,
        /// Greatest side, px.
        max: u32,
    },
    /// Length.
    #[error("the video is {found_ms} ms long, more than {max_ms} ms")]
    Duration {
        /// Found.
        found_ms: u64,
        /// Accepted.
        max_ms: u64,
    },
    /// Frames a second.
    #[error("the video has {fps:.3} frames a second, more than {max}")]
    FrameRate {
        /// Found.
        fps: f64,
        /// Accepted.
        max: u32,
    },
    /// Time without a frame.
    #[error("the video has a gap of {seconds:.1} s without a frame, more than {max_seconds} s")]
    Gap {
        /// Found.
        seconds: f64,
        /// Accepted.
        max_seconds: u32,
    },
    /// Time without sound in a sound track.
    #[error("the sound has a hole of {seconds:.1} s, more than {max_seconds} s")]
    Silence {
        /// Found.
        seconds: f64,
        /// Accepted.
        max_seconds: u32,
    },
    /// Streams of a container.
    #[error("the file has {streams} streams, more than {max}")]
    Streams {
        /// Found.
        streams: usize,
        /// Accepted.
        max: usize,
    },
    /// Entries of an edit list.
    #[error("the file has an edit list of {edits} entries, more than {max}")]
    Edits {
        /// Found.
        edits: u32,
        /// Accepted.
        max: u32,
    },
    /// Size of the output.
    #[error("the output would be larger than {max} bytes")]
    Output {
        /// What the format, or the service, allows.
        max: u64,
    },
    /// Description of the streams.
    #[error("the description of the file's streams is longer than {max_bytes} bytes or {max_packets} packets")]
    Description {
        /// Accepted.
        max_bytes: u64,
        /// Accepted.
        max_packets: usize,
    },
}

/// Options that the engine cannot serve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unsupported {
    /// A prompt that the model does not understand.
    #[error("text_prompt: {0}")]
    Prompt(String),
    /// Transparency in a format that has none.
    #[error("output format `{0}` cannot be transparent: choose a background")]
    TransparentIn(OutputFormat),
    /// The background is a picture or a video, and no file came with the job.
    #[error("the background's file is missing")]
    NoBackgroundFile,
    /// A canvas that the formats cannot have.
    #[error("a canvas of {width}x{height} is not supported: sides must be even and 16 to 4096 px")]
    Canvas {
        /// Ordered, px.
        width: u32,
        /// Ordered, px.
        height: u32,
    },
    /// A foreground that would be no picture any more.
    #[error("a foreground scaled by {0} is not supported")]
    Scale(f64),
}

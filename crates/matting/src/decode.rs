//! The decoder: a source becomes frames on the constant timeline.
//!
//! Owns: ffmpeg's arguments for reading a source, the frame loop over its pipe, deciding whether it came to its end.
//! Invariants: a stream has ended well only if ffmpeg says so by its exit status *and* as many frames came as the
//! timestamps promised; a cut-off source is an error, never a short output (G-15).

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::ChildStdout;

use ffmpeg_sidecar::command::FfmpegCommand;
use rotoless_contract::worker::MediaLimits;

use crate::child::{Child, Confinement};
use crate::error::EngineError;
use crate::frame::Size;
use crate::media_arguments::{input_guards, local_file, quiet_ffmpeg};
use crate::probe::Source;
use crate::tools::Tools;

/// Reference frames of the largest picture, per thread, with room to spare.
const MEMORY_BYTES: u64 = 8 << 30;

/// Frames that timestamps and decoder may disagree by: a last frame without a duration, a lost leading frame.
const FRAME_TOLERANCE: u64 = 1;

/// One in so many of the frames that are passed over comes all the same.
const SIGN_OF_LIFE: u64 = 250;

/// A running decoder.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) child: Child,
    stdout: ChildStdout,
    expected: u64,
    read: u64,
    signs: u64,
}

/// What a decoder is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeOrder<'a> {
    pub input: &'a Path,
    pub source: &'a Source,
    /// Frames on the timeline.
    pub frames: u64,
    /// Number of the first one that is wanted. Those before it are decoded all the same: to find a frame by its time is
    /// as exact as the file's index, and a segment must begin at the very frame where another ended.
    pub from: u64,
    pub limits: &'a MediaLimits,
    pub threads: usize,
    pub cpu_seconds: u64,
}

impl DecodeOrder<'_> {
    /// The size of its frames.
    pub(crate) fn size(&self) -> Size {
        Size { width: self.source.width as usize, height: self.source.height as usize }
    }

    /// Frames before the first one that is wanted, which come as signs of life.
    const fn signs(&self) -> u64 {
        self.from.div_ceil(SIGN_OF_LIFE)
    }

    /// Frames that come.
    const fn wanted(&self) -> u64 {
        self.frames.saturating_sub(self.from) + self.signs()
    }

    fn command(&self, tools: &Tools) -> FfmpegCommand {
        let mut command = quiet_ffmpeg(tools);
        // Strict: without these ffmpeg makes up what is missing and ends with success.
        command.args(["-xerror", "-err_detect", "explode"]);
        let threads = self.threads.to_string();
        command.args(["-filter_threads", &threads, "-threads", &threads]);
        if let Some(decoder) = self.source.decoder {
            command.args(["-c:v", decoder]);
        }
        if self.source.takes_any_size {
            // A new graph of filters, as for a new size, would begin the timeline again.
            command.args(["-reinit_filter", "0"]);
        }
        command.args(input_guards(self.source.container, self.limits)).input(local_file(self.input));
        command.map(format!("0:{}", self.source.video_index)).args(["-an", "-sn", "-dn"]);
        let Source { rate, shown_at, early_filters, filters, .. } = self.source;
        // A frame that lasts less than half of the timeline's would be rounded away, and here it is the only one.
        let at_end = if self.frames == 1 { ":eof_action=pass" } else { "" };
        // Before the filters: what is not wanted is neither scaled nor converted.
        let late = match self.from {
            0 => String::new(),
            // Some of the others come as well: whoever waits for half an hour of video to be passed over hears of it.
            from => format!("select=gte(n\\,{from})+not(mod(n\\,{SIGN_OF_LIFE})),setpts=N/({rate})/TB,"),
        };
        command.filter(format!(
            "{early_filters}setpts={shown_at},fps=fps={rate}:start_time=0:round=near{at_end},{late}{filters}"
        ));
        // One more than would be accepted, so that too many can be told from just enough.
        command.args(["-frames:v", &(self.wanted() + FRAME_TOLERANCE + 1).to_string()]);
        command.args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"]);
        command
    }
}

impl Decoder {
    pub(crate) fn start(tools: &Tools, order: &DecodeOrder<'_>) -> Result<Self, EngineError> {
        let confinement = Confinement { memory_bytes: MEMORY_BYTES, cpu_seconds: order.cpu_seconds, file_bytes: 0 };
        let mut child = Child::spawn("the decoder", order.command(tools), confinement)?;
        child.stdin = None;
        let Some(stdout) = child.stdout.take() else { return Err(child.wait()?.into_tool_error()) };
        Ok(Self { child, stdout, expected: order.wanted(), read: 0, signs: order.signs() })
    }

    /// Whether the frame that comes next is only a sign of life.
    pub(crate) const fn passes_over(&self) -> bool {
        self.read < self.signs
    }

    /// Fills the planes with the next frame; `false` after the last one, when the whole stream proved good.
    pub(crate) fn read(&mut self, planes: &mut [u8]) -> Result<bool, EngineError> {
        match fill(&mut self.stdout, planes).map_err(EngineError::io("cannot read from the decoder"))? {
            Filled::Whole if self.read > self.expected => Err(EngineError::Damaged {
                detail: format!("it decodes to more than the {} frames of its timestamps", self.expected),
            }),
            Filled::Whole => {
                self.read += 1;
                Ok(true)
            }
            end @ (Filled::Nothing | Filled::Part) => self.check_end(end).map(|()| false),
        }
    }

    /// A pipe that ends says nothing: a killed decoder ends it at a frame's border as well.
    fn check_end(&mut self, end: Filled) -> Result<(), EngineError> {
        let ended = self.child.wait()?;
        if !ended.status.success() {
            return Err(ended.into_media_error());
        }
        if matches!(end, Filled::Part) || self.read == 0 || self.read.abs_diff(self.expected) > FRAME_TOLERANCE {
            return Err(EngineError::Damaged {
                detail: format!("{} of {} frames could be decoded", self.read, self.expected),
            });
        }
        Ok(())
    }
}

/// How far a buffer was filled.
pub(crate) enum Filled {
    Whole,
    Part,
    Nothing,
}

pub(crate) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<Filled> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(Filled::Nothing),
            Ok(0) => return Ok(Filled::Part),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Filled::Whole)
}

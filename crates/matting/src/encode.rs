//! The encoder: frames and the source's sound become the output file.
//!
//! Owns: ffmpeg's arguments for each format, feeding its pipe. Does not own: what is in the frames, the containers that
//! we write ourselves (`pack`).
//! Invariants: the sound goes from the source into the output without passing through us; nothing of the source's
//! metadata does (it may hold where and by whom it was made).

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ChildStdout;

use ffmpeg_sidecar::command::FfmpegCommand;
use rotoless_contract::OutputFormat;

use crate::child::{Child, Confinement};
use crate::error::{EngineError, Unsupported};
use crate::frame::Size;
use crate::media_arguments::{local_file, quiet_ffmpeg};
use crate::pack::{Packer, stills_of};
use crate::pipeline::supervise::StageEnd;
use crate::probe::Source;
use crate::sound::Sound;
use crate::timeline::Rate;
use crate::tools::Tools;

/// What errors call the child.
pub(crate) const ENCODER: &str = "the encoder";

/// Two VP9 encoders (colour, alpha) of the largest picture.
const MEMORY_BYTES: u64 = 8 << 30;

/// Greatest output, whatever its length.
const MAX_OUTPUT_BYTES: u64 = 20_000_000_000;

/// What the container and the sound may add to frames that do not compress at all.
const OUTPUT_ALLOWANCE_BYTES: u64 = 256 << 20;

/// Straight to RGB, chroma interpolated.
const TO_RGB: &str = "scale=in_color_matrix=bt709:in_range=tv:out_range=pc:flags=bicubic+accurate_rnd+full_chroma_int";

/// Codec settings of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codecs {
    pub format: OutputFormat,
    /// Whether the matte goes into the file.
    pub with_alpha: bool,
}

/// What an encoder is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodeOrder<'a> {
    pub codecs: Codecs,
    pub size: Size,
    pub rate: Rate,
    pub frames: u64,
    pub threads: usize,
    pub cpu_seconds: u64,
    pub frames_from: FramesFrom<'a>,
    /// Where the sound comes from, when there is any.
    pub sound: Option<Sound<'a>>,
    pub extent: Extent,
    pub output: &'a Path,
}

/// What the file is of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// Some of its pictures, to be joined with others (`join`): of the formats that are packed of pictures these alone.
    Part,
}

/// Where the frames come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FramesFrom<'a> {
    /// [`Encoder::write`].
    Pipe,
    /// A file of raw frames: what the same encoder costs without us.
    File(&'a Path),
    /// A list of parts ([`Extent::Part`]), whose pictures are not encoded again.
    Parts(&'a Path),
}

impl Codecs {
    /// The pixel format of the frames on the pipe.
    pub(crate) const fn pipe_format(self) -> &'static str {
        if self.with_alpha { "yuva420p" } else { "yuv420p" }
    }

    /// Bytes of a frame on the pipe.
    pub(crate) const fn frame_bytes(self, size: Size) -> usize {
        if self.with_alpha { size.yuv_bytes() + size.pixels() } else { size.yuv_bytes() }
    }

    /// The greatest rate that players of the format keep to. A GIF counts in 1/100 s and is slowed down to a tenth by
    /// browsers below 2 of them; an animated WebP up to 10 ms.
    const fn max_rate(self) -> Option<Rate> {
        match self.format {
            OutputFormat::Gif => Some(Rate { num: 50, den: 1 }),
            OutputFormat::Webp => Some(Rate { num: 90, den: 1 }),
            OutputFormat::Webm | OutputFormat::Mov | OutputFormat::Mp4 | OutputFormat::PngSequence => None,
        }
    }

    /// The rate of an output of that source.
    pub(crate) fn rate_of(self, source: &Source) -> Rate {
        self.max_rate().filter(|rate| source.rate.exceeds(*rate)).unwrap_or(source.rate)
    }

    /// Whether a pixel of the format is there or not, and nothing between.
    pub(crate) const fn has_hard_alpha(self) -> bool {
        match self.format {
            OutputFormat::Gif => self.with_alpha,
            OutputFormat::Webm
            | OutputFormat::Mov
            | OutputFormat::Mp4
            | OutputFormat::Webp
            | OutputFormat::PngSequence => false,
        }
    }

    pub(crate) fn video(self, size: Size, threads: usize) -> Result<Vec<String>, EngineError> {
        let arguments: &[&str] = match (self.format, self.with_alpha) {
            (OutputFormat::Webm, _) => return Ok(self.vp9(size, threads)),
            (OutputFormat::Mov, true) => &["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"],
            (OutputFormat::Mov, false) => &["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuv444p10le"],
            (OutputFormat::Mp4, false) => {
                &["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p"]
            }
            (OutputFormat::Mp4, true) => return Err(Unsupported::TransparentIn(self.format).into()),
            // Each frame with its own palette, so that parts can be joined.
            (OutputFormat::Gif, _) => &["-c:v", "gif", "-global_palette", "0"],
            // Measured on `portrait` (640x360): 27 ms of CPU a frame; level 4 takes 38 for 4 % less.
            (OutputFormat::Webp, true) => {
                &["-c:v", "libwebp", "-pix_fmt", "yuva420p", "-quality", "80", "-compression_level", "2"]
            }
            (OutputFormat::Webp, false) => {
                &["-c:v", "libwebp", "-pix_fmt", "yuv420p", "-quality", "80", "-compression_level", "2"]
            }
            // Measured on `portrait`: half of the CPU time of the defaults, for a file a quarter smaller.
            (OutputFormat::PngSequence, _) => &["-c:v", "png", "-compression_level", "1", "-pred", "paeth"],
        };
        let mut arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        arguments.extend(["-threads".to_owned(), threads.to_string()]);
        Ok(arguments)
    }

    fn vp9(self, size: Size, threads: usize) -> Vec<String> {
        // Measured with the exact matte of `portrait` (2 cores): realtime 5 at this quality has the alpha error
        // (MAD·10³ 0.38) and luma error of `good` at a quarter of its CPU time, for a file a third larger.
        let quality = "-c:v libvpx-vp9 -deadline realtime -cpu-used 5 -crf 24 -b:v 0 -lag-in-frames 0";
        // Transparency forbids alternate reference frames.
        let alpha = if self.with_alpha { "-pix_fmt yuva420p -auto-alt-ref 0" } else { "-pix_fmt yuv420p" };
        // A tile column is at least 256 px wide.
        let columns = threads.ilog2().min((size.width / 256).max(1).ilog2()).min(4);
        // Measured on `portrait` (720p and 1080p, 2 threads): rows side by side take a fifth and a tenth more CPU time than
        // tiles and no less time, for the same picture. They are for threads that have no tile.
        let rows = u8::from(threads > 1 << columns);
        let parallel = format!("-tile-columns {columns} -row-mt {rows} -threads {threads}");
        let words = [quality, alpha, &parallel].into_iter().flat_map(str::split_whitespace);
        words.chain(self.marks().iter().copied()).map(str::to_owned).collect()
    }

    /// What the container says of the pictures, and nobody else does.
    const fn marks(self) -> &'static [&'static str] {
        match (self.format, self.with_alpha) {
            (OutputFormat::Webm, true) => &["-metadata:s:v:0", "alpha_mode=1"],
            _ => &[],
        }
    }

    /// What must happen to the planes before they are encoded: the picture formats are not BT.709.
    fn filter(self) -> String {
        match self.format {
            // Said to the frames: an encoder may go by them (ProRes does) and not by what it is told itself.
            OutputFormat::Webm | OutputFormat::Mov | OutputFormat::Mp4 => {
                "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709".to_owned()
            }
            // A palette for each frame: one for the whole video would need the whole video in memory (measured: 95 MB
            // at any length against 187 MB after 3 s of 640x360). An ordered dither stays still where the picture does.
            OutputFormat::Gif => format!(
                "{TO_RGB},split[colours][picture];[colours]palettegen=stats_mode=single:reserve_transparent={}[palette];\
                 [picture][palette]paletteuse=new=1:dither=bayer:bayer_scale=5",
                u8::from(self.with_alpha)
            ),
            OutputFormat::Webp => {
                "scale=in_color_matrix=bt709:out_color_matrix=smpte170m:flags=bicubic+accurate_rnd,setsar=1".to_owned()
            }
            OutputFormat::PngSequence => {
                format!("{TO_RGB},format={},setsar=1", if self.with_alpha { "rgba" } else { "rgb24" })
            }
        }
    }

    pub(crate) fn sound(self) -> Vec<String> {
        // libopus knows these layouts only, and AAC's own others are played by few; whatever else there is becomes the
        // nearest of them.
        let filters = format!("{},aformat=channel_layouts=7.1|5.1|stereo|mono", Sound::filters());
        let arguments: &[&str] = match self.format {
            OutputFormat::Webm => &["-c:a", "libopus", "-b:a", "128k", "-af", &filters],
            OutputFormat::Mov | OutputFormat::Mp4 => &["-c:a", "aac", "-b:a", "192k", "-af", &filters],
            OutputFormat::Gif | OutputFormat::Webp | OutputFormat::PngSequence => &["-an"],
        };
        arguments.iter().map(|&argument| argument.to_owned()).collect()
    }

    const fn container(self) -> &'static [&'static str] {
        match self.format {
            OutputFormat::Webm => &["-f", "webm"],
            OutputFormat::Mov => &["-f", "mov"],
            OutputFormat::Mp4 => &["-movflags", "+faststart", "-f", "mp4"],
            OutputFormat::Gif => &["-f", "gif"],
            OutputFormat::Webp | OutputFormat::PngSequence => &["-f", "image2pipe"],
        }
    }
}

impl EncodeOrder<'_> {
    pub(crate) fn max_output_bytes(&self) -> u64 {
        let raw = (self.codecs.frame_bytes(self.size) as u64).saturating_mul(self.frames);
        raw.saturating_mul(2).saturating_add(OUTPUT_ALLOWANCE_BYTES).min(MAX_OUTPUT_BYTES)
    }

    fn raw_frames<'c>(&self, command: &'c mut FfmpegCommand) -> &'c mut FfmpegCommand {
        // The queue is in front of a pipe that has one already: frames are large.
        command.args(["-thread_queue_size", "2", "-f", "rawvideo", "-pix_fmt", self.codecs.pipe_format()]);
        command.args(["-s", &format!("{}x{}", self.size.width, self.size.height), "-r", &self.rate.to_string()])
    }

    fn command(&self, tools: &Tools) -> Result<FfmpegCommand, EngineError> {
        let mut command = quiet_ffmpeg(tools);
        // Of the sound: without it ffmpeg makes up what is missing and ends with success.
        command.args(["-xerror", "-filter_threads", &self.threads.to_string()]);
        match self.frames_from {
            FramesFrom::Pipe => self.raw_frames(&mut command).input("pipe:0"),
            FramesFrom::File(path) => self.raw_frames(&mut command).input(local_file(path)),
            FramesFrom::Parts(list) => read_parts(&mut command, list),
        };
        if let Some(sound) = self.sound {
            sound.read_by(&mut command);
        }
        command.map("0:v:0");
        if let Some(sound) = self.sound {
            command.map(format!("1:{}", sound.index)).args(self.codecs.sound());
            // Sound of hours behind a second of picture ends here.
            command.args(["-t", &sound.longest()]);
        }
        command.args(["-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"]);
        if matches!(self.frames_from, FramesFrom::Parts(_)) {
            command.args(["-c:v", "copy"]).args(self.codecs.marks());
        } else {
            command.args(self.codecs.video(self.size, self.threads)?);
            command.args(["-filter:v", &self.codecs.filter()]);
            if stills_of(self.codecs.format).is_none() && self.codecs.format != OutputFormat::Gif {
                command.args(["-color_range", "tv", "-colorspace", "bt709"]);
                command.args(["-color_primaries", "bt709", "-color_trc", "bt709"]);
            }
        }
        if self.extent == Extent::Whole && stills_of(self.codecs.format).is_some() {
            command.args(self.codecs.container()).output("pipe:1");
        } else {
            command.args(["-fs", &self.max_output_bytes().to_string()]);
            command.args(self.codecs.container()).arg("-y").output(local_file(self.output));
        }
        Ok(command)
    }
}

/// Reads parts that we wrote, one behind the other.
pub(crate) fn read_parts<'c>(command: &'c mut FfmpegCommand, list: &Path) -> &'c mut FfmpegCommand {
    command.args(["-safe", "0", "-protocol_whitelist", "file", "-f", "concat"]).input(local_file(list))
}

/// A running encoder.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) child: Child,
    /// Until somebody runs it.
    packer: Option<Packer<ChildStdout>>,
}

impl Encoder {
    pub(crate) fn start(tools: &Tools, order: &EncodeOrder<'_>) -> Result<Self, EngineError> {
        let still = stills_of(order.codecs.format).filter(|_| order.extent == Extent::Whole);
        let confinement = Confinement {
            memory_bytes: MEMORY_BYTES,
            cpu_seconds: order.cpu_seconds,
            file_bytes: if still.is_some() { 0 } else { order.max_output_bytes() },
        };
        let mut child = Child::spawn(ENCODER, order.command(tools)?, confinement)?;
        let pictures = child.stdout.take();
        let packer = match still.zip(pictures) {
            Some((still, pictures)) => Some(Packer::create(pictures, still, order, order.max_output_bytes())?),
            None => None,
        };
        Ok(Self { child, packer })
    }

    /// What must run on a thread of its own while frames are written, if anything.
    pub(crate) fn take_packer(&mut self) -> Option<Packer<ChildStdout>> {
        self.packer.take()
    }

    /// Writes one frame's planes.
    pub(crate) fn write(&mut self, planes: &[u8]) -> Result<(), EngineError> {
        let Some(stdin) = self.child.stdin.as_mut() else { return Err(self.child.wait()?.into_tool_error()) };
        match stdin.write_all(planes) {
            Ok(()) => Ok(()),
            // It ended: why, it says itself.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(self.child.wait()?.into_tool_error()),
            Err(error) => Err(EngineError::io("cannot write to the encoder")(error)),
        }
    }

    /// Says that there are no more frames and waits until the encoder has ended.
    pub(crate) fn finish(mut self) -> Result<(), EngineError> {
        if let Some(packer) = self.packer.take()
            && let Err(StageEnd::Failed(error)) = packer.run()
        {
            return Err(error);
        }
        let ended = self.child.wait()?;
        if ended.status.success() { Ok(()) } else { Err(ended.into_tool_error()) }
    }
}

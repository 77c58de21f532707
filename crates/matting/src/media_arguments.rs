//! Arguments that every tool gets with a source: the guards against hostile media (guarantees §6).

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use ffmpeg_sidecar::command::FfmpegCommand;
use rotoless_contract::worker::MediaLimits;

use crate::codecs::decoder_whitelist;
use crate::container::Container;
use crate::tools::Tools;

/// How much of a file is read to find out what its streams are.
const PROBE_BYTES: u64 = 32 << 20;

/// Time of a file that is looked at to find out what its streams are, microseconds.
const ANALYSE_MICROSECONDS: u64 = 10_000_000;

/// Where a demuxer itself stops making streams; above `probe::MAX_STREAMS` so that the error can be ours.
const HARD_MAX_STREAMS: usize = 32;

/// Greatest single allocation of a tool: a frame of 4096 × 4096 px in 32-bit floats takes 200 MB.
const MAX_ALLOCATION_BYTES: u64 = 1 << 30;

/// Options before `-i`: only local files, only our containers and codecs, no frame larger than the limits.
pub(crate) fn input_guards(container: Container, limits: &MediaLimits) -> Vec<String> {
    let mut guards = file_guards(container, limits);
    guards.extend(["-codec_whitelist", decoder_whitelist()].map(str::to_owned));
    guards
}

/// The same without the list of codecs: for looking at headers, where no frame is decoded.
pub(crate) fn file_guards(container: Container, limits: &MediaLimits) -> Vec<String> {
    let side = u64::from(limits.max_side);
    [
        ("-protocol_whitelist", "file,pipe".to_owned()),
        ("-format_whitelist", container.demuxer().to_owned()),
        ("-max_streams", HARD_MAX_STREAMS.to_string()),
        ("-probesize", PROBE_BYTES.to_string()),
        ("-analyzeduration", ANALYSE_MICROSECONDS.to_string()),
        ("-max_pixels", (side * side).to_string()),
        ("-f", container.demuxer().to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

/// A path that no tool can take for an option or another protocol; absolute, for tools stand in another directory.
pub(crate) fn local_file(path: &Path) -> OsString {
    let mut named = OsString::from("file:");
    named.push(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    named
}

/// An ffmpeg that asks nothing, says only what is wrong, and starts no more threads than it is told.
pub(crate) fn quiet_ffmpeg(tools: &Tools) -> FfmpegCommand {
    // Not `new_with_path`: that asks for a log which the library's own parser wants.
    let mut command = FfmpegCommand::from(Command::new(&tools.ffmpeg));
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
    command.args(["-max_alloc", &MAX_ALLOCATION_BYTES.to_string()]);
    command
}

/// An ffprobe that says only what is wrong.
pub(crate) fn quiet_ffprobe(tools: &Tools) -> Command {
    let mut command = Command::new(&tools.ffprobe);
    command.args(["-hide_banner", "-loglevel", "error", "-max_alloc", &MAX_ALLOCATION_BYTES.to_string()]);
    command
}

//! Arguments that every tool gets with a source: the guards against hostile media (guarantees §6).

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use ffmpeg_sidecar::command::FfmpegCommand;
use rotoless_contract::worker::MediaLimits;

use crate::container::Container;
use crate::tools::Tools;

/// How much of a file is read to find out what its streams are.
const PROBE_BYTES: u64 = 32 << 20;

/// Time of a file that is looked at to find out what its streams are, microseconds.
const ANALYSE_MICROSECONDS: u64 = 10_000_000;

/// Options before `-i`: only local files, only our containers, no frame larger than the limits.
pub(crate) fn input_guards(container: Container, limits: &MediaLimits) -> Vec<String> {
    let side = u64::from(limits.max_side);
    [
        ("-protocol_whitelist", "file,pipe".to_owned()),
        ("-format_whitelist", container.demuxer().to_owned()),
        ("-probesize", PROBE_BYTES.to_string()),
        ("-analyzeduration", ANALYSE_MICROSECONDS.to_string()),
        ("-max_pixels", (side * side).to_string()),
        ("-f", container.demuxer().to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

/// A path that no tool can take for an option or another protocol.
pub(crate) fn local_file(path: &Path) -> OsString {
    let mut named = OsString::from("file:");
    named.push(path);
    named
}

/// An ffmpeg that asks nothing and says only what is wrong.
pub(crate) fn quiet_ffmpeg(tools: &Tools) -> FfmpegCommand {
    // Not `new_with_path`: that asks for a log which the library's own parser wants.
    let mut command = FfmpegCommand::from(Command::new(&tools.ffmpeg));
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
    command
}

//! The source's sound on its way into the output.
//!
//! Owns: ffmpeg's arguments that read it and put it on the timeline, finding out whether it can be decoded. Does not
//! own: the codec it gets (`encode`). It passes from ffmpeg to ffmpeg, never through us.
//! Invariants: sound begins with the picture: what starts later has silence before it, holes are silent, so that every
//! player keeps both together; it is read no further than the longest clip that is accepted; it is decoded as strictly
//! as the picture.

use std::path::Path;
use std::time::Duration;

use ffmpeg_sidecar::command::FfmpegCommand;
use rotoless_contract::worker::MediaLimits;

use crate::child::{Child, Confinement};
use crate::error::EngineError;
use crate::media_arguments::{input_guards, local_file, quiet_ffmpeg};
use crate::probe::Source;
use crate::tools::Tools;

/// As the encoder, which reads the same.
const MEMORY_BYTES: u64 = 8 << 30;

/// Half an hour of sound takes some seconds.
const MAX_SECONDS: u64 = 120;

/// Where the sound comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sound<'a> {
    pub input: &'a Path,
    pub source: &'a Source,
    pub index: usize,
    pub limits: &'a MediaLimits,
}

impl Sound<'_> {
    /// Adds it as an input. Errors in it end the tool, if the tool was told `-xerror`.
    pub(crate) fn read_by(&self, command: &mut FfmpegCommand) {
        command.args(["-vn", "-sn", "-dn", "-err_detect", "explode", "-t", &self.longest()]);
        command.args(input_guards(self.source.container, self.limits)).input(local_file(self.input));
    }

    /// Filters that put it on the timeline.
    pub(crate) const fn filters() -> &'static str {
        "aresample=async=1:first_pts=0"
    }

    /// Seconds of the longest clip, for `-t`.
    pub(crate) fn longest(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "a length in ms, not a count")]
        let seconds = self.limits.max_duration_ms as f64 / 1000.0;
        format!("{seconds:.3}")
    }

    /// Whether it can be decoded to its end: asked when a tool that read it has failed and did not say of what.
    pub(crate) fn check(&self, tools: &Tools) -> Result<(), EngineError> {
        let mut command = quiet_ffmpeg(tools);
        command.args(["-xerror", "-threads", "1"]);
        self.read_by(&mut command);
        command.map(format!("0:{}", self.index)).args(["-f", "null"]).output("pipe:1");
        let confinement = Confinement { memory_bytes: MEMORY_BYTES, cpu_seconds: MAX_SECONDS, file_bytes: 0 };
        let mut child = Child::spawn("the check of the sound", command, confinement)?;
        let _deadline = child.killer().kill_after(Duration::from_secs(MAX_SECONDS))?;
        let ended = child.wait()?;
        if ended.status.success() { Ok(()) } else { Err(ended.into_media_error()) }
    }
}

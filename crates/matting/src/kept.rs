//! The matte on its own: kept beside the output, so that other outputs are made of it without the model.
//!
//! Owns: the file (Matroska, FFV1, 8-bit gray at the frame's size, each frame by itself with its own checksums:
//! lossless), writing it while a job runs, reading it in the place of a model. Does not own: where it is stored.
//! Measured: 3.6 to 10 KB and 2 ms of CPU a frame at 640x360, 33 KB and 17 ms at 1920x1080.
//! Invariant: what is read is what was written, bit for bit, or an error.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ChildStdout;

use rotoless_contract::OutputFormat;

use crate::child::{Child, Confinement};
use crate::decode::{Filled, fill};
use crate::error::EngineError;
use crate::frame::{Sight, Size};
use crate::media_arguments::{local_file, quiet_ffmpeg};
use crate::model::{Matter, Stopper};
use crate::registry::InputSpec;
use crate::timeline::Rate;
use crate::tools::Tools;

/// Frames of gray and a codec that works slice by slice.
const MEMORY_BYTES: u64 = 4 << 30;

/// Frames that a resampled matte may have more or fewer than what is made of it.
const FRAME_TOLERANCE: u64 = 1;

/// What a job does with its matte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MatteUse<'a> {
    /// It is forgotten.
    #[default]
    Forget,
    /// It is written to this file as well, which is there when the job ended well.
    Keep(&'a Path),
    /// It comes from a file kept by an earlier job of the same source; no model is run.
    Reuse {
        /// The file.
        file: &'a Path,
        /// The output format of that job: some have a rate of their own.
        made_for: OutputFormat,
    },
}

/// A file of mattes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatteOrder<'a> {
    pub file: &'a Path,
    pub size: Size,
    /// Of the job's timeline.
    pub rate: Rate,
    /// On the job's timeline.
    pub frames: u64,
    /// Whether the file's frames are at another rate.
    pub resampled: bool,
    pub threads: usize,
    pub cpu_seconds: u64,
}

/// Writes mattes.
#[derive(Debug)]
pub(crate) struct MatteWriter {
    pub(crate) child: Child,
}

impl MatteWriter {
    pub(crate) fn start(tools: &Tools, order: &MatteOrder<'_>) -> Result<Self, EngineError> {
        let mut command = quiet_ffmpeg(tools);
        command.args(["-thread_queue_size", "2", "-f", "rawvideo", "-pix_fmt", "gray"]);
        command.args(["-s", &format!("{}x{}", order.size.width, order.size.height), "-r", &order.rate.to_string()]);
        command.input("pipe:0").args(["-c:v", "ffv1", "-level", "3", "-g", "1", "-slicecrc", "1"]);
        command.args(["-threads", &order.threads.to_string(), "-f", "matroska", "-y"]).output(local_file(order.file));
        let raw = (order.size.pixels() as u64).saturating_mul(order.frames.saturating_add(FRAME_TOLERANCE));
        let confinement = Confinement {
            memory_bytes: MEMORY_BYTES,
            cpu_seconds: order.cpu_seconds,
            file_bytes: raw.saturating_mul(2).saturating_add(1 << 20),
        };
        Ok(Self { child: Child::spawn("the matte's encoder", command, confinement)? })
    }

    /// Adds the alpha plane of a frame.
    pub(crate) fn write(&mut self, alpha: &[u8]) -> Result<(), EngineError> {
        let Some(stdin) = self.child.stdin.as_mut() else { return Err(self.child.wait()?.into_tool_error()) };
        match stdin.write_all(alpha) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(self.child.wait()?.into_tool_error()),
            Err(error) => Err(EngineError::io("cannot write the matte")(error)),
        }
    }

    /// Waits until the file is whole.
    pub(crate) fn finish(mut self) -> Result<(), EngineError> {
        let ended = self.child.wait()?;
        if ended.status.success() { Ok(()) } else { Err(ended.into_tool_error()) }
    }
}

/// Mattes from a file in the place of a model.
#[derive(Debug)]
pub(crate) struct KeptMatte {
    pub(crate) child: Child,
    stdout: ChildStdout,
    size: Size,
    plane: Vec<u8>,
    expected: u64,
    read: u64,
    tolerance: u64,
    /// Frames of the source for which there was none.
    missing: u64,
}

impl KeptMatte {
    /// The frames come at the order's rate, as the source's do.
    pub(crate) fn open(tools: &Tools, order: &MatteOrder<'_>) -> Result<Self, EngineError> {
        let mut command = quiet_ffmpeg(tools);
        command.args(["-xerror", "-err_detect", "crccheck+explode", "-threads", &order.threads.to_string()]);
        command.args(["-protocol_whitelist", "file,pipe", "-format_whitelist", "matroska", "-f", "matroska"]);
        command.args(["-c:v", "ffv1"]).input(local_file(order.file)).map("0:v:0").args(["-an", "-sn", "-dn"]);
        if order.resampled {
            command.filter(format!("fps=fps={}:start_time=0:round=near", order.rate));
        } else {
            // By count, not by time: a frame that is lost must be missed, not made up from the one before.
            command.filter(format!("setpts=N/({})/TB", order.rate)).args(["-r", &order.rate.to_string()]);
        }
        command.args(["-frames:v", &(order.frames + FRAME_TOLERANCE + 1).to_string()]);
        command.args(["-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]);
        let confinement = Confinement { memory_bytes: MEMORY_BYTES, cpu_seconds: order.cpu_seconds, file_bytes: 0 };
        let mut child = Child::spawn("the matte's decoder", command, confinement)?;
        child.stdin = None;
        let Some(stdout) = child.stdout.take() else { return Err(child.wait()?.into_tool_error()) };
        let plane = vec![0; order.size.pixels()];
        // Frame for frame what an earlier job wrote of the same source, unless the rates differ.
        let tolerance = if order.resampled { FRAME_TOLERANCE } else { 0 };
        Ok(Self { child, stdout, size: order.size, plane, expected: order.frames, read: 0, tolerance, missing: 0 })
    }

    fn next(&mut self) -> Result<(), EngineError> {
        match self.fill()? {
            Filled::Whole => {
                self.read += 1;
                Ok(())
            }
            // The last one stands for one more, as the source's last frame may.
            Filled::Nothing if self.read > 0 && self.missing < self.tolerance => {
                self.missing += 1;
                Ok(())
            }
            Filled::Nothing | Filled::Part => {
                self.check_end()?;
                Err(EngineError::MatteMismatch { found: self.read, expected: self.expected })
            }
        }
    }

    fn fill(&mut self) -> Result<Filled, EngineError> {
        fill(&mut self.stdout, &mut self.plane).map_err(EngineError::io("cannot read from the matte's decoder"))
    }

    /// A slice with a wrong checksum is replaced by another frame's and said on stderr, whatever ffmpeg is told.
    fn check_end(&mut self) -> Result<(), EngineError> {
        let ended = self.child.wait()?;
        if ended.status.success() && ended.stderr.is_empty() { Ok(()) } else { Err(ended.into_tool_error()) }
    }
}

impl Matter for KeptMatte {
    fn input(&self) -> Option<&InputSpec> {
        None
    }

    fn picture_size(&self, _source: Size) -> Size {
        Size { width: 0, height: 0 }
    }

    fn matte_size(&self, _source: Size) -> Size {
        self.size
    }

    fn begin(&mut self, _prompt: Option<&str>) -> Result<(), EngineError> {
        Ok(())
    }

    fn forget(&mut self) {}

    fn matte(&mut self, _sight: Sight<'_>, _picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        self.next()?;
        matte.clear();
        // Exact: it is multiplied by 255 and rounded again.
        matte.extend(self.plane.iter().map(|&alpha| f32::from(alpha) / 255.0));
        Ok(())
    }

    fn end(&mut self) -> Result<(), EngineError> {
        let mut left = 0;
        while matches!(self.fill()?, Filled::Whole) {
            left += 1;
        }
        self.check_end()?;
        if left > self.tolerance {
            return Err(EngineError::MatteMismatch { found: self.read + left, expected: self.read });
        }
        Ok(())
    }

    fn stopper(&self) -> Stopper {
        Stopper::of_child(self.child.killer())
    }
}

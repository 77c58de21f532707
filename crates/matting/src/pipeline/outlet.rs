//! Where finished frames go: into one output, or into segments one after another.
//!
//! Owns: the encoders of output and matte, ending them at a border and starting the next ones. Does not own: what is in
//! the frames, where segments are kept (`segments`). Invariant: a segment is told as finished only when its encoders
//! ended well.

use std::path::{Path, PathBuf};
use std::process::ChildStdout;

use super::Made;
use super::queue::Queue;
use super::stretch::{Border, Handover, Stretch};
use super::supervise::StageEnd;
use crate::child::Leash;
use crate::encode::{EncodeOrder, Encoder, Extent};
use crate::error::EngineError;
use crate::frame::Frame;
use crate::kept::{MatteOrder, MatteWriter};
use crate::pack::Packer;
use crate::quality::Score;
use crate::tools::Tools;

/// A segment whose files are whole.
#[derive(Debug)]
pub(crate) struct FinishedPart {
    /// Number of its first frame.
    pub first: u64,
    pub made: Made,
    /// Its pictures, in the output's codec.
    pub pictures: PathBuf,
    /// Its mattes, when they are kept.
    pub mattes: Option<PathBuf>,
    /// What is carried into the next one; none from the last.
    pub handover: Option<Handover>,
}

/// What a segment's files are called while the job lasts.
#[derive(Debug)]
pub(crate) struct PartFiles {
    pub pictures: PathBuf,
    pub mattes: PathBuf,
}

impl PartFiles {
    /// Of the segment that begins with this frame.
    pub(crate) fn of(dir: &Path, first: u64) -> Self {
        Self { pictures: dir.join(format!("{first}.pictures")), mattes: dir.join(format!("{first}.mattes")) }
    }
}

/// How segments are made.
#[derive(Clone, Copy)]
pub(crate) struct PartsOrder<'a> {
    /// Where their files go while the job lasts.
    pub dir: &'a Path,
    /// Told of each finished one, in order, on a thread of its own.
    pub sink: &'a (dyn Fn(FinishedPart) -> Result<(), EngineError> + Sync),
}

/// The segment that is being written.
pub(crate) struct Parts<'a> {
    dir: &'a Path,
    finished: &'a Queue<FinishedPart>,
    first: u64,
    made: Made,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(order: PartsOrder<'a>, stretch: &Stretch<'_>, finished: &'a Queue<FinishedPart>) -> Self {
        Self { dir: order.dir, finished, first: stretch.first, made: Made::default() }
    }

    fn files(&self) -> PartFiles {
        PartFiles::of(self.dir, self.first)
    }
}

/// Where finished frames go.
pub(crate) struct Outlet<'a> {
    tools: &'a Tools,
    encode: EncodeOrder<'a>,
    kept: Option<MatteOrder<'a>>,
    leash: Leash,
    parts: Option<Parts<'a>>,
    /// None behind the end of a stretch.
    open: Option<Open>,
}

/// Running encoders.
struct Open {
    encoder: Encoder,
    keeper: Option<MatteWriter>,
}

impl<'a> Outlet<'a> {
    /// Starts the encoders of the output, or of the first segment. Their death hangs on the calling thread.
    pub(crate) fn open(
        tools: &'a Tools,
        encode: EncodeOrder<'a>,
        kept: Option<MatteOrder<'a>>,
        parts: Option<Parts<'a>>,
        leash: Leash,
    ) -> Result<Self, EngineError> {
        let mut outlet = Self { tools, encode, kept, leash, parts, open: None };
        outlet.start()?;
        Ok(outlet)
    }

    /// What must run on a thread of its own while frames are written, if anything.
    pub(crate) fn take_packer(&mut self) -> Option<Packer<ChildStdout>> {
        self.open.as_mut().and_then(|open| open.encoder.take_packer())
    }

    /// Adds the alpha plane of a frame to the matte that is kept.
    pub(crate) fn keep(&mut self, alpha: &[u8]) -> Result<(), EngineError> {
        match self.open.as_mut().and_then(|open| open.keeper.as_mut()) {
            Some(keeper) => keeper.write(alpha),
            None => Ok(()),
        }
    }

    /// Adds a frame; `mean` is that of its alpha.
    pub(crate) fn write(&mut self, frame: &Frame, mean: f32, score: Option<Score>) -> Result<(), EngineError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.encoder.write(if self.encode.codecs.with_alpha { frame.yuva() } else { frame.yuv() })?;
        if let Some(parts) = &mut self.parts {
            parts.made.means.push(mean);
            parts.made.scores.extend(score);
        }
        Ok(())
    }

    /// Ends a segment before the frame of this number, and begins the next one unless the stretch ends.
    pub(crate) fn cross(&mut self, number: u64, border: Border) -> Result<(), StageEnd> {
        self.end(Some(border.handover))?;
        if let Some(parts) = &mut self.parts {
            parts.first = number;
        }
        if !border.ends_stretch {
            self.start()?;
        }
        Ok(())
    }

    /// Says that there are no more frames.
    pub(crate) fn finish(mut self) -> Result<(), StageEnd> {
        self.end(None)
    }

    fn start(&mut self) -> Result<(), EngineError> {
        let open = match &self.parts {
            None => Open::start(self.tools, &self.encode, self.kept.as_ref())?,
            Some(parts) => {
                let PartFiles { pictures, mattes } = parts.files();
                let encode = EncodeOrder { sound: None, extent: Extent::Part, output: &pictures, ..self.encode };
                let kept = self.kept.map(|order| MatteOrder { file: &mattes, ..order });
                Open::start(self.tools, &encode, kept.as_ref())?
            }
        };
        let keeper = open.keeper.as_ref().map(|keeper| &keeper.child);
        self.leash.hold(std::iter::once(&open.encoder.child).chain(keeper))?;
        self.open = Some(open);
        Ok(())
    }

    fn end(&mut self, handover: Option<Handover>) -> Result<(), StageEnd> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.finish()?;
        if let Some(parts) = &mut self.parts {
            let PartFiles { pictures, mattes } = parts.files();
            let finished = FinishedPart {
                first: parts.first,
                made: std::mem::take(&mut parts.made),
                pictures,
                mattes: self.kept.is_some().then_some(mattes),
                handover,
            };
            parts.finished.push(finished)?;
        }
        Ok(())
    }
}

impl Open {
    fn start(tools: &Tools, encode: &EncodeOrder<'_>, kept: Option<&MatteOrder<'_>>) -> Result<Self, EngineError> {
        let encoder = Encoder::start(tools, encode)?;
        let keeper = kept.map(|order| MatteWriter::start(tools, order)).transpose()?;
        Ok(Self { encoder, keeper })
    }

    fn finish(self) -> Result<(), EngineError> {
        self.encoder.finish()?;
        self.keeper.map_or(Ok(()), MatteWriter::finish)
    }
}

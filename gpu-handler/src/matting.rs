//! The seam to the media engine: what an attempt needs of it, and no more.
//!
//! It exists because sessions are tested with a scripted engine; the real one is one of two implementations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rotoless_contract::media::InputInfo;
use rotoless_contract::spec::{JobSpec, OutputFormat};
use rotoless_contract::worker::{FailureReason, MediaLimits};
use rotoless_matting::segments::SegmentStore;
use rotoless_matting::{Finished, Watch};

use crate::ailment::Ailment;

/// A media engine. Calls block and belong on a thread of their own.
pub(crate) trait Matting: Send + Sync + 'static {
    /// Measures a local file before any model runs.
    fn probe(&self, input: &Path, limits: &MediaLimits) -> Result<Box<dyn Measured>, Fault>;
}

/// A measured source, ready to be worked on.
pub(crate) trait Measured: Send + Sync {
    /// What was measured.
    fn info(&self) -> &InputInfo;
    /// Length in ms, from timestamps.
    fn duration_ms(&self) -> u64;
    /// Makes the output of `order` and verifies it.
    fn remove_background(&self, order: &Order, watch: &dyn Watch) -> Result<Finished, Fault>;
}

/// What is to be made of a measured source.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// The background's picture or video, when the order has one.
    pub(crate) background: Option<PathBuf>,
    /// What is done with the matte.
    pub(crate) matte: MatteFile,
    /// Where the output file goes.
    pub(crate) output: PathBuf,
    /// Room for temporary files, on the same file system.
    pub(crate) work_dir: PathBuf,
    /// What was ordered.
    pub(crate) spec: Arc<JobSpec>,
    /// What may be worked on.
    pub(crate) limits: MediaLimits,
    /// Seconds of output that the hold pays for.
    pub(crate) paid_seconds: u64,
    /// Where finished segments are kept, when they may be.
    pub(crate) segments: Option<SegmentFiles>,
}

/// How a job is cut into segments and where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct SegmentFiles {
    /// Of a segment, of video.
    pub(crate) seconds: u64,
    pub(crate) store: Arc<dyn SegmentStore + Send>,
}

/// What is done with the matte.
#[derive(Debug, Clone)]
pub(crate) enum MatteFile {
    /// It is forgotten: nobody asked to keep it.
    Forget,
    /// It is written here as well.
    Keep(PathBuf),
    /// It is taken from here, instead of a model.
    Reuse { file: PathBuf, made_for: OutputFormat },
}

/// Why the engine did not finish.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Fault {
    /// What it means for the job.
    pub(crate) reason: FailureReason,
    /// Whether it only obeyed the stop flag.
    pub(crate) cancelled: bool,
    /// What it says of this worker, whatever the job is.
    pub(crate) ailment: Option<Ailment>,
    /// For the operator.
    pub(crate) detail: String,
}

//! The manifest: the commit mark of a run's output.
//!
//! Written once by a conditional PUT (`If-None-Match: *`) after the uploads and before the report.
//! A run has an output exactly when its manifest exists; a later attempt that finds a valid one adopts it.

use serde::{Deserialize, Serialize};

use crate::ids::{Attempt, JobId, Run};
use crate::media::{InputInfo, OutputInfo, Quality};
use crate::spec::OutputFormat;

/// Greatest size of a manifest that anybody reads, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// What a run produced and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Schema version: 1.
    pub v: u32,
    /// The job.
    pub job_id: JobId,
    /// The run the output belongs to.
    pub run: Run,
    /// The attempt that made it.
    pub attempt: Attempt,
    /// Object key of the output, under the prefix the claim gave.
    pub output_key: String,
    /// The matte, kept for exports; none in an export's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matte: Option<MatteInfo>,
    /// The source as measured.
    pub input: InputInfo,
    /// The output as verified.
    pub output: OutputInfo,
    /// The engine's own doubts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// What the client should know: conversions, mismatches.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A kept matte: what exports are made of without a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatteInfo {
    /// Object key.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// Of its bytes, hex.
    pub sha256: String,
    /// Of the source that it was made of, hex: one that is fetched again may be another.
    pub source_sha256: String,
    /// The output format of the job that made it: some have a frame rate of their own.
    pub made_for: OutputFormat,
}

/// Prefix of everything a run writes: `outputs/{job}/{run}/`.
#[must_use]
pub fn run_prefix(job: &JobId, run: Run) -> String {
    format!("outputs/{job}/{run}/")
}

/// Object key of a run's manifest.
#[must_use]
pub fn manifest_key(job: &JobId, run: Run) -> String {
    format!("{}manifest.json", run_prefix(job, run))
}

/// Object key of an attempt's output file.
#[must_use]
pub fn output_key(job: &JobId, run: Run, attempt: Attempt, extension: &str) -> String {
    format!("{}{attempt}/output.{extension}", run_prefix(job, run))
}

/// Object key of the matte that an attempt keeps.
#[must_use]
pub fn matte_key(job: &JobId, run: Run, attempt: Attempt) -> String {
    format!("{}{attempt}/matte.mkv", run_prefix(job, run))
}

/// Prefix of the segments of all runs of a job. Not below its outputs: the bucket forgets them sooner.
#[must_use]
pub fn job_segments_prefix(job: &JobId) -> String {
    format!("segments/{job}/")
}

/// Prefix of a run's segments; those of one plan are below `{plan}/`.
#[must_use]
pub fn segments_prefix(job: &JobId, run: Run) -> String {
    format!("{}{run}/", job_segments_prefix(job))
}

/// Object key of a finished segment.
#[must_use]
pub fn segment_key(job: &JobId, run: Run, plan: &str, index: u32) -> String {
    format!("{}{plan}/{index}", segments_prefix(job, run))
}

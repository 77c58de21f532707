//! One attempt: from the claim's answer to the committed manifest.
//!
//! Owns: the order download → probe → hold → matte → upload → manifest, and what a failure of each step means.
//! Does not own: report and message (`session`), lease and clocks (`pulse`).
//! Invariants: nothing is uploaded that the engine did not verify; the manifest is the last thing written; the
//! manifest's PUT is not cut by a stop, because a run must not be committed without anybody knowing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rotoless_contract::Background;
use rotoless_contract::manifest::{MAX_MANIFEST_BYTES, Manifest, MatteInfo};
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::worker::{
    ClaimReply, Download, FailureReason, MAX_IMAGE_BYTES, MediaLimits, ProbedReply, ProbedRequest, Refusal, Stage,
    Upload, attempt_path,
};
use rotoless_matting::Finished;
use tokio::sync::oneshot;

use crate::ailment::Ailment;
use crate::control::{CallError, Control};
use crate::detail::shown;
use crate::fitness::is_disk_full;
use crate::links::{Link, Links, Set};
use crate::live::{Live, StopCause};
use crate::matting::{Fault, MatteFile, Matting, Measured, Order, SegmentFiles};
use crate::segments::RemoteSegments;
use crate::timing::Timing;
use crate::transfer::{Commit, Transfer, TransferError, Verified};

/// Name of the source in the attempt's directory.
const SOURCE: &str = "source";

/// Version of the manifest that is written.
const MANIFEST_VERSION: u32 = 1;

/// Greatest object that S3 takes in one PUT. Another attempt would make the same one.
pub(crate) const MAX_PUT_BYTES: u64 = 5 << 30;

/// Warnings that go into a manifest; more of them tell nobody more.
const MAX_WARNINGS: usize = 32;

/// Characters of one warning.
const MAX_WARNING_CHARS: usize = 300;

/// One attempt and all that it needs.
pub(crate) struct Attempt<'a> {
    pub(crate) claim: &'a ClaimReply,
    pub(crate) live: &'a Arc<Live>,
    pub(crate) links: &'a Arc<Links>,
    pub(crate) control: &'a Control,
    pub(crate) transfer: &'a Transfer,
    pub(crate) engine: &'a Arc<dyn Matting>,
    pub(crate) timing: &'a Timing,
    /// A directory of its own.
    pub(crate) dir: &'a Path,
}

/// The run's output is committed.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) manifest_sha256: String,
    /// False when a PUT had no answer and a later one found a manifest: ours, most likely.
    pub(crate) certain: bool,
    pub(crate) frames: u64,
    pub(crate) size_bytes: u64,
}

/// Why an attempt ended without a committed output.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was asked to stop, and did.
    Stopped(StopCause),
    /// It was asked to stop, and the engine did not: its thread is lost, and with it this process.
    Hung(StopCause),
    /// It failed; the control plane decides what follows.
    Failed { reason: FailureReason, detail: String },
    /// The job has ended.
    JobOver,
    /// Somebody else has the job, or committed this run.
    Stale,
    /// It failed by what is wrong with this worker.
    Ailing { ailment: Ailment, detail: String },
    /// The control plane did not answer, or not in a way that could be acted on.
    Unheard,
}

impl From<StopCause> for Ended {
    fn from(cause: StopCause) -> Self {
        Self::Stopped(cause)
    }
}

impl Ended {
    /// The same, seen beside the directory that the attempt worked in: programs that are not ours say in words only that
    /// they had no room, and nobody reads them.
    pub(crate) fn on_disk(self, dir: &Path) -> Self {
        match self {
            Self::Failed { reason: FailureReason::InternalError, detail } if is_disk_full(dir) => {
                Self::Ailing { ailment: Ailment::DiskFull, detail }
            }
            Self::Failed { .. }
            | Self::Ailing { .. }
            | Self::Stopped(_)
            | Self::Hung(_)
            | Self::JobOver
            | Self::Stale
            | Self::Unheard => self,
        }
    }

    pub(crate) fn failed(reason: FailureReason, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Failed { reason, detail: shown(error) }
    }
}

impl Attempt<'_> {
    /// Does all of it.
    pub(crate) async fn work(&self) -> Result<Committed, Ended> {
        let input = Link::new(self.links, self.live, |links| links.input.clone());
        let source = self.download(input, SOURCE, self.claim.limits.max_bytes).await?;
        let background = match &self.claim.background {
            Some(first) => {
                let media = |links: &Set| links.background.clone().unwrap_or_else(|| first.clone());
                let media = Link::new(self.links, self.live, media);
                Some(self.download(media, "background", self.max_background_bytes()).await?)
            }
            None => None,
        };
        let matte = self.matte_file().await?;
        let measured = self.probe(source).await?;
        let hold = self.adjust_hold(measured.as_ref()).await?;
        let output = self.dir.join("output");
        let finished = self.matte(measured, background, matte.clone(), &output, hold.paid_seconds).await?;
        self.live.enter(Stage::Upload);
        let kept = match matte {
            MatteFile::Keep(file) => self.keep(&file).await?,
            MatteFile::Forget | MatteFile::Reuse { .. } => None,
        };
        self.upload(&output, &finished).await?;
        self.commit(finished, kept).await
    }

    /// The source, once it was fetched.
    pub(crate) fn source(&self) -> PathBuf {
        self.dir.join(SOURCE)
    }

    /// The limits of the claim are those of its source.
    fn max_background_bytes(&self) -> u64 {
        match self.claim.spec.background {
            Background::Image { .. } => MAX_IMAGE_BYTES,
            Background::Video { .. } => MediaLimits::default().max_bytes.max(self.claim.limits.max_bytes),
            Background::Transparent | Background::Color { .. } | Background::Blur => 0,
        }
    }

    /// Fetches an object into the attempt's directory.
    pub(crate) async fn download(
        &self,
        link: Link<'_, Download>,
        name: &str,
        max_bytes: u64,
    ) -> Result<PathBuf, Ended> {
        let (Download { size_bytes, external, .. }, _) = link.now();
        // Of an external object the size is only a cap.
        if size_bytes > max_bytes && !external {
            let detail = format!("the {name} has {size_bytes} bytes, more than {max_bytes}");
            return Err(Ended::Failed { reason: FailureReason::LimitExceeded, detail });
        }
        let file = self.dir.join(name);
        let outcome = self.live.unless_stopped(self.transfer.download(&link, max_bytes, &file)).await?;
        outcome.map_err(|error| {
            if let Some(cause) = self.broke_off(&error) {
                return cause.into();
            }
            let reason = match &error {
                TransferError::NotFound => FailureReason::SourceMissing,
                TransferError::Unreachable(_) => FailureReason::SourceUnreachable,
                // Of an upload the size was known: another one is a fault of ours.
                TransferError::Larger { .. } if external => FailureReason::LimitExceeded,
                TransferError::Larger { .. }
                | TransferError::Short { .. }
                | TransferError::Refused
                | TransferError::Status(_)
                | TransferError::TooSlow(_)
                | TransferError::Transport(_)
                | TransferError::Address(_)
                | TransferError::Header
                | TransferError::Altered
                | TransferError::Disk(_) => FailureReason::InternalError,
            };
            Ended::failed(reason, &error)
        })?;
        Ok(file)
    }

    async fn probe(&self, source: PathBuf) -> Result<Box<dyn Measured>, Ended> {
        self.live.enter(Stage::Probe);
        let (engine, limits) = (Arc::clone(self.engine), self.claim.limits);
        self.on_engine(move |_| engine.probe(&source, &limits)).await
    }

    async fn adjust_hold(&self, measured: &dyn Measured) -> Result<ProbedReply, Ended> {
        let request = ProbedRequest { input: measured.info().clone(), duration_ms: measured.duration_ms() };
        let path = attempt_path(&self.claim.job_id, self.claim.attempt, "probed");
        let call = self.control.call_until(&self.claim.report_secret, &path, &request, || self.live.lease_end());
        self.live.unless_stopped(call).await?.map_err(|error| match error {
            CallError::InsufficientCredits => Ended::JobOver,
            CallError::Refused { refusal, .. } => refused(refusal),
            error @ (CallError::Rejected { .. } | CallError::Unavailable { .. }) => {
                tracing::error!(error = shown(&error), "measurement was not accepted");
                Ended::Unheard
            }
        })
    }

    async fn matte(
        &self,
        measured: Box<dyn Measured>,
        background: Option<PathBuf>,
        matte: MatteFile,
        output: &Path,
        paid_seconds: u64,
    ) -> Result<Finished, Ended> {
        self.live.enter(Stage::Matte);
        let work_dir = self.dir.join("engine");
        std::fs::create_dir(&work_dir).map_err(|error| Ended::failed(FailureReason::InternalError, &error))?;
        let order = Order {
            background,
            matte,
            output: output.to_owned(),
            work_dir,
            spec: Arc::new(self.claim.spec.clone()),
            limits: self.claim.limits,
            paid_seconds,
            segments: self
                .claim
                .segments
                .map(|terms| SegmentFiles { seconds: terms.seconds.into(), store: Arc::new(RemoteSegments::of(self)) }),
        };
        self.on_engine(move |live| measured.remove_background(&order, live)).await
    }

    async fn upload(&self, output: &Path, finished: &Finished) -> Result<(), Ended> {
        let link = Link::new(self.links, self.live, |links| links.output.clone());
        self.send(link, output, "output", finished.output.size_bytes, &finished.output.sha256).await
    }

    /// Stores a file of the attempt.
    pub(crate) async fn send(
        &self,
        link: Link<'_, Upload>,
        file: &Path,
        name: &str,
        size_bytes: u64,
        sha256: &str,
    ) -> Result<(), Ended> {
        if size_bytes > MAX_PUT_BYTES {
            let detail = format!("the {name} has {size_bytes} bytes, more than one PUT carries");
            return Err(Ended::Failed { reason: FailureReason::LimitExceeded, detail });
        }
        let verified = Verified { size_bytes, sha256 };
        let outcome = self.live.unless_stopped(self.transfer.upload(&link, file, &verified)).await?;
        outcome.map_err(|error| {
            if let Some(cause) = self.broke_off(&error) {
                return cause.into();
            }
            let altered = matches!(error, TransferError::Altered);
            let reason = if altered { FailureReason::VerificationFailed } else { FailureReason::InternalError };
            Ended::failed(reason, &error)
        })
    }

    async fn commit(&self, finished: Finished, matte: Option<MatteInfo>) -> Result<Committed, Ended> {
        if let Some(cause) = self.live.cause() {
            return Err(cause.into());
        }
        let (frames, size_bytes) = (finished.output.frames, finished.output.size_bytes);
        let bytes = self.manifest(finished, matte)?;
        let link = Link::new(self.links, self.live, |links| links.manifest.clone());
        let certain = match self.transfer.commit(&link, &bytes).await {
            Ok(Commit::Written) => true,
            // The control plane compares digests: when the stored one is not ours the report is refused.
            Ok(Commit::Unsure) => false,
            Ok(Commit::Taken) => return Err(Ended::Stale),
            Err(error) => {
                return Err(match self.broke_off(&error) {
                    Some(cause) => cause.into(),
                    None => Ended::failed(FailureReason::InternalError, &error),
                });
            }
        };
        Ok(Committed { manifest_sha256: sha256_hex(&bytes), certain, frames, size_bytes })
    }

    /// Why a transfer ended that waited for a fresher link: with the attempt, and not by a fault of its own.
    fn broke_off(&self, error: &TransferError) -> Option<StopCause> {
        if matches!(error, TransferError::Refused) { self.live.cause() } else { None }
    }

    fn manifest(&self, finished: Finished, matte: Option<MatteInfo>) -> Result<Vec<u8>, Ended> {
        let Finished { input, output, quality, warnings } = finished;
        let manifest = Manifest {
            v: MANIFEST_VERSION,
            job_id: self.claim.job_id.clone(),
            run: self.claim.run,
            attempt: self.claim.attempt,
            output_key: self.claim.output.key.clone(),
            matte,
            input,
            output,
            quality,
            warnings: warnings
                .iter()
                .take(MAX_WARNINGS)
                .map(|warning| warning.chars().take(MAX_WARNING_CHARS).collect())
                .collect(),
        };
        let bytes =
            serde_json::to_vec(&manifest).map_err(|error| Ended::failed(FailureReason::InternalError, &error))?;
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            let detail = format!("the manifest has {} bytes", bytes.len());
            return Err(Ended::Failed { reason: FailureReason::InternalError, detail });
        }
        Ok(bytes)
    }

    /// Runs a blocking call of the engine on a thread of its own. Not on the runtime's pool, whose shutdown would
    /// wait for a thread that hangs in native code.
    async fn on_engine<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Live) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Ended> {
        if let Some(cause) = self.live.cause() {
            return Err(cause.into());
        }
        let (send, receive) = oneshot::channel();
        let live = Arc::clone(self.live);
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                // Engine and attempt share nothing that a panic could leave half written: `Live` is always whole.
                let outcome = catch_unwind(AssertUnwindSafe(|| call(&live)));
                // Nobody listens any more when the engine was taken for dead.
                let _ = send.send(outcome);
            })
            .map_err(|error| Ended::failed(FailureReason::InternalError, &error))?;
        match self.within_grace(receive).await? {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(fault))) => Err(self.faulted(&fault)),
            Ok(Err(_)) | Err(_) => {
                Err(Ended::Failed { reason: FailureReason::InternalError, detail: "the engine panicked".to_owned() })
            }
        }
    }

    async fn within_grace<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        let hung = async {
            let cause = self.live.stopped().await;
            tokio::time::sleep(self.timing.engine_grace).await;
            cause
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            cause = hung => Err(Ended::Hung(cause)),
        }
    }

    fn faulted(&self, fault: &Fault) -> Ended {
        match self.live.cause() {
            Some(cause) if fault.cancelled => Ended::Stopped(cause),
            Some(_) | None => match fault.ailment {
                Some(ailment) => Ended::Ailing { ailment, detail: shown(fault) },
                None => Ended::failed(fault.reason, fault),
            },
        }
    }
}

/// What the refusal of an attempt's call means for the attempt.
pub(crate) const fn refused(refusal: Refusal) -> Ended {
    match refusal {
        Refusal::Terminal | Refusal::Superseded => Ended::JobOver,
        Refusal::StaleAttempt | Refusal::Leased => Ended::Stale,
        Refusal::Contradiction | Refusal::BadManifest => Ended::Unheard,
    }
}

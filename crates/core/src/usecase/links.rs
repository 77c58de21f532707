//! The links of an attempt: made with its claim, made anew when a heartbeat asks.
//!
//! Does not own: who may have them; that is judged before. Invariant: an attempt's links lead to its own objects and
//! nowhere else, and none outlives [`super::change::LAST_WRITE`].

use std::time::Duration;

use jiff::SignedDuration;
use rotoless_contract::manifest::{manifest_key, matte_key, output_key};
use rotoless_contract::worker::{Download, FreshLinks, KeptMatte, Stage, Upload};
use rotoless_contract::{Attempt, Run};

use crate::policy::Policy;
use crate::ports::{Objects, PresignedPut, PutTerms, StoreError};
use crate::record::{Exported, JobRecord, Source};

/// Links to write outlive the attempt by this.
const AFTER_THE_ATTEMPT: SignedDuration = SignedDuration::from_mins(5);

/// Makes links.
pub(super) struct Links<'a> {
    pub objects: &'a dyn Objects,
    pub policy: &'a Policy,
}

/// Where an attempt reads from.
pub(super) struct Sources {
    pub input: Download,
    pub background: Option<Download>,
    pub kept_matte: Option<KeptMatte>,
}

/// Where an attempt writes to.
pub(super) struct Targets {
    pub keep_matte: Option<Upload>,
    pub output: Upload,
    pub manifest: Upload,
}

impl Links<'_> {
    /// How long an attempt at the job may take.
    pub(super) fn deadline(&self, job: &JobRecord) -> SignedDuration {
        let duration_ms = match job.source {
            Source::Upload { .. } => job.billed_seconds.saturating_mul(1000),
            // Nobody has measured it yet.
            Source::External { .. } => self.policy.limits.max_duration_ms,
        };
        self.policy.attempt_deadline(duration_ms)
    }

    /// What a claim's links last at least.
    pub(super) fn last(&self, job: &JobRecord) -> SignedDuration {
        self.put_life(job).min(self.policy.link_life)
    }

    /// Fresh ones for an attempt at this stage.
    pub(super) async fn fresh(
        &self,
        job: &JobRecord,
        run: Run,
        attempt: Attempt,
        stage: Stage,
    ) -> Result<FreshLinks, StoreError> {
        let Targets { keep_matte, output, manifest } = self.targets(job, run, attempt).await?;
        let (sources, last) = match stage {
            Stage::Download => (Some(self.sources(job).await?), self.last(job)),
            // What it reads it has.
            Stage::Probe | Stage::Matte | Stage::Verify | Stage::Upload => (None, self.put_life(job)),
        };
        let (input, background, kept_matte) = match sources {
            Some(Sources { input, background, kept_matte }) => {
                (Some(input), background, kept_matte.map(|matte| matte.download))
            }
            None => (None, None, None),
        };
        let last_seconds = seconds(last);
        Ok(FreshLinks { last_seconds, input, background, kept_matte, keep_matte, output, manifest })
    }

    pub(super) async fn sources(&self, job: &JobRecord) -> Result<Sources, StoreError> {
        let input = self.download(&job.source).await?;
        let background = match &job.background_source {
            Some(source) => Some(self.download(source).await?),
            None => None,
        };
        let kept_matte = match &job.exported {
            Some(Exported { matte, .. }) => {
                let life = unsigned(self.policy.link_life);
                let url = self.objects.presign_get(&matte.key, life, None).await?.0;
                let download = Download { url, size_bytes: matte.size_bytes, external: false };
                let (sha256, source_sha256) = (matte.sha256.clone(), matte.source_sha256.clone());
                Some(KeptMatte { download, sha256, source_sha256, made_for: matte.made_for })
            }
            None => None,
        };
        Ok(Sources { input, background, kept_matte })
    }

    pub(super) async fn targets(&self, job: &JobRecord, run: Run, attempt: Attempt) -> Result<Targets, StoreError> {
        let life = unsigned(self.put_life(job));
        let key = output_key(&job.id, run, attempt, job.spec.output_format.extension());
        let content_type = Some(job.spec.output_format.content_type().to_owned());
        let terms = PutTerms { content_type, ..PutTerms::default() };
        let output = upload(key.clone(), self.objects.presign_put(&key, life, &terms).await?);
        let keep_matte = match job.exported {
            Some(_) => None,
            None => {
                let key = matte_key(&job.id, run, attempt);
                let content_type = Some("video/x-matroska".to_owned());
                let terms = PutTerms { content_type, ..PutTerms::default() };
                Some(upload(key.clone(), self.objects.presign_put(&key, life, &terms).await?))
            }
        };
        let key = manifest_key(&job.id, run);
        let content_type = Some("application/json".to_owned());
        let terms = PutTerms { content_type, only_if_absent: true, ..PutTerms::default() };
        let manifest = upload(key.clone(), self.objects.presign_put(&key, life, &terms).await?);
        Ok(Targets { keep_matte, output, manifest })
    }

    fn put_life(&self, job: &JobRecord) -> SignedDuration {
        self.deadline(job) + AFTER_THE_ATTEMPT
    }

    /// A link that the worker uses at once.
    async fn download(&self, source: &Source) -> Result<Download, StoreError> {
        match source {
            Source::Upload { key, size_bytes, .. } => {
                let link = self.objects.presign_get(key, unsigned(self.policy.link_life), None).await?;
                Ok(Download { url: link.0, size_bytes: *size_bytes, external: false })
            }
            Source::External { url } => {
                Ok(Download { url: url.clone(), size_bytes: self.policy.limits.max_bytes, external: true })
            }
        }
    }
}

fn upload(key: String, put: PresignedPut) -> Upload {
    Upload { key, url: put.url.0, headers: put.headers }
}

pub(super) fn unsigned(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

/// Whole seconds; none where it is negative.
pub(super) fn seconds(duration: SignedDuration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(0)
}

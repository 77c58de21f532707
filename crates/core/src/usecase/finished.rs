//! A run's manifest: found, checked against what is stored, priced. What is not exactly right does not count.

use rotoless_contract::manifest::{MAX_MANIFEST_BYTES, Manifest, MatteInfo, manifest_key, matte_key, run_prefix};
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::{MilliCredits, Run};

use super::measured;
use crate::policy::{billed_seconds, cost};
use crate::ports::{Objects, StoreError};
use crate::record::{JobRecord, StoredOutput};

/// A manifest that holds.
pub(super) struct Finished {
    pub manifest: Manifest,
    /// SHA-256 of its bytes, hex.
    pub digest: String,
    /// Seconds of output, of what was decoded; never of what a report says.
    pub seconds: u64,
    /// Their price at the run's rate.
    pub charge: MilliCredits,
}

/// The manifest of the job's run, if there is one and it holds.
pub(super) async fn find(objects: &dyn Objects, job: &JobRecord, run: Run) -> Result<Option<Finished>, StoreError> {
    // One byte more than allowed tells a too large one from a full one.
    let Some(bytes) = objects.read(&manifest_key(&job.id, run), 0, MAX_MANIFEST_BYTES + 1).await? else {
        return Ok(None);
    };
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Ok(None);
    }
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(None) };
    if !belongs(&manifest, job, run) {
        tracing::warn!(job.id = %job.id, "manifest does not belong to its run");
        return Ok(None);
    }
    match objects.head(&manifest.output_key).await? {
        Some(info) if info.size_bytes == manifest.output.size_bytes => {}
        Some(_) | None => {
            tracing::warn!(job.id = %job.id, "manifest names an output that is not there");
            return Ok(None);
        }
    }
    if let Some(matte) = &manifest.matte
        && objects.head(&matte.key).await?.is_none_or(|info| info.size_bytes != matte.size_bytes)
    {
        tracing::warn!(job.id = %job.id, "manifest names a matte that is not there");
        return Ok(None);
    }
    let seconds = billed_seconds(manifest.output.duration_ms);
    let charge = cost(job.rate, seconds);
    Ok(Some(Finished { digest: sha256_hex(&bytes), manifest, seconds, charge }))
}

fn belongs(manifest: &Manifest, job: &JobRecord, run: Run) -> bool {
    let own_prefix = format!("{}{}/", run_prefix(&job.id, run), manifest.attempt);
    let name = manifest.output_key.strip_prefix(&own_prefix);
    manifest.v == 1
        && manifest.job_id == job.id
        && manifest.run == run
        && manifest.attempt.get() <= job.state.attempts
        && manifest.output.format == job.spec.output_format
        && measured::is_plausible(manifest)
        && manifest.matte.as_ref().is_none_or(|matte| is_own(matte, manifest, job, run))
        && name.is_some_and(|name| !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.'))
}

/// An export keeps none; what it was made of is kept already.
fn is_own(matte: &MatteInfo, manifest: &Manifest, job: &JobRecord, run: Run) -> bool {
    job.exported.is_none()
        && matte.key == matte_key(&job.id, run, manifest.attempt)
        && matte.made_for == job.spec.output_format
        && [&matte.sha256, &matte.source_sha256].into_iter().all(|digest| measured::is_digest(digest))
}

impl Finished {
    /// Puts what the manifest says on the job.
    pub(super) fn record_on(self, job: &mut JobRecord) {
        job.billed_seconds = self.seconds.min(job.billed_seconds);
        job.stage = None;
        job.input = Some(self.manifest.input);
        job.matte = self.manifest.matte;
        job.quality = self.manifest.quality;
        job.output = Some(StoredOutput { key: self.manifest.output_key, info: self.manifest.output });
        for warning in self.manifest.warnings.into_iter().take(20) {
            let warning: String = warning.chars().take(300).collect();
            if !job.warnings.contains(&warning) {
                job.warnings.push(warning);
            }
        }
    }
}

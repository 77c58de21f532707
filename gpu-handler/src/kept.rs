//! The matte beside the output: fetched for an export, or kept for later ones.

use std::io::Read;
use std::path::{Path, PathBuf};

use rotoless_contract::manifest::MatteInfo;
use rotoless_contract::worker::FailureReason;
use sha2::{Digest, Sha256};

use crate::attempt::{Attempt, Ended, MAX_PUT_BYTES};
use crate::links::{Link, Set};
use crate::matting::MatteFile;

impl Attempt<'_> {
    /// What is done with the matte. An export's is fetched, and it is the one that was kept.
    pub(crate) async fn matte_file(&self) -> Result<MatteFile, Ended> {
        if let Some(kept) = &self.claim.kept_matte {
            let first = kept.download.clone();
            let pick = move |links: &Set| links.kept_matte.clone().unwrap_or_else(|| first.clone());
            let link = Link::new(self.links, self.live, pick);
            let file = self.download(link, "matte.mkv", kept.download.size_bytes).await?;
            let (_, sha256) = self.live.unless_stopped(digest(file.clone())).await??;
            if sha256 != kept.sha256 {
                let detail = "the matte is not the one that was kept".to_owned();
                return Err(Ended::Failed { reason: FailureReason::InternalError, detail });
            }
            let (_, source_sha256) = self.live.unless_stopped(digest(self.source())).await??;
            if source_sha256 != kept.source_sha256 {
                let detail = "the source is not the one that the matte was made of".to_owned();
                return Err(Ended::Failed { reason: FailureReason::SourceMissing, detail });
            }
            return Ok(MatteFile::Reuse { file, made_for: kept.made_for });
        }
        Ok(match &self.claim.keep_matte {
            Some(_) => MatteFile::Keep(self.dir.join("matte.mkv")),
            None => MatteFile::Forget,
        })
    }

    /// Stores the matte that the engine wrote.
    pub(crate) async fn keep(&self, file: &Path) -> Result<Option<MatteInfo>, Ended> {
        let Some(first) = self.claim.keep_matte.clone() else { return Ok(None) };
        let (size_bytes, sha256) = self.live.unless_stopped(digest(file.to_owned())).await??;
        if size_bytes > MAX_PUT_BYTES {
            // Hours of a large picture: the output counts, and can only not be exported.
            tracing::warn!(job.id = %self.claim.job_id, matte.size_bytes = size_bytes, "matte is too large to be kept");
            return Ok(None);
        }
        let (_, source_sha256) = self.live.unless_stopped(digest(self.source())).await??;
        let key = first.key.clone();
        let link = Link::new(self.links, self.live, move |links: &Set| {
            links.keep_matte.clone().unwrap_or_else(|| first.clone())
        });
        self.send(link, file, "matte", size_bytes, &sha256).await?;
        let made_for = self.claim.spec.output_format;
        Ok(Some(MatteInfo { key, size_bytes, sha256, source_sha256, made_for }))
    }
}

/// Size and SHA-256 of a file.
pub(crate) async fn digest(file: PathBuf) -> Result<(u64, String), Ended> {
    let failed = |error: &(dyn std::error::Error + 'static)| Ended::failed(FailureReason::InternalError, error);
    let read = move || {
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let (mut file, mut buffer) = (std::fs::File::open(file)?, vec![0; 256 * 1024]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok::<_, std::io::Error>((size, hex::encode(hasher.finalize()))),
                count => {
                    hasher.update(buffer.get(..count).unwrap_or_default());
                    size += count as u64;
                }
            }
        }
    };
    let outcome = tokio::task::spawn_blocking(read).await.map_err(|error| failed(&error))?;
    outcome.map_err(|error| failed(&error))
}

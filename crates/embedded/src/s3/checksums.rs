//! Checksums a sender announces, sends and is held to.

use super::index::Checksums;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, ChecksumAlgorithm};
use s3s::{S3Result, s3_error};

/// The algorithms of S3 we compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    fn of(self, sums: &Checksum) -> Option<&str> {
        match self {
            Self::Crc32 => sums.checksum_crc32.as_deref(),
            Self::Crc32c => sums.checksum_crc32c.as_deref(),
            Self::Crc64Nvme => sums.checksum_crc64nvme.as_deref(),
            Self::Sha1 => sums.checksum_sha1.as_deref(),
            Self::Sha256 => sums.checksum_sha256.as_deref(),
        }
    }
}

/// The algorithms a request says will follow: by name, or by the name of a trailer.
pub(crate) fn announced(headers: &HeaderMap, named: Option<&ChecksumAlgorithm>) -> Vec<Algorithm> {
    let trailer = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let trailed = |algorithm: &Algorithm| trailer.split(',').any(|name| name.trim() == algorithm.header());
    let named = named.map(|name| format!("x-amz-checksum-{}", name.as_str().to_ascii_lowercase()));
    let is_named = |algorithm: &Algorithm| named.as_deref() == Some(algorithm.header());
    Algorithm::ALL.into_iter().filter(|algorithm| trailed(algorithm) || is_named(algorithm)).collect()
}

/// Computes what was given and what was announced.
pub(crate) fn hasher(given: &Checksum, announced: Vec<Algorithm>) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    for algorithm in Algorithm::ALL {
        if algorithm.of(given).is_none() && !announced.contains(&algorithm) {
            continue;
        }
        match algorithm {
            Algorithm::Crc32 => hasher.crc32 = Some(Default::default()),
            Algorithm::Crc32c => hasher.crc32c = Some(Default::default()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Default::default()),
            Algorithm::Sha1 => hasher.sha1 = Some(Default::default()),
            Algorithm::Sha256 => hasher.sha256 = Some(Default::default()),
        }
    }
    hasher
}

/// Every checksum sent, before or after the body, must be the body's.
pub(crate) fn verify(computed: &Checksum, given: &Checksum, trailers: &HeaderMap) -> S3Result<()> {
    for algorithm in Algorithm::ALL {
        let trailer = trailers.get(algorithm.header()).and_then(|value| value.to_str().ok());
        for sent in [algorithm.of(given), trailer].into_iter().flatten() {
            if algorithm.of(computed) != Some(sent) {
                return Err(s3_error!(BadDigest, "the body does not have the {} sent with it", algorithm.header()));
            }
        }
    }
    Ok(())
}

/// The form the index keeps.
pub(crate) fn stored(sums: &Checksum) -> Checksums {
    Checksums {
        crc32: sums.checksum_crc32.clone(),
        crc32c: sums.checksum_crc32c.clone(),
        crc64nvme: sums.checksum_crc64nvme.clone(),
        sha1: sums.checksum_sha1.clone(),
        sha256: sums.checksum_sha256.clone(),
    }
}

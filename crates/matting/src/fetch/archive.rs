//! Takes named files out of wheels (zip) and npm packages (gzipped tar).
//!
//! Invariant: nothing is written under a name from the archive, so no path in it can lead anywhere.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::MAX_FILE_BYTES;
use crate::registry::PackageIndex;

/// A gzipped tar is read from its start; this bounds what a small archive may blow up to.
const MAX_UNPACKED_BYTES: u64 = 16 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArchiveKind {
    Zip,
    TarGz,
}

impl PackageIndex {
    pub(super) fn archive_kind(&self) -> ArchiveKind {
        match self {
            Self::Npm => ArchiveKind::TarGz,
            Self::Pypi { .. } => ArchiveKind::Zip,
        }
    }
}

/// An archive that does not hold what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read as a zip.
    #[error("not a readable wheel")]
    Zip(#[from] zip::result::ZipError),
    /// It cannot be read as a gzipped tar, or the file taken out of it cannot be written.
    #[error("cannot read the archive or write what is in it")]
    Io(#[from] io::Error),
    /// The file is not in it.
    #[error("there is no {0:?} in it")]
    NoSuchMember(String),
    /// The member is a directory or a link.
    #[error("{0:?} is no regular file")]
    NoRegularFile(String),
    /// The member is larger than any model.
    #[error("{0:?} is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge(String),
}

/// Writes the members, which must be regular files, into `dir`; the paths come in the order of `members`.
pub(super) fn unpack(
    archive: &Path,
    kind: ArchiveKind,
    members: &[&str],
    dir: &Path,
) -> Result<Vec<PathBuf>, ArchiveError> {
    let targets: Vec<_> = (0..members.len()).map(|index| dir.join(format!("member-{index}"))).collect();
    let file = File::open(archive)?;
    match kind {
        ArchiveKind::Zip => {
            let mut archive = zip::ZipArchive::new(io::BufReader::new(file))?;
            for (member, target) in members.iter().zip(&targets) {
                let entry = match archive.by_name(member) {
                    Ok(entry) => entry,
                    Err(zip::result::ZipError::FileNotFound) => return Err(no_such(member)),
                    Err(error) => return Err(error.into()),
                };
                if !entry.is_file() || entry.is_symlink() {
                    return Err(ArchiveError::NoRegularFile((*member).to_owned()));
                }
                copy(entry, member, target)?;
            }
        }
        ArchiveKind::TarGz => {
            let reader = flate2::read::GzDecoder::new(io::BufReader::new(file)).take(MAX_UNPACKED_BYTES);
            let mut archive = tar::Archive::new(reader);
            let mut missing: Vec<_> = members.iter().zip(&targets).collect();
            let mut entries = archive.entries()?;
            while let (false, Some(entry)) = (missing.is_empty(), entries.next()) {
                let entry = entry?;
                let path = entry.path_bytes();
                let Some(index) = missing.iter().position(|(member, _)| member.as_bytes() == &*path) else { continue };
                let (member, target) = missing.swap_remove(index);
                if !entry.header().entry_type().is_file() {
                    return Err(ArchiveError::NoRegularFile((*member).to_owned()));
                }
                copy(entry, member, target)?;
            }
            if let Some((member, _)) = missing.first() {
                return Err(no_such(member));
            }
        }
    }
    Ok(targets)
}

fn no_such(member: &str) -> ArchiveError {
    ArchiveError::NoSuchMember(member.to_owned())
}

fn copy(source: impl Read, member: &str, target: &Path) -> Result<(), ArchiveError> {
    let mut file = File::create_new(target)?;
    let copied = io::copy(&mut source.take(MAX_FILE_BYTES + 1), &mut file)?;
    if copied > MAX_FILE_BYTES {
        return Err(ArchiveError::TooLarge(member.to_owned()));
    }
    file.flush()?;
    Ok(())
}

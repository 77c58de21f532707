//! Segments in a directory: of one machine, or of several that share a file system.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{SegmentStore, SegmentStoreError, Stored};

/// What files of finished segments are called behind their number.
const SUFFIX: &str = ".segment";

/// Keeps segments as files, in a directory a plan.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    directory: PathBuf,
}

impl DirectoryStore {
    /// In this directory, which is made when it is needed.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Removes the segments of all plans, and what an interrupted write left.
    ///
    /// # Errors
    /// Some are left.
    pub fn clear(&self) -> std::io::Result<()> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            // A directory that somebody named by mistake holds other things, which are not ours to remove.
            if entry.file_name().to_str().is_some_and(is_plan) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        match std::fs::remove_dir(&self.directory) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn file(&self, plan: &str, index: u32) -> PathBuf {
        self.directory.join(plan).join(format!("{index}{SUFFIX}"))
    }
}

impl SegmentStore for DirectoryStore {
    fn finished(&self, plan: &str) -> Result<BTreeSet<u32>, SegmentStoreError> {
        let failed = failed("cannot list the segments");
        let mut finished = BTreeSet::new();
        let entries = match std::fs::read_dir(self.directory.join(plan)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(finished),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let name = entry.map_err(&failed)?.file_name();
            finished.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse::<u32>().ok()));
        }
        Ok(finished)
    }

    fn fetch(&self, plan: &str, index: u32, file: &Path) -> Result<(), SegmentStoreError> {
        std::fs::copy(self.file(plan, index), file).map(drop).map_err(failed("cannot read a segment"))
    }

    fn store(&self, plan: &str, index: u32, file: &Path) -> Result<Stored, SegmentStoreError> {
        let failed = failed("cannot store a segment");
        let directory = self.directory.join(plan);
        std::fs::create_dir_all(&directory).map_err(&failed)?;
        // Whole before it has its name, and never in the place of one that is there: others may be reading that.
        let copy = tempfile::NamedTempFile::new_in(&directory).map_err(&failed)?;
        std::fs::copy(file, copy.path()).map_err(&failed)?;
        copy.as_file().sync_all().map_err(&failed)?;
        match copy.persist_noclobber(self.file(plan, index)) {
            Ok(_) => Ok(Stored::New),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(Stored::WasThere),
            Err(error) => Err(failed(error.error)),
        }
    }
}

fn is_plan(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> SegmentStoreError {
    move |error| SegmentStoreError { what, source: error.into() }
}

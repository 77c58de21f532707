//! One process a data directory.

use crate::EmbeddedError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Held as long as this process uses the data directory. The kernel lets go of it when the process ends, however
/// it ends, so no stale lock has to be told from a live one.
pub(crate) struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Creates the directory (for its owner only) if it is missing, and locks it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let unusable = |source| EmbeddedError::DataDir { path: data_dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(data_dir.join("lock"))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(EmbeddedError::InUse { path: data_dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}

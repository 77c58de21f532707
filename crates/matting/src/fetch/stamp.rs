//! Files in the models directory: their digests, the stamps that save reading them again, and the last step into place.
//!
//! Invariant: a stamp is a shortcut, never the truth: it only says that these bytes, by size, time of change and inode,
//! had that digest; `compare` reads the file whatever the stamp says.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{FileState, MAX_FILE_BYTES};
use crate::registry::{InstalledFile, Sha256};

pub(super) fn is_right(file: &InstalledFile, models_dir: &Path) -> io::Result<bool> {
    let metadata = match fs::metadata(file.path(models_dir)) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if read(file, models_dir).is_some_and(|stamp| stamp == text(file.sha256, &metadata)) {
        return Ok(true);
    }
    Ok(compare(file, models_dir)? == FileState::Right)
}

/// Reads the whole file.
pub(super) fn compare(file: &InstalledFile, models_dir: &Path) -> io::Result<FileState> {
    let opened = match File::open(file.path(models_dir)) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FileState::Missing),
        Err(error) => return Err(error),
    };
    // Of the open file and before it is read: what is written to it later makes the stamp worthless, as it must.
    let metadata = opened.metadata()?;
    let found = Sha256::of_reader(opened, MAX_FILE_BYTES)?;
    if found == file.sha256 {
        write(file, models_dir, &metadata);
        return Ok(FileState::Right);
    }
    Ok(FileState::Wrong { found })
}

/// Renames a checked file to its final name, its bytes on the disk before; gives its size.
pub(super) fn put_in_place(candidate: &Path, file: &InstalledFile, models_dir: &Path) -> io::Result<u64> {
    let opened = File::open(candidate)?;
    opened.sync_all()?;
    let path = file.path(models_dir);
    fs::rename(candidate, &path)?;
    let metadata = opened.metadata()?;
    write(file, models_dir, &metadata);
    Ok(metadata.len())
}

fn stamp_path(file: &InstalledFile, models_dir: &Path) -> PathBuf {
    models_dir.join(format!(".{}.verified", file.name))
}

fn text(sha256: Sha256, metadata: &Metadata) -> String {
    let (size, inode) = (metadata.len(), metadata.ino());
    format!("{sha256} {size} {}.{:09} {inode}\n", metadata.mtime(), metadata.mtime_nsec())
}

fn read(file: &InstalledFile, models_dir: &Path) -> Option<String> {
    use io::Read as _;
    let mut stamp = String::new();
    File::open(stamp_path(file, models_dir)).ok()?.take(1024).read_to_string(&mut stamp).ok()?;
    Some(stamp)
}

/// A directory that cannot be written to, as in an image, only costs the shortcut.
fn write(file: &InstalledFile, models_dir: &Path, metadata: &Metadata) {
    let path = stamp_path(file, models_dir);
    let written = tempfile::Builder::new()
        .prefix(".stamp-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(models_dir)
        .and_then(|stamp| {
            fs::write(stamp.path(), text(file.sha256, metadata))?;
            stamp.persist(&path).map_err(|error| error.error)
        });
    if let Err(error) = written {
        tracing::debug!(path = %path.display(), %error, "no stamp written; the file will be read again");
    }
}

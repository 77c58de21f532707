//! Bytes of objects, one file each, under names nobody chose.
//!
//! Owns: the files. Does not own: which object a file belongs to (`index`). Invariants: a key never becomes a path;
//! a file that no row of the index names is nobody's and may be deleted; what `keep` returned is on the disk.

use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Result, s3_error};
use std::collections::HashSet;
use std::io::SeekFrom;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufWriter};
use tokio_util::io::ReaderStream;

/// Bytes handled at once, either way.
const CHUNK_BYTES: usize = 64 * 1024;
/// A client that sends nothing for so long has gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The directory of files.
#[derive(Clone)]
pub(crate) struct Blobs {
    dir: PathBuf,
}

/// A file being written, deleted again unless kept.
pub(crate) struct NewBlob {
    file: BufWriter<File>,
    path: PathBuf,
    name: String,
    kept: bool,
    md5: Md5,
    checksums: ChecksumHasher,
    size: u64,
}

/// A file written whole.
pub(crate) struct Written {
    pub(crate) blob: Uncommitted,
    pub(crate) size: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) checksums: Checksum,
}

/// A whole file no row names yet: deleted again unless committed.
pub(crate) struct Uncommitted {
    path: PathBuf,
    name: Option<String>,
}

impl Blobs {
    pub(crate) fn open(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Deletes the files that are not in `named`: what a kill left behind.
    pub(crate) fn remove_orphans(&self, named: &HashSet<String>) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| named.contains(name)) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether the directory can be reached.
    pub(crate) async fn are_there(&self) -> bool {
        tokio::fs::metadata(&self.dir).await.is_ok_and(|found| found.is_dir())
    }

    pub(crate) async fn create(&self, checksums: ChecksumHasher) -> std::io::Result<NewBlob> {
        let name = crate::random_hex();
        let path = self.dir.join(&name);
        let file = BufWriter::with_capacity(CHUNK_BYTES, File::create_new(&path).await?);
        Ok(NewBlob { file, path, name, kept: false, md5: Md5::new(), checksums, size: 0 })
    }

    /// The file's bytes in `range`. Stays readable when the file is deleted meanwhile.
    pub(crate) async fn read(&self, name: &str, range: Range<u64>) -> std::io::Result<StreamingBlob> {
        let mut file = File::open(self.dir.join(name)).await?;
        file.seek(SeekFrom::Start(range.start)).await?;
        let part = file.take(range.end - range.start);
        Ok(StreamingBlob::wrap(ReaderStream::with_capacity(part, CHUNK_BYTES)))
    }

    /// Deletes files no row names any more. One that will not go is deleted at the next start.
    pub(crate) async fn remove(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if let Err(error) = tokio::fs::remove_file(self.dir.join(name)).await {
                tracing::warn!(error = %error, "a deleted object's file is still there");
            }
        }
    }
}

impl NewBlob {
    /// Appends a request's body, which must be `expected` bytes long.
    pub(crate) async fn append_body(&mut self, mut body: StreamingBlob, expected: u64) -> S3Result<()> {
        use futures::StreamExt;
        let end = self.size + expected;
        while let Some(chunk) =
            tokio::time::timeout(IDLE_TIMEOUT, body.next()).await.map_err(|_| s3_error!(RequestTimeout))?
        {
            let chunk = chunk.map_err(|source| {
                let mut error = s3_error!(IncompleteBody);
                error.set_source(source);
                error
            })?;
            if self.size + chunk.len() as u64 > end {
                return Err(s3_error!(IncompleteBody, "the body is longer than its content-length"));
            }
            self.append(&chunk).await.map_err(s3s::S3Error::internal_error)?;
        }
        if self.size != end {
            return Err(s3_error!(IncompleteBody));
        }
        Ok(())
    }

    /// Appends another file.
    pub(crate) async fn append_blob(&mut self, blobs: &Blobs, name: &str) -> std::io::Result<()> {
        let mut source = File::open(blobs.dir.join(name)).await?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = source.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            self.append(&chunk[..read]).await?;
        }
    }

    async fn append(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        self.md5.update(chunk);
        self.checksums.update(chunk);
        self.size += chunk.len() as u64;
        self.file.write_all(chunk).await
    }

    /// Waits until the bytes are on the disk.
    pub(crate) async fn finish(mut self) -> std::io::Result<Written> {
        self.file.flush().await?;
        self.file.get_ref().sync_data().await?;
        self.kept = true;
        Ok(Written {
            blob: Uncommitted { path: self.path.clone(), name: Some(self.name.clone()) },
            size: self.size,
            md5: std::mem::take(&mut self.md5).finalize().into(),
            checksums: std::mem::take(&mut self.checksums).finalize(),
        })
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Uncommitted {
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    /// To be called once a row names the file.
    pub(crate) fn committed(mut self) {
        self.name = None;
    }
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        if self.name.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

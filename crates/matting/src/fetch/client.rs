//! The ordinary clients of the package registries, as child processes: `pip download` and `npm pack`.
//!
//! Owns: their arguments, their time, the room they take.
//! Invariant: no script of a package runs (`--only-binary`, `--ignore-scripts`), nothing is installed, and no child
//! outlives its download.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::registry::{Package, PackageIndex};

/// No package is larger; a download that takes more room is stopped.
pub(super) const MAX_PACKAGE_BYTES: u64 = 4 << 30;
const POLL: Duration = Duration::from_millis(50);
/// How much of a client's own words an error keeps: the end, where the reason is.
const MAX_WORDS: u64 = 2048;

/// The programs that download packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// A Python 3 with pip; only pip's own code runs in it.
    pub python: OsString,
    /// npm.
    pub npm: OsString,
    /// After this a download is given up.
    pub time_cap: Duration,
}

impl Default for Clients {
    fn default() -> Self {
        Self { python: "python3".into(), npm: "npm".into(), time_cap: Duration::from_mins(15) }
    }
}

/// A client that did not download the package.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The program is not on this machine.
    #[error("{program} is needed for it and was not found; {hint}")]
    Missing {
        /// What was looked for.
        program: String,
        /// What brings it.
        hint: &'static str,
    },
    /// The program could not be started, or its directory not be read.
    #[error("{program} could not be run")]
    Io {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The program said no: no such package, no network.
    #[error("{program} ended with {status}: {words}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        words: String,
    },
    /// The program took too long and was stopped.
    #[error("{program} took longer than {} s and was stopped", cap.as_secs())]
    TooSlow {
        /// The program.
        program: String,
        /// The time it had.
        cap: Duration,
    },
    /// The download took too much room and was stopped.
    #[error("the download is larger than {MAX_PACKAGE_BYTES} bytes and was stopped")]
    TooLarge,
    /// The program ended well and left no archive, or several.
    #[error("{program} left {count} files where one archive was expected")]
    NoArchive {
        /// The program.
        program: String,
        /// How many files there are.
        count: usize,
    },
}

impl Clients {
    /// Downloads the package's archive into `dir`, which is empty; gives its path.
    pub(super) fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf, ClientError> {
        let (packages, scratch) = (dir.join("package"), dir.join("scratch"));
        let program = self.program(package).to_string_lossy().into_owned();
        let failed = |source| ClientError::Io { program: program.clone(), source };
        fs::create_dir(&packages).map_err(failed)?;
        fs::create_dir(&scratch).map_err(failed)?;
        let result = self.run(self.command(package, &packages, &scratch), &program, dir);
        if let Err(ClientError::Failed { .. }) = &result
            && !self.works(package)
        {
            return Err(missing(package, &program));
        }
        result?;
        let files = fs::read_dir(&packages).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
        match files.as_slice() {
            [archive] => Ok(archive.path()),
            _ => Err(ClientError::NoArchive { program, count: files.len() }),
        }
    }

    fn program(&self, package: &Package) -> &OsString {
        match package.index {
            PackageIndex::Npm => &self.npm,
            PackageIndex::Pypi { .. } => &self.python,
        }
    }

    /// Neither client keeps a cache: what is fetched is fetched once, and a large package need not lie there twice.
    fn command(&self, package: &Package, into: &Path, scratch: &Path) -> Command {
        let mut command = Command::new(self.program(package));
        match &package.index {
            PackageIndex::Npm => {
                command.args(["pack", "--ignore-scripts", "--loglevel=error", "--cache"]).arg(scratch);
                command.arg("--pack-destination").arg(into);
                command.arg(format!("{}@{}", package.name, package.version));
            }
            PackageIndex::Pypi { wheel } => {
                command.args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]);
                command.args(["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir"]);
                if let Some(wheel) = wheel {
                    command.args(["--python-version", &wheel.python, "--platform", &wheel.platform]);
                }
                command.arg("--dest").arg(into).arg(format!("{}=={}", package.name, package.version));
            }
        }
        command
    }

    /// Whether the client is there at all: Python may have come without pip.
    fn works(&self, package: &Package) -> bool {
        let mut command = Command::new(self.program(package));
        match package.index {
            PackageIndex::Npm => command.arg("--version"),
            PackageIndex::Pypi { .. } => command.args(["-m", "pip", "--version"]),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Runs the command to its end in `dir`, within the caps of time and room.
    fn run(&self, mut command: Command, program: &str, dir: &Path) -> Result<(), ClientError> {
        let failed = |source| ClientError::Io { program: program.to_owned(), source };
        let mut words = tempfile::tempfile_in(dir).map_err(failed)?;
        let scratch = dir.join("scratch");
        command.current_dir(&scratch).env("TMPDIR", &scratch);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words.try_clone().map_err(failed)?);
        let mut child = match command.spawn() {
            Ok(child) => Running(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ClientError::Missing {
                    program: program.to_owned(),
                    hint: hint(program == self.npm.to_string_lossy()),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let deadline = Instant::now() + self.time_cap;
        loop {
            if let Some(status) = child.0.try_wait().map_err(failed)? {
                return if status.success() {
                    Ok(())
                } else {
                    let words = last_words(&mut words);
                    Err(ClientError::Failed { program: program.to_owned(), status, words })
                };
            }
            if Instant::now() >= deadline {
                return Err(ClientError::TooSlow { program: program.to_owned(), cap: self.time_cap });
            }
            let room = size_of(dir) + words.metadata().map_or(0, |metadata| metadata.len());
            if room > MAX_PACKAGE_BYTES {
                return Err(ClientError::TooLarge);
            }
            thread::sleep(POLL);
        }
    }
}

fn hint(npm: bool) -> &'static str {
    if npm { "install npm (it comes with Node.js)" } else { "install Python 3 with pip" }
}

fn missing(package: &Package, program: &str) -> ClientError {
    match package.index {
        PackageIndex::Npm => ClientError::Missing { program: program.to_owned(), hint: hint(true) },
        PackageIndex::Pypi { .. } => ClientError::Missing { program: format!("{program} -m pip"), hint: hint(false) },
    }
}

/// A child that is stopped and reaped when it goes out of scope, however that comes.
///
/// It stays in our process group: who interrupts the fetch at the terminal interrupts the download.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Errors would be that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn last_words(file: &mut File) -> String {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let read = file
        .seek(io::SeekFrom::Start(length.saturating_sub(MAX_WORDS)))
        .and_then(|_| file.take(MAX_WORDS).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(_) => String::new(),
    }
}

/// Bytes of all files below a directory; what goes away meanwhile does not count.
fn size_of(dir: &Path) -> u64 {
    let mut total = 0;
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => dirs.push(entry.path()),
                Ok(metadata) => total += metadata.len(),
                Err(_) => {}
            }
        }
    }
    total
}

//! This process among others: when it must end, whose child it is, which directory is its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether, and since when, this process is asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown(watch::Receiver<Option<Instant>>);

/// The other end of [`Shutdown`].
#[derive(Debug)]
pub(crate) struct AskShutdown(watch::Sender<Option<Instant>>);

impl Shutdown {
    /// Both ends.
    pub(crate) fn channel() -> (AskShutdown, Self) {
        let (sender, receiver) = watch::channel(None);
        (AskShutdown(sender), Self(receiver))
    }

    /// When it was asked for.
    pub(crate) fn since(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Resolves once it is asked for; never, when nobody can ask any more.
    pub(crate) async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(Option::is_some).await.is_err() {
            std::future::pending().await
        }
    }
}

impl AskShutdown {
    /// Asks. Later calls change nothing.
    pub(crate) fn ask(&self) {
        self.0.send_if_modified(|since| {
            let first = since.is_none();
            since.get_or_insert_with(Instant::now);
            first
        });
    }

    /// Asks on the first SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub(crate) fn on_signals(self) -> io::Result<()> {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                tracing::info!("asked to end");
                self.ask();
            }
        });
        Ok(())
    }
}

/// The process that should have been our parent is gone, or the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// It died before we were ready to die with it.
    #[error("the parent process is gone")]
    Gone,
    /// `prctl` failed.
    #[error("cannot be tied to the parent process")]
    Prctl(#[source] Errno),
}

/// Has the kernel kill this process when its parent dies, however that dies. `parent` is the pid of the parent as the
/// parent knows it: after its death another process would have taken its place.
///
/// The kernel means the parent's *thread* that started us: it must live as long as the parent itself.
///
/// # Errors
/// [`ParentError::Gone`] when the parent is dead already.
pub fn die_with_parent(parent: u32) -> Result<(), ParentError> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(ParentError::Prctl)?;
    // Only now: had it died between the check and the call, nobody would have told us.
    if i64::from(nix::unistd::getppid().as_raw()) == i64::from(parent) { Ok(()) } else { Err(ParentError::Gone) }
}

/// Bytes of this process that are in memory; none where the system does not say.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The directory of this worker's temporary files, locked for this process.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    /// Released by the kernel when this process ends, however it ends.
    _lock: Flock<File>,
}

/// The work directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkDirError {
    /// Another worker uses it.
    #[error("{} is in use by another worker", .0.display())]
    InUse(PathBuf),
    /// It cannot be made or written.
    #[error("{} cannot be written", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Attempts' directories begin with this; nothing else is ever removed from the work directory.
const ATTEMPT_PREFIX: &str = "attempt-";

impl WorkDir {
    /// Makes the directory if need be, locks it and removes what a killed predecessor left.
    pub(crate) fn open(path: &Path) -> Result<Self, WorkDirError> {
        let failed = |source| WorkDirError::NotWritable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let file = File::create(path.join("lock")).map_err(failed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK { WorkDirError::InUse(path.to_owned()) } else { failed(errno.into()) }
        })?;
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(ATTEMPT_PREFIX.as_bytes()) {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// A directory for one attempt, removed when dropped.
    pub(crate) fn attempt(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix(ATTEMPT_PREFIX).tempdir_in(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-11: what a killed predecessor left is gone, what others put there is not.
    #[test]
    fn leftovers_of_a_killed_worker_are_wiped_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("attempt-x/deep")).unwrap();
        fs::write(root.path().join("attempt-x/deep/frames.raw"), b"x").unwrap();
        fs::write(root.path().join("notes.txt"), b"x").unwrap();
        let work = WorkDir::open(root.path()).unwrap();
        assert!(!root.path().join("attempt-x").exists());
        assert!(root.path().join("notes.txt").exists());
        let attempt = work.attempt().unwrap();
        assert!(attempt.path().starts_with(root.path()));
    }

    #[test]
    fn a_second_worker_cannot_wipe_the_first_ones_directory() {
        let root = tempfile::tempdir().unwrap();
        let _first = WorkDir::open(root.path()).unwrap();
        assert!(matches!(WorkDir::open(root.path()), Err(WorkDirError::InUse(_))));
    }

    #[test]
    fn a_worker_whose_parent_is_gone_does_not_start() {
        let parent = u32::try_from(nix::unistd::getppid().as_raw()).unwrap();
        die_with_parent(parent).unwrap();
        assert_eq!(nix::sys::prctl::get_pdeathsig().unwrap(), Some(Signal::SIGKILL));
        assert!(matches!(die_with_parent(parent + 1), Err(ParentError::Gone)));
        nix::sys::prctl::set_pdeathsig(None).unwrap();
    }
}

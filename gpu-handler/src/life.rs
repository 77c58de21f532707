//! The worker's sign of life, for those who ask from outside whether it is well: a file in its work directory.
//!
//! Owns: the file, how often it is written and when it is too old. Does not own: hangs of the engine and lost leases,
//! which the worker notices itself.
//! Invariants: an orderly end takes the file away, and nothing gives it again behind that; the sign is given by a task of the runtime that serves sessions, so one that stands still gives none; its
//! time is the machine's time since boot, so no clock that is set makes a worker ill.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use crate::detail::shown;

const FILE: &str = "alive";
const EVERY: Duration = Duration::from_secs(10);
/// A machine under load may miss a few; a worker that misses as many as this stands still.
const TOO_OLD: Duration = Duration::from_secs(60);

/// Why a worker does not count as well.
#[derive(Debug, thiserror::Error)]
pub enum NotHealthy {
    /// No worker uses this directory.
    #[error("{} gives no sign of life", path.display())]
    NoSign {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The file is not one of a worker's.
    #[error("{} is no sign of life", .0.display())]
    Unknown(PathBuf),
    /// The worker stands still.
    #[error("the last sign of life is {} s old", .0.as_secs())]
    Silent(Duration),
}

/// Signs are given as long as this is held.
#[derive(Debug)]
pub(crate) struct Signs {
    task: tokio::task::JoinHandle<()>,
    /// `None`: no more are given. Held while one is.
    dir: Arc<Mutex<Option<PathBuf>>>,
}

impl Drop for Signs {
    fn drop(&mut self) {
        self.task.abort();
        let dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(dir) = dir {
            // It may never have been there.
            let _ = fs::remove_file(dir.join(FILE));
        }
    }
}

/// Gives the first sign as soon as the runtime comes to it.
pub(crate) fn begin(work_dir: &Path) -> Signs {
    let dir = Arc::new(Mutex::new(Some(work_dir.to_owned())));
    let given = Arc::clone(&dir);
    let task = tokio::spawn(async move {
        let mut beats = tokio::time::interval(EVERY);
        loop {
            beats.tick().await;
            let dir = given.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Err(error)) = dir.as_deref().map(sign) {
                tracing::warn!(error = shown(&error), "no sign of life can be given");
            }
        }
    });
    Signs { task, dir }
}

/// Some bytes every few seconds: not worth a thread.
fn sign(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let (new, file) = (dir.join(".alive"), dir.join(FILE));
    fs::write(&new, since_boot()?.as_secs().to_string())?;
    // In one step: whoever asks reads the whole of it.
    fs::rename(new, file)
}

/// Whether the worker that uses this directory has given a sign within a minute.
///
/// # Errors
/// It has not, or there is none.
pub fn check(work_dir: &Path) -> Result<(), NotHealthy> {
    let path = work_dir.join(FILE);
    let no_sign = |source| NotHealthy::NoSign { path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(no_sign)?;
    let sign = text.parse().map(Duration::from_secs).map_err(|_| NotHealthy::Unknown(path.clone()))?;
    judge(sign, since_boot().map_err(no_sign)?)
}

fn judge(sign: Duration, now: Duration) -> Result<(), NotHealthy> {
    // From before this boot: another worker's.
    let age = now.checked_sub(sign).unwrap_or(Duration::MAX);
    if age > TOO_OLD { Err(NotHealthy::Silent(age)) } else { Ok(()) }
}

/// Time that suspension counts into and nobody sets.
fn since_boot() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split_once('.').and_then(|(seconds, _)| seconds.parse().ok());
    seconds.map(Duration::from_secs).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_is_healthy_as_long_as_its_runtime_turns() {
        let dir = tempfile::tempdir().unwrap();
        let work_dir = dir.path().join("work");
        assert!(matches!(check(&work_dir), Err(NotHealthy::NoSign { .. })));
        let signs = begin(&work_dir);
        while check(&work_dir).is_err() {
            assert!(!signs.task.is_finished());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(signs);
        assert!(matches!(check(&work_dir), Err(NotHealthy::NoSign { .. })), "an orderly end leaves none");
        std::fs::write(work_dir.join(FILE), "soon").unwrap();
        assert!(matches!(check(&work_dir), Err(NotHealthy::Unknown(_))));
    }

    #[test]
    fn an_old_sign_and_one_of_another_boot_are_none() {
        let at = Duration::from_secs;
        assert!(judge(at(1000), at(1060)).is_ok());
        assert!(matches!(judge(at(1000), at(1061)), Err(NotHealthy::Silent(age)) if age == at(61)));
        assert!(judge(at(1000), at(999)).is_err());
    }
}

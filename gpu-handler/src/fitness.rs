//! What a host must have before a worker takes its first message, besides what the engine looks for itself.
//!
//! Owns: room on disk and in memory. Does not own: media tools, device and models (`run`), who is told (`runpod`).

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::sessions::Least;

/// Of a file system, where no key says otherwise: this many percent are free, or so many bytes, because of a large one
/// a few percent are plenty.
const LEAST_DISK: (u64, u64) = (10, 2 << 30);

/// With less than this left, whatever failed to be written failed for want of room.
const FULL_BYTES: u64 = 16 << 20;

/// Why a host is not fit.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Too little room for temporary files.
    #[error("of the work directory's file system {free_bytes} bytes are free, {free_percent} %")]
    Disk {
        /// Free for this process.
        free_bytes: u64,
        /// Of all.
        free_percent: u64,
    },
    /// Too little memory.
    #[error("{free_bytes} bytes of memory are free, less than {least_bytes}")]
    Memory {
        /// Free, or to be had without swapping.
        free_bytes: u64,
        /// Wanted.
        least_bytes: u64,
    },
    /// The operating system does not say.
    #[error("the room on disk cannot be measured")]
    Unmeasured(#[source] io::Error),
}

impl Unfit {
    /// Name of the check, for RunPod.
    pub(crate) const fn check(&self) -> &'static str {
        match self {
            Self::Disk { .. } | Self::Unmeasured(_) => "disk",
            Self::Memory { .. } => "memory",
        }
    }
}

/// Whether there is room in `work_dir` and in memory.
pub(crate) fn check(least: Least, work_dir: &Path) -> Result<(), Unfit> {
    let (free_bytes, all_bytes) = disk(work_dir).map_err(Unfit::Unmeasured)?;
    let free_percent = (u128::from(free_bytes) * 100).checked_div(all_bytes.into()).unwrap_or_default();
    let free_percent = u64::try_from(free_percent).unwrap_or(u64::MAX);
    let has_room = match least.disk_percent {
        Some(percent) => free_percent >= percent.into(),
        None => free_percent >= LEAST_DISK.0 || free_bytes >= LEAST_DISK.1,
    };
    if !has_room {
        return Err(Unfit::Disk { free_bytes, free_percent });
    }
    match free_memory() {
        Some(free_bytes) if free_bytes < least.memory_bytes => {
            Err(Unfit::Memory { free_bytes, least_bytes: least.memory_bytes })
        }
        // A system that does not say has other ways to show what it lacks.
        Some(_) | None => Ok(()),
    }
}

/// Whether the disk is full, looked at and not guessed from an error. A directory that cannot be looked at is not full.
pub(crate) fn is_disk_full(dir: &Path) -> bool {
    disk(dir).is_ok_and(|(free, _)| free < FULL_BYTES)
}

/// Bytes of a file system: free for this process, and all.
fn disk(dir: &Path) -> io::Result<(u64, u64)> {
    let found = statvfs(dir)?;
    let unit = found.fragment_size();
    Ok((unit.saturating_mul(found.blocks_available()), unit.saturating_mul(found.blocks())))
}

/// Bytes of memory that a process may have now: the machine's, or what its cgroup leaves of them.
fn free_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let machine = kib.saturating_mul(1024);
    let number = |file: &str| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    // In a container the root of its own cgroup is mounted here; `max` is no number, and no limit.
    let group = number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    Some(group.map_or(machine, |(most, used)| machine.min(most.saturating_sub(used))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Least = Least { disk_percent: Some(0), memory_bytes: 0 };

    #[test]
    fn a_host_without_room_is_refused_by_name_and_one_with_room_is_not() {
        let dir = tempfile::tempdir().unwrap();
        check(ANY, dir.path()).unwrap();
        let disk = check(Least { disk_percent: Some(101), ..ANY }, dir.path()).unwrap_err();
        assert_eq!(disk.check(), "disk");
        let memory = check(Least { memory_bytes: u64::MAX, ..ANY }, dir.path()).unwrap_err();
        assert_eq!(memory.check(), "memory");
        assert_eq!(check(ANY, &dir.path().join("nowhere")).unwrap_err().check(), "disk");
    }

    #[test]
    fn a_disk_is_full_only_when_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_disk_full(dir.path()) && !is_disk_full(&dir.path().join("nowhere")));
        // A file system of its own, without a byte to spare, that every Linux has.
        assert!(is_disk_full(Path::new("/proc")));
    }
}

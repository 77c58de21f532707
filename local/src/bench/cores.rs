//! One processor for what is measured, another for who measures.

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread, in the words of the kernel.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// The first two processors that this thread may use; the same one twice where it has no other.
pub(super) fn pair() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(THIS_THREAD)?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    let first = cores.next().unwrap_or(0);
    Ok((first, cores.next().unwrap_or(first)))
}

/// Holds this thread, and every thread and process that it starts from now on, to one processor.
pub(super) fn pin(core: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(core)?;
    Ok(sched_setaffinity(THIS_THREAD, &only)?)
}

//! What a child process may not do.
//!
//! Owns: the limits set between fork and exec. Invariants: a child never outlives us, has no environment, leads its
//! own process group, writes no core file. The only unsafe code of the crate.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// Open files that a codec run needs, with room for shared libraries while the loader works.
const MAX_OPEN_FILES: u64 = 64;

/// What one child may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confinement {
    /// Address space, bytes.
    pub memory_bytes: u64,
    /// CPU time of all its threads, seconds.
    pub cpu_seconds: u64,
    /// Greatest file it may write, bytes; pipes do not count.
    pub file_bytes: u64,
}

/// Puts the limits on a command that is not yet started.
///
/// The death signal is tied to the *thread* that starts the child: that thread must outlive it.
#[expect(unsafe_code, reason = "limits and the death signal can only be set between fork and exec")]
pub(super) fn confine(command: &mut Command, limits: Confinement) {
    let parent = getpid();
    let before_exec = move || -> io::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above took effect; then no signal would ever come.
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        for (resource, value) in [
            (Resource::RLIMIT_AS, limits.memory_bytes),
            (Resource::RLIMIT_CPU, limits.cpu_seconds),
            (Resource::RLIMIT_FSIZE, limits.file_bytes),
            (Resource::RLIMIT_NOFILE, MAX_OPEN_FILES),
            (Resource::RLIMIT_CORE, 0),
        ] {
            setrlimit(resource, value, value)?;
        }
        Ok(())
    };
    command.env_clear().process_group(0);
    // SAFETY: the closure only makes system calls that are async-signal-safe (prctl, getppid, setrlimit); it does not
    // allocate, lock or touch memory that another thread may hold: its captures are two plain values.
    unsafe { command.pre_exec(before_exec) };
}

//! What a child process may not do.
//!
//! Owns: the limits set between fork and exec. Invariants: a child never outlives us, has no environment, leads its
//! own process group, writes no core file, gains no privilege, stands in the root directory, and has no network where
//! the kernel lets us take it away. The only unsafe code of the crate.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
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

/// How a child is kept from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// It has a network namespace of its own, with nothing in it.
    Network,
    /// The same, in a user namespace: what the kernel lets a process do that is not privileged.
    UserAndNetwork,
    /// The kernel, or the container around us, allows neither: only ffmpeg's own list of protocols keeps it away.
    None,
}

impl Isolation {
    /// What this machine allows; tried once.
    #[must_use]
    pub fn of_this_machine() -> Self {
        static FOUND: OnceLock<Isolation> = OnceLock::new();
        *FOUND.get_or_init(|| {
            // The first keeps a privileged worker's right to read files of other users.
            [Self::Network, Self::UserAndNetwork].into_iter().find(|isolation| isolation.works()).unwrap_or(Self::None)
        })
    }

    const fn namespaces(self) -> CloneFlags {
        match self {
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::UserAndNetwork => CloneFlags::CLONE_NEWNET.union(CloneFlags::CLONE_NEWUSER),
            Self::None => CloneFlags::empty(),
        }
    }

    /// Tries it on a child that ends before it becomes a program: there is none of that name.
    #[expect(unsafe_code, reason = "namespaces can only be changed between fork and exec")]
    fn works(self) -> bool {
        let mut command = Command::new("/proc/self/no-such-program");
        let namespaces = self.namespaces();
        // SAFETY: one system call that is async-signal-safe; the capture is a plain value.
        unsafe { command.pre_exec(move || Ok(unshare(namespaces)?)) };
        // Refused by the kernel it fails with another error, before it looks for the program.
        command.spawn().is_err_and(|error| error.raw_os_error() == Some(Errno::ENOENT as i32))
    }
}

/// Puts the limits on a command that is not yet started.
///
/// The death signal is tied to the *thread* that starts the child: that thread must outlive it.
#[expect(unsafe_code, reason = "limits and the death signal can only be set between fork and exec")]
pub(super) fn confine(command: &mut Command, limits: Confinement) {
    let parent = getpid();
    let namespaces = Isolation::of_this_machine().namespaces();
    let before_exec = move || -> io::Result<()> {
        // First: a change of credentials takes the death signal back.
        if !namespaces.is_empty() {
            unshare(namespaces)?;
        }
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above took effect; then no signal would ever come.
        if getppid() != parent {
            return Err(Errno::ESRCH.into());
        }
        prctl::set_no_new_privs()?;
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
    // In the root directory no relative name in a file's headers means anything.
    command.env_clear().process_group(0).current_dir("/");
    // SAFETY: the closure only makes system calls that are async-signal-safe (unshare, prctl, getppid, setrlimit); it
    // does not allocate, lock or touch memory that another thread may hold: its captures are three plain values.
    unsafe { command.pre_exec(before_exec) };
}

//! A child process on a leash: ffmpeg or ffprobe.
//!
//! Owns: starting it confined, killing its whole group, the end of what it says on stderr, its exit status.
//! Does not own: its arguments, its pipes' content.
//! Invariants: a [`Child`] that is dropped has no process left; a process is never signalled after it was reaped, so
//! never a stranger who got its number.

mod confine;
mod leash;

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

pub(crate) use self::confine::Confinement;
pub use self::confine::Isolation;
pub(crate) use self::leash::Leash;
use crate::error::EngineError;

/// What is kept of a child's stderr: its end, where the reason stands.
const MAX_STDERR_BYTES: usize = 64 * 1024;

/// What of it goes into an error.
const SHOWN_STDERR_CHARS: usize = 400;

/// Frames are megabytes: with the default of 64 KiB every frame costs dozens of context switches.
const PIPE_BYTES: i32 = 1 << 20;

/// A started program.
#[derive(Debug)]
pub(crate) struct Child {
    program: &'static str,
    process: Arc<Process>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    /// `None` once reaped.
    child: Mutex<Option<std::process::Child>>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    program: &'static str,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

/// Kills a program from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Killer(Arc<Process>);

impl Child {
    /// Starts a program; `program` is what errors call it. The calling thread must outlive the child.
    pub(crate) fn spawn(
        program: &'static str,
        command: impl Into<Command>,
        confinement: Confinement,
    ) -> Result<Self, EngineError> {
        let mut command = command.into();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        confine::confine(&mut command, confinement);
        tracing::debug!(child.program = program, child.arguments = ?command.get_args(), "starting a tool");
        let mut child =
            command.spawn().map_err(|error| EngineError::Tool { program, status: None, stderr: error.to_string() })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pid = Pid::from_raw(child.id().cast_signed());
        let process = Arc::new(Process { pid, child: Mutex::new(Some(child)) });
        // From here on dropping `this` cleans up.
        let mut this = Self { program, process, stderr: None, stdin, stdout };
        for pipe in [this.stdin.as_ref().map(AsFd::as_fd), this.stdout.as_ref().map(AsFd::as_fd)].into_iter().flatten()
        {
            // A system that refuses leaves the pipe as it was: slower, not wrong.
            let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        }
        if let Some(stderr) = stderr {
            let drain = std::thread::Builder::new().name("stderr".into()).spawn(move || read_end(stderr));
            this.stderr = Some(drain.map_err(EngineError::io("cannot start a thread"))?);
        }
        Ok(this)
    }

    /// A handle that can kill it while another thread waits for it.
    pub(crate) fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.process))
    }

    /// Closes its stdin, waits for its end. Its stdout must have been read to the end, or be of no interest.
    pub(crate) fn wait(&mut self) -> Result<Ended, EngineError> {
        self.stdin = None;
        self.stdout = None;
        let status = self.process.reap().map_err(EngineError::io("cannot wait for a tool"))?;
        let stderr = self.stderr.take().and_then(|drain| drain.join().ok()).unwrap_or_default();
        Ok(Ended { program: self.program, status, stderr: readable(&stderr) })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.process.kill();
        if let Err(error) = self.wait() {
            tracing::debug!(child.program = self.program, %error, "a tool was already gone");
        }
    }
}

impl Process {
    fn lock(&self) -> MutexGuard<'_, Option<std::process::Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        // The lock keeps the process from being reaped, and so its number from being given to another.
        if self.lock().is_some() {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }

    fn reap(&self) -> std::io::Result<ExitStatus> {
        // Waits without the lock and without reaping, so that `kill` works meanwhile.
        loop {
            match waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        match self.lock().take() {
            Some(mut child) => child.wait(),
            None => Err(Errno::ECHILD.into()),
        }
    }
}

impl Ended {
    /// An error that blames the tool, not the media.
    pub(crate) fn into_tool_error(self) -> EngineError {
        EngineError::Tool { program: self.program, status: Some(self.status), stderr: self.stderr }
    }

    /// An error that blames the media, unless the tool was killed: that is ours (memory, an operator, a crash).
    pub(crate) fn into_media_error(self) -> EngineError {
        use std::os::unix::process::ExitStatusExt;
        if self.status.signal().is_some() {
            return self.into_tool_error();
        }
        EngineError::Damaged { detail: self.stderr }
    }
}

impl Killer {
    /// Kills the program's process group, unless it has ended.
    pub(crate) fn kill(&self) {
        self.0.kill();
    }

    /// Kills it when `limit` has passed, unless the guard is dropped before.
    pub(crate) fn kill_after(&self, limit: Duration) -> Result<Deadline, EngineError> {
        let shared = Arc::new((Mutex::new(DeadlineState::Running), Condvar::new()));
        let (watched, killer) = (Arc::clone(&shared), self.clone());
        let thread = std::thread::Builder::new()
            .name("deadline".into())
            .spawn(move || run_out(&watched, limit, &killer))
            .map_err(EngineError::io("cannot start a thread"))?;
        Ok(Deadline { shared, thread: Some(thread) })
    }
}

/// A running time limit; ends with the guard.
#[derive(Debug)]
pub(crate) struct Deadline {
    shared: Arc<(Mutex<DeadlineState>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeadlineState {
    Running,
    Dropped,
    Passed,
}

fn run_out(shared: &(Mutex<DeadlineState>, Condvar), limit: Duration, killer: &Killer) {
    let end = Instant::now() + limit;
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    while *state == DeadlineState::Running {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *state = DeadlineState::Passed;
            killer.kill();
            return;
        }
        state = shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Deadline {
    /// Whether the program was killed for its time.
    pub(crate) fn has_passed(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) == DeadlineState::Passed
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == DeadlineState::Running {
            *state = DeadlineState::Dropped;
        }
        drop(state);
        self.shared.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads to the end, keeps the last bytes.
fn read_end(mut stderr: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stderr.read(&mut chunk) {
            Ok(0) => return kept,
            Ok(count) => {
                kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
                if kept.len() > 2 * MAX_STDERR_BYTES {
                    kept.drain(..kept.len() - MAX_STDERR_BYTES);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

/// The last part as one line without control characters: it holds text from the media (G-30).
fn readable(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let skipped = line.chars().count().saturating_sub(SHOWN_STDERR_CHARS);
    line.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;

    use super::*;

    const LIMITS: Confinement = Confinement { memory_bytes: 1 << 30, cpu_seconds: 1, file_bytes: 1000 };

    fn shell(script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Child::spawn("a shell", command, LIMITS).unwrap()
    }

    fn output(child: &mut Child) -> String {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn is_running(pid: i32) -> bool {
        // A zombie that nobody waits for has no command line either.
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
    }

    fn wait_until_gone(pid: i32) {
        let end = Instant::now() + Duration::from_secs(10);
        while is_running(pid) {
            assert!(Instant::now() < end, "process {pid} is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// G-13
    #[test]
    fn a_child_is_confined() {
        let mut child = shell("ulimit -c; ulimit -n; ulimit -t; echo \"home=$HOME path=$ROTOLESS_MODELS\"");
        assert_eq!(output(&mut child), "0\n64\n1\nhome= path=\n");
        assert!(child.wait().unwrap().status.success());

        let mut busy = shell("while :; do :; done");
        assert!(busy.wait().unwrap().status.signal().is_some());
    }

    /// G-27: where namespaces are allowed a child finds nothing to connect to, not even on this machine.
    #[test]
    fn a_child_has_no_network() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected");
        let connect = |command: &mut Command| {
            command.args(["-c", &script]);
        };
        let mut free = Command::new("/bin/bash");
        connect(&mut free);
        assert_eq!(free.output().unwrap().stdout, b"connected\n", "the test's own way to connect does not work");
        listener.accept().unwrap();

        let mut command = Command::new("/bin/bash");
        connect(&mut command);
        let mut child = Child::spawn("a shell", command, LIMITS).unwrap();
        let said = output(&mut child);
        let is_isolated = Isolation::of_this_machine() != Isolation::None;
        assert_eq!(said.is_empty(), is_isolated, "{said}");
        assert_eq!(listener.accept().is_err(), is_isolated);
    }

    /// G-13
    #[test]
    fn a_child_stands_in_the_root_directory_and_gains_no_privilege() {
        let mut child = shell("pwd; grep NoNewPrivs /proc/self/status");
        assert_eq!(output(&mut child), "/\nNoNewPrivs:\t1\n");
    }

    #[test]
    fn a_dropped_child_takes_its_whole_group_along() {
        let mut child = shell("sleep 600 & echo $!; wait");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        // Between fork and exec a process has no command line for an instant.
        let end = Instant::now() + Duration::from_secs(10);
        while !is_running(grandchild) {
            assert!(Instant::now() < end, "process {grandchild} never ran");
            std::thread::yield_now();
        }
        drop(child);
        wait_until_gone(grandchild);
    }

    #[test]
    fn a_child_that_takes_too_long_is_killed() {
        let mut child = shell("sleep 600");
        let deadline = child.killer().kill_after(Duration::from_millis(50)).unwrap();
        assert!(child.wait().unwrap().status.signal().is_some());
        assert!(deadline.has_passed());
        // After its end nothing is signalled any more.
        child.killer().kill();
    }

    #[test]
    fn only_the_end_of_stderr_is_kept_and_it_is_one_line() {
        let mut child = shell("head -c 300000 /dev/zero | tr '\\0' x >&2; printf 'the\\nreason\\033[1m' >&2; exit 3");
        let ended = child.wait().unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.stderr.ends_with("xthe reason [1m"), "{}", ended.stderr);
        assert!(ended.stderr.chars().count() <= SHOWN_STDERR_CHARS);
    }

    /// Set when the test below starts itself as the parent that is to die.
    const DOOMED: &str = "ROTOLESS_TEST_DOOMED_PARENT";

    /// G-11, K2
    #[test]
    fn a_child_dies_with_a_killed_parent() {
        if std::env::var_os(DOOMED).is_some() {
            let child = shell("echo $$ >&2; exec sleep 600");
            eprintln!("pid={}", child.process.pid);
            std::thread::sleep(Duration::from_secs(600));
            return;
        }
        let this: PathBuf = std::env::current_exe().unwrap();
        let name = "child::tests::a_child_dies_with_a_killed_parent";
        let mut parent = Command::new(this)
            .args(["--exact", name, "--nocapture"])
            .env(DOOMED, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(parent.stderr.take().unwrap()).lines();
        let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("pid=")?.parse().ok()).unwrap();
        assert!(is_running(pid));
        parent.kill().unwrap();
        parent.wait().unwrap();
        wait_until_gone(pid);
    }
}

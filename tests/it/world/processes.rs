//! Processes as the kernel shows them.

use std::fs;
use std::time::{Duration, Instant};

/// A process that is not a zombie.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) id: i32,
    /// Its arguments, with spaces between them.
    pub(crate) command: String,
}

/// Everything that runs in a session.
pub(crate) fn of_session(session: i32) -> Vec<Process> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: i32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name stands in parentheses and may contain anything; then state, parent, group, session.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let alive = *fields.first()? != "Z" && *fields.first()? != "X";
        let ours = fields.get(3)?.parse() == Ok(session);
        let command = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?.replace('\0', " ");
        (alive && ours).then_some(Process { id, command })
    })
    .collect()
}

/// The worker in a session.
pub(crate) fn worker_of(session: i32) -> Option<i32> {
    of_session(session).into_iter().find(|process| process.command.contains(" gpu-handler")).map(|process| process.id)
}

/// The media tools in a session.
pub(crate) fn tools_of(session: i32) -> Vec<Process> {
    let is_tool = |process: &Process| process.command.split(' ').next().is_some_and(|name| name.contains("ffmpeg"));
    of_session(session).into_iter().filter(is_tool).collect()
}

/// The most memory that a process ever had, in KiB.
pub(crate) fn peak_memory(id: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Tries until there is something, at most `limit`.
pub(crate) async fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Watches how far a process's memory grows from here.
pub(crate) struct Growth {
    id: i32,
    before: u64,
}

impl Growth {
    pub(crate) fn of(id: i32) -> Self {
        // What it had before does not count: the kernel forgets the peak.
        fs::write(format!("/proc/{id}/clear_refs"), "5").unwrap();
        Self { id, before: peak_memory(id) }
    }

    /// The peak since, above what there was, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        peak_memory(self.id).saturating_sub(self.before)
    }

    /// Fails the test when memory grew beyond `limit` MiB.
    pub(crate) fn check(&self, limit: u64, what: &str) {
        let grown = self.peak();
        eprintln!("{what}: memory grew by {grown} KiB at most");
        assert!(grown <= limit * 1024, "{what}: memory grew by {grown} KiB");
    }
}

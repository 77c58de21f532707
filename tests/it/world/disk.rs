//! A small disk for a directory, which only those see who enter it.
//!
//! A process holds a mount namespace with a file system in memory; it ends with the test, and the disk with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const HOLD: &str = "mount -t tmpfs -o \"$1\" none \"$2\" && echo held && exec sleep infinity";

pub(super) struct Disk {
    holder: Child,
    dir: PathBuf,
}

impl Disk {
    /// Makes `dir` and puts a disk there; `size` as `mount` takes it.
    pub(super) fn new(dir: &Path, size: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "setpriv", "--pdeathsig", "KILL", "sh", "-c", HOLD, "sh", size]);
        let mut holder = command.arg(&dir).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n", "this machine lets nobody mount: TW-8 needs user namespaces");
        Self { holder, dir }
    }

    /// Before the arguments of whoever is to see it.
    pub(super) fn enter(&self) -> Vec<String> {
        let holder = self.holder.id().to_string();
        ["nsenter", "--preserve-credentials", "--user", "--mount", "--target", &holder].map(str::to_owned).into()
    }

    /// The directory, from outside.
    pub(super) fn files(&self) -> PathBuf {
        let dir = self.dir.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(dir)
    }

    /// Copies everything to where the directory lies without the disk.
    pub(super) fn give_back(self) {
        let status = Command::new("cp").arg("-a").arg(self.files().join(".")).arg(&self.dir).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

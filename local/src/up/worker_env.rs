//! `worker.env` in the data directory: the environment of a further worker on this machine.
//!
//! Owns: the file's form (a shell's assignments, so that `set -a; . worker.env` and `env` files both take it) and its
//! life: written at every start, because ports change, and removed by a clean stop. Does not own: what a worker needs
//! to know (`up`). It opens the queue and claims jobs: readable by its owner only.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("worker.env")
}

/// Replaces the file in one step: whoever reads it sees the whole of one start.
pub(crate) fn write(data_dir: &Path, environment: &[(String, String)]) -> Result<()> {
    let (path, new) = (path(data_dir), data_dir.join("worker.env.new"));
    let unwritable = || format!("cannot write {}", path.display());
    // Left by a kill in the middle: its mode would stay.
    let _ = fs::remove_file(&new);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).with_context(unwritable)?;
    file.write_all(text(environment).as_bytes()).with_context(unwritable)?;
    fs::rename(&new, &path).with_context(unwritable)
}

pub(crate) fn remove(data_dir: &Path) {
    // Gone already is as good.
    let _ = fs::remove_file(path(data_dir));
}

fn text(environment: &[(String, String)]) -> String {
    environment.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect()
}

/// As a shell takes it literally, whatever is in it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_every_value_as_it_was_and_nobody_else_reads_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let values = ["plain", "", "two words", "it's $HOME `id` \\ \"x\"", "http://127.0.0.1:1/a?b=c&d"];
        let environment: Vec<_> =
            values.iter().enumerate().map(|(n, value)| (format!("V{n}"), (*value).to_owned())).collect();
        write(dir.path(), &[("OLD".to_owned(), "1".to_owned())]).unwrap();
        write(dir.path(), &environment).unwrap();
        assert_eq!(fs::metadata(path(dir.path())).unwrap().permissions().mode() & 0o777, 0o600);
        for (n, value) in values.iter().enumerate() {
            let script = format!("set -a; . ./worker.env; printf %s \"$V{n}\"; test -z \"$OLD\"");
            let output = Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap();
            assert!(output.status.success());
            assert_eq!(String::from_utf8(output.stdout).unwrap(), *value);
        }
        remove(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

//! The public contract, as clients that are in use see it.
//!
//! Owns: every promise of the HTTP contract that can be seen from outside. Does not own: crashes, money and the whole
//! way of a clip (their own modules), the rules behind a refusal (tested beside the code).
//! What concerns client libraries is asked by client libraries, one in Python and one in Node (`tests/clients`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;
mod answers;
mod backgrounds;
mod errors;
mod idempotency;
pub(crate) mod library;
mod lifecycle;
mod limits;
mod ownership;
mod paging;
pub(crate) mod receiver;
mod snippets;
mod transfer;
mod webhooks;
pub(crate) mod wire;

use crate::world::Options;

/// A world where jobs stay pending, their messages are left, and a key may ask as often as it likes.
pub(crate) fn no_worker() -> Options {
    let args = ["--reads-per-minute", "1000000", "--creates-per-minute", "1000000"].map(str::to_owned).to_vec();
    Options { no_worker: true, messages_left: true, args, ..Options::default() }
}

/// Draws a small still picture.
pub(crate) fn picture(dir: &std::path::Path) -> std::path::PathBuf {
    let path = dir.join("picture.png");
    let mut command = std::process::Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x64:d=1", "-frames:v", "1"]).arg(&path);
    assert!(command.status().unwrap().success());
    path
}

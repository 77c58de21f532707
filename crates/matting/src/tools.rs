//! ffmpeg and ffprobe: where they are, which version, what they can do.
//!
//! Owns: finding and checking the two programs. Does not own: starting them for media (`child`).

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version of ffmpeg whose options are the ones used here.
pub const MIN_FFMPEG_MAJOR: u32 = 5;

/// What the engine encodes with. `ffv1` and `png` serve previews and lossless checks.
const ENCODERS: &[&str] =
    &["libvpx-vp9", "prores_ks", "libx264", "libopus", "aac", "libwebp_anim", "gif", "png", "ffv1"];

/// What the engine decodes with by name: only libvpx reads the alpha of a VP9 stream.
const DECODERS: &[&str] = &["libvpx-vp9"];

/// What the engine converts with: HDR and wide colours, interlaced pictures, transparent sources.
const FILTERS: &[&str] = &["zscale", "tonemap", "bwdif", "premultiply"];

/// A list of codecs is some tens of KB; whatever is longer is not one.
const MAX_LISTING_BYTES: u64 = 1 << 20;

/// The two programs, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Absolute path of ffmpeg.
    pub ffmpeg: PathBuf,
    /// Absolute path of ffprobe.
    pub ffprobe: PathBuf,
}

/// Why the programs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// Not in the path.
    #[error("`{program}` is not in the path: install ffmpeg {MIN_FFMPEG_MAJOR} or newer")]
    NotFound {
        /// Which one.
        program: &'static str,
    },
    /// It does not start, or does not answer.
    #[error("{} cannot be run", path.display())]
    CannotRun {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its version cannot be told.
    #[error("{} does not tell its version", path.display())]
    UnknownVersion {
        /// Which one.
        path: PathBuf,
    },
    /// Too old.
    #[error("{} is version {major}, at least {MIN_FFMPEG_MAJOR} is needed", path.display())]
    TooOld {
        /// Which one.
        path: PathBuf,
        /// What it is.
        major: u32,
    },
}

impl Tools {
    /// Finds both programs in the directories of a `PATH` and checks their versions.
    ///
    /// # Errors
    /// One of them is missing, does not run or is too old.
    pub fn find(path_env: Option<&OsStr>) -> Result<Self, ToolsError> {
        let tools = Self { ffmpeg: find(path_env, "ffmpeg")?, ffprobe: find(path_env, "ffprobe")? };
        for path in [&tools.ffmpeg, &tools.ffprobe] {
            let text = listing(path, &["-version"])?;
            let major = major_version(&text).ok_or_else(|| ToolsError::UnknownVersion { path: path.clone() })?;
            if major < MIN_FFMPEG_MAJOR {
                return Err(ToolsError::TooOld { path: path.clone(), major });
            }
        }
        Ok(tools)
    }

    /// Names of the codecs and filters that the engine needs and this ffmpeg lacks; empty when all is well.
    ///
    /// # Errors
    /// ffmpeg does not run.
    pub fn missing_codecs(&self) -> Result<Vec<&'static str>, ToolsError> {
        let encoders = listing(&self.ffmpeg, &["-hide_banner", "-encoders"])?;
        let decoders = listing(&self.ffmpeg, &["-hide_banner", "-decoders"])?;
        let mut missing = absent(ENCODERS, &encoders);
        missing.extend(absent(DECODERS, &decoders));
        missing.extend(absent(FILTERS, &listing(&self.ffmpeg, &["-hide_banner", "-filters"])?));
        missing.dedup();
        Ok(missing)
    }
}

fn find(path_env: Option<&OsStr>, program: &'static str) -> Result<PathBuf, ToolsError> {
    std::env::split_paths(path_env.unwrap_or_default())
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_absolute() && is_executable(candidate))
        .ok_or(ToolsError::NotFound { program })
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Output of a program that only describes itself, so its time is not guarded; its length is.
fn listing(path: &Path, arguments: &[&str]) -> Result<String, ToolsError> {
    let failed = |source| ToolsError::CannotRun { path: path.to_owned(), source };
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut text = Vec::new();
    let read = match child.stdout.take() {
        Some(stdout) => stdout.take(MAX_LISTING_BYTES).read_to_end(&mut text),
        None => Ok(0),
    };
    let status = child.wait().map_err(failed)?;
    read.map_err(failed)?;
    if !status.success() {
        return Err(failed(std::io::Error::other(format!("it ended with {status}"))));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `ffmpeg version 5.1.9-0+deb12u1 …`, `n7.1`, and git builds (`N-109468-gd39b34123d`), which are newer than 5.
fn major_version(text: &str) -> Option<u32> {
    let version = text.lines().next()?.split_once(" version ")?.1;
    if version.starts_with("N-") || version.starts_with("git-") {
        return Some(u32::MAX);
    }
    let digits = version.trim_start_matches(['n', 'v']);
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The lines of a listing are flags, name, description.
fn absent(wanted: &[&'static str], listing: &str) -> Vec<&'static str> {
    let present: Vec<&str> = listing.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    wanted.iter().copied().filter(|name| !present.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_distributions_and_git_builds_are_understood() {
        assert_eq!(major_version("ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026"), Some(5));
        assert_eq!(major_version("ffprobe version n7.1 Copyright"), Some(7));
        assert_eq!(major_version("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright"), Some(4));
        assert_eq!(major_version("ffmpeg version N-109468-gd39b34123d Copyright"), Some(u32::MAX));
        assert_eq!(major_version("something else"), None);
    }

    #[test]
    fn a_missing_codec_is_named() {
        let listing = " V....D libvpx-vp9  libvpx VP9 (codec vp9)\n A....D aac   AAC (Advanced Audio Coding)\n";
        assert_eq!(absent(&["libvpx-vp9", "aac", "libopus"], listing), ["libopus"]);
    }

    #[test]
    fn an_empty_path_finds_nothing() {
        assert!(matches!(Tools::find(None), Err(ToolsError::NotFound { program: "ffmpeg" })));
    }

    #[test]
    fn a_program_that_is_too_old_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        for program in ["ffmpeg", "ffprobe"] {
            let path = directory.path().join(program);
            std::fs::write(&path, format!("#!/bin/sh\necho {program} version 4.2.7 Copyright\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let found = Tools::find(Some(directory.path().as_os_str()));
        assert!(matches!(found, Err(ToolsError::TooOld { major: 4, .. })), "{found:?}");
    }
}

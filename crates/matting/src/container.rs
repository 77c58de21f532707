//! Which container a file is, by its first bytes.
//!
//! Owns: the list of containers that are accepted and the demuxer that reads each. A file is looked at here before
//! any tool opens it: a playlist, a picture or a program named `.mp4` goes no further (G-29).

mod edits;
mod extent;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{EngineError, LimitExceeded};

/// Entries of an edit list that are accepted.
const MAX_EDITS: u32 = 1000;

/// A container that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// MP4 and MOV.
    Mov,
    /// WebM and MKV.
    Matroska,
    /// AVI.
    Avi,
}

impl Container {
    /// The container of a file, by content; the file must be as long as it says.
    pub(crate) fn of_file(path: &Path) -> Result<Self, EngineError> {
        Self::of(&mut File::open(path).map_err(EngineError::io("cannot open the source"))?)
    }

    pub(crate) fn of(file: &mut (impl Read + Seek)) -> Result<Self, EngineError> {
        let unreadable = || EngineError::io("cannot read the source");
        let mut head = [0; 12];
        let filled = extent::read_at(file, 0, &mut head).map_err(unreadable())?;
        let container = Self::of_bytes(head.get(..filled).unwrap_or_default()).ok_or(EngineError::NotAVideo)?;
        let least = extent::least_length(container, file).map_err(unreadable())?;
        let found = file.seek(SeekFrom::End(0)).map_err(unreadable())?;
        if found < least {
            return Err(EngineError::Damaged { detail: format!("it is cut off after {found} of {least} bytes") });
        }
        let edits = if container == Self::Mov { edits::longest(file).map_err(unreadable())? } else { 0 };
        if edits > MAX_EDITS {
            return Err(LimitExceeded::Edits { edits, max: MAX_EDITS }.into());
        }
        Ok(container)
    }

    fn of_bytes(head: &[u8]) -> Option<Self> {
        match head {
            // The first box of a file; old MOV files start with any of the later ones.
            [_, _, _, _, b'f', b't', b'y', b'p', ..]
            | [_, _, _, _, b'm', b'o', b'o', b'v', ..]
            | [_, _, _, _, b'm', b'd', b'a', b't', ..]
            | [_, _, _, _, b'f', b'r', b'e', b'e', ..]
            | [_, _, _, _, b's', b'k', b'i', b'p', ..]
            | [_, _, _, _, b'w', b'i', b'd', b'e', ..] => Some(Self::Mov),
            [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Self::Matroska),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => Some(Self::Avi),
            _ => None,
        }
    }

    /// The demuxer's name for `-f`: it is given, never guessed by ffmpeg.
    pub(crate) const fn demuxer(self) -> &'static str {
        match self {
            Self::Mov => "mov",
            Self::Matroska => "matroska",
            Self::Avi => "avi",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_content() {
        assert_eq!(Container::of_bytes(b"\0\0\0\x20ftypisom"), Some(Container::Mov));
        assert_eq!(Container::of_bytes(b"\0\0\0\x08wide\0\0\0\0"), Some(Container::Mov));
        assert_eq!(Container::of_bytes(b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\0"), Some(Container::Matroska));
        assert_eq!(Container::of_bytes(b"RIFF\0\0\0\0AVI LIST"[..12].as_ref()), Some(Container::Avi));
    }

    #[test]
    fn what_is_not_a_video_container_is_refused() {
        for head in [
            &b"#EXTM3U\n#EXT"[..],
            b"ffconcat ver",
            b"<!DOCTYPE ht",
            b"<svg xmlns=\"",
            b"PK\x03\x04\0\0\0\0\0\0\0\0",
            b"\x7fELF\x02\x01\x01\0\0\0\0\0",
            b"RIFF\0\0\0\0WEBP",
            b"v=0\r\no=- 0 0",
            b"GIF89a\0\0\0\0\0\0",
            b"\x89PNG\r\n\x1a\n\0\0\0\r",
            b"",
            b"abc",
        ] {
            assert_eq!(Container::of_bytes(head), None, "{head:?}");
        }
    }
}

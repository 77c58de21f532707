//! The early probe: what a video's header says of it, before any worker sees the file.
//!
//! Owns: recognising uploads by their first bytes ([`sniff()`]) and reading container, length and size of the picture
//! of MP4, MOV, WebM, Matroska and AVI ([`read_header`]). Does not own: decoding, and the truth. A header may lie in
//! either direction; the worker measures the source again and what it decodes decides.
//!
//! Invariants, whatever the bytes: no panic (nothing is indexed or added unchecked, so nothing needs catching), at
//! most [`MAX_BLOCKS`] blocks of [`BLOCK_BYTES`] read, at most 4096 boxes or elements visited, and memory of a few
//! blocks: sample tables are skipped, not loaded, so a count in them cannot ask for memory.
//!
//! The walks are our own. The parsers on offer build one record for each sample of a table (a 32-bit count in a file
//! of 100 bytes), index by what the file says, and read on to the end of a file without an index; guarding them
//! takes a walk of the same length. They check ours, as a second opinion, in `tests/header.rs`.

use std::io::{self, Read, Seek};

mod blocks;
mod ebml;
mod isobmff;
mod riff;
mod sniff;
mod source;

pub use blocks::{BLOCK_BYTES, BlockReader, MAX_BLOCKS};
pub use sniff::{FileType, sniff};

use source::Source;

/// The container a video is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// ISO base media: MP4 and its relatives.
    Mp4,
    /// `QuickTime`.
    Mov,
    /// Matroska with the `DocType` `webm`.
    Webm,
    /// Any other Matroska.
    Matroska,
    /// RIFF AVI.
    Avi,
}

/// What a header says. A hint for the first hold, never for the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The container.
    pub container: Container,
    /// Length of the first video track in ms, rounded up; none when the header does not tell (live recordings, long
    /// fragmented files).
    pub duration_ms: Option<u64>,
    /// Width of the first video track in px, after rotation; none when the header does not tell.
    pub width: Option<u32>,
    /// Height of the first video track in px, after rotation; none when the header does not tell.
    pub height: Option<u32>,
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Not one of the containers, whatever the file is called.
    #[error("not a video")]
    NotVideo,
    /// One of the containers, but cut off or contradicting itself.
    #[error("the header is damaged: {0}")]
    Damaged(Damage),
    /// A whole header without a video track.
    #[error("there is no video track")]
    NoVideoTrack,
    /// Needs more reading than a header is worth.
    #[error("the header is too large or too scattered")]
    TooComplex,
    /// The bytes could not be read; says nothing of the video.
    #[error("the file could not be read")]
    Io(#[source] io::Error),
}

/// What is wrong with a damaged header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A box or element goes beyond its parent or the file.
    #[error("a part reaches beyond its end")]
    Overrun,
    /// A part that must be there is not.
    #[error("a part is missing")]
    Missing,
    /// A number makes no sense.
    #[error("a number is out of range")]
    Number,
}

/// Reads the header of a file of `len` bytes.
///
/// # Errors
/// [`HeaderError::NotVideo`], [`HeaderError::Damaged`] and [`HeaderError::NoVideoTrack`] are verdicts on the file;
/// [`HeaderError::TooComplex`] is one on our limits; [`HeaderError::Io`] is none, and may be tried again.
pub fn read_header<R: Read + Seek>(reader: R, len: u64) -> Result<Header, HeaderError> {
    let mut source = Source::new(reader, len);
    let mut first = [0; sniff::SNIFF_BYTES];
    let known = usize::try_from(len).unwrap_or(usize::MAX).min(first.len());
    source.read_at(0, &mut first[..known])?;
    match sniff(&first[..known]) {
        Some(FileType::Mp4) => isobmff::read(&mut source, Container::Mp4),
        Some(FileType::Mov) => isobmff::read(&mut source, Container::Mov),
        Some(FileType::Webm | FileType::Mkv) => ebml::read(&mut source),
        Some(FileType::Avi) => riff::read(&mut source),
        Some(FileType::Png | FileType::Jpeg | FileType::Webp) | None => Err(HeaderError::NotVideo),
    }
}

/// `ticks / per_second` in ms, rounded up; none for nothing.
fn milliseconds(ticks: u64, per_second: u64) -> Result<Option<u64>, HeaderError> {
    if ticks == 0 {
        return Ok(None);
    }
    let wrong = HeaderError::Damaged(Damage::Number);
    let ms = (u128::from(ticks) * 1000).checked_add(u128::from(per_second).saturating_sub(1));
    let ms = ms.and_then(|ms| ms.checked_div(u128::from(per_second)));
    match ms.map(u64::try_from) {
        Some(Ok(ms)) => Ok(Some(ms)),
        Some(Err(_)) | None => Err(wrong),
    }
}

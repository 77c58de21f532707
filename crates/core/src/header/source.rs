//! Bounded access to the file: every read is counted in blocks, every visited box in boxes.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

use super::blocks::{BLOCK_BYTES, MAX_BLOCKS};
use super::{Damage, HeaderError};

/// Boxes or elements visited in one file.
const MAX_PARTS: u32 = 4096;

/// Bytes `start..end` of the file: a box's or an element's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// `len` bytes from `offset` on, if they are within.
    pub(super) fn part(self, offset: u64, len: u64) -> Result<Self, HeaderError> {
        let start = self.start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(len));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.end => Ok(Self { start, end }),
            _ => Err(HeaderError::Damaged(Damage::Overrun)),
        }
    }

    /// Everything from `offset` on.
    pub(super) fn after(self, offset: u64) -> Result<Self, HeaderError> {
        let rest = self.len().checked_sub(offset).ok_or(HeaderError::Damaged(Damage::Overrun))?;
        self.part(offset, rest)
    }
}

pub(super) struct Source<R> {
    reader: R,
    len: u64,
    /// The block read last; neighbouring small reads come out of it.
    block: Vec<u8>,
    block_index: Option<u64>,
    touched: BTreeSet<u64>,
    parts: u32,
}

impl<R: Read + Seek> Source<R> {
    pub(super) fn new(reader: R, len: u64) -> Self {
        Self { reader, len, block: Vec::new(), block_index: None, touched: BTreeSet::new(), parts: 0 }
    }

    pub(super) fn whole(&self) -> Span {
        Span { start: 0, end: self.len }
    }

    /// Counts one more box or element.
    pub(super) fn visit(&mut self) -> Result<(), HeaderError> {
        self.parts += 1;
        if self.parts > MAX_PARTS { Err(HeaderError::TooComplex) } else { Ok(()) }
    }

    /// Fills `buffer` from `offset` on.
    pub(super) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), HeaderError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset.saturating_add(filled as u64);
            self.load(at / BLOCK_BYTES)?;
            // Within a block: fits usize.
            let within = usize::try_from(at % BLOCK_BYTES).unwrap_or(usize::MAX);
            let rest = self.block.get(within..).unwrap_or_default();
            if rest.is_empty() {
                return Err(HeaderError::Damaged(Damage::Overrun));
            }
            let n = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + n].copy_from_slice(&rest[..n]);
            filled += n;
        }
        Ok(())
    }

    /// The first `N` bytes of a span.
    pub(super) fn bytes<const N: usize>(&mut self, span: Span) -> Result<[u8; N], HeaderError> {
        let mut bytes = [0; N];
        self.read_at(span.part(0, N as u64)?.start, &mut bytes)?;
        Ok(bytes)
    }

    fn load(&mut self, index: u64) -> Result<(), HeaderError> {
        if self.block_index == Some(index) {
            return Ok(());
        }
        self.touched.insert(index);
        if self.touched.len() > MAX_BLOCKS {
            return Err(HeaderError::TooComplex);
        }
        let start = index.saturating_mul(BLOCK_BYTES);
        let wanted = self.len.saturating_sub(start).min(BLOCK_BYTES);
        self.block_index = None;
        self.block.clear();
        self.reader.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        self.reader.by_ref().take(wanted).read_to_end(&mut self.block).map_err(unreadable)?;
        self.block_index = Some(index);
        Ok(())
    }
}

fn unreadable(error: io::Error) -> HeaderError {
    // The block reader beneath has a cap of its own.
    if error.kind() == io::ErrorKind::QuotaExceeded { HeaderError::TooComplex } else { HeaderError::Io(error) }
}

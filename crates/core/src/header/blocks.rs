//! Ranged reads behind `Read + Seek`: blocks are fetched when touched, kept, and counted.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;

/// Bytes fetched at a time.
pub const BLOCK_BYTES: u64 = 64 * 1024;

/// Blocks that a header may take.
pub const MAX_BLOCKS: usize = 64;

/// An object of known length, read by ranged requests. `fetch(start, len)` gives bytes `start..start+len`; it may
/// block, so this belongs on a thread that may.
pub struct BlockReader<F> {
    fetch: F,
    len: u64,
    position: u64,
    max_blocks: usize,
    blocks: BTreeMap<u64, Bytes>,
}

impl<F: FnMut(u64, u64) -> io::Result<Bytes>> BlockReader<F> {
    /// An object of `len` bytes, of which at most [`MAX_BLOCKS`] blocks are fetched.
    pub fn new(fetch: F, len: u64) -> Self {
        Self { fetch, len, position: 0, max_blocks: MAX_BLOCKS, blocks: BTreeMap::new() }
    }

    /// The same with another cap.
    #[must_use]
    pub fn with_max_blocks(self, max_blocks: usize) -> Self {
        Self { max_blocks, ..self }
    }

    /// Blocks fetched so far.
    #[must_use]
    pub fn fetched(&self) -> usize {
        self.blocks.len()
    }

    fn block(&mut self, index: u64) -> io::Result<&Bytes> {
        if !self.blocks.contains_key(&index) {
            if self.blocks.len() >= self.max_blocks {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the reader's blocks are used up"));
            }
            let start = index.saturating_mul(BLOCK_BYTES);
            let wanted = self.len.saturating_sub(start).min(BLOCK_BYTES);
            let mut block = (self.fetch)(start, wanted)?;
            // A source that answers a ranged request with more than was asked for is cut, not believed.
            block.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
            self.blocks.insert(index, block);
        }
        self.blocks.get(&index).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl<F: FnMut(u64, u64) -> io::Result<Bytes>> Read for BlockReader<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.len || buffer.is_empty() {
            return Ok(0);
        }
        let (index, within) = (self.position / BLOCK_BYTES, self.position % BLOCK_BYTES);
        let block = self.block(index)?;
        let Some(rest) = usize::try_from(within).ok().and_then(|within| block.get(within..)) else { return Ok(0) };
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.position += n as u64;
        Ok(n)
    }
}

impl<F> Seek for BlockReader<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

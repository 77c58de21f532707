//! How long a container says it is, by its outermost structure.
//!
//! ffmpeg takes a file that was cut off for one that ends (a Matroska anywhere, an MP4 between two samples): its exit
//! status is 0. The outermost sizes tell, so they are compared with the file's length. Where a container does not know
//! its own length (live recordings) nothing is claimed.

use std::io::{Read, Result, Seek, SeekFrom};

use super::Container;

/// Boxes of the outermost level that are walked: enough for an hour of fragments.
const MAX_BOXES: usize = 100_000;

/// As much of a segment index as is read: 87 thousand fragments.
const MAX_INDEX_BYTES: u64 = 1 << 20;

/// The least length that the file must have, as far as it tells.
pub(super) fn least_length(container: Container, file: &mut (impl Read + Seek)) -> Result<u64> {
    match container {
        Container::Mov => mov(file),
        Container::Matroska => matroska(file),
        Container::Avi => avi(file),
    }
}

/// Only boxes that hold a film count: what stands behind the last of them may be junk, which players ignore too.
fn mov(file: &mut (impl Read + Seek)) -> Result<u64> {
    let (mut at, mut least) = (0_u64, 0_u64);
    for _ in 0..MAX_BOXES {
        let Some(BoxHead { kind, size, .. }) = box_at(file, at)? else { break };
        let end = at.saturating_add(size);
        match &kind {
            b"moov" | b"mdat" | b"moof" => least = least.max(end),
            // What it refers to stands behind it: fragments, which are whole boxes each, so that a file which ends
            // between two of them looks like one that is whole.
            b"sidx" => least = least.max(end.saturating_add(referenced(file, at, size)?)),
            _ => {}
        }
        at = end;
    }
    Ok(least)
}

/// The start of a box.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoxHead {
    pub kind: [u8; 4],
    /// With its header.
    pub size: u64,
    /// Where its content begins, counted from its start.
    pub content: u64,
}

/// The box at a place; none where there is none, or one that goes on to the end of the file, whatever that is.
pub(super) fn box_at(file: &mut (impl Read + Seek), at: u64) -> Result<Option<BoxHead>> {
    let mut head = [0; 16];
    let got = read_at(file, at, &mut head)?;
    if got < 8 {
        return Ok(None);
    }
    let kind = word(&head, 4).to_be_bytes();
    let (size, content) = match word(&head, 0) {
        0 => return Ok(None),
        1 if got == 16 => (u64::from(word(&head, 8)) << 32 | u64::from(word(&head, 12)), 16),
        1 => return Ok(None),
        size => (u64::from(size), 8),
    };
    Ok((size >= content).then_some(BoxHead { kind, size, content }))
}

/// Bytes behind a segment index that it says are there.
fn referenced(file: &mut (impl Read + Seek), at: u64, size: u64) -> Result<u64> {
    let mut content = vec![0; usize::try_from(size.min(MAX_INDEX_BYTES)).unwrap_or(0)];
    let got = read_at(file, at, &mut content)?;
    let content = content.get(..got).unwrap_or_default();
    // Version and flags, id, timescale; earliest time and first offset are 32 or 64 bits each; then the count.
    let (offset_at, offset_bytes) = if content.get(8) == Some(&0) { (24, 4) } else { (28, 8) };
    let Some(offset) = content.get(offset_at..offset_at + offset_bytes) else { return Ok(0) };
    let offset = offset.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    let entries = content.get(offset_at + offset_bytes + 4..).unwrap_or_default();
    // One bit tells what is referred to; the size is the other 31.
    let sizes = entries
        .chunks_exact(12)
        .map(|entry| u64::from(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]) & 0x7fff_ffff));
    Ok(sizes.fold(offset, u64::saturating_add))
}

/// The EBML header, then the segment: all the rest of the file.
fn matroska(file: &mut (impl Read + Seek)) -> Result<u64> {
    const SEGMENT: u64 = 0x1853_8067;
    let mut head = [0; 64];
    let got = read_at(file, 0, &mut head)?;
    let head = head.get(..got).unwrap_or_default();
    let Some((_, after_id)) = number(head, 0, Keep::Marker) else { return Ok(0) };
    let Some((size, after_size)) = number(head, after_id, Keep::Value) else { return Ok(0) };
    let segment_at = size.saturating_add(after_size as u64);

    let mut head = [0; 16];
    let got = read_at(file, segment_at, &mut head)?;
    let head = head.get(..got).unwrap_or_default();
    let Some((SEGMENT, after_id)) = number(head, 0, Keep::Marker) else { return Ok(0) };
    let Some((size, after_size)) = number(head, after_id, Keep::Value) else { return Ok(0) };
    // All ones: unknown.
    let bits = 7 * (after_size - after_id);
    if size == (1_u64 << bits) - 1 {
        return Ok(0);
    }
    Ok(segment_at.saturating_add(after_size as u64).saturating_add(size))
}

fn avi(file: &mut (impl Read + Seek)) -> Result<u64> {
    let mut head = [0; 8];
    if read_at(file, 0, &mut head)? < head.len() {
        return Ok(0);
    }
    match u32::from_le_bytes([head[4], head[5], head[6], head[7]]) {
        // Never filled in.
        0 | u32::MAX => Ok(0),
        size => Ok(u64::from(size) + 8),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// An id: the length marker is part of it.
    Marker,
    /// A size: the length marker is cut off.
    Value,
}

/// An EBML number of 1 to 8 bytes, and where it ends.
fn number(bytes: &[u8], at: usize, keep: Keep) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    let length = first.leading_zeros() as usize + 1;
    if length > 8 {
        return None;
    }
    let digits = bytes.get(at..at + length)?;
    let value = digits.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    let value = if keep == Keep::Value { value & ((1 << (7 * length)) - 1) } else { value };
    Some((value, at + length))
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// As much as there is.
pub(super) fn read_at(file: &mut (impl Read + Seek), at: u64, buffer: &mut [u8]) -> Result<usize> {
    if at >= file.seek(SeekFrom::End(0))? {
        // Far beyond the end the system refuses to seek, which is no failure to read.
        return Ok(0);
    }
    file.seek(SeekFrom::Start(at))?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn least(container: Container, bytes: &[u8]) -> u64 {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        least_length(container, &mut file).unwrap()
    }

    #[test]
    fn outermost_sizes_are_read() {
        assert_eq!(least(Container::Mov, b"\0\0\0\x0cftypisom\0\0\x01\0mdat"), 12 + 256);
        assert_eq!(least(Container::Mov, b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0"), 1 << 32);
        assert_eq!(least(Container::Mov, b"\0\0\0\x08moov\xff\xff\xff\xffjunk"), 8);
        assert_eq!(least(Container::Matroska, b"\x1a\x45\xdf\xa3\x81\0\x18\x53\x80\x67\x42\x00"), 12 + 0x200);
        assert_eq!(least(Container::Avi, b"RIFF\x10\0\0\0AVI "), 24);
    }

    #[test]
    fn a_segment_index_tells_of_what_stands_behind_it() {
        let mut index = b"\0\0\0\x38sidx\0\0\0\0\0\0\0\x01\0\0\x03\xe8\0\0\0\0\0\0\0\x05\0\0\0\x02".to_vec();
        for size in [100_u32, 0x8000_0000 | 23] {
            index.extend(size.to_be_bytes());
            index.extend([0; 8]);
        }
        assert_eq!(least(Container::Mov, &index), 56 + 5 + 123);
        for length in 8..index.len() {
            least(Container::Mov, &index[..length]);
        }
    }

    #[test]
    fn containers_that_do_not_know_their_length_claim_nothing() {
        assert_eq!(least(Container::Mov, b"\0\0\0\0mdat"), 0);
        assert_eq!(
            least(Container::Matroska, b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"),
            0
        );
        assert_eq!(least(Container::Avi, b"RIFF\0\0\0\0AVI "), 0);
    }

    #[test]
    fn hostile_sizes_neither_panic_nor_loop() {
        assert_eq!(least(Container::Mov, b"\0\0\0\x07mdat"), 0);
        assert_eq!(least(Container::Mov, b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff"), u64::MAX);
        assert_eq!(least(Container::Matroska, b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe"), 0);
        assert_eq!(least(Container::Matroska, b"\0\0\0"), 0);
    }
}

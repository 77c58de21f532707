//! How long the edit lists of an MP4 are.
//!
//! ffmpeg looks at every frame for every entry: a list of a million entries (12 MB) in front of 25 frames keeps ffprobe
//! busy for minutes. Editors write a handful, so the count is looked at first.

use std::io::{Read, Result, Seek};

use super::extent::{BoxHead, box_at, read_at};

/// Boxes that are looked at; `moov` stands among the first, and its tracks have a dozen each.
const MAX_BOXES: usize = 20_000;

/// How deep `elst` stands: `moov`, `trak`, `edts`.
const DEPTH: usize = 3;

/// The entries of the longest edit list, as it says itself.
pub(super) fn longest(file: &mut (impl Read + Seek)) -> Result<u32> {
    // Where the next box of each open level is, and where the level ends.
    let mut open = vec![(0, u64::MAX)];
    let mut longest = 0;
    for _ in 0..MAX_BOXES {
        let Some((at, end)) = open.pop() else { break };
        let Some(BoxHead { kind, size, content }) = (if at < end { box_at(file, at)? } else { None }) else { continue };
        open.push((at.saturating_add(size), end));
        let inside = at.saturating_add(content);
        match &kind {
            b"moov" | b"trak" | b"edts" if open.len() <= DEPTH => open.push((inside, at.saturating_add(size))),
            b"elst" => {
                let mut count = [0; 8];
                if read_at(file, inside, &mut count)? == count.len() {
                    let [_, _, _, _, count @ ..] = count;
                    longest = longest.max(u32::from_be_bytes(count));
                }
            }
            _ => {}
        }
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len() + 8).unwrap();
        [&size.to_be_bytes(), &kind[..], content].concat()
    }

    #[test]
    fn the_longest_list_of_all_tracks_counts() {
        let track = |entries: u32| {
            let list = boxed(b"elst", &[[0; 4], entries.to_be_bytes()].concat());
            boxed(b"trak", &[boxed(b"tkhd", &[0; 84]), boxed(b"edts", &list)].concat())
        };
        let file = [boxed(b"ftyp", b"isom"), boxed(b"moov", &[track(2), track(1_000_000), track(1)].concat())].concat();
        assert_eq!(longest(&mut Cursor::new(&file)).unwrap(), 1_000_000);
        for length in 0..file.len() {
            longest(&mut Cursor::new(&file[..length])).unwrap();
        }
    }

    #[test]
    fn boxes_without_end_are_not_followed_for_ever() {
        let file = boxed(b"moov", &[]).repeat(50_000);
        assert_eq!(longest(&mut Cursor::new(&file)).unwrap(), 0);
    }
}

//! Pictures one after another in one stream, as ffmpeg's `image2pipe` writes them.
//!
//! Owns: finding where a PNG or WebP ends. Does not own: what is in it. Invariant: a picture is kept whole in memory,
//! so its length is capped; one that is cut off is an error and never the end of the stream.

use std::io::{Error, ErrorKind, Read};

/// Greatest encoded picture: 4096 × 4096 RGBA that does not compress, and twice that.
const MAX_STILL_BYTES: u64 = 128 << 20;

const PNG_SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// What the pictures of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Still {
    Png,
    Webp,
}

impl Still {
    /// ffmpeg's demuxer for a stream of them.
    pub(crate) const fn demuxer(self) -> &'static str {
        match self {
            Self::Png => "png_pipe",
            Self::Webp => "webp_pipe",
        }
    }

    /// Reads the next picture in place of what `picture` holds; `false` at the end of the stream.
    pub(crate) fn read_next(self, from: &mut impl Read, picture: &mut Vec<u8>) -> std::io::Result<bool> {
        picture.clear();
        match self {
            Self::Png => next_png(from, picture),
            Self::Webp => next_webp(from, picture),
        }
    }
}

fn next_png(from: &mut impl Read, picture: &mut Vec<u8>) -> std::io::Result<bool> {
    if !more(from, picture, 8)? {
        return Ok(false);
    }
    if *picture != PNG_SIGNATURE {
        return Err(wrong("a PNG was expected"));
    }
    loop {
        let chunk = picture.len();
        must(from, picture, 8)?;
        let header = picture.get(chunk..).unwrap_or_default();
        let (length, is_last) = match *header {
            [a, b, c, d, ref kind @ ..] => (u32::from_be_bytes([a, b, c, d]), kind == b"IEND"),
            _ => return Err(wrong("a chunk without a header")),
        };
        // The chunk's content and its checksum.
        must(from, picture, u64::from(length) + 4)?;
        if is_last {
            return Ok(true);
        }
    }
}

fn next_webp(from: &mut impl Read, picture: &mut Vec<u8>) -> std::io::Result<bool> {
    if !more(from, picture, 12)? {
        return Ok(false);
    }
    let length = match **picture {
        [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P'] => u32::from_le_bytes([a, b, c, d]),
        _ => return Err(wrong("a WebP was expected")),
    };
    // The length counts from behind itself; four bytes of it are read. Chunks are padded to even lengths.
    let rest = u64::from(length).checked_sub(4).ok_or_else(|| wrong("a WebP without content"))?;
    must(from, picture, rest + rest % 2)?;
    Ok(true)
}

/// Appends so many bytes; `false` when there is none at all.
fn more(from: &mut impl Read, picture: &mut Vec<u8>, count: u64) -> std::io::Result<bool> {
    if (picture.len() as u64).saturating_add(count) > MAX_STILL_BYTES {
        return Err(wrong("a picture of absurd length"));
    }
    match from.by_ref().take(count).read_to_end(picture)? as u64 {
        0 if count > 0 => Ok(false),
        got if got == count => Ok(true),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn must(from: &mut impl Read, picture: &mut Vec<u8>, count: u64) -> std::io::Result<()> {
    if more(from, picture, count)? { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn png(width: u32, height: u32, colour_type: u8) -> Vec<u8> {
        let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
        header.extend([8, colour_type, 0, 0, 0]);
        [&PNG_SIGNATURE[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", b"xyz"), &chunk(b"IEND", b"")].concat()
    }

    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        [&length.to_be_bytes()[..], kind, content, &[0; 4]].concat()
    }

    fn all(still: Still, stream: &[u8]) -> std::io::Result<Vec<usize>> {
        let (mut rest, mut picture, mut lengths) = (stream, Vec::new(), Vec::new());
        while still.read_next(&mut rest, &mut picture)? {
            lengths.push(picture.len());
        }
        Ok(lengths)
    }

    #[test]
    fn pictures_are_told_apart_at_their_borders() {
        let one = png(2, 2, 6);
        assert_eq!(all(Still::Png, &[one.clone(), one.clone()].concat()).unwrap(), [one.len(); 2]);
        // 15 bytes behind the length, so one of padding.
        let webp = [&b"RIFF\x0f\0\0\0WEBPVP8 \x03\0\0\0abc\0"[..], b"RIFF\x04\0\0\0WEBP"].concat();
        assert_eq!(all(Still::Webp, &webp).unwrap(), [24, 12]);
    }

    #[test]
    fn a_cut_off_picture_is_not_the_end_of_the_stream() {
        let one = png(2, 2, 6);
        for length in 1..one.len() {
            assert!(all(Still::Png, &one[..length]).is_err(), "{length}");
        }
        assert!(all(Still::Webp, b"RIFF\xff\xff\xff\xffWEBPVP8 ").is_err());
        assert!(all(Still::Webp, b"RIFF\x01\0\0\0WEBP").is_err());
        assert!(all(Still::Png, b"GIF89a__").is_err());
    }

    #[test]
    fn a_length_alone_asks_for_no_memory() {
        let lying = [&PNG_SIGNATURE[..], &u32::MAX.to_be_bytes(), b"IDAT"].concat();
        let error = all(Still::Png, &lying).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}

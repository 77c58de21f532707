//! An animated WebP of whole frames.
//!
//! Invariants: every frame covers the canvas and replaces what was there, so each can be decoded on its own; the
//! frames' times are whole ms whose sums follow the rate exactly.

use std::io::{Error, ErrorKind, Seek, Write};

use super::{Frames, patch};
use crate::frame::Size;

/// The length of a RIFF file is 32 bits.
pub(super) const MAX_BYTES: u64 = u32::MAX as u64 - (64 << 20);

/// VP8X: the file is animated; it has alpha.
const ANIMATED: u8 = 0x02;
const WITH_ALPHA: u8 = 0x10;

/// ANMF: the frame replaces what is under it.
const NO_BLENDING: u8 = 0x02;

/// Bytes of an ANMF chunk before the frame's own chunks.
const FRAME_HEADER_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Writer<W> {
    file: W,
    frames: Frames,
    written: u64,
    bytes: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(super) fn begin(mut file: W, frames: Frames) -> std::io::Result<Self> {
        let mut header = Vec::from(*b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0");
        header.extend([ANIMATED | if frames.with_alpha { WITH_ALPHA } else { 0 }, 0, 0, 0]);
        header.extend(sides(frames.size));
        // Behind the frames nothing; played for ever.
        header.extend(b"ANIM\x06\0\0\0\0\0\0\0\0\0");
        file.write_all(&header)?;
        Ok(Self { file, frames, written: 0, bytes: header.len() as u64 })
    }

    /// Adds a picture, which is a WebP file of its own.
    pub(super) fn add(&mut self, picture: &[u8]) -> std::io::Result<()> {
        let chunks = chunks(picture)?.filter(|(name, _)| [b"ALPH", b"VP8 ", b"VP8L"].contains(name));
        let chunks: Vec<&[u8]> = chunks.map(|(_, whole)| whole).collect();
        let length: usize = FRAME_HEADER_BYTES + chunks.iter().map(|chunk| chunk.len()).sum::<usize>();
        let length = u32::try_from(length).map_err(|_| wrong("a picture of absurd length"))?;
        let rate = self.frames.rate;
        let ms = rate.duration_ms(self.written + 1) - rate.duration_ms(self.written);
        let ms = u32::try_from(ms).unwrap_or(u32::MAX).min((1 << 24) - 1);
        let mut header = Vec::from(*b"ANMF");
        header.extend(length.to_le_bytes());
        header.extend([0; 6]);
        header.extend(sides(self.frames.size));
        header.extend(ms.to_le_bytes().into_iter().take(3));
        header.push(NO_BLENDING);
        self.file.write_all(&header)?;
        for chunk in chunks {
            self.file.write_all(chunk)?;
        }
        self.written += 1;
        self.bytes += 8 + u64::from(length);
        Ok(())
    }

    pub(super) fn end(mut self) -> std::io::Result<()> {
        let length = u32::try_from(self.bytes - 8).map_err(|_| wrong("a file of absurd length"))?;
        patch(&mut self.file, 4, &length.to_le_bytes())?;
        self.file.flush()
    }
}

/// Width and height, each less one, 24 bits.
fn sides(size: Size) -> impl Iterator<Item = u8> {
    [size.width, size.height]
        .into_iter()
        .flat_map(|side| (side.saturating_sub(1) as u32).to_le_bytes().into_iter().take(3))
}

/// The chunks of a WebP file: name, and the whole chunk with its header and padding.
fn chunks(picture: &[u8]) -> std::io::Result<impl Iterator<Item = (&[u8; 4], &[u8])>> {
    let mut rest = picture.get(12..).ok_or_else(|| wrong("a WebP without content"))?;
    Ok(std::iter::from_fn(move || {
        let (name, behind) = rest.split_first_chunk::<4>()?;
        let (length, _) = behind.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (chunk, behind) = rest.split_at_checked(8 + length + length % 2)?;
        rest = behind;
        Some((name, chunk))
    }))
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

//! An animated WebP, read back frame by frame.
//!
//! ffmpeg's decoder knows still pictures only, so each frame is made one again. It can be: our frames are whole.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read};
use std::path::Path;

use super::Pictures;
use crate::error::EngineError;

/// Greatest frame that is read into memory.
const MAX_FRAME_BYTES: u32 = 128 << 20;

/// What an animated WebP says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub width: u32,
    pub height: u32,
    pub has_alpha: bool,
}

/// An opened file, before its first frame.
#[derive(Debug)]
pub(crate) struct Webp<R> {
    file: R,
    /// As the RIFF header says.
    bytes_left: u64,
    pub head: Head,
    /// How long each frame is shown, ms, as far as they were read.
    pub durations: Vec<u32>,
}

impl Webp<BufReader<File>> {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        Self::of(BufReader::with_capacity(1 << 16, File::open(path)?))
    }
}

impl<R: Read> Webp<R> {
    pub(crate) fn of(mut file: R) -> std::io::Result<Self> {
        let [b'R', b'I', b'F', b'F', a, b, c, d, b'W', b'E', b'B', b'P'] = array::<12>(&mut file)? else {
            return Err(wrong("no WebP"));
        };
        let bytes_left = u64::from(u32::from_le_bytes([a, b, c, d])).saturating_sub(4);
        let head = Head { width: 0, height: 0, has_alpha: false };
        let mut webp = Self { file, bytes_left, head, durations: Vec::new() };
        let (name, content) = webp.chunk()?.ok_or_else(|| wrong("nothing in it"))?;
        let (b"VP8X", [flags, _, _, _, sides @ ..]) = (&name, content.as_slice()) else {
            return Err(wrong("it is not extended"));
        };
        let (width, height) = read_sides(sides)?;
        webp.head = Head { width, height, has_alpha: flags & 0x10 != 0 };
        if flags & 0x02 == 0 {
            return Err(wrong("it is not animated"));
        }
        Ok(webp)
    }

    /// The next chunk, without its header and padding; `None` at the end of the file.
    fn chunk(&mut self) -> std::io::Result<Option<([u8; 4], Vec<u8>)>> {
        if self.bytes_left == 0 {
            // The file must end where it says.
            return if self.file.read(&mut [0])? == 0 { Ok(None) } else { Err(wrong("it is longer than it says")) };
        }
        let [name @ .., a, b, c, d] = array::<8>(&mut self.file)?;
        let length = u32::from_le_bytes([a, b, c, d]);
        let whole = u64::from(length) + u64::from(length % 2);
        self.bytes_left = self.bytes_left.checked_sub(8 + whole).ok_or_else(|| wrong("a chunk beyond its end"))?;
        if length > MAX_FRAME_BYTES {
            return Err(wrong("a chunk of absurd length"));
        }
        let mut content = Vec::new();
        if self.file.by_ref().take(whole).read_to_end(&mut content)? as u64 != whole {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        content.truncate(length as usize);
        Ok(Some((name, content)))
    }

    pub(crate) fn next_frame(&mut self, picture: &mut Vec<u8>) -> std::io::Result<bool> {
        loop {
            let Some((name, content)) = self.chunk()? else { return Ok(false) };
            if &name != b"ANMF" {
                continue;
            }
            let [0, 0, 0, 0, 0, 0, head @ ..] = content.as_slice() else {
                return Err(wrong("a frame that does not begin in the corner"));
            };
            let Some(([sides @ .., a, b, c, _], chunks)) = head.split_first_chunk::<10>() else {
                return Err(wrong("a frame without a head"));
            };
            if read_sides(sides)? != (self.head.width, self.head.height) {
                return Err(wrong("a frame that is not as large as the canvas"));
            }
            self.durations.push(u32::from_le_bytes([*a, *b, *c, 0]));
            make_still(sides, chunks, picture)?;
            return Ok(true);
        }
    }
}

impl<R: Read + Send> Pictures for Webp<R> {
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, EngineError> {
        self.next_frame(picture).map_err(super::unreadable)
    }
}

/// A file of one picture.
fn make_still(sides: &[u8], chunks: &[u8], picture: &mut Vec<u8>) -> std::io::Result<()> {
    picture.clear();
    picture.extend(b"RIFF\0\0\0\0WEBP");
    if chunks.starts_with(b"ALPH") {
        picture.extend(b"VP8X\x0a\0\0\0\x10\0\0\0");
        picture.extend(sides);
    }
    picture.extend(chunks);
    let length = u32::try_from(picture.len() - 8).map_err(|_| wrong("a frame of absurd length"))?;
    picture.splice(4..8, length.to_le_bytes());
    Ok(())
}

fn read_sides(sides: &[u8]) -> std::io::Result<(u32, u32)> {
    match *sides {
        [a, b, c, d, e, f] => Ok((u32::from_le_bytes([a, b, c, 0]) + 1, u32::from_le_bytes([d, e, f, 0]) + 1)),
        _ => Err(wrong("no sides")),
    }
}

fn array<const N: usize>(file: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map(|()| bytes)
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

//! The structure of a GIF: its frames and their times. What is in the frames, the decoder sees.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read, Seek};
use std::path::Path;

/// What a GIF says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gif {
    pub width: u32,
    pub height: u32,
    /// How long each frame is shown, 1/100 s.
    pub delays: Vec<u16>,
}

impl Gif {
    pub(super) fn read(path: &Path) -> std::io::Result<Self> {
        Self::of(&mut BufReader::with_capacity(1 << 16, File::open(path)?))
    }

    pub(crate) fn of<R: Read + Seek>(file: &mut BufReader<R>) -> std::io::Result<Self> {
        let [signature @ .., a, b, c, d, flags, _, _] = array::<13, _>(file)?;
        if signature != *b"GIF89a" {
            return Err(wrong("no GIF"));
        }
        skip_palette(file, flags)?;
        let sides = [[a, b], [c, d]].map(|side| u32::from(u16::from_le_bytes(side)));
        let mut gif = Self { width: sides[0], height: sides[1], delays: Vec::new() };
        // Of the next frame.
        let mut delay = None;
        loop {
            match array::<1, _>(file)? {
                [0x21] => match array::<1, _>(file)? {
                    [0xf9] => {
                        let [4, _, low, high, _, 0] = array::<6, _>(file)? else {
                            return Err(wrong("a graphic control that is none"));
                        };
                        delay = Some(u16::from_le_bytes([low, high]));
                    }
                    [_] => skip_blocks(file)?,
                },
                [0x2c] => {
                    let [_, _, _, _, _, _, _, _, flags] = array::<9, _>(file)?;
                    skip_palette(file, flags)?;
                    // The code size.
                    array::<1, _>(file)?;
                    skip_blocks(file)?;
                    gif.delays.push(delay.take().ok_or_else(|| wrong("a frame without a time"))?);
                }
                [0x3b] => return Ok(gif),
                [_] => return Err(wrong("an unknown block")),
            }
        }
    }
}

fn array<const N: usize, R: Read>(file: &mut BufReader<R>) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map(|()| bytes)
}

fn skip_palette<R: Read + Seek>(file: &mut BufReader<R>, flags: u8) -> std::io::Result<()> {
    if flags & 0x80 == 0 { Ok(()) } else { file.seek_relative(3 << (1 + (flags & 0x07))) }
}

fn skip_blocks<R: Read + Seek>(file: &mut BufReader<R>) -> std::io::Result<()> {
    loop {
        match array::<1, _>(file)? {
            [0] => return Ok(()),
            [length] => file.seek_relative(length.into())?,
        }
    }
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// 7 × 5, a palette of two colours, two frames of 3 and 4/100 s.
    const FILE: &[u8] = b"GIF89a\x07\0\x05\0\x80\0\0rgbRGB\
        \x21\xff\x03abc\x00\
        \x21\xf9\x04\0\x03\0\0\0\x2c\0\0\0\0\x07\0\x05\0\0\x02\x02xy\0\
        \x21\xf9\x04\0\x04\0\0\0\x2c\0\0\0\0\x07\0\x05\0\x80rgbRGB\x02\x01x\x01y\0\x3b";

    fn read(bytes: &[u8]) -> std::io::Result<Gif> {
        Gif::of(&mut BufReader::new(Cursor::new(bytes)))
    }

    #[test]
    fn frames_and_their_times_are_read() {
        assert_eq!(read(FILE).unwrap(), Gif { width: 7, height: 5, delays: vec![3, 4] });
    }

    #[test]
    fn a_cut_off_file_is_an_error() {
        for length in 0..FILE.len() {
            assert!(read(&FILE[..length]).is_err(), "{length}");
        }
    }
}

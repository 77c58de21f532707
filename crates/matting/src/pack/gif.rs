//! GIFs become one: the first one's head, then all frames, each with the time it has on the whole timeline.
//!
//! Every part must bring its palettes with its frames (`-global_palette 0`). Times are written anew: a part's own begin
//! at 0 and are rounded to 1/100 s, and hundreds of roundings would add up.

use std::io::{Error, ErrorKind, Read, Write};

use crate::timeline::Rate;

const EXTENSION: u8 = 0x21;
const GRAPHIC_CONTROL: u8 = 0xf9;
const IMAGE: u8 = 0x2c;
const TRAILER: u8 = 0x3b;
/// A palette stands behind the descriptor; its lowest bits are the palette's size.
const HAS_PALETTE: u8 = 0x80;

/// Writes one GIF of many.
#[derive(Debug)]
pub(crate) struct Joiner<W> {
    target: W,
    rate: Rate,
    /// Frames written.
    frames: u64,
}

impl<W: Write> Joiner<W> {
    pub(crate) const fn new(target: W, rate: Rate) -> Self {
        Self { target, rate, frames: 0 }
    }

    /// Adds all frames of a part.
    pub(crate) fn add(&mut self, part: &mut impl Read) -> std::io::Result<()> {
        let is_first = self.frames == 0;
        let head = array::<13>(part)?;
        let [b'G', b'I', b'F', b'8', b'9', b'a', _, _, _, _, flags, _, _] = head else { return Err(wrong("no GIF")) };
        if flags & HAS_PALETTE != 0 {
            return Err(wrong("a palette for all frames, which another part's frames would take for theirs"));
        }
        if is_first {
            self.target.write_all(&head)?;
        }
        loop {
            match array::<1>(part)? {
                [EXTENSION] => match array::<1>(part)? {
                    [GRAPHIC_CONTROL] => self.control(part)?,
                    // How often it is repeated, and who wrote it.
                    [label] => {
                        let mut kept = vec![EXTENSION, label];
                        blocks(part, &mut kept)?;
                        if is_first {
                            self.target.write_all(&kept)?;
                        }
                    }
                },
                [IMAGE] => self.image(part)?,
                [TRAILER] => return Ok(()),
                [_] => return Err(wrong("an unknown block")),
            }
        }
    }

    /// There are no more parts.
    pub(crate) fn end(mut self) -> std::io::Result<()> {
        self.target.write_all(&[TRAILER])?;
        self.target.flush()
    }

    fn control(&mut self, part: &mut impl Read) -> std::io::Result<()> {
        let [4, flags, _, _, transparent, 0] = array::<6>(part)? else { return Err(wrong("no graphic control")) };
        let shown = self.hundredths(self.frames + 1) - self.hundredths(self.frames);
        let [low, high] = u16::try_from(shown).unwrap_or(u16::MAX).to_le_bytes();
        self.target.write_all(&[EXTENSION, GRAPHIC_CONTROL, 4, flags, low, high, transparent, 0])
    }

    fn image(&mut self, part: &mut impl Read) -> std::io::Result<()> {
        let descriptor = array::<9>(part)?;
        let mut bytes = vec![IMAGE];
        bytes.extend(descriptor);
        let [.., flags] = descriptor;
        if flags & HAS_PALETTE != 0 {
            part.take(3 << (1 + (flags & 0x07))).read_to_end(&mut bytes)?;
        }
        bytes.extend(array::<1>(part)?);
        blocks(part, &mut bytes)?;
        self.frames += 1;
        self.target.write_all(&bytes)
    }

    /// When a frame is shown, 1/100 s, rounded.
    fn hundredths(&self, frame: u64) -> u128 {
        let (num, den) = (u128::from(self.rate.num), u128::from(self.rate.den));
        (u128::from(frame) * 100 * den + num / 2) / num
    }
}

/// Blocks up to the empty one, with their lengths: at most a frame's.
fn blocks(part: &mut impl Read, kept: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let [length] = array::<1>(part)?;
        kept.push(length);
        if length == 0 {
            return Ok(());
        }
        if part.take(length.into()).read_to_end(kept)? != usize::from(length) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn array<const N: usize>(part: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    part.read_exact(&mut bytes).map(|()| bytes)
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GIF89a\x07\0\x05\0\x70\0\0";
    const LOOP: &[u8] = b"\x21\xff\x03abc\x00";
    const FRAME: &[u8] = b"\x21\xf9\x04\x01\x63\0\x02\0\x2c\0\0\0\0\x07\0\x05\0\x80rgbRGB\x02\x02xy\0";

    #[test]
    fn frames_follow_one_another_at_the_times_of_the_whole() {
        // 30 frames a second last 3, 4, 3, 3, … hundredths.
        let mut joined = Vec::new();
        let mut joiner = Joiner::new(&mut joined, Rate { num: 30, den: 1 });
        for _ in 0..3 {
            joiner.add(&mut &*[HEAD, LOOP, FRAME, &[TRAILER]].concat()).unwrap();
        }
        joiner.end().unwrap();
        let timed = |hundredths: u8| {
            let mut frame = FRAME.to_vec();
            frame[4] = hundredths;
            frame
        };
        assert_eq!(joined, [HEAD, LOOP, &timed(3), &timed(4), &timed(3), &[TRAILER]].concat());
    }

    #[test]
    fn a_cut_off_part_is_an_error() {
        let whole = [HEAD, LOOP, FRAME, &[TRAILER]].concat();
        for length in 0..whole.len() {
            let mut joiner = Joiner::new(Vec::new(), Rate { num: 30, den: 1 });
            assert!(joiner.add(&mut &whole[..length]).is_err(), "{length}");
        }
    }
}

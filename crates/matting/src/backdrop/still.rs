//! A picture as a background: PNG, JPEG or WebP.
//!
//! Owns: telling what the file is and how large, refusing it for its size or for moving, decoding it once. Invariants:
//! sides come from the file's own header and are judged before any tool opens it, so a bomb of few bytes and many
//! pixels is never unpacked; time and memory of the decoder are capped. A picture's own transparency lies on black.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rotoless_contract::spec::Fit;
use rotoless_contract::worker::MAX_IMAGE_BYTES;

use super::fit_filters;
use crate::child::{Child, Confinement};
use crate::error::{EngineError, LimitExceeded};
use crate::frame::Size;
use crate::media_arguments::{local_file, quiet_ffmpeg};
use crate::tools::Tools;

/// Greatest side of a picture, px: 67 million pixels are the most of any camera that people carry.
const MAX_SIDE: u32 = 8192;

const MAX_SECONDS: u64 = 60;

/// Three copies of the largest picture, RGBA, and the decoder.
const CONFINEMENT: Confinement = Confinement { memory_bytes: 3 << 30, cpu_seconds: MAX_SECONDS, file_bytes: 0 };

/// The header of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    demuxer: &'static str,
    width: u32,
    height: u32,
}

/// Decodes the file to Y, U and V as large as the canvas.
pub(super) fn decode(
    tools: &Tools,
    file: &Path,
    fit: Fit,
    canvas: Size,
    threads: usize,
) -> Result<Vec<u8>, EngineError> {
    let picture = Picture::of_file(file)?;
    let mut command = quiet_ffmpeg(tools);
    command.args(["-xerror", "-err_detect", "explode", "-threads", &threads.to_string()]);
    command.args(["-protocol_whitelist", "file,pipe", "-format_whitelist", picture.demuxer]);
    // Decoders round sides up to their blocks.
    let max_pixels = (u64::from(MAX_SIDE) + 256).pow(2).to_string();
    command.args(["-max_pixels", &max_pixels, "-f", picture.demuxer]);
    command.input(local_file(file)).map("0:v:0").args(["-frames:v", "1"]);
    let fitted =
        fit_filters(fit, canvas, ":flags=bicubic+accurate_rnd+full_chroma_int:out_color_matrix=bt709:out_range=tv");
    command.filter(format!("format=gbrap,premultiply=inplace=1,format=gbrp,setsar=1,{fitted}"));
    command.args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"]);

    let mut child = Child::spawn("the decoder of the background", command, CONFINEMENT)?;
    let deadline = child.killer().kill_after(Duration::from_secs(MAX_SECONDS))?;
    let Some(stdout) = child.stdout.take() else { return Err(child.wait()?.into_tool_error()) };
    let mut planes = Vec::with_capacity(canvas.yuv_bytes());
    let read = stdout.take(canvas.yuv_bytes() as u64 + 1).read_to_end(&mut planes);
    read.map_err(EngineError::io("cannot read from the decoder of the background"))?;
    let ended = child.wait()?;
    if deadline.has_passed() {
        return Err(damaged(format!("it could not be decoded within {MAX_SECONDS} s")));
    }
    if !ended.status.success() {
        return Err(ended.into_media_error());
    }
    if planes.len() == canvas.yuv_bytes() { Ok(planes) } else { Err(damaged("it does not decode to one picture")) }
}

fn damaged(detail: impl Into<String>) -> EngineError {
    EngineError::Damaged { detail: detail.into() }
}

impl Picture {
    fn of_file(path: &Path) -> Result<Self, EngineError> {
        let file = File::open(path).map_err(EngineError::io("cannot open the background"))?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_IMAGE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(EngineError::io("cannot read the background"))?;
        if bytes.len() as u64 > MAX_IMAGE_BYTES {
            return Err(LimitExceeded::Bytes { bytes: bytes.len() as u64, max: MAX_IMAGE_BYTES }.into());
        }
        let picture = Self::of_bytes(&bytes)?;
        let Self { width, height, .. } = picture;
        if width.min(height) == 0 || width.max(height) > MAX_SIDE {
            return Err(LimitExceeded::Side { width, height, min: 1, max: MAX_SIDE }.into());
        }
        Ok(picture)
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, EngineError> {
        let (demuxer, sides) = match bytes {
            [b'\x89', b'P', b'N', b'G', b'\r', b'\n', b'\x1a', b'\n', rest @ ..] => ("png_pipe", png(rest)),
            [0xff, 0xd8, rest @ ..] => ("jpeg_pipe", jpeg(rest)),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', rest @ ..] => ("webp_pipe", webp(rest)),
            _ => return Err(EngineError::NotAPicture),
        };
        let (width, height) = sides?;
        Ok(Self { demuxer, width, height })
    }
}

fn cut_off<T>() -> Result<T, EngineError> {
    Err(damaged("the picture is cut off"))
}

fn moving<T>() -> Result<T, EngineError> {
    Err(damaged("the picture is animated: send it as a video"))
}

/// Walks the chunks to the last one.
fn png(mut rest: &[u8]) -> Result<(u32, u32), EngineError> {
    let mut sides = None;
    loop {
        let Some((header, behind)) = rest.split_first_chunk::<8>() else { return cut_off() };
        let [a, b, c, d, ref kind @ ..] = *header;
        // The checksum follows.
        let length = u32::from_be_bytes([a, b, c, d]) as usize + 4;
        let Some((content, behind)) = behind.split_at_checked(length) else { return cut_off() };
        rest = behind;
        match (kind, content) {
            (b"IHDR", [a, b, c, d, e, f, g, h, ..]) => {
                sides = Some((u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h])));
            }
            (b"acTL", _) => return moving(),
            (b"IEND", _) => return sides.ok_or_else(|| damaged("a PNG without a header")),
            _ => {}
        }
    }
}

/// Walks the segments to the frame's header; behind it there must be an end.
fn jpeg(mut rest: &[u8]) -> Result<(u32, u32), EngineError> {
    loop {
        let [0xff, marker, behind @ ..] = rest else { return cut_off() };
        // Fill bytes.
        if *marker == 0xff {
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let [a, b, ..] = behind else { return cut_off() };
        let length = usize::from(u16::from_be_bytes([*a, *b]));
        let Some((segment, behind)) = behind.split_at_checked(length) else { return cut_off() };
        // SOF0 to SOF15, without DHT, JPG and DAC.
        if let (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, [_, _, _, a, b, c, d, ..]) = (marker, segment) {
            if !behind.windows(2).any(|pair| pair == [0xff, 0xd9]) {
                return cut_off();
            }
            return Ok((u16::from_be_bytes([*c, *d]).into(), u16::from_be_bytes([*a, *b]).into()));
        }
        // Picture data, or an end, before any header.
        if matches!(marker, 0xd9 | 0xda) || length < 2 {
            return Err(damaged("a JPEG without a header"));
        }
        rest = behind;
    }
}

/// The first chunk tells. Sides of the extended form count as those of its picture: `ffmpeg` goes by them.
fn webp(rest: &[u8]) -> Result<(u32, u32), EngineError> {
    let Some((header, content)) = rest.split_first_chunk::<8>() else { return cut_off() };
    let [ref kind @ .., _, _, _, _] = *header;
    match (kind, content) {
        (b"VP8X", [flags, ..]) if flags & 0x02 != 0 => moving(),
        (b"VP8X", [_, _, _, _, a, b, c, d, e, f, ..]) => {
            Ok((u32::from_le_bytes([*a, *b, *c, 0]) + 1, u32::from_le_bytes([*d, *e, *f, 0]) + 1))
        }
        (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..]) => {
            let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            Ok((side(*a, *b), side(*c, *d)))
        }
        (b"VP8L", [0x2f, a, b, c, d, ..]) => {
            let bits = u32::from_le_bytes([*a, *b, *c, *d]);
            Ok(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => Err(damaged("a WebP without a picture")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stills::tests::png as made_png;

    fn sides(bytes: &[u8]) -> Option<(u32, u32)> {
        Picture::of_bytes(bytes).ok().map(|picture| (picture.width, picture.height))
    }

    /// APP0, then SOF0 of 7 × 5, a scan, an end.
    const JPEG: &[u8] =
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x08\x08\x00\x05\x00\x07\x01\xff\xda\x00\x02xx\xff\xd9";

    #[test]
    fn the_sides_come_from_the_header() {
        assert_eq!(sides(&made_png(20_000, 3, 6)), Some((20_000, 3)));
        assert_eq!(sides(JPEG), Some((7, 5)));
        assert_eq!(sides(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\x06\0\0\x04\0\0"), Some((7, 5)));
        assert_eq!(sides(b"RIFF\0\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\x07\0\x05\0"), Some((7, 5)));
        assert_eq!(sides(b"RIFF\0\0\0\0WEBPVP8L\x05\0\0\0\x2f\x06\0\x01\0"), Some((7, 5)));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_refused() {
        let png = made_png(7, 5, 6);
        for whole in [&png[..], JPEG] {
            for length in 0..whole.len() {
                assert_eq!(sides(&whole[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn what_moves_or_is_no_picture_is_refused() {
        let animated = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x06\0\0\x04\0\0";
        assert!(matches!(Picture::of_bytes(animated), Err(EngineError::Damaged { .. })));
        for other in [&b"GIF89a"[..], b"<svg xmlns=", b"", b"\0\0\0\x20ftypavif", b"#EXTM3U"] {
            assert!(matches!(Picture::of_bytes(other), Err(EngineError::NotAPicture)), "{other:?}");
        }
    }
}

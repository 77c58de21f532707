//! A picture file of RGB, for people to look at.

use std::io::Write;
use std::path::Path;

use flate2::{Compression, Crc, write::ZlibEncoder};

use crate::error::EngineError;
use crate::frame::Size;

/// Writes a PNG of 8 bits a channel.
pub(super) fn write_png(file: &Path, size: Size, rgb: &[u8]) -> Result<(), EngineError> {
    let encode = || {
        let mut body = ZlibEncoder::new(Vec::new(), Compression::fast());
        for row in rgb.chunks_exact(size.width * 3) {
            // No filter.
            body.write_all(&[0])?;
            body.write_all(row)?;
        }
        let body = body.finish()?;
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX).to_be_bytes();
        let header = [&side(size.width)[..], &side(size.height), &[8, 2, 0, 0, 0]].concat();
        for (kind, content) in [(b"IHDR", &*header), (b"IDAT", &*body), (b"IEND", &[])] {
            png.extend(side(content.len()));
            let start = png.len();
            png.extend(kind);
            png.extend(content);
            let mut sum = Crc::new();
            sum.update(&png[start..]);
            png.extend(sum.sum().to_be_bytes());
        }
        std::fs::write(file, png)
    };
    encode().map_err(EngineError::io("cannot write a contact sheet"))
}

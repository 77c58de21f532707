//! AVI: `RIFF('AVI ' LIST('hdrl' avih LIST('strl' strh …) …) …)`, sizes little-endian, parts padded to even.

use std::io::{Read, Seek};

use super::source::{Source, Span};
use super::{Container, Damage, Header, HeaderError};

/// Reads `RIFF`, its size and `AVI `, and then the header list, which must come first.
pub(super) fn read<R: Read + Seek>(source: &mut Source<R>) -> Result<Header, HeaderError> {
    // An unfinished recording leaves the size 0.
    let size = u32::from_le_bytes(source.bytes(source.whole().part(4, 4)?)?);
    source.whole().part(8, size.into())?;
    let mut chunks = source.whole().after(12)?;
    while let Some((id, content)) = next(source, &mut chunks)? {
        if id == *b"LIST" && source.bytes::<4>(content)? == *b"hdrl" {
            return header_list(source, content.after(4)?);
        }
        if id == *b"LIST" && source.bytes::<4>(content)? == *b"movi" {
            break;
        }
    }
    Err(HeaderError::Damaged(Damage::Missing))
}

fn header_list<R: Read + Seek>(source: &mut Source<R>, mut chunks: Span) -> Result<Header, HeaderError> {
    let mut main = None;
    let mut has_video = false;
    while let Some((id, content)) = next(source, &mut chunks)? {
        if id == *b"avih" {
            main = Some(source.bytes::<40>(content)?);
        } else if id == *b"LIST" && source.bytes::<4>(content)? == *b"strl" {
            has_video |= is_video(source, content.after(4)?)?;
        }
    }
    let main = main.ok_or(HeaderError::Damaged(Damage::Missing))?;
    if !has_video {
        return Err(HeaderError::NoVideoTrack);
    }
    let field = |offset: usize| match main.get(offset..offset + 4) {
        Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
        Some(_) | None => 0,
    };
    // Frames × µs a frame: two 32-bit numbers, so it cannot overflow.
    let us = u64::from(field(0)) * u64::from(field(16));
    Ok(Header {
        container: Container::Avi,
        duration_ms: (us > 0).then(|| us.div_ceil(1000)),
        width: Some(field(32)).filter(|px| *px > 0),
        height: Some(field(36)).filter(|px| *px > 0),
    })
}

fn is_video<R: Read + Seek>(source: &mut Source<R>, mut chunks: Span) -> Result<bool, HeaderError> {
    while let Some((id, content)) = next(source, &mut chunks)? {
        if id == *b"strh" {
            return Ok(source.bytes::<4>(content)? == *b"vids");
        }
    }
    Ok(false)
}

fn next<R: Read + Seek>(source: &mut Source<R>, rest: &mut Span) -> Result<Option<([u8; 4], Span)>, HeaderError> {
    // A single byte left is padding.
    if rest.len() < 8 {
        return Ok(None);
    }
    source.visit()?;
    let id = source.bytes::<4>(*rest)?;
    let size = u64::from(u32::from_le_bytes(source.bytes(rest.after(4)?)?));
    let content = rest.part(8, size)?;
    let padded = (8 + size + size % 2).min(rest.len());
    *rest = rest.after(padded)?;
    Ok(Some((id, content)))
}

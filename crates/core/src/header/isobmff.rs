//! MP4 and `QuickTime`: boxes `size type content`, sizes big-endian.

use std::io::{Read, Seek};

use super::source::{Source, Span};
use super::{Container, Damage, Header, HeaderError, milliseconds};

/// Greatest `moov` that is looked into.
const MAX_MOOV_BYTES: u64 = 16 * 1024 * 1024;

/// The first video track, as `moov` tells it.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    id: u32,
    is_video: bool,
    /// Presentation length in the movie's ticks, edit list honoured.
    movie_ticks: u64,
    /// Length of the media in its own ticks.
    media_ticks: u64,
    media_scale: u64,
    shown: (u32, u32),
    coded: (u32, u32),
    turned: bool,
}

#[derive(Debug, Default)]
struct Movie {
    scale: u64,
    video: Option<Track>,
    fragmented: bool,
    /// Length of all fragments in the movie's ticks, where the file tells it.
    fragments_ticks: u64,
    /// Sample durations, by track id, where a fragment does not tell them.
    default_durations: Vec<(u32, u32)>,
}

pub(super) fn read<R: Read + Seek>(source: &mut Source<R>, container: Container) -> Result<Header, HeaderError> {
    let mut top = source.whole();
    let mut movie: Option<Movie> = None;
    while let Some((kind, content)) = next(source, &mut top)? {
        if kind == *b"moov" {
            if content.len() > MAX_MOOV_BYTES {
                return Err(HeaderError::TooComplex);
            }
            movie = Some(read_movie(source, content)?);
            break;
        }
    }
    let movie = movie.ok_or(HeaderError::Damaged(Damage::Missing))?;
    let track = movie.video.ok_or(HeaderError::NoVideoTrack)?;
    let duration_ms = if movie.fragmented {
        fragmented(source, top, &movie, &track)?
    } else {
        refuse_cut_off(source, top)?;
        whole(&movie, &track)?
    };
    let (width, height) = if track.shown.0 > 0 && track.shown.1 > 0 { track.shown } else { track.coded };
    let (width, height) = if track.turned { (height, width) } else { (width, height) };
    let side = |px: u32| Some(px).filter(|px| *px > 0);
    Ok(Header { container, duration_ms, width: side(width), height: side(height) })
}

/// Media data behind `moov` that reaches beyond the file: an upload that broke off. Anything else behind `moov` is no
/// matter of ours; players ignore it too.
fn refuse_cut_off<R: Read + Seek>(source: &mut Source<R>, mut top: Span) -> Result<(), HeaderError> {
    while top.len() >= 8 {
        let is_media = source.bytes::<4>(top.after(4)?)? == *b"mdat";
        match next(source, &mut top) {
            Ok(_) => {}
            Err(HeaderError::Damaged(damage)) if is_media => return Err(HeaderError::Damaged(damage)),
            Err(HeaderError::Damaged(_) | HeaderError::TooComplex) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The edit list is honoured, as players do: the track header's length before the media's.
fn whole(movie: &Movie, track: &Track) -> Result<Option<u64>, HeaderError> {
    if track.movie_ticks > 0 && movie.scale > 0 {
        return milliseconds(track.movie_ticks, movie.scale);
    }
    milliseconds(track.media_ticks, track.media_scale)
}

/// What `moov` holds, and the fragments behind it. None when there are too many of them to walk.
fn fragmented<R: Read + Seek>(
    source: &mut Source<R>,
    top: Span,
    movie: &Movie,
    track: &Track,
) -> Result<Option<u64>, HeaderError> {
    if movie.fragments_ticks > 0 {
        return milliseconds(movie.fragments_ticks, movie.scale);
    }
    match sum_fragments(source, top, movie, track.id) {
        Ok(ticks) => {
            let all = ticks.checked_add(track.media_ticks).ok_or(HeaderError::Damaged(Damage::Number))?;
            milliseconds(all, track.media_scale)
        }
        Err(HeaderError::TooComplex) => Ok(None),
        Err(error) => Err(error),
    }
}

fn sum_fragments<R: Read + Seek>(
    source: &mut Source<R>,
    mut top: Span,
    movie: &Movie,
    track: u32,
) -> Result<u64, HeaderError> {
    let mut ticks = 0_u64;
    while let Some((kind, mut fragment)) = next(source, &mut top)? {
        if kind != *b"moof" {
            continue;
        }
        while let Some((kind, content)) = next(source, &mut fragment)? {
            if kind == *b"traf" {
                let more = read_traf(source, content, movie, track)?;
                ticks = ticks.checked_add(more).ok_or(HeaderError::Damaged(Damage::Number))?;
            }
        }
    }
    Ok(ticks)
}

fn read_movie<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<Movie, HeaderError> {
    let mut movie = Movie::default();
    while let Some((kind, content)) = next(source, &mut rest)? {
        match &kind {
            b"mvhd" => movie.scale = scale_and_ticks(source, content)?.0,
            b"trak" if movie.video.is_none() => {
                movie.video = Some(read_track(source, content)?).filter(|track| track.is_video);
            }
            b"mvex" => read_mvex(source, content, &mut movie)?,
            _ => {}
        }
    }
    Ok(movie)
}

fn read_mvex<R: Read + Seek>(source: &mut Source<R>, mut rest: Span, movie: &mut Movie) -> Result<(), HeaderError> {
    movie.fragmented = true;
    while let Some((kind, content)) = next(source, &mut rest)? {
        match &kind {
            b"mehd" => {
                let wide = source.bytes::<1>(content)? == [1];
                movie.fragments_ticks =
                    if wide { u64_at(source, content, 4)? } else { u32_at(source, content, 4)?.into() };
            }
            b"trex" => {
                let defaults = (u32_at(source, content, 4)?, u32_at(source, content, 12)?);
                movie.default_durations.push(defaults);
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_track<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<Track, HeaderError> {
    let mut track = Track::default();
    while let Some((kind, content)) = next(source, &mut rest)? {
        match &kind {
            b"tkhd" => read_tkhd(source, content, &mut track)?,
            b"mdia" => read_mdia(source, content, &mut track)?,
            _ => {}
        }
    }
    Ok(track)
}

fn read_tkhd<R: Read + Seek>(source: &mut Source<R>, content: Span, track: &mut Track) -> Result<(), HeaderError> {
    let wide = source.bytes::<1>(content)? == [1];
    // Times and lengths are 64 bits wide in version 1.
    let (id_at, ticks_at, matrix_at) = if wide { (20, 28, 52) } else { (12, 20, 40) };
    track.id = u32_at(source, content, id_at)?;
    track.movie_ticks = if wide {
        u64_at(source, content, ticks_at).map(|ticks| known(ticks, u64::MAX))?
    } else {
        u32_at(source, content, ticks_at).map(|ticks| known(ticks.into(), u32::MAX.into()))?
    };
    // The matrix is a b u, c d v, x y w; a quarter turn has no a and no d.
    let (a, b) = (u32_at(source, content, matrix_at)?, u32_at(source, content, matrix_at + 4)?);
    let (c, d) = (u32_at(source, content, matrix_at + 12)?, u32_at(source, content, matrix_at + 16)?);
    track.turned = a == 0 && d == 0 && b != 0 && c != 0;
    // 16.16 fixed point.
    track.shown = (u32_at(source, content, matrix_at + 36)? >> 16, u32_at(source, content, matrix_at + 40)? >> 16);
    Ok(())
}

fn read_mdia<R: Read + Seek>(source: &mut Source<R>, mut rest: Span, track: &mut Track) -> Result<(), HeaderError> {
    while let Some((kind, content)) = next(source, &mut rest)? {
        match &kind {
            b"mdhd" => (track.media_scale, track.media_ticks) = scale_and_ticks(source, content)?,
            b"hdlr" => track.is_video = source.bytes::<4>(content.after(8)?)? == *b"vide",
            b"minf" if track.is_video => track.coded = coded_size(source, content)?,
            _ => {}
        }
    }
    Ok(())
}

/// Width and height in the first sample description: `minf` / `stbl` / `stsd`.
fn coded_size<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<(u32, u32), HeaderError> {
    while let Some((kind, content)) = next(source, &mut rest)? {
        match &kind {
            b"stbl" => rest = content,
            b"stsd" => {
                let mut entries = content.after(8)?;
                let Some((_, entry)) = next(source, &mut entries)? else { break };
                let both = u32_at(source, entry, 24)?;
                return Ok((both >> 16, both & 0xffff));
            }
            _ => {}
        }
    }
    Ok((0, 0))
}

/// Ticks of one fragment of the track; 0 for another track's.
fn read_traf<R: Read + Seek>(
    source: &mut Source<R>,
    mut rest: Span,
    movie: &Movie,
    track: u32,
) -> Result<u64, HeaderError> {
    let (mut ticks, mut default, mut ours) = (0_u64, 0, false);
    while let Some((kind, content)) = next(source, &mut rest)? {
        match &kind {
            b"tfhd" => {
                ours = u32_at(source, content, 4)? == track;
                let flags = u32_at(source, content, 0)?;
                let before = [(0x1, 8), (0x2, 4)].into_iter().filter(|(flag, _)| flags & flag != 0);
                let duration_at = 8 + before.map(|(_, width)| width).sum::<u64>();
                default = if flags & 0x8 != 0 {
                    u32_at(source, content, duration_at)?
                } else {
                    movie.default_durations.iter().find(|(id, _)| *id == track).map_or(0, |(_, duration)| *duration)
                };
            }
            b"trun" if ours => {
                let more = read_trun(source, content, default)?;
                ticks = ticks.checked_add(more).ok_or(HeaderError::Damaged(Damage::Number))?;
            }
            _ => {}
        }
    }
    Ok(ticks)
}

fn read_trun<R: Read + Seek>(source: &mut Source<R>, content: Span, default: u32) -> Result<u64, HeaderError> {
    let (flags, samples) = (u32_at(source, content, 0)?, u32_at(source, content, 4)?);
    if flags & 0x100 == 0 {
        // Two 32-bit numbers: cannot overflow.
        return Ok(u64::from(samples) * u64::from(default));
    }
    let optional = |flag: u32| if flags & flag != 0 { 4 } else { 0 };
    let first = 8 + optional(0x1) + optional(0x4);
    // A record has its duration first, then size, flags and composition offset.
    let record = optional(0x100) + optional(0x200) + optional(0x400) + optional(0x800);
    let records = content.part(first, u64::from(samples).saturating_mul(record))?;
    let mut ticks = 0_u64;
    for sample in 0..u64::from(samples) {
        ticks = ticks.saturating_add(u32_at(source, records, sample * record)?.into());
    }
    Ok(ticks)
}

/// Ticks a second and length, as `mvhd` and `mdhd` tell them.
fn scale_and_ticks<R: Read + Seek>(source: &mut Source<R>, content: Span) -> Result<(u64, u64), HeaderError> {
    if source.bytes::<1>(content)? == [1] {
        let ticks = u64_at(source, content, 24)?;
        return Ok((u32_at(source, content, 20)?.into(), known(ticks, u64::MAX)));
    }
    let ticks = u32_at(source, content, 16)?;
    Ok((u32_at(source, content, 12)?.into(), known(ticks.into(), u32::MAX.into())))
}

/// All bits set means unknown, as 0 does.
fn known(ticks: u64, unknown: u64) -> u64 {
    if ticks == unknown { 0 } else { ticks }
}

/// The next box of `rest`, which begins behind it afterwards.
fn next<R: Read + Seek>(source: &mut Source<R>, rest: &mut Span) -> Result<Option<([u8; 4], Span)>, HeaderError> {
    // Some writers end a list with 4 zero bytes.
    if rest.len() < 8 {
        return Ok(None);
    }
    source.visit()?;
    let kind = source.bytes::<4>(rest.after(4)?)?;
    let (head, size) = match u32_at(source, *rest, 0)? {
        0 => (8, rest.len()),
        1 => (16, u64_at(source, *rest, 8)?),
        size => (8, u64::from(size)),
    };
    let content = size.checked_sub(head).ok_or(HeaderError::Damaged(Damage::Number))?;
    let content = rest.part(head, content)?;
    *rest = Span { start: content.end, end: rest.end };
    Ok(Some((kind, content)))
}

fn u32_at<R: Read + Seek>(source: &mut Source<R>, content: Span, offset: u64) -> Result<u32, HeaderError> {
    Ok(u32::from_be_bytes(source.bytes(content.part(offset, 4)?)?))
}

fn u64_at<R: Read + Seek>(source: &mut Source<R>, content: Span, offset: u64) -> Result<u64, HeaderError> {
    Ok(u64::from_be_bytes(source.bytes(content.part(offset, 8)?)?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        // The 64-bit form of the size.
        let size = content.len() as u64 + 16;
        [&[0, 0, 0, 1], &kind[..], &size.to_be_bytes(), &content].concat()
    }

    fn header(moov: &[&[u8]]) -> Result<Header, HeaderError> {
        let bytes = boxed(b"moov", moov);
        read(&mut Source::new(Cursor::new(&bytes), bytes.len() as u64), Container::Mp4)
    }

    /// A track with version 1 boxes, 640x360 coded, and no size in its own header.
    fn track(movie_ticks: u64, media_ticks: u64) -> Vec<u8> {
        let ticks = |head: &[u8], ticks: u64| [head, &ticks.to_be_bytes()].concat();
        let tkhd = boxed(b"tkhd", &[&ticks(&[&[1][..], &[0; 22], &[7], &[0; 4]].concat(), movie_ticks), &[0; 60]]);
        let mdhd =
            boxed(b"mdhd", &[&ticks(&[&[1][..], &[0; 19], &1000_u32.to_be_bytes()].concat(), media_ticks), &[0; 4]]);
        let hdlr = boxed(b"hdlr", &[&[0; 8], b"vide", &[0; 13]]);
        let avc1 = boxed(b"avc1", &[&[0; 24], &[0x02, 0x80, 0x01, 0x68], &[0; 50]]);
        let stsd = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &avc1]);
        let minf = boxed(b"minf", &[&boxed(b"vmhd", &[&[0; 12]]), &boxed(b"stbl", &[&stsd])]);
        boxed(b"trak", &[&tkhd, &boxed(b"mdia", &[&mdhd, &hdlr, &minf])])
    }

    fn mvhd(scale: u32) -> Vec<u8> {
        boxed(b"mvhd", &[&[0; 12], &scale.to_be_bytes(), &[0; 84]])
    }

    #[test]
    fn wide_boxes_and_the_coded_size_are_read() {
        let found = header(&[&mvhd(600), &track(900, 5000)]).unwrap();
        // The edit list plays 1.5 s of 5 s.
        assert_eq!((found.duration_ms, found.width, found.height), (Some(1500), Some(640), Some(360)));
        let unknown = header(&[&mvhd(600), &track(u64::MAX, 2001)]).unwrap();
        assert_eq!(unknown.duration_ms, Some(2001));
    }

    #[test]
    fn a_fragmented_file_may_tell_its_length_in_advance() {
        let mvex = boxed(b"mvex", &[&boxed(b"mehd", &[&[0, 0, 0, 0, 0, 0, 0x10, 0x68]])]);
        assert_eq!(header(&[&mvhd(600), &track(0, 0), &mvex]).unwrap().duration_ms, Some(7000));
    }

    #[test]
    fn a_length_of_no_ticks_a_second_is_damage() {
        let found = header(&[&track(u64::MAX - 1, 5)]);
        assert_eq!(found.unwrap().duration_ms, Some(5), "without the movie's ticks the media's count");
        let beyond = header(&[&mvhd(1), &track(u64::MAX - 1, 5)]);
        assert!(matches!(beyond, Err(HeaderError::Damaged(Damage::Number))), "{beyond:?}");
    }
}

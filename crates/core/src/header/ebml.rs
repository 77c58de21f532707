//! Matroska and WebM: EBML elements `id size content`, both numbers of variable length.

use std::io::{Read, Seek};

use super::source::{Source, Span};
use super::{Container, Damage, Header, HeaderError};

const EBML: u32 = 0x1A45_DFA3;
const DOC_TYPE: u32 = 0x4282;
const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114D_9B74;
const SEEK: u32 = 0x4DBB;
const SEEK_ID: u32 = 0x53AB;
const SEEK_POSITION: u32 = 0x53AC;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
const DURATION: u32 = 0x4489;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_TYPE: u32 = 0x83;
const VIDEO: u32 = 0xE0;
const PIXEL_WIDTH: u32 = 0xB0;
const PIXEL_HEIGHT: u32 = 0xBA;
const DISPLAY_WIDTH: u32 = 0x54B0;
const DISPLAY_HEIGHT: u32 = 0x54BA;
const DISPLAY_UNIT: u32 = 0x54B2;
const PROJECTION: u32 = 0x7670;
const PROJECTION_POSE_ROLL: u32 = 0x7675;
const CLUSTER: u32 = 0x1F43_B675;

const VIDEO_TRACK: u64 = 1;
/// Nanoseconds a tick, unless the file says otherwise.
const DEFAULT_SCALE: u64 = 1_000_000;

/// Width and height in px, as far as told.
type Size = (Option<u32>, Option<u32>);

struct Element {
    id: u32,
    content: Span,
    /// Live recordings leave the size of segment and clusters open.
    open_ended: bool,
}

/// What the segment's first level says.
#[derive(Default)]
struct Found {
    duration_ms: Option<u64>,
    has_info: bool,
    picture: Option<Size>,
    has_tracks: bool,
    /// Where the index says they are, relative to the segment's content.
    info_at: Option<u64>,
    tracks_at: Option<u64>,
}

pub(super) fn read<R: Read + Seek>(source: &mut Source<R>) -> Result<Header, HeaderError> {
    let mut top = source.whole();
    let head = next(source, &mut top)?.filter(|head| head.id == EBML).ok_or(HeaderError::NotVideo)?;
    let container = doc_type(source, head.content)?;
    let segment = loop {
        let element = next(source, &mut top)?.ok_or(HeaderError::Damaged(Damage::Missing))?;
        if element.id == SEGMENT {
            break element.content;
        }
    };
    let mut found = Found::default();
    let mut rest = segment;
    while !(found.has_info && found.has_tracks) {
        // Behind the first cluster there is only the index to go by.
        let Some(element) = next(source, &mut rest)?.filter(|element| element.id != CLUSTER) else { break };
        if element.open_ended {
            return Err(HeaderError::Damaged(Damage::Number));
        }
        first_level(source, &element, &mut found)?;
    }
    for (missing, at) in [(!found.has_info, found.info_at), (!found.has_tracks, found.tracks_at)] {
        if let (true, Some(at)) = (missing, at) {
            let mut there = segment.after(at)?;
            if let Some(element) = next(source, &mut there)? {
                first_level(source, &element, &mut found)?;
            }
        }
    }
    if !found.has_tracks {
        return Err(HeaderError::Damaged(Damage::Missing));
    }
    let (width, height) = found.picture.ok_or(HeaderError::NoVideoTrack)?;
    Ok(Header { container, duration_ms: found.duration_ms, width, height })
}

fn doc_type<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<Container, HeaderError> {
    while let Some(element) = next(source, &mut rest)? {
        if element.id == DOC_TYPE {
            return match element.content.len() {
                4 if source.bytes::<4>(element.content)? == *b"webm" => Ok(Container::Webm),
                8 if source.bytes::<8>(element.content)? == *b"matroska" => Ok(Container::Matroska),
                _ => Err(HeaderError::NotVideo),
            };
        }
    }
    Err(HeaderError::NotVideo)
}

fn first_level<R: Read + Seek>(
    source: &mut Source<R>,
    element: &Element,
    found: &mut Found,
) -> Result<(), HeaderError> {
    match element.id {
        SEEK_HEAD => seek_head(source, element.content, found),
        INFO => {
            found.has_info = true;
            found.duration_ms = info(source, element.content)?;
            Ok(())
        }
        TRACKS => {
            found.has_tracks = true;
            found.picture = tracks(source, element.content)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn seek_head<R: Read + Seek>(source: &mut Source<R>, mut rest: Span, found: &mut Found) -> Result<(), HeaderError> {
    while let Some(seek) = next(source, &mut rest)? {
        if seek.id != SEEK {
            continue;
        }
        let (mut id, mut position) = (0, None);
        let mut fields = seek.content;
        while let Some(field) = next(source, &mut fields)? {
            match field.id {
                SEEK_ID => id = unsigned(source, field.content)?,
                SEEK_POSITION => position = Some(unsigned(source, field.content)?),
                _ => {}
            }
        }
        if id == u64::from(INFO) {
            found.info_at = position;
        } else if id == u64::from(TRACKS) {
            found.tracks_at = position;
        }
    }
    Ok(())
}

fn info<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<Option<u64>, HeaderError> {
    let (mut scale, mut ticks) = (DEFAULT_SCALE, 0.0);
    while let Some(field) = next(source, &mut rest)? {
        match field.id {
            TIMESTAMP_SCALE => scale = unsigned(source, field.content)?,
            DURATION => ticks = float(source, field.content)?,
            _ => {}
        }
    }
    let ms = (ticks * scale as f64 / 1e6).ceil();
    // 2^53: up to there a float counts every ms.
    if !(0.0..=9_007_199_254_740_992.0).contains(&ms) {
        return Err(HeaderError::Damaged(Damage::Number));
    }
    Ok(Some(ms as u64).filter(|ms| *ms > 0))
}

/// Size of the first video track's picture, if there is one.
fn tracks<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<Option<Size>, HeaderError> {
    while let Some(entry) = next(source, &mut rest)? {
        if entry.id != TRACK_ENTRY {
            continue;
        }
        let (mut is_video, mut size) = (false, (None, None));
        let mut fields = entry.content;
        while let Some(field) = next(source, &mut fields)? {
            match field.id {
                TRACK_TYPE => is_video = unsigned(source, field.content)? == VIDEO_TRACK,
                VIDEO => size = video(source, field.content)?,
                _ => {}
            }
        }
        if is_video {
            return Ok(Some(size));
        }
    }
    Ok(None)
}

fn video<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<Size, HeaderError> {
    let (mut coded, mut display, mut unit, mut turned) = ((None, None), (None, None), 0, false);
    let side = |n: u64| u32::try_from(n).ok().filter(|px| *px > 0);
    while let Some(field) = next(source, &mut rest)? {
        match field.id {
            PIXEL_WIDTH => coded.0 = side(unsigned(source, field.content)?),
            PIXEL_HEIGHT => coded.1 = side(unsigned(source, field.content)?),
            DISPLAY_WIDTH => display.0 = side(unsigned(source, field.content)?),
            DISPLAY_HEIGHT => display.1 = side(unsigned(source, field.content)?),
            DISPLAY_UNIT => unit = unsigned(source, field.content)?,
            PROJECTION => turned = is_turned(source, field.content)?,
            _ => {}
        }
    }
    // Other units are centimetres, inches or a mere ratio.
    let (width, height) = match display {
        (Some(_), Some(_)) if unit == 0 => display,
        (Some(_) | None, Some(_) | None) => coded,
    };
    Ok(if turned { (height, width) } else { (width, height) })
}

/// Whether the picture is shown turned by a quarter.
fn is_turned<R: Read + Seek>(source: &mut Source<R>, mut rest: Span) -> Result<bool, HeaderError> {
    while let Some(field) = next(source, &mut rest)? {
        if field.id == PROJECTION_POSE_ROLL {
            let roll = float(source, field.content)?;
            return Ok((roll.abs() - 90.0).abs() < 1.0);
        }
    }
    Ok(false)
}

/// The next element of `rest`, which begins behind it afterwards.
fn next<R: Read + Seek>(source: &mut Source<R>, rest: &mut Span) -> Result<Option<Element>, HeaderError> {
    if rest.len() == 0 {
        return Ok(None);
    }
    source.visit()?;
    let (id_len, id) = number(source, *rest, 4)?;
    let id = u32::try_from(id).map_err(|_| HeaderError::Damaged(Damage::Number))?;
    let (size_len, size) = number(source, rest.after(id_len)?, 8)?;
    // The marker bit belongs to an id, not to a size.
    let marker = 1_u64 << (7 * size_len);
    let size = size & (marker - 1);
    let open_ended = size == marker - 1;
    let content = rest.after(id_len + size_len)?;
    let content = if open_ended { content } else { content.part(0, size)? };
    *rest = Span { start: content.end, end: rest.end };
    Ok(Some(Element { id, content, open_ended }))
}

/// A number whose first byte tells its length, at most `max_len` bytes; the marker bit is left in it.
fn number<R: Read + Seek>(source: &mut Source<R>, at: Span, max_len: u64) -> Result<(u64, u64), HeaderError> {
    let [first] = source.bytes::<1>(at)?;
    let len = u64::from(first.leading_zeros()) + 1;
    if len > max_len {
        return Err(HeaderError::Damaged(Damage::Number));
    }
    Ok((len, unsigned(source, at.part(0, len)?)?))
}

fn unsigned<R: Read + Seek>(source: &mut Source<R>, content: Span) -> Result<u64, HeaderError> {
    let mut bytes = [0; 8];
    let len = usize::try_from(content.len()).unwrap_or(usize::MAX);
    let tail = 8_usize.checked_sub(len).and_then(|skip| bytes.get_mut(skip..));
    source.read_at(content.start, tail.ok_or(HeaderError::Damaged(Damage::Number))?)?;
    Ok(u64::from_be_bytes(bytes))
}

fn float<R: Read + Seek>(source: &mut Source<R>, content: Span) -> Result<f64, HeaderError> {
    match content.len() {
        0 => Ok(0.0),
        4 => Ok(f64::from(f32::from_be_bytes(source.bytes(content)?))),
        8 => Ok(f64::from_be_bytes(source.bytes(content)?)),
        _ => Err(HeaderError::Damaged(Damage::Number)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn element(id: u32, content: &[u8]) -> Vec<u8> {
        let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        let size = u32::try_from(content.len()).unwrap() | 0x1000_0000;
        [&id, &size.to_be_bytes()[..], content].concat()
    }

    fn file(segment: &[Vec<u8>]) -> Vec<u8> {
        [element(EBML, &element(DOC_TYPE, b"matroska")), element(SEGMENT, &segment.concat())].concat()
    }

    fn header(bytes: &[u8]) -> Result<Header, HeaderError> {
        read(&mut Source::new(Cursor::new(bytes), bytes.len() as u64))
    }

    fn video_track(fields: &[Vec<u8>]) -> Vec<u8> {
        let entry = [element(TRACK_TYPE, &[1]), element(VIDEO, &fields.concat())].concat();
        element(TRACKS, &element(TRACK_ENTRY, &entry))
    }

    #[test]
    fn an_index_leads_to_tracks_and_length_behind_the_clusters() {
        let seek = |id: u32, at: u8| {
            element(SEEK, &[element(SEEK_ID, &id.to_be_bytes()), element(SEEK_POSITION, &[at])].concat())
        };
        let cluster = element(CLUSTER, &[0; 100]);
        let info = element(
            INFO,
            &[element(TIMESTAMP_SCALE, &[0x0f, 0x42, 0x40]), element(DURATION, &1234.5_f64.to_be_bytes())].concat(),
        );
        let tracks = video_track(&[element(PIXEL_WIDTH, &[0x02, 0x80]), element(PIXEL_HEIGHT, &[0x01, 0x68])]);
        let index_len = element(SEEK_HEAD, &[seek(INFO, 0), seek(TRACKS, 0)].concat()).len();
        let info_at = index_len + cluster.len();
        let [info_at, tracks_at] = [info_at, info_at + info.len()].map(|at| u8::try_from(at).unwrap());
        let index = element(SEEK_HEAD, &[seek(INFO, info_at), seek(TRACKS, tracks_at)].concat());
        let found = header(&file(&[index, cluster.clone(), info.clone(), tracks.clone()])).unwrap();
        assert_eq!((found.duration_ms, found.width, found.height), (Some(1235), Some(640), Some(360)));
        let without = header(&file(&[cluster, info, tracks]));
        assert!(matches!(without, Err(HeaderError::Damaged(Damage::Missing))), "{without:?}");
    }

    #[test]
    fn display_size_and_rotation_are_honoured() {
        let coded = || vec![element(PIXEL_WIDTH, &[200]), element(PIXEL_HEIGHT, &[100])];
        let shown = [element(DISPLAY_WIDTH, &[240]), element(DISPLAY_HEIGHT, &[120])];
        let roll = |degrees: f32| element(PROJECTION, &element(PROJECTION_POSE_ROLL, &degrees.to_be_bytes()));
        let size = |more: &[Vec<u8>]| {
            let found = header(&file(&[element(INFO, &[]), video_track(&[coded(), more.to_vec()].concat())])).unwrap();
            assert_eq!(found.duration_ms, None);
            (found.width.unwrap(), found.height.unwrap())
        };
        assert_eq!(size(&[]), (200, 100));
        assert_eq!(size(&shown), (240, 120));
        assert_eq!(size(&[&shown[..], &[element(DISPLAY_UNIT, &[3])]].concat()), (200, 100));
        assert_eq!(size(&[roll(-90.0)]), (100, 200));
        assert_eq!(size(&[roll(180.0)]), (200, 100));
    }

    #[test]
    fn an_impossible_length_is_damage() {
        for ticks in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            let info = element(INFO, &element(DURATION, &ticks.to_be_bytes()));
            let found = header(&file(&[info, video_track(&[])]));
            assert!(matches!(found, Err(HeaderError::Damaged(Damage::Number))), "{ticks}: {found:?}");
        }
    }
}

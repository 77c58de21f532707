//! The early probe against real files (made by `fixtures/make.sh`), against other people's parsers, and against its
//! own limits. What it does with hostile bytes is in `header_bounds.rs`.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use rotoless_core::header::{
    BLOCK_BYTES, BlockReader, Container, Damage, FileType, Header, HeaderError, MAX_BLOCKS, read_header, sniff,
};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn header_of(bytes: &[u8]) -> Result<Header, HeaderError> {
    read_header(Cursor::new(bytes), bytes.len() as u64)
}

/// Name, container, length in ms, size in px.
type Clip = (&'static str, Container, Option<u64>, (u32, u32));

const CLIPS: [Clip; 9] = [
    ("faststart.mp4", Container::Mp4, Some(2000), (96, 64)),
    ("moov_at_end.mp4", Container::Mp4, Some(2000), (96, 64)),
    ("fragmented.mp4", Container::Mp4, Some(2000), (96, 64)),
    ("quicktime.mov", Container::Mov, Some(2000), (96, 64)),
    ("rotated.mp4", Container::Mp4, Some(2000), (64, 96)),
    ("finished.webm", Container::Webm, Some(2000), (96, 64)),
    ("live.webm", Container::Webm, None, (96, 64)),
    ("finished.mkv", Container::Matroska, Some(2000), (96, 64)),
    ("classic.avi", Container::Avi, Some(2000), (96, 64)),
];

#[test]
fn a_header_tells_container_length_and_turned_size() {
    for (name, container, duration_ms, (width, height)) in CLIPS {
        let expected = Header { container, duration_ms, width: Some(width), height: Some(height) };
        assert_eq!(header_of(&fixture(name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn what_is_no_video_is_refused_whatever_its_name() {
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1";
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let zip = b"PK\x03\x04................................";
    let texts = [fixture("text.mp4"), fixture("playlist.mp4")];
    for bytes in [&b""[..], b"\0", heic, png, zip, &texts[0], &texts[1]] {
        assert!(matches!(header_of(bytes), Err(HeaderError::NotVideo)), "{:?}", header_of(bytes));
    }
}

#[test]
fn a_sound_file_has_no_video_track() {
    assert!(matches!(header_of(&fixture("sound_only.mp4")), Err(HeaderError::NoVideoTrack)));
}

#[test]
fn a_file_that_breaks_off_is_damaged_not_shorter() {
    for name in ["faststart.mp4", "moov_at_end.mp4", "quicktime.mov", "fragmented.mp4", "finished.webm", "classic.avi"]
    {
        let whole = fixture(name);
        let half = header_of(&whole[..whole.len() / 2]);
        assert!(matches!(half, Err(HeaderError::Damaged(Damage::Overrun))), "{name}: {half:?}");
    }
}

#[test]
fn upload_types_are_told_by_their_first_bytes() {
    let types = [
        (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], FileType::Png, "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", FileType::Jpeg, "image/jpeg"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", FileType::Webp, "image/webp"),
        (b"\0\0\0\x14ftypqt  ", FileType::Mov, "video/quicktime"),
        (b"\0\0\0\x08wide\0\0\0\x10mdat", FileType::Mov, "video/quicktime"),
        (b"\0\0\0\x18ftyp3gp5", FileType::Mp4, "video/mp4"),
    ];
    for (bytes, file_type, content_type) in types {
        assert_eq!(sniff(bytes), Some(file_type));
        assert_eq!(file_type.content_type(), content_type);
        assert_eq!(file_type.is_image(), content_type.starts_with("image/"));
        assert_ne!(file_type.is_image(), file_type.is_video());
    }
    for (name, file_type) in
        [("finished.webm", FileType::Webm), ("finished.mkv", FileType::Mkv), ("classic.avi", FileType::Avi)]
    {
        assert_eq!(sniff(&fixture(name)[..64]), Some(file_type), "{name}");
    }
    assert_eq!(sniff(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), None);
    assert_eq!(sniff(b"GIF89a"), None);
}

/// A second opinion by parsers that other people wrote.
#[test]
fn other_parsers_read_the_same() {
    for name in ["faststart.mp4", "moov_at_end.mp4", "fragmented.mp4", "quicktime.mov"] {
        let bytes = fixture(name);
        let theirs = re_mp4::Mp4::read_bytes(&bytes).unwrap();
        let track = theirs.tracks().values().find(|track| track.kind == Some(re_mp4::TrackKind::Video)).unwrap();
        let ours = header_of(&bytes).unwrap();
        // Its own `duration` counts the shift of reordered pictures in; the samples themselves add up.
        let ticks: u64 = track.samples.iter().map(|sample| sample.duration).sum();
        assert_eq!(ours.duration_ms, Some(ticks * 1000 / track.timescale), "{name}");
        assert_eq!((ours.width, ours.height), (Some(track.width.into()), Some(track.height.into())), "{name}");
    }
    for name in ["finished.webm", "live.webm", "finished.mkv"] {
        let bytes = fixture(name);
        let theirs = matroska_demuxer::MatroskaFile::open(Cursor::new(&bytes)).unwrap();
        let ours = header_of(&bytes).unwrap();
        let ms =
            theirs.info().duration().map(|ticks| (ticks * theirs.info().timestamp_scale().get() as f64 / 1e6) as u64);
        assert_eq!(ours.duration_ms, ms, "{name}");
        let video = theirs.tracks()[0].video().unwrap();
        let size = (video.pixel_width().get(), video.pixel_height().get());
        assert_eq!((ours.width.map(u64::from), ours.height.map(u64::from)), (Some(size.0), Some(size.1)), "{name}");
        let is_webm = theirs.ebml_header().doc_type() == "webm";
        assert_eq!(ours.container == Container::Webm, is_webm, "{name}");
    }
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap();
    [&size.to_be_bytes()[..], kind, content].concat()
}

/// `moov` of a clip, with its box header.
fn moov(clip: &[u8]) -> &[u8] {
    let at = clip.windows(4).position(|kind| kind == b"moov").unwrap() - 4;
    let size = u32::from_be_bytes(clip[at..at + 4].try_into().unwrap());
    &clip[at..at + size as usize]
}

const FTYP: &[u8] = b"\0\0\0\x14ftypisom\0\0\x02\0isom";

/// A file of which only parts exist; the rest are zeros.
struct Sparse {
    len: u64,
    parts: Vec<(u64, Vec<u8>)>,
}

impl Sparse {
    fn read(&self, start: u64, len: u64) -> Vec<u8> {
        assert!(len > 0 && len <= BLOCK_BYTES && start.is_multiple_of(BLOCK_BYTES) && start + len <= self.len);
        (start..start + len)
            .map(|at| {
                let byte =
                    |(from, bytes): &(u64, Vec<u8>)| bytes.get(usize::try_from(at.checked_sub(*from)?).ok()?).copied();
                self.parts.iter().find_map(byte).unwrap_or(0)
            })
            .collect()
    }

    /// Reads the header by ranged requests; returns it and how many there were.
    fn header(&self) -> (Result<Header, HeaderError>, usize) {
        let mut requests = 0;
        let fetch = |start, len| {
            requests += 1;
            Ok(Bytes::from(self.read(start, len)))
        };
        let reader = BlockReader::new(fetch, self.len);
        let header = read_header(reader, self.len);
        (header, requests)
    }
}

/// `ftyp`, `mdat` of `media` bytes, and what follows.
fn large_file(media: u64, tail: Vec<u8>) -> Sparse {
    let mut head = FTYP.to_vec();
    head.extend([&[0, 0, 0, 1][..], b"mdat", &(media + 16).to_be_bytes()].concat());
    let tail_at = FTYP.len() as u64 + 16 + media;
    Sparse { len: tail_at + tail.len() as u64, parts: vec![(0, head), (tail_at, tail)] }
}

#[test]
fn a_large_file_with_its_index_at_the_end_takes_a_few_ranged_reads() {
    let clip = fixture("moov_at_end.mp4");
    let file = large_file(450_000_000, moov(&clip).to_vec());
    let (header, requests) = file.header();
    assert_eq!(header.unwrap().duration_ms, Some(2000));
    assert!((2..=3).contains(&requests), "{requests} requests");
}

/// G-28. More than 64 blocks are not fetched, wherever the file sends us.
#[test]
fn a_scattered_header_is_given_up_after_64_blocks() {
    let filler = boxed(b"free", &vec![0; 70_000]).repeat(80);
    let file = large_file(1000, boxed(b"moov", &filler));
    let (header, requests) = file.header();
    assert!(matches!(header, Err(HeaderError::TooComplex)), "{header:?}");
    assert_eq!(requests, MAX_BLOCKS);
}

#[test]
fn an_index_beyond_16_mib_is_not_looked_into() {
    let mut file = large_file(1000, [&(17_u32 << 20).to_be_bytes()[..], b"moov"].concat());
    file.len += 18 << 20;
    let (header, requests) = file.header();
    assert!(matches!(header, Err(HeaderError::TooComplex)), "{header:?}");
    assert_eq!(requests, 1);
}

#[test]
fn too_many_boxes_are_too_complex() {
    let header = header_of(&[FTYP, &boxed(b"free", b"").repeat(5000)].concat());
    assert!(matches!(header, Err(HeaderError::TooComplex)), "{header:?}");
}

/// A long fragmented file is accepted with an unknown length rather than refused.
#[test]
fn too_many_fragments_leave_the_length_unknown() {
    let clip = fixture("fragmented.mp4");
    let at = clip.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
    let size = u32::from_be_bytes(clip[at..at + 4].try_into().unwrap()) as usize;
    // The first fragment holds the first 5 of 20 pictures.
    let fragment = [&clip[at..at + size], &boxed(b"mdat", &vec![0; 100_000])].concat();
    let header = |fragments: usize| header_of(&[FTYP, moov(&clip), &fragment.repeat(fragments)].concat()).unwrap();
    assert_eq!(header(20).duration_ms, Some(20 * 500));
    assert_eq!((header(70).duration_ms, header(70).width), (None, Some(96)));
}

#[test]
fn a_failed_read_is_not_a_verdict_on_the_file() {
    let reader = BlockReader::new(|_, _| Err(io::ErrorKind::TimedOut.into()), 1_000_000);
    let error = read_header(reader, 1_000_000).unwrap_err();
    assert!(matches!(error, HeaderError::Io(error) if error.kind() == io::ErrorKind::TimedOut));
}

#[test]
fn a_block_reader_reads_what_a_file_reads_and_fetches_each_block_once() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    let mut fetches = Vec::new();
    let fetch = |start, len| {
        fetches.push(start);
        let (start, len) = (start as usize, len as usize);
        // More than was asked for, as a careless server answers.
        Ok(Bytes::copy_from_slice(&bytes[start..(start + len + 10).min(bytes.len())]))
    };
    let mut reader = BlockReader::new(fetch, bytes.len() as u64);
    let mut plain = Cursor::new(&bytes);
    for to in [SeekFrom::Start(65_530), SeekFrom::Current(-20), SeekFrom::End(-5), SeekFrom::Start(0), SeekFrom::End(9)]
    {
        assert_eq!(reader.seek(to).unwrap(), plain.seek(to).unwrap());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        reader.by_ref().take(70_000).read_to_end(&mut ours).unwrap();
        plain.by_ref().take(70_000).read_to_end(&mut theirs).unwrap();
        assert!(ours == theirs, "{to:?}");
    }
    assert!(reader.seek(SeekFrom::Current(-300_000)).is_err());
    assert_eq!(reader.fetched(), 4);
    assert_eq!(fetches.len(), 4, "{fetches:?}");
}

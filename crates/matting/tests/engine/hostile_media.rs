//! Sources made to cost more than they look, or to confuse: each is refused with a reason or gives the right output,
//! within bounds of time and memory, and leaves no process (guarantees G-13, G-29; docs/MEDIA.md lists them).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rotoless_contract::spec::Model;
use rotoless_contract::worker::FailureReason;
use rotoless_matting::{Engine, EngineError};
use sha2::{Digest, Sha256};

use crate::support::{Bench, box_clip, free_engine, processes_with, transparent};

/// Of any tool that looks at a source, on a machine that is busy with other tests.
const LONGEST: Duration = Duration::from_secs(60);

/// Of the largest tool. The memory that the guards themselves allow is larger: nothing here comes near it.
const MOST_KILOBYTES: i64 = 1 << 20;

fn written(bench: &Bench, name: &str, bytes: &[u8]) -> PathBuf {
    let path = bench.path(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// What the probe, or the whole job, says of it; bounded whatever it says.
fn outcome(bench: &Bench, engine: &Engine, file: &Path) -> Result<u64, EngineError> {
    let began = Instant::now();
    let found = bench.run(engine, file, &transparent(Model::Human)).map(|(_, finished)| finished.output.frames);
    let took = began.elapsed();
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    println!("{}: {found:?} after {took:.1?}, tools up to {} MB", file.display(), usage.max_rss() / 1024);
    assert!(took < LONGEST, "{}: {took:?}", file.display());
    assert!(usage.max_rss() < MOST_KILOBYTES, "{}: {} KB", file.display(), usage.max_rss());
    assert_eq!(processes_with(bench.directory.path().as_os_str()), 0);
    found
}

#[track_caller]
fn refused(bench: &Bench, engine: &Engine, file: &Path, reason: FailureReason) -> EngineError {
    let error = outcome(bench, engine, file).expect_err("it was accepted");
    assert_eq!(error.reason(), reason, "{}: {error:?}", file.display());
    assert!(!bench.path("result.webm").exists());
    error
}

/// G-13, G-29
#[test]
fn more_streams_than_are_accepted_are_refused() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let one = box_clip(&bench, "one.mp4", "64x48", 25, 2, &[]);
    for (tracks, reason) in
        [(15, None), (16, Some(FailureReason::LimitExceeded)), (64, Some(FailureReason::InvalidMedia))]
    {
        let maps = ["-map", "0:a"].repeat(tracks);
        let arguments = [&["-i", one.to_str().unwrap(), "-map", "0:v"][..], &maps, &["-c", "copy"]].concat();
        let file = bench.make(&format!("{tracks}.mkv"), &arguments);
        match reason {
            Some(reason) => drop(refused(&bench, &engine, &file, reason)),
            None => assert_eq!(outcome(&bench, &engine, &file).unwrap(), 2),
        }
        let _ = std::fs::remove_file(bench.path("result.webm"));
    }
}

/// An EBML element with a size of eight bytes.
fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u64 | 1 << 56).to_be_bytes();
    [id, &size, content].concat()
}

/// A Matroska of ten thousand tracks without a frame.
fn ten_thousand_tracks() -> Vec<u8> {
    let mut tracks = Vec::new();
    for number in 1..=10_000_u16 {
        let number = number.to_be_bytes();
        let parts = [
            element(&[0xd7], &number),
            element(&[0x73, 0xc5], &number),
            element(&[0x83], &[2]),
            element(&[0x86], b"A_PCM/INT/LIT"),
        ];
        tracks.extend(element(&[0xae], &parts.concat()));
    }
    let header = element(&[0x1a, 0x45, 0xdf, 0xa3], &element(&[0x42, 0x82], b"matroska"));
    let segment = element(&[0x18, 0x53, 0x80, 0x67], &element(&[0x16, 0x54, 0xae, 0x6b], &tracks));
    [header, segment].concat()
}

/// Boxes within boxes, each the only one of its parent.
fn nested_boxes(depth: u32) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18ftypisom\0\0\0\0isommp42".to_vec();
    for left in (0..depth).rev() {
        let name: &[u8; 4] = if left + 1 == depth { b"moov" } else { b"trak" };
        bytes.extend((8 * (left + 1)).to_be_bytes());
        bytes.extend(name);
    }
    bytes
}

/// G-29: the files that are made without ffmpeg, whose bytes are the same everywhere, with the start of their SHA-256.
#[test]
fn handmade_files_are_refused_and_are_the_ones_that_were_looked_at() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let playlist =
        b"\0\0\0\x10ftypisom\0\0\0\0\n#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n".to_vec();
    let files: [(&str, Vec<u8>, &str); 5] = [
        ("ten-thousand-tracks.mkv", ten_thousand_tracks(), "a7d998c99a0df351"),
        ("nested-boxes.mp4", nested_boxes(100_000), "176d1bd728eec3f8"),
        ("header-only.avi", b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl".to_vec(), "0b2c3f2309c4cf48"),
        ("playlist.mp4", playlist, "035b2e2d27c89d52"),
        ("empty-boxes.mp4", [&b"\0\0\0\x08ftyp"[..], &b"\0\0\0\x08moov".repeat(200_000)].concat(), "4cd99b5673b246d0"),
    ];
    let mut unknown = Vec::new();
    for (name, bytes, sha256) in files {
        let found = hex::encode(Sha256::digest(&bytes));
        if !found.starts_with(sha256) {
            unknown.push(format!("{name} {found}"));
        }
        let file = written(&bench, name, &bytes);
        refused(&bench, &engine, &file, FailureReason::InvalidMedia);
    }
    assert_eq!(unknown, Vec::<String>::new());
}

/// Adds to the size of the box whose name is at `at`.
fn grow(bytes: &mut [u8], at: usize, by: u32) {
    let field: &mut [u8] = &mut bytes[at - 4..at];
    let size = u32::from_be_bytes(field.try_into().unwrap()) + by;
    field.copy_from_slice(&size.to_be_bytes());
}

fn position(bytes: &[u8], name: &[u8; 4], from: usize) -> usize {
    from + bytes[from..].windows(4).position(|window| window == name).unwrap()
}

/// The edit list of the first track, with so many entries of one tick each behind its own ones.
fn with_edits(path: &Path, entries: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let moov = bytes.windows(4).rposition(|window| window == b"moov").unwrap();
    let trak = position(&bytes, b"trak", moov);
    let (edts, elst) = (position(&bytes, b"edts", trak), position(&bytes, b"elst", trak));
    let own = u32::from_be_bytes(bytes[elst + 8..elst + 12].try_into().unwrap());
    bytes[elst + 8..elst + 12].copy_from_slice(&(own + entries).to_be_bytes());
    for at in [moov, trak, edts, elst] {
        grow(&mut bytes, at, entries * 12);
    }
    let end = elst + 12 + own as usize * 12;
    let entry = [1_u32.to_be_bytes(), 0_u32.to_be_bytes(), [0, 1, 0, 0]].concat();
    bytes.splice(end..end, entry.repeat(entries as usize));
    bytes
}

/// G-13, G-29
#[test]
fn an_edit_list_of_a_million_entries_is_bounded() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "64x48", 25, 25, &["-an"]);
    let file = written(&bench, "edits.mp4", &with_edits(&clip, 1_000_000));
    refused(&bench, &engine, &file, FailureReason::LimitExceeded);
    // As many as are accepted take no time worth telling.
    let file = written(&bench, "few.mp4", &with_edits(&clip, 900));
    if let Err(error) = outcome(&bench, &engine, &file) {
        assert_eq!(error.reason(), FailureReason::InvalidMedia, "{error:?}");
    }
}

/// G-13, G-29
#[test]
fn tables_that_claim_billions_of_frames_are_refused() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "64x48", 25, 5, &["-an"]);
    let whole = std::fs::read(&clip).unwrap();
    // Each after version and flags: the count; for `stsz` the size that all have comes first.
    for (table, skip, value) in [
        (b"stts", 4, u32::MAX),
        (b"stsz", 8, u32::MAX),
        (b"stco", 4, u32::MAX),
        (b"stsc", 4, u32::MAX),
        (b"stts", 8, 1 << 30),
    ] {
        let mut bytes = whole.clone();
        let at = position(&bytes, table, 0) + 4 + skip;
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        if table == b"stsz" {
            // All of one byte: the table needs none of its own.
            bytes[at - 4..at].copy_from_slice(&1_u32.to_be_bytes());
        }
        let name = format!("{}-{skip}.mp4", String::from_utf8_lossy(table));
        let file = written(&bench, &name, &bytes);
        match outcome(&bench, &engine, &file) {
            Ok(frames) => assert!(frames <= 5, "{name}: {frames}"),
            Err(error) => {
                let reason = error.reason();
                assert!(matches!(reason, FailureReason::InvalidMedia | FailureReason::LimitExceeded), "{error:?}");
            }
        }
        let _ = std::fs::remove_file(bench.path("result.webm"));
    }
}

/// G-29: the container is honest and the codec's own header is not, and the other way round.
#[test]
fn a_picture_larger_than_the_limits_is_never_decoded() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = bench.make("in.avi", &["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.12", "-c:v", "mjpeg"]);
    let huge = 16_000_u16.to_be_bytes();
    let mut bytes = std::fs::read(&clip).unwrap();
    let frames: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, window)| *window == [0xff, 0xc0, 0, 17]).map(|(at, _)| at).collect();
    assert_eq!(frames.len(), 3);
    // The first one decides what ffprobe says, so that the limit speaks; a later one only the decoder meets.
    for (number, reason) in [(0, FailureReason::LimitExceeded), (2, FailureReason::InvalidMedia)] {
        let mut bytes = bytes.clone();
        let at = frames[number] + 5;
        bytes[at..at + 2].copy_from_slice(&huge);
        bytes[at + 2..at + 4].copy_from_slice(&huge);
        let file = written(&bench, &format!("huge-{number}.avi"), &bytes);
        let error = outcome(&bench, &engine, &file).expect_err("it was accepted");
        assert!(error.reason() == reason || error.reason() == FailureReason::InvalidMedia, "{error:?}");
    }
    let sides = position(&bytes, b"strf", 0) + 8 + 4;
    bytes[sides..sides + 4].copy_from_slice(&16_000_u32.to_le_bytes());
    bytes[sides + 4..sides + 8].copy_from_slice(&16_000_u32.to_le_bytes());
    let file = written(&bench, "claims.avi", &bytes);
    match outcome(&bench, &engine, &file) {
        Ok(frames) => assert_eq!(frames, 3),
        Err(error) => {
            let reason = error.reason();
            assert!(matches!(reason, FailureReason::InvalidMedia | FailureReason::LimitExceeded), "{error:?}");
        }
    }
}

/// Fonts, titles, data and a cover beside the picture are left out, and none of it reaches the output.
#[test]
fn what_is_neither_picture_nor_sound_is_left_out() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "64x48", 25, 5, &[]);
    let titles = written(&bench, "titles.srt", b"1\n00:00:00,000 --> 00:00:01,000\n{\\an8}<b>secret title</b>\n");
    let font = written(&bench, "font.ttf", &[7; 5000]);
    let chapters = written(
        &bench,
        "chapters.txt",
        b";FFMETADATA1\ntitle=secret\\\ntitle\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=100\ntitle=secret\n",
    );
    let [clip, titles, font, chapters] = [&clip, &titles, &font, &chapters].map(|path| path.to_str().unwrap());
    let packed = bench.make(
        "packed.mkv",
        &[
            "-i",
            clip,
            "-i",
            titles,
            "-i",
            chapters,
            "-map",
            "0",
            "-map",
            "1",
            "-map_metadata",
            "2",
            "-map_chapters",
            "2",
            "-c",
            "copy",
            "-c:s",
            "ass",
            "-attach",
            font,
            "-metadata:s:t",
            "mimetype=application/x-truetype-font",
        ],
    );
    assert_eq!(outcome(&bench, &engine, &packed).unwrap(), 5);
    let output = std::fs::read(bench.path("result.webm")).unwrap();
    assert!(!output.windows(6).any(|window| window == b"secret"));
    let timecode = bench.make("timecode.mov", &["-i", clip, "-c", "copy", "-timecode", "01:00:00:00"]);
    assert_eq!(outcome(&bench, &engine, &timecode).unwrap(), 5);
}

/// G-15: the moment at which a live recording was cut off cannot be told, unless the file has an index of its fragments.
#[test]
fn fragments_that_an_index_promises_must_be_there() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let fragments = ["-g", "5", "-an", "-movflags", "+frag_keyframe+empty_moov+default_base_moof+global_sidx"];
    let whole = box_clip(&bench, "whole.mp4", "64x48", 25, 20, &fragments);
    assert_eq!(outcome(&bench, &engine, &whole).unwrap(), 20);
    std::fs::remove_file(bench.path("result.webm")).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let last = bytes.windows(4).rposition(|window| window == b"moof").unwrap() - 4;
    let cut = written(&bench, "cut.mp4", &bytes[..last]);
    refused(&bench, &engine, &cut, FailureReason::InvalidMedia);
}

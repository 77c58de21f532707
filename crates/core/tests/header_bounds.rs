//! The early probe against hostile bytes: whatever they are, it ends soon, does not panic and asks for little memory.
#![allow(clippy::unwrap_used)]
#![expect(unsafe_code, reason = "an allocator that counts can only be written with it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rotoless_core::header::{BLOCK_BYTES, Damage, HeaderError, MAX_BLOCKS, read_header};

/// Counts the bytes that the current thread asked for and has not given back.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let live = LIVE.get() + change;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIPS: [(&str, &[u8]); 10] = [
    ("faststart.mp4", include_bytes!("fixtures/faststart.mp4")),
    ("moov_at_end.mp4", include_bytes!("fixtures/moov_at_end.mp4")),
    ("fragmented.mp4", include_bytes!("fixtures/fragmented.mp4")),
    ("quicktime.mov", include_bytes!("fixtures/quicktime.mov")),
    ("rotated.mp4", include_bytes!("fixtures/rotated.mp4")),
    ("sound_only.mp4", include_bytes!("fixtures/sound_only.mp4")),
    ("finished.webm", include_bytes!("fixtures/finished.webm")),
    ("live.webm", include_bytes!("fixtures/live.webm")),
    ("finished.mkv", include_bytes!("fixtures/finished.mkv")),
    ("classic.avi", include_bytes!("fixtures/classic.avi")),
];

/// Reads a header and checks what must hold for any bytes.
fn probe(bytes: &[u8]) -> Result<rotoless_core::header::Header, HeaderError> {
    PEAK.set(LIVE.get());
    let (before, begin) = (LIVE.get(), Instant::now());
    let header = read_header(Cursor::new(bytes), bytes.len() as u64);
    assert!(!matches!(header, Err(HeaderError::Io(_))), "memory does not fail to be read: {header:?}");
    let asked = PEAK.get() - before;
    // One block, the list of blocks seen, a few records of tracks.
    assert!(asked < 256 * 1024, "{asked} bytes were asked for");
    assert!(begin.elapsed() < Duration::from_secs(5), "took {:?}", begin.elapsed());
    header
}

/// G-29
#[test]
fn every_cut_is_survived() {
    for (name, clip) in CLIPS {
        for end in 0..clip.len() {
            let _ = probe(&clip[..end]);
        }
        assert!(!matches!(probe(clip), Err(HeaderError::Damaged(_))), "{name}");
    }
}

/// G-29
#[test]
fn every_single_byte_may_be_wrong() {
    for (_, clip) in CLIPS {
        let mut bytes = clip.to_vec();
        for at in 0..bytes.len().min(1500) {
            let right = bytes[at];
            for wrong in [0, 0x7f, 0xff, right ^ 0x80] {
                bytes[at] = wrong;
                let _ = probe(&bytes);
            }
            bytes[at] = right;
        }
    }
}

/// A table that claims 2^32 samples of one byte: 300 GB for a parser that keeps a record of each.
#[test]
fn a_forged_sample_count_asks_for_no_memory() {
    let mut bytes = CLIPS[0].1.to_vec();
    let stsz = bytes.windows(4).position(|kind| kind == b"stsz").unwrap();
    bytes[stsz + 8..stsz + 16].copy_from_slice(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(probe(&bytes).unwrap().duration_ms, Some(2000));
}

#[test]
fn a_forged_fragment_asks_for_no_time() {
    let mut bytes = CLIPS[2].1.to_vec();
    let trun = bytes.windows(4).position(|kind| kind == b"trun").unwrap();
    // All records of 2^32 - 1 samples, in a box that holds a few.
    bytes[trun + 6] |= 0x0f;
    bytes[trun + 8..trun + 12].copy_from_slice(&[0xff; 4]);
    assert!(matches!(probe(&bytes), Err(HeaderError::Damaged(Damage::Overrun))));
    // No records at all: every sample takes the default.
    bytes[trun + 6] &= !0x0f;
    let header = probe(&bytes).unwrap();
    assert!(header.duration_ms.is_some_and(|ms| ms > 1_000_000_000), "a lie is passed on as it is: {header:?}");
}

/// Boxes in boxes: the depth is ours, not the file's.
#[test]
fn deep_nesting_is_not_followed() {
    let mut bytes = Vec::new();
    for _ in 0..3000 {
        let size = u32::try_from(bytes.len() + 8).unwrap();
        bytes = [&size.to_be_bytes()[..], b"moov", &bytes].concat();
    }
    let header = probe(&[&b"\0\0\0\x14ftypisom\0\0\x02\0isom"[..], &bytes].concat());
    assert!(matches!(header, Err(HeaderError::NoVideoTrack)), "{header:?}");
}

/// A whole budget of fragments, each sample with a duration of its own: the longest walk there is.
#[test]
fn the_longest_walk_ends_soon() {
    let samples = 200_000_u32;
    let trun = [&[0, 0, 1, 0][..], &samples.to_be_bytes(), &[0, 0, 0, 9].repeat(samples as usize)].concat();
    let boxed = |kind: &[u8; 4], content: &[u8]| {
        [&u32::try_from(content.len() + 8).unwrap().to_be_bytes()[..], kind, content].concat()
    };
    let tfhd = boxed(b"tfhd", &[0, 0, 0, 0, 0, 0, 0, 1]);
    let moof = boxed(b"moof", &boxed(b"traf", &[tfhd, boxed(b"trun", &trun)].concat()));
    let clip = CLIPS[2].1;
    let first_moof = clip.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
    let bytes = [&clip[..first_moof], &moof.repeat(8)].concat();
    assert!(bytes.len() as u64 > MAX_BLOCKS as u64 * BLOCK_BYTES);
    assert_eq!(probe(&bytes).unwrap().duration_ms, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// G-29
    #[test]
    fn damaged_headers_are_survived(
        clip in 0..CLIPS.len(),
        wounds in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut bytes = CLIPS[clip].1.to_vec();
        for (at, byte) in wounds {
            let at = at.index(bytes.len().min(3000));
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = probe(&bytes);
    }

    /// G-29
    #[test]
    fn noise_behind_a_magic_number_is_survived(
        magic in prop::sample::select(vec![
            &b"\0\0\0\x14ftypisom\0\0\x02\0isom"[..],
            b"\0\0\0\x14ftypisom\0\0\x02\0isom\0\0\x02\0moov",
            b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\xff",
            b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\xff\x16\x54\xae\x6b\x41\x00\xae\x40\xf0",
            b"RIFF\0\0\0\0AVI LIST\0\x01\0\0hdrl",
            b"",
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let _ = probe(&[magic, &noise].concat());
    }
}

//! Sources that lie, are cut off, or are no videos (guarantees G-15, G-29).

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rotoless_contract::spec::Model;
use rotoless_contract::worker::{FailureReason, MediaLimits};
use rotoless_matting::{EngineError, LimitExceeded, Tools};

use crate::support::{Bench, box_clip, free_engine, free_engine_with, scripted_ffmpeg, transparent};

fn first_half(bench: &Bench, path: &Path) -> PathBuf {
    let bytes = std::fs::read(path).unwrap();
    let cut = bench.path(&format!("half.{}", path.extension().unwrap().to_str().unwrap()));
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    cut
}

/// Writes a number behind a box's name.
fn patch(path: &Path, name: &[u8; 4], skip: usize, value: u32) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(4).position(|window| window == name).unwrap() + 4 + skip;
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

/// G-15
#[test]
fn a_cut_off_source_fails_and_is_never_silently_short() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let whole = box_clip(&bench, "whole.mp4", "160x90", 25, 50, &["-movflags", "+faststart"]);
    let copy = |name: &str| bench.make(name, &["-i", whole.to_str().unwrap(), "-c", "copy"]);
    for path in [whole.clone(), copy("whole.mkv"), copy("whole.avi"), copy("whole.mov")] {
        let found = bench.run(&engine, &first_half(&bench, &path), &transparent(Model::Human));
        assert!(matches!(found, Err(EngineError::Damaged { .. })), "{}: {found:?}", path.display());
    }
}

/// G-15: the containers' own lengths are right here, so only the decoder can find it.
#[test]
fn a_source_with_damaged_frames_fails() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 50, &["-movflags", "+faststart", "-an"]);
    let mut bytes = std::fs::read(&clip).unwrap();
    let (from, to) = (bytes.len() / 2, bytes.len() * 3 / 4);
    bytes[from..to].fill(0);
    std::fs::write(&clip, bytes).unwrap();
    let found = bench.run(&free_engine(&bench), &clip, &transparent(Model::Human));
    assert!(matches!(found, Err(EngineError::Damaged { .. })), "{found:?}");
}

/// G-15: a killed decoder ends its pipe at a frame's border, like one that is done.
#[test]
fn a_decoder_that_is_killed_fails_the_job() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 50, &[]);
    let frame = 160 * 90 * 3 / 2;
    let script = format!(
        "case \"$*\" in *pipe:1) \"$real\" \"$@\" | head -c {}; kill -9 $$;; esac\nexec \"$real\" \"$@\"",
        20 * frame
    );
    let engine = free_engine_with(&bench, scripted_ffmpeg(&bench, &script));
    let found = bench.run(&engine, &clip, &transparent(Model::Human));
    assert!(matches!(found, Err(EngineError::Tool { .. })), "{found:?}");
    assert!(!bench.path("result.webm").exists());
}

/// G-29: there is no ffprobe here, so a file that got that far would give another error.
#[test]
fn what_is_no_video_is_refused_before_a_tool_opens_it() {
    let bench = Bench::new();
    let nowhere = Tools { ffmpeg: bench.path("none"), ffprobe: bench.path("none") };
    let engine = free_engine_with(&bench, nowhere);
    for content in ["hello, this is text\n", "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n", "<svg/>", ""] {
        let path = bench.path("named.mp4");
        std::fs::write(&path, content).unwrap();
        let found = engine.probe(&path, &MediaLimits::default());
        assert!(matches!(found, Err(EngineError::NotAVideo)), "{found:?}");
    }
}

/// G-27, G-29: even one that begins like an MP4.
#[test]
fn a_playlist_named_mp4_opens_nothing() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/segment.ts", listener.local_addr().unwrap());
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n");
    let disguised = format!("\0\0\0\u{10}ftypisom\0\0\0\0\n{playlist}");
    for content in [&playlist, &disguised] {
        let path = bench.path("playlist.mp4");
        std::fs::write(&path, content).unwrap();
        let found = engine.probe(&path, &MediaLimits::default());
        assert_eq!(found.unwrap_err().reason(), FailureReason::InvalidMedia);
    }
    let accepted = listener.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{accepted:?}");
}

/// G-04
#[test]
fn a_header_that_lies_about_the_length_is_not_believed() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for claimed_ms in [36_000_000, 100] {
        let clip = box_clip(&bench, "in.mp4", "160x90", 25, 50, &[]);
        patch(&clip, b"mvhd", 16, claimed_ms);
        let probe = engine.probe(&clip, &MediaLimits::default()).unwrap();
        assert_eq!((probe.frames, probe.duration_ms), (50, 2000));
        assert!(probe.warnings.iter().any(|warning| warning.contains("claims")), "{:?}", probe.warnings);
    }
}

/// The timeline that players show counts: an edit list that leaves out most of the frames.
#[test]
fn an_edit_list_is_honoured() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let long = box_clip(&bench, "long.mp4", "160x90", 25, 50, &["-g", "50", "-an"]);
    // Cutting between key frames without encoding again makes one.
    let cut = bench.make("cut.mp4", &["-ss", "1.2", "-i", long.to_str().unwrap(), "-c", "copy"]);
    let probe = engine.probe(&cut, &MediaLimits::default()).unwrap();
    assert_eq!((probe.frames, probe.duration_ms), (20, 800), "{probe:?}");
    let (_, finished) = bench.run(&engine, &cut, &transparent(Model::Human)).unwrap();
    assert_eq!(finished.output.frames, 20);
}

/// G-29
#[test]
fn a_gap_of_hours_does_not_become_a_million_frames() {
    let bench = Bench::new();
    let clip = bench.make(
        "gap.mkv",
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=160x90:r=25:d=0.08",
            "-vf",
            "setpts=if(eq(N\\,1)\\,36000/TB\\,PTS)",
            "-vsync",
            "passthrough",
            "-c:v",
            "ffv1",
        ],
    );
    let found = free_engine(&bench).probe(&clip, &MediaLimits::default());
    assert!(matches!(found, Err(EngineError::Limit(LimitExceeded::Gap { .. }))), "{found:?}");
}

/// G-29
#[test]
fn limits_hold_for_bytes_sides_length_and_rate() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 50, &[]);
    let bytes = std::fs::metadata(&clip).unwrap().len();
    let just = MediaLimits { max_bytes: bytes, max_side: 160, max_duration_ms: 2000, max_fps: 25 };
    assert!(engine.probe(&clip, &just).is_ok());
    for tight in [
        MediaLimits { max_bytes: bytes - 1, ..just },
        MediaLimits { max_side: 159, ..just },
        MediaLimits { max_duration_ms: 1999, ..just },
        MediaLimits { max_fps: 24, ..just },
    ] {
        let found = engine.probe(&clip, &tight);
        assert!(matches!(found, Err(EngineError::Limit(_))), "{tight:?}: {found:?}");
    }
}

#[test]
fn a_file_without_a_picture_is_a_clear_error() {
    let bench = Bench::new();
    let clip = bench.make("sound.mp4", &["-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac"]);
    let found = free_engine(&bench).probe(&clip, &MediaLimits::default());
    assert!(matches!(found, Err(EngineError::NoVideoStream)), "{found:?}");
}

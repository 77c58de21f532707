//! Files that are no background, or one that nobody can pay for: a typed error, soon, and no process left.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rotoless_contract::spec::{Background, Fit, Model, OutputFormat};
use rotoless_contract::worker::FailureReason;
use rotoless_matting::{Engine, EngineError};

use crate::support::{Bench, box_clip, free_engine, processes_with, spec};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Image,
    Video,
}

/// The job's failure with this file behind its subject.
fn refused(bench: &mut Bench, engine: &Engine, clip: &Path, file: PathBuf, kind: Kind) -> EngineError {
    let name = file.display().to_string();
    bench.background = Some(file);
    let background = match kind {
        Kind::Image => Background::Image { image_url: String::new(), fit: Fit::Cover },
        Kind::Video => Background::Video { video_url: String::new(), fit: Fit::Cover },
    };
    let began = Instant::now();
    let error = bench.run(engine, clip, &spec(Model::Human, OutputFormat::Mp4, background)).expect_err(&name);
    assert!(began.elapsed() < Duration::from_secs(30), "{name}: {:?}", began.elapsed());
    assert_eq!(error.reason(), FailureReason::InvalidBackground, "{name}: {error:?}");
    assert_eq!(processes_with(bench.directory.path().as_os_str()), 0);
    assert!(!bench.path("result.mp4").exists());
    error
}

fn written(bench: &Bench, name: &str, bytes: &[u8]) -> PathBuf {
    let path = bench.path(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn half(bench: &Bench, path: &Path) -> PathBuf {
    let bytes = std::fs::read(path).unwrap();
    written(bench, &format!("half-{}", path.file_name().unwrap().display()), &bytes[..bytes.len() / 2])
}

/// A PNG of one colour, of any size, whose pixels are never in memory.
fn flat_png(bench: &Bench, width: u32, height: u32) -> PathBuf {
    use std::io::Write;
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let row = vec![0; 1 + (width as usize).div_ceil(8)];
    for _ in 0..height {
        deflate.write_all(&row).unwrap();
    }
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([1, 0, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", header), (b"IDAT", deflate.finish().unwrap()), (b"IEND", Vec::new())] {
        let mut checked = kind.to_vec();
        checked.extend(&content);
        let mut checksum = flate2::Crc::new();
        checksum.update(&checked);
        bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend(checked);
        bytes.extend(checksum.sum().to_be_bytes());
    }
    written(bench, &format!("flat-{width}x{height}.png"), &bytes)
}

/// G-29
#[test]
fn a_picture_of_few_bytes_and_many_pixels_is_not_unpacked() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 2, &["-an"]);
    let bomb = flat_png(&bench, 20_000, 20_000);
    assert!(std::fs::metadata(&bomb).unwrap().len() < 1 << 20);
    let error = refused(&mut bench, &engine, &clip, bomb, Kind::Image);
    assert!(format!("{error:?}").contains("20000"), "{error:?}");
    let lying = flat_png(&bench, u32::MAX, 1);
    refused(&mut bench, &engine, &clip, lying, Kind::Image);
    // As large as is accepted: it is unpacked, and that is all.
    bench.background = Some(flat_png(&bench, 8192, 8192));
    let background = Background::Image { image_url: String::new(), fit: Fit::Cover };
    bench.run(&engine, &clip, &spec(Model::Human, OutputFormat::Mp4, background)).unwrap();
}

/// G-29
#[test]
fn a_picture_that_is_cut_off_or_moves_or_lies_is_refused() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 2, &["-an"]);
    let busy = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=5:d=1"];
    for name in ["whole.png", "whole.jpg", "whole.webp"] {
        let whole = bench.make(name, &[&busy[..], &["-frames:v", "1", "-update", "1"]].concat());
        let cut = half(&bench, &whole);
        refused(&mut bench, &engine, &clip, cut, Kind::Image);
    }
    let moving = bench.make("moving.webp", &[&busy[..], &["-c:v", "libwebp_anim"]].concat());
    let error = refused(&mut bench, &engine, &clip, moving, Kind::Image);
    assert!(format!("{error:?}").contains("animated"), "{error:?}");
    let apng = bench.make("moving.png", &[&busy[..], &["-f", "apng"]].concat());
    refused(&mut bench, &engine, &clip, apng, Kind::Image);
    // The header is right and nothing behind it is.
    let mut bytes = std::fs::read(bench.path("whole.png")).unwrap();
    let idat = bytes.windows(4).position(|window| window == b"IDAT").unwrap() + 20;
    bytes[idat..idat + 400].fill(0x55);
    let broken = written(&bench, "broken.png", &bytes);
    refused(&mut bench, &engine, &clip, broken, Kind::Image);
}

/// G-29
#[test]
fn what_is_no_picture_or_no_video_is_refused_as_one() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 2, &["-an"]);
    let texts =
        ["", "hello", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x\n"];
    for content in texts {
        let file = written(&bench, "text.png", content.as_bytes());
        refused(&mut bench, &engine, &clip, file.clone(), Kind::Image);
        refused(&mut bench, &engine, &clip, file, Kind::Video);
    }
    let picture = flat_png(&bench, 64, 64);
    refused(&mut bench, &engine, &clip, picture, Kind::Video);
    refused(&mut bench, &engine, &clip.clone(), clip.clone(), Kind::Image);
    let sound = bench.make("sound.mp4", &["-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac"]);
    let error = refused(&mut bench, &engine, &clip, sound, Kind::Video);
    assert!(format!("{error:?}").contains("NoVideoStream"), "{error:?}");
    let cut = half(&bench, &clip);
    refused(&mut bench, &engine, &clip, cut, Kind::Video);
    // Found only by its decoder, in the middle of the job.
    let behind = box_clip(&bench, "behind.mp4", "160x90", 25, 50, &["-movflags", "+faststart", "-an"]);
    let mut bytes = std::fs::read(&behind).unwrap();
    let (from, to) = (bytes.len() / 2, bytes.len() * 3 / 4);
    bytes[from..to].fill(0);
    let long = box_clip(&bench, "long.mp4", "160x90", 25, 60, &["-an"]);
    let damaged = written(&bench, "damaged.mp4", &bytes);
    refused(&mut bench, &engine, &long, damaged, Kind::Video);
}

#[test]
fn a_background_without_its_file_is_no_panic() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 2, &["-an"]);
    let background = Background::Image { image_url: String::new(), fit: Fit::Cover };
    let error = bench.run(&engine, &clip, &spec(Model::Human, OutputFormat::Mp4, background)).unwrap_err();
    assert_eq!(error.reason(), FailureReason::UnsupportedOptions);
}

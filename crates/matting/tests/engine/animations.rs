//! The formats that are no videos: GIF, animated WebP, a ZIP of PNG frames. Each is opened by another program, or
//! another reading of the format, than the one that checked it before it counted.

use std::io::Read;
use std::path::Path;

use rotoless_contract::spec::{Background, Model, OutputFormat, Rgb};
use rotoless_matting::Finished;

use crate::support::{Bench, box_clip, described, engine, free_engine, mad, raw, spec, transparent, webm_alpha};

const GREEN: Background = Background::Color { color: Rgb([0, 255, 0]) };
const PICTURE_FORMATS: [OutputFormat; 3] = [OutputFormat::Gif, OutputFormat::Webp, OutputFormat::PngSequence];

/// Every frame of such a file as RGBA, and how long each is shown, ms.
fn frames(path: &Path, format: OutputFormat, bench: &Bench) -> (Vec<u8>, Vec<u64>) {
    match format {
        OutputFormat::Gif => gif(path),
        OutputFormat::Webp => webp(path, bench),
        OutputFormat::PngSequence => pngs(path, bench),
        OutputFormat::Webm | OutputFormat::Mov | OutputFormat::Mp4 => unreachable!("a video"),
    }
}

/// ffprobe's demuxer tells the times; with `min_delay` 0 it keeps what is written.
fn gif(path: &Path) -> (Vec<u8>, Vec<u64>) {
    let found = std::process::Command::new(crate::support::tools().ffprobe)
        .args(["-v", "error", "-min_delay", "0", "-show_entries", "packet=duration_time", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    let ms = |line: &str| (line.trim_matches(',').parse::<f64>().unwrap() * 1000.0).round() as u64;
    let pixels = raw(path, &[], "settb=1/25,setpts=N,fps=25", "rgba");
    (pixels, text.lines().filter(|line| !line.is_empty()).map(ms).collect())
}

/// Each frame is cut out by its place in the file and decoded as a picture of its own.
fn webp(path: &Path, bench: &Bench) -> (Vec<u8>, Vec<u64>) {
    let bytes = std::fs::read(path).unwrap();
    let number =
        |at: usize, length: usize| bytes[at..at + length].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
    assert_eq!(number(4, 4) + 8, bytes.len());
    let (mut pixels, mut times, mut at) = (Vec::new(), Vec::new(), 12);
    while at < bytes.len() {
        let length = number(at + 4, 4);
        if &bytes[at..at + 4] == b"ANMF" {
            times.push(number(at + 20, 3) as u64);
            let (sides, chunks) = (&bytes[at + 14..at + 20], &bytes[at + 24..at + 8 + length]);
            let mut still = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0".to_vec();
            still.extend(sides);
            still.extend(chunks);
            let size = u32::try_from(still.len() - 8).unwrap();
            still[4..8].copy_from_slice(&size.to_le_bytes());
            let file = bench.path("frame.webp");
            std::fs::write(&file, still).unwrap();
            pixels.extend(raw(&file, &[], "null", "rgba"));
        }
        at += 8 + length + length % 2;
    }
    (pixels, times)
}

/// ffmpeg reads them as editors do: by the numbers in their names.
fn pngs(path: &Path, bench: &Bench) -> (Vec<u8>, Vec<u64>) {
    let directory = bench.path("unpacked");
    std::fs::create_dir_all(&directory).unwrap();
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    archive.extract(&directory).unwrap();
    let mut json = String::new();
    std::fs::File::open(directory.join("manifest.json")).unwrap().read_to_string(&mut json).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&manifest["pattern"], &manifest["first_number"]), (&"frame_%06d.png".into(), &1.into()));
    let count = usize::try_from(manifest["frames"].as_u64().unwrap()).unwrap();
    assert_eq!(archive.len(), count + 1);
    let each = manifest["frame_duration_ms"].as_f64().unwrap();
    let until = |n: usize| (n as f64 * each).round() as u64;
    let times = (0..count).map(|n| until(n + 1) - until(n)).collect();
    (raw(&directory.join("frame_%06d.png"), &[], "null", "rgba"), times)
}

#[track_caller]
fn check(finished: &Finished, pixels: &[u8], times: &[u64], frames: u64) {
    let info = &finished.output;
    assert!(!info.has_audio);
    assert_eq!((info.frames, times.len() as u64), (frames, frames));
    assert_eq!(pixels.len() as u64, u64::from(info.width) * u64::from(info.height) * 4 * frames);
    let shown: u64 = times.iter().sum();
    assert!(shown.abs_diff(info.duration_ms) <= 10, "{shown} {}", info.duration_ms);
}

#[test]
fn every_picture_format_carries_the_alpha_of_each_frame() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    // The box is there in some frames only: a mix-up of frames would show.
    let blink = ["-vf", "drawbox=enable='lt(mod(n,4),2)':color=0x202020:t=fill"];
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 12, &blink);
    for format in PICTURE_FORMATS {
        let order = spec(Model::Human, format, Background::Transparent);
        let (output, finished) = bench.run(&engine, &clip, &order).unwrap();
        let (pixels, times) = frames(&output, format, &bench);
        check(&finished, &pixels, &times, 12);
        assert!(finished.output.has_alpha);
        assert!(times.iter().all(|&ms| ms == 40), "{times:?}");
        for (number, frame) in pixels.chunks_exact(160 * 90 * 4).enumerate() {
            let at = |x: usize, y: usize| &frame[(y * 160 + x) * 4..][..4];
            let subject = if number % 4 < 2 { 0 } else { 255 };
            assert!(at(40, 45)[3].abs_diff(subject) < 5, "{format} {number} {:?}", at(40, 45));
            assert!(at(140, 45)[3] < 5 && at(5, 5)[3] < 5, "{format} {number}");
            assert!(subject == 0 || at(40, 45)[..3].iter().all(|&channel| channel > 245), "{format} {:?}", at(40, 45));
        }
    }
}

/// Colours through palette, BT.601 and RGB: none may be shifted, none swapped.
#[test]
fn every_picture_format_keeps_its_colours() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    // Bright enough to be all subject.
    let colours = [[0xf0_u8, 0xe6, 0x78], [0xe0, 0xff, 0xff], [0xff, 0xc0, 0xcb]];
    for colour in colours {
        let source = format!("color=c=0x{}:s=64x64:r=25:d=0.2,format=rgb24", hex::encode(colour));
        let to_709 = ["-vf", "scale=out_color_matrix=bt709", "-pix_fmt", "yuv420p", "-colorspace", "bt709"];
        let codec = ["-color_range", "tv", "-c:v", "libx264", "-crf", "1"];
        let clip = bench.make("in.mp4", &[&["-f", "lavfi", "-i", &source][..], &to_709, &codec].concat());
        for format in PICTURE_FORMATS {
            for background in [Background::Transparent, GREEN] {
                let (output, _) = bench.run(&engine, &clip, &spec(Model::Human, format, background.clone())).unwrap();
                let (pixels, _) = frames(&output, format, &bench);
                let pixel = &pixels[4 * (32 * 64 + 32)..][..4];
                let worst = pixel.iter().zip(colour).map(|(a, b)| a.abs_diff(b)).max().unwrap();
                assert!(worst <= 4 && pixel[3] == 255, "{format} {background:?}: {pixel:?} is not {colour:?}");
            }
        }
    }
}

#[test]
fn every_picture_format_stands_on_its_colour_without_alpha() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 5, &[]);
    for format in PICTURE_FORMATS {
        let (output, finished) = bench.run(&engine, &clip, &spec(Model::Human, format, GREEN)).unwrap();
        let (pixels, times) = frames(&output, format, &bench);
        check(&finished, &pixels, &times, 5);
        assert!(!finished.output.has_alpha);
        assert!(pixels.chunks_exact(4).all(|pixel| pixel[3] == 255), "{format}");
        let ground = &pixels[(45 * 160 + 140) * 4..][..3];
        assert!(ground[0] < 12 && ground[1] > 240 && ground[2] < 12, "{format} {ground:?}");
    }
}

/// 30 frames a second are neither whole hundredths nor whole thousandths: the sums must not drift.
#[test]
fn frame_times_follow_rates_that_do_not_divide() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "64x64", 30, 60, &[]);
    for format in PICTURE_FORMATS {
        let (output, finished) = bench.run(&engine, &clip, &spec(Model::Human, format, GREEN)).unwrap();
        let (pixels, times) = frames(&output, format, &bench);
        check(&finished, &pixels, &times, 60);
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*least >= 30 && *most <= 40, "{format} {times:?}");
        let first_half: u64 = times[..30].iter().sum();
        assert!(first_half.abs_diff(1000) <= 10, "{format} {first_half}");
    }
}

/// A browser shows a GIF of 60 frames a second at 10.
#[test]
fn a_rate_that_players_do_not_keep_to_becomes_one_that_they_do() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "64x64", 100, 100, &[]);
    for (format, expected) in [(OutputFormat::Gif, 50), (OutputFormat::Webp, 90), (OutputFormat::PngSequence, 100)] {
        let (output, finished) = bench.run(&engine, &clip, &spec(Model::Human, format, GREEN)).unwrap();
        let (pixels, times) = frames(&output, format, &bench);
        assert!(finished.output.frames.abs_diff(expected) <= 1, "{format} {}", finished.output.frames);
        check(&finished, &pixels, &times, finished.output.frames);
        assert_eq!(finished.warnings.iter().any(|text| text.contains("at most")), expected < 100, "{format}");
        assert!(finished.output.duration_ms.abs_diff(1000) <= 20);
    }
}

/// Through the encoder of each format and back, against the same frames in a WebM: the weights' own error is not
/// judged here.
#[test]
fn the_alpha_of_a_portrait_survives_every_picture_format() {
    let bench = Bench::new();
    let clip = bench.cut(3);
    let (webm, _) = bench.run(engine(), &clip, &transparent(Model::Human)).unwrap();
    let truth = webm_alpha(&webm);
    for format in PICTURE_FORMATS {
        let (output, _) = bench.run(engine(), &clip, &spec(Model::Human, format, Background::Transparent)).unwrap();
        let (pixels, _) = frames(&output, format, &bench);
        let alpha: Vec<u8> = pixels.chunks_exact(4).map(|pixel| pixel[3]).collect();
        let error = mad(&alpha, &truth) * 1000.0;
        println!("{format}: MAD*1000 {error:.2}");
        // A GIF has no soft edges: measured 7.2.
        assert!(error < if format == OutputFormat::Gif { 8.0 } else { 1.0 }, "{format} {error}");
    }
}

#[test]
fn a_clip_of_one_frame_gives_one_picture() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 1, &["-an"]);
    for format in PICTURE_FORMATS {
        let (output, finished) = bench.run(&engine, &clip, &spec(Model::Human, format, GREEN)).unwrap();
        let (pixels, _) = frames(&output, format, &bench);
        assert_eq!((finished.output.frames, pixels.len()), (1, 160 * 90 * 4), "{format}");
    }
}

#[test]
fn a_gif_says_what_it_is_to_ffprobe() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 5, &[]);
    let order = spec(Model::Human, OutputFormat::Gif, Background::Transparent);
    let (output, finished) = bench.run(&free_engine(&bench), &clip, &order).unwrap();
    assert_eq!(described(&output, "v:0", "codec_name"), "gif");
    assert_eq!(described(&output, "v:0", "width"), "160");
    assert_eq!(finished.output.size_bytes, std::fs::metadata(&output).unwrap().len());
}

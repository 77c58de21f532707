//! What every format promises of its own output, read back by programs that had no part in making it.

use std::path::Path;
use std::process::Command;

use rotoless_contract::spec::{Background, Model, OutputFormat};
use serde::Deserialize;

use crate::support::{Bench, box_clip, described, free_engine, raw, repository, spec, tools};

/// What `readers.py` says of a file.
#[derive(Debug, Deserialize)]
struct Read {
    frames: u64,
    ms: Vec<Option<f64>>,
    sizes: Vec<(u32, u32)>,
    subject: Vec<[u8; 4]>,
    ground: Vec<[u8; 4]>,
    busy: f64,
}

fn read_by_python(path: &Path) -> Read {
    let python = repository().join(".cache/python/bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py");
    let read = Command::new(&python).arg(script).arg(path).output();
    let read = read.unwrap_or_else(|error| panic!("{}: {error}; scripts/setup-python makes it", python.display()));
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

#[test]
fn pillow_and_zipfile_read_the_picture_formats() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 10, &["-an"]);
    for format in [OutputFormat::Gif, OutputFormat::Webp, OutputFormat::PngSequence] {
        for background in
            [Background::Transparent, Background::Color { color: rotoless_contract::spec::Rgb([0, 0, 255]) }]
        {
            let is_transparent = background == Background::Transparent;
            let (output, _) = bench.run(&engine, &clip, &spec(Model::Human, format, background)).unwrap();
            let read = read_by_python(&output);
            assert_eq!((read.frames, read.sizes), (10, vec![(160, 90)]), "{format}");
            let total: f64 = read.ms.iter().map(|ms| ms.unwrap()).sum();
            assert!((total - 400.0).abs() < 1.0, "{format}: {total} ms");
            assert!(
                read.subject.iter().all(|[r, g, b, a]| *a == 255 && (*r).min(*g).min(*b) > 240),
                "{format} {:?}",
                read.subject
            );
            if is_transparent {
                assert!(read.ground.iter().all(|[.., a]| *a == 0), "{format} {:?}", read.ground);
                // The source's ground has 3 and more here.
                assert!(read.busy < 0.3, "{format}: {} of the background is left", read.busy);
            } else {
                assert!(
                    read.ground.iter().all(|[r, g, b, a]| *a == 255 && *r < 12 && *g < 12 && *b > 240),
                    "{format} {:?}",
                    read.ground
                );
            }
        }
    }
}

#[test]
fn videos_are_tagged_and_as_long_as_they_say() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 30, 12, &[]);
    let green = Background::Color { color: rotoless_contract::spec::Rgb([0, 255, 0]) };
    for (format, background) in [
        (OutputFormat::Webm, Background::Transparent),
        (OutputFormat::Webm, green.clone()),
        (OutputFormat::Mov, Background::Transparent),
        (OutputFormat::Mov, Background::Blur),
        (OutputFormat::Mp4, green),
    ] {
        let (output, finished) = bench.run(&engine, &clip, &spec(Model::Human, format, background.clone())).unwrap();
        for tag in ["color_space", "color_primaries", "color_transfer"] {
            assert_eq!(described(&output, "v:0", tag), "bt709", "{format} {background:?} {tag}");
        }
        assert_eq!(described(&output, "v:0", "color_range"), "tv", "{format} {background:?}");
        assert_eq!(described(&output, "v:0", "r_frame_rate"), "30/1", "{format}");
        assert_eq!(counted_frames(&output), 12, "{format}");
        let seconds: f64 = described(&output, "v:0", "start_time").parse().unwrap();
        assert!(seconds.abs() < 0.01, "{format} begins at {seconds}");
        assert_eq!((finished.output.duration_ms, finished.output.fps), (400, 30.0), "{format}");
        let alpha = described(&output, "v:0", "ALPHA_MODE");
        assert_eq!(alpha == "1", format == OutputFormat::Webm && background == Background::Transparent, "{alpha}");
        if background == Background::Transparent {
            // ffmpeg's own VP9 decoder drops alpha, and shows what stands under it.
            let decoder = if format == OutputFormat::Webm { "vp9" } else { "prores" };
            let luma = raw(&output, &["-c:v", decoder], "format=yuv444p,crop=iw/2:ih:iw/2:0", "gray");
            let steps: u64 = luma.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1]))).sum();
            let busy = steps as f64 / luma.len() as f64;
            assert!(busy < 0.3, "{format}: {busy} of the background is left");
        }
    }
}

fn counted_frames(path: &Path) -> u64 {
    let found = Command::new(tools().ffprobe)
        .args(["-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames"])
        .args(["-of", "default=nk=1:nw=1"])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&found.stdout).trim().parse().unwrap()
}

/// Every opaque pixel of a lossless format within 2 of 255 of the source, seen as RGB by the same rules.
#[test]
fn opaque_pixels_of_a_lossless_format_are_the_sources() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    // Bright colours of many hues.
    let picture = "testsrc2=s=160x90:r=25:d=0.12,format=yuv420p,lutyuv=y=val/5+180:u=(val-128)/4+128:v=(val-128)/4+128";
    let tags = ["-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"];
    let clip = bench.make("in.mkv", &[&["-f", "lavfi", "-i", picture, "-c:v", "ffv1"][..], &tags].concat());
    let (output, _) =
        bench.run(&engine, &clip, &spec(Model::Human, OutputFormat::PngSequence, Background::Transparent)).unwrap();
    let as_rgb = "scale=in_color_matrix=bt709:in_range=tv:out_range=pc:flags=bicubic+accurate_rnd+full_chroma_int";
    let expected = raw(&clip, &[], as_rgb, "rgba");
    let directory = bench.path("frames");
    let mut archive = zip::ZipArchive::new(std::fs::File::open(output).unwrap()).unwrap();
    archive.extract(&directory).unwrap();
    let found = raw(&directory.join("frame_%06d.png"), &["-start_number", &first_number(&directory)], "null", "rgba");
    assert_eq!(found.len(), expected.len());
    let (mut opaque, mut worst) = (0, 0);
    for (found, expected) in found.chunks_exact(4).zip(expected.chunks_exact(4)).filter(|(found, _)| found[3] == 255) {
        opaque += 1;
        worst = found[..3].iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap().max(worst);
    }
    assert!(opaque > 10_000, "{opaque}");
    assert!(worst <= 2, "{worst}");
}

fn first_number(directory: &Path) -> String {
    let names = std::fs::read_dir(directory).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let first = names.filter_map(|name| name.strip_prefix("frame_")?.strip_suffix(".png").map(str::to_owned)).min();
    first.unwrap()
}

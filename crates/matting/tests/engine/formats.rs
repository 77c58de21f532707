//! Formats, colours, sound and shapes of what comes out.

use rotoless_contract::spec::{Background, Model, OutputFormat, Rgb};
use rotoless_contract::worker::MediaLimits;

use rotoless_matting::{MatteUse, Task};

use crate::support::{Bench, Counting, box_clip, described, free_engine, raw, spec, transparent, webm_alpha};

const GREEN: Background = Background::Color { color: Rgb([0, 255, 0]) };

/// Length of the first sound track, in seconds, by decoding it.
fn sound_seconds(path: &std::path::Path) -> f64 {
    let decoded = std::process::Command::new(crate::support::tools().ffmpeg)
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-f", "s16le", "-ac", "1", "-ar", "48000", "-"])
        .output()
        .unwrap();
    assert!(decoded.status.success(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let samples: Vec<i16> = decoded.stdout.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
    let loud = samples.iter().filter(|sample| sample.unsigned_abs() > 500).count();
    assert!(loud * 2 > samples.len(), "the tone is not there");
    samples.len() as f64 / 48000.0
}

#[test]
fn a_webm_is_transparent_tagged_and_keeps_its_sound() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 30, &[]);
    let (output, finished) = bench.run(&free_engine(&bench), &clip, &transparent(Model::Human)).unwrap();
    let info = &finished.output;
    assert_eq!((info.frames, info.duration_ms, info.width, info.height), (30, 1200, 160, 90));
    assert!(info.has_alpha && info.has_audio);
    assert_eq!(info.size_bytes, std::fs::metadata(&output).unwrap().len());
    assert_eq!(described(&output, "v:0", "ALPHA_MODE"), "1");
    assert_eq!(described(&output, "v:0", "color_space"), "bt709");
    assert_eq!(described(&output, "v:0", "color_range"), "tv");
    assert_eq!(described(&output, "a:0", "codec_name"), "opus");
    assert!((sound_seconds(&output) - sound_seconds(&clip)).abs() < 0.1);
    let alpha = webm_alpha(&output);
    let at = |x: usize, y: usize| alpha[y * 160 + x];
    assert!(at(40, 45) > 250 && at(140, 45) < 5 && at(5, 5) < 5, "{} {} {}", at(40, 45), at(140, 45), at(5, 5));
}

#[test]
fn the_file_does_not_carry_the_removed_background() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "320x180", 25, 5, &[]);
    let (output, _) = bench.run(&free_engine(&bench), &clip, &transparent(Model::Human)).unwrap();
    // How much neighbouring pixels differ in the right half, where no subject is. ffmpeg's own decoder drops alpha.
    let busy = |path: &std::path::Path| {
        let luma = raw(path, &["-c:v", if path == clip { "h264" } else { "vp9" }], "crop=iw/2:ih:iw/2:0", "gray");
        let steps: u64 = luma.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1]))).sum();
        steps as f64 / luma.len() as f64
    };
    let (before, after) = (busy(&clip), busy(&output));
    assert!(before > 0.5 && after < before / 20.0, "{before} {after}");
}

#[test]
fn an_mp4_stands_on_its_colour() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 10, &[]);
    let order = spec(Model::Human, OutputFormat::Mp4, GREEN);
    let (output, finished) = bench.run(&free_engine(&bench), &clip, &order).unwrap();
    assert!(!finished.output.has_alpha && finished.output.has_audio);
    assert_eq!(described(&output, "v:0", "codec_name"), "h264");
    assert_eq!(described(&output, "a:0", "codec_name"), "aac");
    let pixels = raw(&output, &[], "scale=in_color_matrix=bt709:out_range=pc", "rgb24");
    let at = |x: usize, y: usize| &pixels[(y * 160 + x) * 3..][..3];
    let (ground, subject) = (at(140, 45), at(40, 45));
    assert!(ground[0] < 12 && ground[1] > 243 && ground[2] < 12, "{ground:?}");
    assert!(subject.iter().all(|&channel| channel > 245), "{subject:?}");
}

#[test]
fn an_opaque_webm_has_no_alpha() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 5, &[]);
    let order = spec(Model::Human, OutputFormat::Webm, GREEN);
    let (output, finished) = bench.run(&free_engine(&bench), &clip, &order).unwrap();
    assert!(!finished.output.has_alpha);
    assert_ne!(described(&output, "v:0", "ALPHA_MODE"), "1");
}

#[test]
fn a_mov_carries_alpha_and_the_source_colour() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 5, &[]);
    let order = spec(Model::Human, OutputFormat::Mov, Background::Transparent);
    let (output, finished) = bench.run(&free_engine(&bench), &clip, &order).unwrap();
    assert!(finished.output.has_alpha && finished.output.has_audio);
    assert_eq!(described(&output, "v:0", "codec_name"), "prores");
    let alpha = raw(&output, &[], "alphaextract", "gray");
    let (before, after) = (raw(&clip, &[], "format=gray", "gray"), raw(&output, &[], "format=yuv420p", "gray"));
    let mut opaque = 0;
    for (place, _) in alpha.iter().enumerate().filter(|(_, alpha)| **alpha == 255) {
        assert!(before[place].abs_diff(after[place]) <= 3, "{} became {}", before[place], after[place]);
        opaque += 1;
    }
    assert!(opaque > 5 * 160 * 90 / 16, "{opaque}");
}

#[test]
fn a_clip_without_sound_stays_silent() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 5, &["-an"]);
    let (_, finished) = bench.run(&free_engine(&bench), &clip, &transparent(Model::Human)).unwrap();
    assert!(!finished.input.has_audio && !finished.output.has_audio);
}

#[test]
fn a_clip_of_one_frame_gives_one_frame() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 1, &["-an"]);
    let (_, finished) = bench.run(&free_engine(&bench), &clip, &transparent(Model::Human)).unwrap();
    assert_eq!((finished.output.frames, finished.output.duration_ms), (1, 40));
}

#[test]
fn odd_sides_become_even() {
    let bench = Bench::new();
    let clip = box_clip(&bench, "in.mkv", "161x91", 25, 3, &["-pix_fmt", "yuv444p"]);
    let (output, finished) = bench.run(&free_engine(&bench), &clip, &transparent(Model::Human)).unwrap();
    assert_eq!((finished.output.width, finished.output.height), (160, 90));
    assert_eq!(webm_alpha(&output).len(), 3 * 160 * 90);
}

#[test]
fn a_turned_clip_comes_out_upright() {
    let bench = Bench::new();
    let lying = box_clip(&bench, "lying.mp4", "160x90", 25, 3, &[]);
    let turned =
        bench.make("turned.mov", &["-i", lying.to_str().unwrap(), "-c", "copy", "-metadata:s:v:0", "rotate=90"]);
    let (output, finished) = bench.run(&free_engine(&bench), &turned, &transparent(Model::Human)).unwrap();
    assert_eq!((finished.output.width, finished.output.height), (90, 160));
    // ffmpeg turns what it decodes as players do: where the picture is bright, the subject must be.
    let (alpha, upright) = (webm_alpha(&output), raw(&turned, &[], "format=gray", "gray"));
    assert_eq!(alpha.len(), upright.len());
    let agreeing = alpha.iter().zip(&upright).filter(|(alpha, luma)| (**alpha > 128) == (**luma > 128)).count();
    assert!(agreeing * 100 > alpha.len() * 97, "{agreeing} of {}", alpha.len());
    assert!(alpha.iter().any(|&value| value > 250));
}

#[test]
fn a_variable_frame_rate_keeps_its_time() {
    let bench = Bench::new();
    let steady = box_clip(&bench, "steady.mp4", "160x90", 50, 100, &["-g", "1"]);
    // Every seventh frame and a stretch of half a second are missing; the last one is there.
    let filter = "select=not(eq(mod(n\\,7)\\,3))*not(between(n\\,40\\,64))";
    let variable =
        bench.make("variable.mkv", &["-i", steady.to_str().unwrap(), "-vf", filter, "-vsync", "passthrough", "-an"]);
    let engine = free_engine(&bench);
    let probe = engine.probe(&variable, &MediaLimits::default()).unwrap();
    assert_eq!((probe.frames, probe.duration_ms), (100, 2000), "{probe:?}");
    assert!(probe.warnings.iter().any(|warning| warning.contains("variable")), "{:?}", probe.warnings);
    let (_, finished) = bench.run(&engine, &variable, &transparent(Model::Human)).unwrap();
    assert_eq!(finished.output.frames, 100);
}

/// The subject's colour through decode, conversion and encode, for each way in which a source may declare it.
#[test]
fn colour_survives_every_matrix_and_range() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let order = spec(Model::Human, OutputFormat::Mov, Background::Transparent);
    // Bright enough to be all subject.
    let expected = [0xf0_u8, 0xe6, 0x78];
    let cases: [(&str, &[&str]); 4] = [
        ("tagged BT.709", &["-vf", "scale=out_color_matrix=bt709", "-pix_fmt", "yuv420p", "-colorspace", "bt709"]),
        ("untagged SD, so BT.601", &["-pix_fmt", "yuv420p"]),
        ("full range", &["-vf", "scale=out_color_matrix=bt601:out_range=pc", "-pix_fmt", "yuvj420p"]),
        ("10 bits", &["-vf", "scale=out_color_matrix=bt709", "-pix_fmt", "yuv422p10le", "-colorspace", "bt709"]),
    ];
    for (case, arguments) in cases {
        let colour = ["-f", "lavfi", "-i", "color=c=0xf0e678:s=160x90:r=25:d=0.08,format=rgb24"];
        let clip = bench.make("in.mkv", &[&colour[..], arguments, &["-c:v", "libx264", "-crf", "1"]].concat());
        let (output, _) = bench.run(&engine, &clip, &order).unwrap();
        let pixels = raw(&output, &[], "scale=in_color_matrix=bt709:in_range=tv:out_range=pc", "rgb24");
        let pixel = &pixels[3 * (45 * 160 + 80)..][..3];
        let worst = pixel.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        assert!(worst <= 3, "{case}: {pixel:?} is not {expected:?}");
    }
}

/// Players stop with the longer of both; what is beyond the limit is cut, and the check knows it.
#[test]
fn sound_beyond_the_longest_clip_is_cut() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 25, &["-af", "aloop=loop=3:size=44100"]);
    let limits = MediaLimits { max_duration_ms: 2000, ..MediaLimits::default() };
    let probe = engine.probe(&clip, &limits).unwrap();
    let (output, spec, work_dir) = (bench.path("out.webm"), transparent(Model::Human), bench.directory.path());
    let task = Task {
        input: &clip,
        output: &output,
        background: None,
        matte: MatteUse::Forget,
        segments: None,
        work_dir,
        probe: &probe,
        spec: &spec,
        limits,
        paid_seconds: None,
    };
    let finished = engine.remove_background(&task, &Counting::default()).unwrap();
    assert_eq!((finished.output.frames, finished.output.has_audio), (25, true));
    assert!((sound_seconds(&output) - 2.0).abs() < 0.15, "{}", sound_seconds(&output));
}

//! The sound stays with the picture: when it begins, how long it is, which track it is, and what becomes of a bad one.
//!
//! The clips flash (a bright box for 0.2 s) and beep. When both happen in the output is measured on decoded frames and
//! samples.

use std::path::{Path, PathBuf};
use std::process::Command;

use rotoless_contract::spec::{Background, Model, OutputFormat, Rgb};
use rotoless_contract::worker::FailureReason;
use rotoless_matting::Engine;

use crate::support::{Bench, free_engine, raw, spec, tools, transparent};

const SAMPLES_A_SECOND: f64 = 48_000.0;

/// Samples of the first sound track on the file's own timeline.
fn samples(path: &Path) -> Vec<i16> {
    let decoded = Command::new(tools().ffmpeg)
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-map", "0:a:0", "-af", "aresample=48000:async=1:first_pts=0", "-f", "s16le", "-ac", "1", "-"])
        .output()
        .unwrap();
    assert!(decoded.status.success(), "{}", String::from_utf8_lossy(&decoded.stderr));
    decoded.stdout.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect()
}

fn beep_seconds(path: &Path) -> f64 {
    let onset = samples(path).iter().position(|sample| sample.unsigned_abs() > 3000).expect("no beep");
    onset as f64 / SAMPLES_A_SECOND
}

/// When the first bright frame is shown. On black, so that every format tells.
fn flash_seconds(path: &Path, fps: f64, pixels: usize) -> f64 {
    let luma = raw(path, &[], "format=gray", "gray");
    let bright = |frame: &[u8]| frame.iter().filter(|value| **value > 128).count() * 20 > pixels;
    luma.chunks_exact(pixels).position(bright).expect("no flash") as f64 / fps
}

/// A clip of 0.8 s with flash and beep at 0.4 s. `sound` is what ffmpeg shall encode it with.
fn clip(bench: &Bench, name: &str, sound: &str) -> PathBuf {
    let picture = "color=c=0x102030:s=96x64:r=25:d=0.8,format=yuv420p,\
                   drawbox=enable='between(t,0.39,0.59)':x=24:y=16:w=48:h=32:color=white:t=fill,\
                   setparams=range=tv:colorspace=bt709";
    let tone = "aevalsrc=exprs='if(between(t,0.4,0.6),0.6*sin(2764*t),0)':s=44100:d=0.8";
    let codec = format!("-c:v libx264 -preset ultrafast -crf 6 {sound}");
    let sources = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone, "-map", "0:v", "-map", "1:a"];
    bench.make(name, &[&sources[..], &codec.split_whitespace().collect::<Vec<_>>()].concat())
}

/// The same streams with one of them later.
fn later(bench: &Bench, name: &str, clip: &Path, stream: &str) -> PathBuf {
    let path = clip.to_str().unwrap();
    let [first, second] = if stream == "sound" { [["0:v"], ["1:a"]] } else { [["1:v"], ["0:a"]] };
    let arguments = ["-i", path, "-itsoffset", "0.2", "-i", path, "-map", first[0], "-map", second[0], "-c", "copy"];
    bench.make(name, &arguments)
}

/// Runs it into `format` and compares when it flashes and beeps: with what is expected to a frame, and with the clip
/// itself, which may have a codec's padding at its start, to a few ms.
fn check(bench: &Bench, engine: &Engine, clip: &Path, format: OutputFormat, [flash, near]: [f64; 2]) {
    let beep = beep_seconds(clip);
    assert!((beep - near).abs() < 0.04, "{}: beep at {beep}", clip.display());
    check_times(bench, engine, clip, format, [flash, beep]);
}

fn check_times(bench: &Bench, engine: &Engine, clip: &Path, format: OutputFormat, [flash, beep]: [f64; 2]) {
    let order = spec(Model::Human, format, Background::Color { color: Rgb([0, 0, 0]) });
    let (output, finished) = bench.run(engine, clip, &order).unwrap();
    let info = &finished.output;
    assert!(info.has_audio);
    let found_flash = flash_seconds(&output, info.fps, 96 * 64);
    let found_beep = beep_seconds(&output);
    let name = clip.file_name().unwrap().display();
    let frame = 1.0 / info.fps;
    println!("{name} as {format}: flash {found_flash:.3} s, beep {found_beep:.3} s");
    assert!((found_flash - flash).abs() < frame * 0.75, "{name} as {format}: flash at {found_flash}, not {flash}");
    assert!((found_beep - beep).abs() < 0.015, "{name} as {format}: beep at {found_beep}, not {beep}");
}

#[test]
fn flash_and_beep_stay_together_in_every_format_with_sound() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = clip(&bench, "clip.mp4", "-c:a aac");
    for format in [OutputFormat::Webm, OutputFormat::Mov, OutputFormat::Mp4] {
        check(&bench, &engine, &clip, format, [0.4, 0.4]);
    }
}

#[test]
fn sound_that_begins_before_or_after_the_picture_stays_where_it_was() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    // MP4 by edit lists, Matroska by its times.
    let steady = clip(&bench, "steady.mp4", "-c:a aac");
    for extension in ["mp4", "mkv"] {
        let late = later(&bench, &format!("late-sound.{extension}"), &steady, "sound");
        check(&bench, &engine, &late, OutputFormat::Mp4, [0.4, 0.6]);
        check(&bench, &engine, &late, OutputFormat::Webm, [0.4, 0.6]);
        let early = later(&bench, &format!("early-sound.{extension}"), &steady, "picture");
        check(&bench, &engine, &early, OutputFormat::Mov, [0.6, 0.4]);
    }
}

#[test]
fn a_variable_frame_rate_does_not_move_the_sound() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let steady = clip(&bench, "steady.mp4", "-c:a aac");
    let path = steady.to_str().unwrap();
    // Every fourth frame is missing, or each stands up to 9 ms from where it should.
    for (name, filter) in
        [("missing.mkv", "select='not(eq(mod(n,4),1))'"), ("jitter.mkv", "settb=1/1000,setpts='N*40+9*sin(N*7)'")]
    {
        let arguments = ["-i", path, "-vf", filter, "-vsync", "passthrough", "-c:v", "ffv1", "-c:a", "copy"];
        let variable = bench.make(name, &arguments);
        check(&bench, &engine, &variable, OutputFormat::Webm, [0.4, 0.4]);
    }
}

#[test]
fn every_usual_sound_is_read() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for (name, sound) in [
        ("pcm.avi", "-c:a pcm_s16le -ar 8000 -ac 1"),
        ("mp3.avi", "-c:a libmp3lame"),
        ("surround.mov", "-c:a aac -ac 6"),
        ("surround.mkv", "-c:a ac3 -af aformat=channel_layouts=5.1(side)"),
        ("quad.mkv", "-c:a flac -af aformat=channel_layouts=quad"),
        ("pcm.mov", "-c:a pcm_s24be -ar 96000"),
        ("vorbis.mkv", "-c:a libvorbis"),
        ("opus.mkv", "-c:a libopus -ar 48000"),
    ] {
        let clip = clip(&bench, name, sound);
        // AVI has no times: what MP3 needs to begin is made up for by an empty frame.
        let flash = if name == "mp3.avi" { 0.44 } else { 0.4 };
        check(&bench, &engine, &clip, OutputFormat::Webm, [flash, 0.4]);
    }
    let surround = clip(&bench, "surround.mkv", "-c:a ac3 -af aformat=channel_layouts=5.1(side)");
    for (format, codec) in [(OutputFormat::Webm, "opus"), (OutputFormat::Mp4, "aac")] {
        let order = spec(Model::Human, format, Background::Color { color: Rgb([0, 0, 0]) });
        let (output, _) = bench.run(&engine, &surround, &order).unwrap();
        assert_eq!(crate::support::described(&output, "a:0", "codec_name"), codec);
        assert_eq!(crate::support::described(&output, "a:0", "channels"), "6", "{format}");
    }
}

#[test]
fn sound_is_as_long_as_it_was() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for (name, seconds) in [("longer.mp4", 1.6), ("shorter.mp4", 0.7), ("longer.mkv", 1.6)] {
        let length = format!("-c:a aac -af apad=whole_dur={seconds},atrim=end={seconds}");
        let clip = clip(&bench, name, &length);
        let (output, finished) = bench.run(&engine, &clip, &transparent(Model::Human)).unwrap();
        assert_eq!(finished.output.duration_ms, 800, "{name}");
        let found = samples(&output).len() as f64 / SAMPLES_A_SECOND;
        assert!((found - seconds).abs() < 0.06, "{name}: {found}");
    }
}

#[test]
fn the_default_one_of_several_tracks_is_kept_and_told() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let beeping = clip(&bench, "beeping.mp4", "-c:a aac");
    let silence = "anullsrc=r=44100:d=0.8";
    let two = bench.make(
        "two.mkv",
        &[
            "-f",
            "lavfi",
            "-i",
            silence,
            "-i",
            beeping.to_str().unwrap(),
            "-map",
            "1:v",
            "-map",
            "0:a",
            "-map",
            "1:a",
            "-c:v",
            "copy",
            "-c:a",
            "aac",
            "-disposition:a:0",
            "0",
            "-disposition:a:1",
            "default",
        ],
    );
    // Later by the padding of AAC, which Matroska does not tell.
    check_times(&bench, &engine, &two, OutputFormat::Mp4, [0.4, 0.423]);
    let (_, finished) = bench.run(&engine, &two, &transparent(Model::Human)).unwrap();
    assert!(finished.warnings.iter().any(|warning| warning.contains("2 sound tracks")), "{:?}", finished.warnings);
}

/// A track that no decoder knows, as phones write one beside the usual one.
#[test]
fn sound_that_nobody_can_read_is_left_out_and_told() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = clip(&bench, "clip.avi", "-c:a pcm_s16le");
    let mut bytes = std::fs::read(&clip).unwrap();
    let sound = bytes.windows(4).position(|window| window == b"auds").unwrap();
    let format = sound + bytes[sound..].windows(4).position(|window| window == b"strf").unwrap() + 8;
    bytes[format..format + 2].copy_from_slice(&0x1234_u16.to_le_bytes());
    std::fs::write(&clip, bytes).unwrap();
    let (_, finished) = bench.run(&engine, &clip, &transparent(Model::Human)).unwrap();
    assert!(!finished.output.has_audio);
    assert!(finished.warnings.iter().any(|warning| warning.contains("sound")), "{:?}", finished.warnings);
}

/// G-15
#[test]
fn damaged_sound_is_the_medias_fault_and_not_ours() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let whole = clip(&bench, "whole.mkv", "-c:a flac");
    let noise = ["-i", whole.to_str().unwrap(), "-c", "copy", "-bsf:a", "noise=amount=30"];
    let damaged = bench.make("damaged.mkv", &noise);
    for format in [OutputFormat::Webm, OutputFormat::Mp4] {
        let order = spec(Model::Human, format, Background::Color { color: Rgb([0, 0, 0]) });
        let error = bench.run(&engine, &damaged, &order).unwrap_err();
        assert_eq!(error.reason(), FailureReason::InvalidMedia, "{format}: {error:?}");
    }
    // Formats without sound do not read it.
    let order = spec(Model::Human, OutputFormat::Gif, Background::Transparent);
    bench.run(&engine, &damaged, &order).unwrap();
}

/// G-13: a hole of minutes is silence; one of half an hour would be gigabytes of it.
#[test]
fn a_hole_in_the_sound_is_silent_and_bounded() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let steady = clip(&bench, "steady.mkv", "-c:a aac");
    let hole = |name: &str, seconds: u32| {
        let moved = format!("asetpts='if(gte(T,0.3),PTS+{seconds}/TB,PTS)'");
        bench.make(name, &["-i", steady.to_str().unwrap(), "-af", &moved, "-c:v", "copy", "-c:a", "pcm_s16le"])
    };
    let (output, _) = bench.run(&engine, &hole("short.mkv", 2), &transparent(Model::Human)).unwrap();
    let found = beep_seconds(&output);
    assert!((found - 2.423).abs() < 0.05, "{found}");
    let error = bench.run(&engine, &hole("long.mkv", 301), &transparent(Model::Human)).unwrap_err();
    assert_eq!(error.reason(), FailureReason::LimitExceeded, "{error:?}");
}

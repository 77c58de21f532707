//! Clips for the tests, made and looked at with ffmpeg.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::models::{SLOPE, THRESHOLD};

/// A clip with a bright box that wanders over a dark ground, and a tone.
#[derive(Clone, Copy)]
pub(crate) struct Clip {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fps: u32,
    pub(crate) seconds: u32,
}

impl Clip {
    /// Small enough that a whole job takes a moment.
    pub(crate) const SMALL: Self = Self { width: 256, height: 144, fps: 12, seconds: 1 };

    pub(crate) fn frames(self) -> usize {
        usize::try_from(self.fps * self.seconds).unwrap()
    }

    /// Makes the clip, H.264 and AAC in MP4.
    pub(crate) fn make(self, dir: &Path) -> PathBuf {
        let Self { width, height, fps, seconds } = self;
        let path = dir.join(format!("clip-{width}x{height}-{seconds}.mp4"));
        if path.exists() {
            return path;
        }
        let ground = format!("color=c=0x203040:s={width}x{height}:r={fps}:d={seconds}");
        let subject = format!("color=c=0xf0e0d0:s={}x{}:r={fps}:d={seconds}", width / 4, height / 3);
        let tone = format!("sine=frequency=440:duration={seconds}");
        let wander = "[0:v][1:v]overlay=x='16+mod(n*4,main_w/2)':y=24:shortest=1[v]";
        run(Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &ground, "-f", "lavfi", "-i", &subject])
            .args(["-f", "lavfi", "-i", &tone, "-filter_complex", wander, "-map", "[v]", "-map", "2:a"])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-pix_fmt", "yuv420p"])
            .args(["-c:a", "aac", "-movflags", "+faststart"])
            .arg(&path));
        path
    }
}

/// A PNG of one colour, ffmpeg's name for it.
pub(crate) fn plain_picture(dir: &Path, colour: &str) -> PathBuf {
    let path = dir.join(format!("picture-{colour}.png"));
    let source = format!("color=c={colour}:s=64x64");
    run(Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &source, "-frames:v", "1"])
        .arg(&path));
    path
}

/// Every pixel of every frame of `file`, decoded by `decoder` if one is named.
pub(crate) fn pixels(file: &Path, decoder: Option<&str>, filter: &str, format: &str) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error"]);
    if let Some(decoder) = decoder {
        command.args(["-c:v", decoder]);
    }
    command.arg("-i").arg(file).args(["-map", "0:v:0", "-vf", filter, "-fps_mode", "passthrough"]);
    command.args(["-f", "rawvideo", "-pix_fmt", format, "pipe:1"]);
    run(&mut command)
}

/// The alpha of every pixel of a WebM. The decoder has to be named: ffmpeg's own leaves alpha out.
pub(crate) fn alpha(webm: &Path) -> Vec<u8> {
    pixels(webm, Some("libvpx-vp9"), "alphaextract", "gray")
}

/// The same of a file whose own decoder knows alpha.
pub(crate) fn alpha_of(file: &Path) -> Vec<u8> {
    pixels(file, None, "alphaextract", "gray")
}

/// What the free model has to answer for a clip: a byte of alpha a pixel.
pub(crate) fn truth(clip: &Path) -> Vec<u8> {
    let luma = rotoless_matting::tiny::LUMA;
    let rgb = pixels(clip, None, "null", "rgb24");
    let alpha = |pixel: &[u8]| {
        let bright: f32 = pixel.iter().zip(luma).map(|(value, weight)| f32::from(*value) / 255.0 * weight).sum();
        (((bright - THRESHOLD) * SLOPE).clamp(0.0, 1.0) * 255.0).round() as u8
    };
    rgb.chunks_exact(3).map(alpha).collect()
}

/// Mean absolute difference of two mattes, of 1.
pub(crate) fn difference(one: &[u8], other: &[u8]) -> f64 {
    assert_eq!(one.len(), other.len(), "mattes of different sizes");
    let sum: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / (one.len() as f64 * 255.0)
}

/// What ffprobe says of a file.
pub(crate) fn facts(file: &Path) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_streams", "-show_format", "-of", "json"]).arg(file);
    serde_json::from_slice(&run(&mut command)).unwrap()
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

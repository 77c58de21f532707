//! What a worker says that it measured: kept only where it can be true. A worker that lies must not be able to make a
//! record that cannot be stored, shown, or read back.

use rotoless_contract::manifest::Manifest;
use rotoless_contract::media::{InputInfo, OutputInfo, Quality};

/// Beyond any picture, in px.
const MAX_SIDE: u32 = 1 << 16;
/// Beyond any rate, in frames a second.
const MAX_FPS: f64 = 1_000_000.0;
/// Beyond any length, in s: a year.
const MAX_SECONDS: f64 = 366.0 * 24.0 * 3600.0;
/// ffmpeg's names of codecs are far shorter.
const MAX_CODEC: usize = 64;
/// As the contract says.
const MAX_DOUBTS: usize = 100;

/// The source's measurements, if they can be any's.
///
/// # Errors
/// Which one cannot.
pub(super) fn plausible(input: &InputInfo) -> Result<InputInfo, &'static str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if input.codec.len() > MAX_CODEC || !input.codec.chars().all(is_word) {
        return Err("input.codec");
    }
    if input.width > MAX_SIDE || input.height > MAX_SIDE {
        return Err("the size of the input");
    }
    if !(0.0..=MAX_FPS).contains(&input.fps) || !(0.0..=MAX_SECONDS).contains(&input.duration_seconds) {
        return Err("the time of the input");
    }
    Ok(input.clone())
}

/// Whether everything that a manifest says of the media can be true.
pub(super) fn is_plausible(manifest: &Manifest) -> bool {
    let Manifest { input, output, quality, .. } = manifest;
    plausible(input).is_ok() && is_output(output) && quality.as_ref().is_none_or(is_quality)
}

fn is_output(output: &OutputInfo) -> bool {
    let has_picture = (1..=MAX_SIDE).contains(&output.width) && (1..=MAX_SIDE).contains(&output.height);
    is_digest(&output.sha256) && has_picture && output.frames > 0 && (0.0..=MAX_FPS).contains(&output.fps)
}

fn is_quality(quality: &Quality) -> bool {
    quality.flicker.is_finite() && quality.low_confidence_frames.len() <= MAX_DOUBTS
}

/// Whether a text is a SHA-256 in hex, as we write it.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

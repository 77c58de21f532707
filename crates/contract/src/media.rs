//! What was measured of a job's media.

use serde::{Deserialize, Serialize};

use crate::spec::OutputFormat;

/// The source as the worker's probe measured it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InputInfo {
    /// Width in px after rotation, square pixels.
    pub width: u32,
    /// Height in px after rotation, square pixels.
    pub height: u32,
    /// Frames per second of the timeline the job is worked on.
    pub fps: f64,
    /// The video codec's name as ffmpeg calls it.
    pub codec: String,
    /// Whether there is a sound track.
    pub has_audio: bool,
    /// Length of the picture.
    pub duration_seconds: f64,
}

/// The output as its own verification found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutputInfo {
    /// Container and codecs.
    pub format: OutputFormat,
    /// Size of the file.
    pub size_bytes: u64,
    /// SHA-256 of the file, lower-case hex.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Width in px.
    pub width: u32,
    /// Height in px.
    pub height: u32,
    /// Frames per second.
    pub fps: f64,
    /// Frames, counted by decoding.
    pub frames: u64,
    /// Length of the picture: frames over fps.
    pub duration_ms: u64,
    /// Whether alpha really decodes.
    pub has_alpha: bool,
    /// Whether there is a sound track.
    pub has_audio: bool,
}

/// How sure the engine is of its matte, without a reference.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quality {
    /// Mean absolute change of alpha between frames that the picture's own change does not explain, 0..1.
    pub flicker: f64,
    /// Numbers of frames (from 0) whose matte is doubtful, at most 100 of them.
    #[cfg_attr(feature = "openapi", schema(max_items = 100))]
    pub low_confidence_frames: Vec<u64>,
}

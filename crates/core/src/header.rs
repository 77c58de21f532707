//! The early probe.

/// Container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MP4.
    Mp4,
}

/// What a header says. It may lie: the worker's probe is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The container.
    pub container: Container,
    /// Length, if the header gives one.
    pub duration_ms: Option<u64>,
    /// Width in px after rotation.
    pub width: Option<u32>,
    /// Height in px after rotation.
    pub height: Option<u32>,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The bytes are of no accepted container.
    #[error("not a video")]
    NotVideo,
}

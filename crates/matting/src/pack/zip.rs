//! A ZIP of PNG frames and a manifest.
//!
//! The frames are stored, not compressed again. Names and order are those that editors expect of an image sequence.

use std::io::{Seek, Write};

use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Frames;

/// `manifest.json`: what the frames' names do not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Schema version: 1.
    pub v: u32,
    /// Frames a second.
    pub fps: f64,
    /// The same as an exact fraction: `30000/1001`.
    pub rate: String,
    /// px.
    pub width: usize,
    /// px.
    pub height: usize,
    pub has_alpha: bool,
    /// How many.
    pub frames: u64,
    /// The frames' names, for `printf`.
    pub pattern: String,
    /// The number in the first one's name.
    pub first_number: u64,
    /// How long each frame is shown, ms.
    pub frame_duration_ms: f64,
    /// All of them, ms.
    pub duration_ms: u64,
}

impl Manifest {
    pub(crate) const NAME: &str = "manifest.json";

    pub(crate) fn of(frames: Frames, count: u64) -> Self {
        Self {
            v: 1,
            fps: frames.rate.fps(),
            rate: frames.rate.to_string(),
            width: frames.size.width,
            height: frames.size.height,
            has_alpha: frames.with_alpha,
            frames: count,
            pattern: "frame_%06d.png".to_owned(),
            first_number: 1,
            frame_duration_ms: 1000.0 / frames.rate.fps(),
            duration_ms: frames.rate.duration_ms(count),
        }
    }
}

/// Name of a frame, counted from 0.
pub(crate) fn frame_name(index: u64) -> String {
    format!("frame_{:06}.png", index + 1)
}

#[derive(Debug)]
pub(super) struct Writer<W: Write + Seek> {
    archive: ZipWriter<W>,
    frames: Frames,
    written: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(super) fn begin(file: W, frames: Frames) -> Self {
        Self { archive: ZipWriter::new(file), frames, written: 0 }
    }

    pub(super) fn add(&mut self, picture: &[u8]) -> std::io::Result<()> {
        self.archive.start_file(frame_name(self.written), stored())?;
        self.archive.write_all(picture)?;
        self.written += 1;
        Ok(())
    }

    pub(super) fn end(mut self) -> std::io::Result<()> {
        let manifest = serde_json::to_vec_pretty(&Manifest::of(self.frames, self.written))?;
        self.archive.start_file(Manifest::NAME, stored())?;
        self.archive.write_all(&manifest)?;
        self.archive.finish()?.flush()
    }
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

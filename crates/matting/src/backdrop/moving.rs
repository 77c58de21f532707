//! A video as a background: on the output's timeline, from its beginning again when it ends.
//!
//! Owns: when its decoder is started again, what is kept instead. Invariants: every turn of the loop has the same
//! frames; a loop that is short is decoded once and kept, so that no decoder is started for a handful of frames;
//! memory is bounded by [`MAX_KEPT_BYTES`] whatever the length.

use std::path::{Path, PathBuf};

use rotoless_contract::spec::Fit;
use rotoless_contract::worker::MediaLimits;

use super::{BackdropOrder, fit_filters};
use crate::child::Leash;
use crate::decode::{DecodeOrder, Decoder};
use crate::engine::Watch;
use crate::error::EngineError;
use crate::frame::Size;
use crate::probe::{Source, probe};
use crate::tools::Tools;

/// A loop whose frames take no more is kept.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// A looped video.
#[derive(Debug)]
pub(crate) struct Moving {
    tools: Tools,
    file: PathBuf,
    /// As large as the canvas, at the output's rate.
    source: Source,
    /// Of one turn.
    frames: u64,
    limits: MediaLimits,
    threads: usize,
    cpu_seconds: u64,
    canvas: Size,
    playing: Playing,
    leash: Leash,
}

#[derive(Debug)]
enum Playing {
    /// The next frame is the first one.
    AtStart,
    /// Frames come from a decoder. `kept` has all of this turn, if they are to be kept.
    Decoding { decoder: Box<Decoder>, shown: u64, kept: Option<Vec<u8>> },
    /// All frames of a turn, one after the other.
    Kept { frames: Vec<u8>, next: usize },
}

impl Moving {
    /// Measures the video.
    pub(super) fn open(tools: &Tools, file: &Path, fit: Fit, order: &BackdropOrder<'_>) -> Result<Self, EngineError> {
        let defaults = MediaLimits::default();
        // A job's limits may have been narrowed to its own source's size.
        let limits = MediaLimits { max_bytes: order.limits.max_bytes.max(defaults.max_bytes), ..*order.limits };
        let found = probe(tools, file, &limits)?;
        let Size { width, height } = order.canvas;
        let fitted = fit_filters(fit, order.canvas, ":flags=bicubic+accurate_rnd");
        let source = Source {
            rate: order.rate,
            width: u32::try_from(width).unwrap_or(u32::MAX),
            height: u32::try_from(height).unwrap_or(u32::MAX),
            filters: format!("{},{fitted}", found.source.filters),
            ..found.source
        };
        Ok(Self {
            tools: tools.clone(),
            file: file.to_owned(),
            frames: found.source.rate.resampled(found.frames, order.rate),
            source,
            limits,
            threads: order.threads,
            cpu_seconds: order.cpu_seconds,
            canvas: order.canvas,
            playing: Playing::AtStart,
            leash: Leash::default(),
        })
    }

    pub(super) fn leash(&self) -> Leash {
        self.leash.clone()
    }

    /// Leaves out the next frames.
    pub(crate) fn skip(&mut self, frames: u64, watch: &dyn Watch) -> Result<(), EngineError> {
        let mut planes = vec![0; self.canvas.yuv_bytes()];
        for _ in 0..frames {
            if watch.cancelled() {
                return Err(EngineError::Cancelled);
            }
            self.next(&mut planes)?;
            watch.alive();
        }
        Ok(())
    }

    /// Fills the planes with the next frame. On one thread only, which must outlive this.
    pub(crate) fn next(&mut self, planes: &mut [u8]) -> Result<(), EngineError> {
        self.advance(planes).map_err(EngineError::of_background)
    }

    fn advance(&mut self, planes: &mut [u8]) -> Result<(), EngineError> {
        // A second start follows only on a whole turn of at least one frame.
        loop {
            match &mut self.playing {
                Playing::AtStart => self.playing = self.start()?,
                Playing::Kept { frames, next } => {
                    let from = *next * planes.len();
                    let Some(frame) = frames.get(from..from + planes.len()) else {
                        *next = 0;
                        continue;
                    };
                    planes.copy_from_slice(frame);
                    *next += 1;
                    return Ok(());
                }
                Playing::Decoding { decoder, shown, kept } => {
                    if decoder.read(planes)? {
                        *shown += 1;
                        if let Some(kept) = kept {
                            kept.extend_from_slice(planes);
                        }
                        return Ok(());
                    }
                    if *shown == 0 {
                        return Err(EngineError::Damaged { detail: "the video shows no frame".into() });
                    }
                    self.playing = match kept.take() {
                        Some(frames) => Playing::Kept { frames, next: 0 },
                        None => Playing::AtStart,
                    };
                }
            }
        }
    }

    fn start(&self) -> Result<Playing, EngineError> {
        let order = DecodeOrder {
            input: &self.file,
            source: &self.source,
            frames: self.frames,
            from: 0,
            limits: &self.limits,
            threads: self.threads,
            cpu_seconds: self.cpu_seconds,
        };
        let decoder = Decoder::start(&self.tools, &order)?;
        self.leash.hold([&decoder.child])?;
        // One more than is expected may come.
        let bytes =
            usize::try_from(self.frames + 1).ok().and_then(|frames| frames.checked_mul(self.canvas.yuv_bytes()));
        let kept = bytes.filter(|bytes| *bytes <= MAX_KEPT_BYTES).map(Vec::with_capacity);
        Ok(Playing::Decoding { decoder: Box::new(decoder), shown: 0, kept })
    }
}

//! What stands behind the subject, and the media that it comes from.
//!
//! Owns: which background needs a file, checking that file before a model is loaded, fitting it to the canvas. Does
//! not own: putting the subject in front (`finish`). Invariants: a background's file gets the guards of a source
//! (`media_arguments`); what is wrong with it is told as [`EngineError::Background`]; a background's frames are
//! planes of the canvas's size, BT.709, like every frame.

mod moving;
pub(crate) mod still;

use std::path::Path;

use rotoless_contract::Background;
use rotoless_contract::spec::{Fit, Rgb};
use rotoless_contract::worker::MediaLimits;

pub(crate) use self::moving::Moving;
use crate::child::Leash;
use crate::engine::Watch;
use crate::error::{EngineError, Unsupported};
use crate::frame::Size;
use crate::timeline::Rate;
use crate::tools::Tools;

/// What stands behind the subject, ready to be used.
#[derive(Debug)]
pub(crate) enum Backdrop {
    /// Nothing: alpha goes into the file.
    Nothing,
    Colour(Rgb),
    /// Y, U and V of a picture.
    Still(Vec<u8>),
    Moving(Box<Moving>),
    /// The source, blurred.
    Blur,
}

/// What a background is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackdropOrder<'a> {
    pub background: &'a Background,
    /// Its picture or video.
    pub file: Option<&'a Path>,
    pub canvas: Size,
    /// Of the output.
    pub rate: Rate,
    pub limits: &'a MediaLimits,
    pub threads: usize,
    pub cpu_seconds: u64,
}

impl Backdrop {
    /// Opens and checks it. A picture is decoded here, a video is measured.
    pub(crate) fn open(tools: &Tools, order: &BackdropOrder<'_>) -> Result<Self, EngineError> {
        let file = || order.file.ok_or(EngineError::Unsupported(Unsupported::NoBackgroundFile));
        match order.background {
            Background::Transparent => Ok(Self::Nothing),
            Background::Color { color } => Ok(Self::Colour(*color)),
            Background::Blur => Ok(Self::Blur),
            Background::Image { fit, .. } => {
                let planes = still::decode(tools, file()?, *fit, order.canvas, order.threads);
                planes.map(Self::Still).map_err(EngineError::of_background)
            }
            Background::Video { fit, .. } => {
                let moving = Moving::open(tools, file()?, *fit, order);
                moving.map(|moving| Self::Moving(Box::new(moving))).map_err(EngineError::of_background)
            }
        }
    }

    /// Leaves out frames that somebody else makes.
    pub(crate) fn skip(&mut self, frames: u64, watch: &dyn Watch) -> Result<(), EngineError> {
        match self {
            Self::Moving(moving) => moving.skip(frames, watch),
            Self::Nothing | Self::Colour(_) | Self::Still(_) | Self::Blur => Ok(()),
        }
    }

    /// What holds this background's decoder, when there is one.
    pub(crate) fn leash(&self) -> Option<Leash> {
        match self {
            Self::Moving(moving) => Some(moving.leash()),
            Self::Nothing | Self::Colour(_) | Self::Still(_) | Self::Blur => None,
        }
    }
}

/// ffmpeg's filters that fit a picture of any size to the canvas. `conversion` is what `scale` shall do besides.
///
/// What does not fit is cut before it is scaled, never after: a picture of 1 × 8000 px that fills the canvas first
/// would have millions of rows. A long way down goes in two steps: `scale` refuses to average more than 256 px at once.
fn fit_filters(fit: Fit, canvas: Size, conversion: &str) -> String {
    let Size { width, height } = canvas;
    let steps = |width: &str, height: &str| {
        format!(
            "scale=w='max(1,min(iw,{STEP}*{width}))':h='max(1,min(ih,{STEP}*{height}))':flags=area,\
             scale=w='max(2,2*round({width}/2))':h='max(2,2*round({height}/2))'{conversion},format=yuv420p"
        )
    };
    let whole = steps(&width.to_string(), &height.to_string());
    match fit {
        Fit::Stretch => format!("{whole},setsar=1"),
        Fit::Cover => format!(
            "crop=w='max(1,min(iw,round(ih*{width}/{height})))':h='max(1,min(ih,round(iw*{height}/{width})))',\
             {whole},setsar=1"
        ),
        Fit::Contain => {
            let inside = steps(&format!("min({width},iw*{height}/ih)"), &format!("min({height},ih*{width}/iw)"));
            format!("{inside},pad={width}:{height}:2*floor((ow-iw)/4):2*floor((oh-ih)/4):color=black,setsar=1")
        }
    }
}

/// Times the target that the first of two steps leads to.
const STEP: u32 = 16;

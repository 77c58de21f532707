//! One frame on its way through the pipeline, and the pool it comes from.
//!
//! Invariants: planes are 8-bit, 4:2:0, BT.709, limited range, and lie one after the other as ffmpeg's rawvideo has
//! them (Y, U, V, then alpha), so a frame is read, worked on and written without a copy. Sides are even. A frame's
//! buffers are made once and go round.

use crate::pipeline::stretch::Border;
use crate::quality::Score;

/// Size of a picture in px. Both sides even for frames; any for a model's picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub width: usize,
    pub height: usize,
}

impl Size {
    pub(crate) const fn pixels(self) -> usize {
        self.width * self.height
    }

    /// Of the U and V planes.
    pub(crate) const fn chroma(self) -> Self {
        Self { width: self.width / 2, height: self.height / 2 }
    }

    /// Bytes of Y, U and V.
    pub(crate) const fn yuv_bytes(self) -> usize {
        self.pixels() + 2 * self.chroma().pixels()
    }
}

/// A frame and what the model made of it.
#[derive(Debug)]
pub(crate) struct Frame {
    size: Size,
    /// Y, U, V, alpha.
    bytes: Vec<u8>,
    /// The model's picture: a tensor of its input's layout.
    pub picture: Vec<f32>,
    /// The model's matte, 0..1, at the model's size.
    pub matte: Vec<f32>,
    /// Whether the picture before it was of another scene, or there was none.
    pub starts_scene: bool,
    /// On the timeline, from 0.
    pub number: u64,
    /// Before this frame a segment ends.
    pub border: Option<Box<Border>>,
    /// How the model looks at it; if it does not, its matte is carried from frames that it looked at.
    pub turn: Option<Turn>,
    /// What a closer look at a part of it found, of each pixel of the matte; empty when there was none.
    pub closer: Vec<Closer>,
    /// Its luma, small, where mattes are carried.
    pub small: Vec<u8>,
    /// How good the matte is; once there is one, alpha is made.
    pub score: Option<Score>,
}

/// How a model looks at a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// At all of it.
    Whole,
    /// At a region of it, which it sees larger.
    Closer,
    Both,
}

impl Turn {
    /// Whether there is a matte of the whole frame.
    pub(crate) const fn sees_whole(self) -> bool {
        matches!(self, Self::Whole | Self::Both)
    }

    /// Whether there is one of a region.
    pub(crate) const fn looks_closer(self) -> bool {
        matches!(self, Self::Closer | Self::Both)
    }
}

/// What a closer look says of a pixel: the matte times the trust in it, and the trust, both 0..1. So their means are
/// means weighted by trust.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Closer(pub [f32; 2]);

/// The planes of a frame.
#[derive(Debug)]
pub(crate) struct Planes<'a> {
    pub y: &'a mut [u8],
    pub u: &'a mut [u8],
    pub v: &'a mut [u8],
    pub alpha: &'a mut [u8],
}

/// Y, U and V.
pub(crate) type Colour<'a> = [&'a [u8]; 3];

/// What a model may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub colour: Colour<'a>,
    /// Of the frame.
    pub size: Size,
    /// Made of the whole frame, in the form of the model's input.
    pub picture: &'a [f32],
}

fn colour(bytes: &[u8], size: Size) -> Colour<'_> {
    let (y, rest) = bytes.split_at(size.pixels());
    let (u, rest) = rest.split_at(size.chroma().pixels());
    let (v, _) = rest.split_at(size.chroma().pixels());
    [y, u, v]
}

impl Frame {
    pub(crate) fn new(size: Size) -> Self {
        Self {
            size,
            bytes: vec![0; size.yuv_bytes() + size.pixels()],
            picture: Vec::new(),
            matte: Vec::new(),
            starts_scene: false,
            number: 0,
            border: None,
            turn: Some(Turn::Whole),
            closer: Vec::new(),
            small: Vec::new(),
            score: None,
        }
    }

    pub(crate) const fn size(&self) -> Size {
        self.size
    }

    /// Y, U and V in one piece.
    pub(crate) fn yuv(&self) -> &[u8] {
        self.bytes.get(..self.size.yuv_bytes()).unwrap_or_default()
    }

    /// Y, U and V in one piece.
    pub(crate) fn yuv_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.size.yuv_bytes()).unwrap_or_default()
    }

    /// Y, U, V and alpha in one piece.
    pub(crate) fn yuva(&self) -> &[u8] {
        &self.bytes
    }

    /// Alpha alone.
    pub(crate) fn alpha(&self) -> &[u8] {
        self.bytes.get(self.size.yuv_bytes()..).unwrap_or_default()
    }

    /// The planes, and the matte that alpha is made of.
    pub(crate) fn planes_and_matte(&mut self) -> (Planes<'_>, &[f32]) {
        let (y, rest) = self.bytes.split_at_mut(self.size.pixels());
        let (u, rest) = rest.split_at_mut(self.size.chroma().pixels());
        let (v, alpha) = rest.split_at_mut(self.size.chroma().pixels());
        (Planes { y, u, v, alpha }, &self.matte)
    }

    /// The colour planes and the picture that is made of them.
    pub(crate) fn colour_and_picture(&mut self) -> (Colour<'_>, &mut Vec<f32>) {
        (colour(&self.bytes, self.size), &mut self.picture)
    }

    /// The colour planes and the small luma that is made of them.
    pub(crate) fn colour_and_small(&mut self) -> (Colour<'_>, &mut Vec<u8>) {
        (colour(&self.bytes, self.size), &mut self.small)
    }

    /// The colour planes and the matte.
    pub(crate) fn colour_and_matte(&self) -> (Colour<'_>, &[f32]) {
        (colour(&self.bytes, self.size), &self.matte)
    }

    /// What a model may look at, and the matte that it makes.
    pub(crate) fn sight_and_matte(&mut self) -> (Sight<'_>, &mut Vec<f32>) {
        let colour = colour(&self.bytes, self.size);
        (Sight { colour, size: self.size, picture: &self.picture }, &mut self.matte)
    }
}
/// Whether there is a pixel that is neither all subject nor all background.
#[inline(always)]
pub(crate) fn has_soft(alpha: &[u8]) -> bool {
    alpha.iter().fold(0, |most, &alpha| most.max(alpha.min(255 - alpha))) > 0
}

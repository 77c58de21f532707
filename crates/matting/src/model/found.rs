//! Boxes in a frame, and what a finder says about them.

use crate::frame::Size;

/// A box, px of the frame; may reach beyond it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Region {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

/// Something that was found in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    /// Index into the vocabulary, or the place of the words in the prompt.
    pub noun: usize,
    /// How sure the finder is, 0..1.
    pub score: f32,
    pub region: Region,
    /// Whether the finder is surer that the same thing is something else.
    pub is_rivalled: bool,
}

impl Region {
    pub(super) fn width(&self) -> f32 {
        (self.right - self.left).max(0.0)
    }

    pub(super) fn height(&self) -> f32 {
        (self.bottom - self.top).max(0.0)
    }

    pub(super) fn area(&self) -> f32 {
        self.width() * self.height()
    }

    pub(super) fn centre(&self) -> (f32, f32) {
        ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0)
    }

    /// The part of both.
    pub(super) fn shared(&self, other: &Self) -> f32 {
        let part = Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        };
        part.area()
    }

    /// The least that covers both.
    pub(super) fn joined(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Intersection over union, 0..1.
    pub(super) fn overlap(&self, other: &Self) -> f32 {
        let shared = self.shared(other);
        shared / (self.area() + other.area() - shared).max(f32::MIN_POSITIVE)
    }

    /// How much of the smaller one lies in the other, 0..1.
    pub(super) fn containment(&self, other: &Self) -> f32 {
        self.shared(other) / self.area().min(other.area()).max(f32::MIN_POSITIVE)
    }

    /// What of it lies in the frame; nothing when that is less than a pixel.
    pub(super) fn within(&self, frame: Size) -> Option<Self> {
        let (width, height) = (frame.width as f32, frame.height as f32);
        let cut = Self {
            left: self.left.clamp(0.0, width),
            top: self.top.clamp(0.0, height),
            right: self.right.clamp(0.0, width),
            bottom: self.bottom.clamp(0.0, height),
        };
        // Also of NaN.
        (cut.width() >= 1.0 && cut.height() >= 1.0).then_some(cut)
    }

    /// Wider by so much of its own size on each side.
    pub(super) fn widened(&self, by: f32) -> Self {
        let (x, y) = (self.width() * by, self.height() * by);
        Self { left: self.left - x, top: self.top - y, right: self.right + x, bottom: self.bottom + y }
    }
}

/// The best of each group of boxes that mean the same thing (greedy non-maximum suppression). A box inside a better
/// one of the same noun is a part of it: a detector sees the head of a bird as a bird as well.
pub(super) fn distinct(mut found: Vec<Found>) -> Vec<Found> {
    const SAME: f32 = 0.5;
    const PART: f32 = 0.8;
    found.sort_by(|one, other| other.score.total_cmp(&one.score));
    let mut kept: Vec<Found> = Vec::new();
    for mut candidate in found {
        let means_the_same = |better: &Found| {
            better.noun == candidate.noun
                && (better.region.overlap(&candidate.region) > SAME
                    || better.region.containment(&candidate.region) > PART)
        };
        if !kept.iter().any(means_the_same) {
            let is_rival = |surer: &Found| surer.region.overlap(&candidate.region) > SAME;
            candidate.is_rivalled = kept.iter().any(is_rival);
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(noun: usize, score: f32, [left, top, right, bottom]: [f32; 4]) -> Found {
        Found { noun, score, region: Region { left, top, right, bottom }, is_rivalled: false }
    }

    #[test]
    fn one_subject_is_found_once() {
        let whole = found(14, 0.7, [10.0, 10.0, 110.0, 110.0]);
        let again = found(14, 0.5, [14.0, 8.0, 112.0, 108.0]);
        let head = found(14, 0.4, [20.0, 12.0, 60.0, 50.0]);
        let other_noun = found(16, 0.35, [12.0, 12.0, 108.0, 108.0]);
        let elsewhere = found(14, 0.3, [200.0, 10.0, 300.0, 110.0]);
        let rivalled = Found { is_rivalled: true, ..other_noun };
        assert_eq!(distinct(vec![head, again, elsewhere, whole, other_noun]), [whole, rivalled, elsewhere]);
    }

    #[test]
    fn a_box_outside_of_the_frame_or_of_no_number_is_none() {
        let frame = Size { width: 100, height: 100 };
        let of = |sides| found(0, 1.0, sides).region.within(frame);
        assert_eq!(of([-20.0, 50.0, 30.0, 180.0]), Some(Region { left: 0.0, top: 50.0, right: 30.0, bottom: 100.0 }));
        assert_eq!(of([120.0, 0.0, 130.0, 10.0]), None);
        assert_eq!(of([f32::NAN, 0.0, 10.0, 10.0]), None);
        assert_eq!(of([30.0, 0.0, 10.0, 10.0]), None);
    }
}

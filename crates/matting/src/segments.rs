//! Long videos in segments: what is finished stays finished, whoever made it.
//!
//! A video is cut into segments of equal length by frame number. Each finished one is a file in a [`SegmentStore`]:
//! its pictures in the output's codec, its mattes, and what every stage carries into the next frame. An attempt that
//! dies loses the segment it was at; the next one takes up what was carried and goes on, and its mattes are those of an
//! undisturbed run, bit for bit. The output is joined of the segments without encoding anything again.
//!
//! Nothing here says who makes which segment: [`Segments::shared`] lets several engines work on one clip
//! (`schedule`). A segment that is begun without its predecessor's state is begun some frames early instead
//! ([`crate::model::Matter::lead_in`]).

mod directory;
mod file;
mod schedule;
mod work;

use std::collections::BTreeSet;
use std::path::Path;

pub use self::directory::DirectoryStore;

/// Most segments of a video: longer ones have longer segments.
pub const MAX_SEGMENTS: u32 = 1000;

/// Where finished segments are kept. Calls block; they return soon when the job's watch says that it is cancelled.
pub trait SegmentStore: Sync + std::fmt::Debug {
    /// Numbers of the segments that are there. `plan` is a name of 32 hexadecimal digits that stands for everything
    /// that decides what is in them.
    ///
    /// # Errors
    /// The store cannot be asked; the work goes on as if there were none.
    fn finished(&self, plan: &str) -> Result<BTreeSet<u32>, SegmentStoreError>;

    /// Copies one into a file.
    ///
    /// # Errors
    /// It cannot be read; it is made again then.
    fn fetch(&self, plan: &str, index: u32, file: &Path) -> Result<(), SegmentStoreError>;

    /// Stores one, unless there is one of its number already.
    ///
    /// # Errors
    /// It is not kept. The work goes on; only another attempt would have to make it again.
    fn store(&self, plan: &str, index: u32, file: &Path) -> Result<Stored, SegmentStoreError>;
}

/// What became of a segment that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is there now.
    New,
    /// Somebody was quicker.
    WasThere,
}

/// Why a segment was not read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SegmentStoreError {
    /// What was tried.
    pub what: &'static str,
    /// Why it failed.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// How a job is cut into segments and where they are kept.
#[derive(Debug, Clone, Copy)]
pub struct Segments<'a> {
    /// Length of a segment in seconds of video.
    pub seconds: u64,
    /// Where they are kept.
    pub store: &'a dyn SegmentStore,
    /// Others may be working on the same clip: what they finished is looked for at every border.
    pub shared: bool,
}

/// Which frames belong to which segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Frames of all but the last one.
    length: u64,
    count: u32,
}

impl Cut {
    /// Of so many frames. The last segment has between a half and one and a half of the others' length.
    pub(crate) fn of(frames: u64, length: u64) -> Self {
        let length = length.max(frames.div_ceil(u64::from(MAX_SEGMENTS))).max(1);
        let count = (frames + length / 2) / length;
        Self { length, count: u32::try_from(count).unwrap_or(MAX_SEGMENTS).max(1) }
    }

    pub(crate) const fn count(self) -> u32 {
        self.count
    }

    /// Number of a segment's first frame.
    pub(crate) fn first(self, index: u32) -> u64 {
        u64::from(index) * self.length
    }

    /// The segment that begins with this frame.
    pub(crate) fn beginning_at(self, frame: u64) -> Option<u32> {
        let index = u32::try_from(frame / self.length).ok()?;
        (frame.is_multiple_of(self.length) && index < self.count).then_some(index)
    }

    /// Frames of a segment; of the last one nobody knows before it was decoded.
    pub(crate) fn frames(self, index: u32) -> Option<u64> {
        (index + 1 < self.count).then_some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_every_frame_once_and_none_is_tiny() {
        for frames in 1..400_u64 {
            let cut = Cut::of(frames, 30);
            let last = cut.count() - 1;
            let of_last = frames - cut.first(last);
            assert!(last == 0 || (15..=45).contains(&of_last), "{frames}: {of_last}");
            assert!(last > 0 || frames < 45);
            let beginnings = (0..frames).filter_map(|frame| cut.beginning_at(frame));
            assert!(beginnings.eq(0..cut.count()));
        }
    }

    #[test]
    fn a_video_of_any_length_has_a_bounded_number_of_segments() {
        let cut = Cut::of(24 * 3600 * 60, 60);
        assert!(cut.count() <= MAX_SEGMENTS);
        assert_eq!(cut.first(1), 24 * 3600 * 60 / u64::from(MAX_SEGMENTS));
    }
}

//! Following the subjects of a prompt from frame to frame.
//!
//! Owns: who is who. A detector looks at every frame by itself: its boxes jump, vanish for a few frames, and in a
//! crowd another one is the leftmost. So a subject is chosen once and then followed by overlap.
//! Invariants: nothing is followed that was not found within [`PATIENCE`] frames; a followed box covers the box that
//! was found, because a part cut off is lost for the matte, and a box too large costs little.

use rotoless_contract::prompt::Subject;
use serde::{Deserialize, Serialize};

use super::choice::{Scene, meant};
use super::found::{Found, Region};

/// Sure enough to begin to follow, when something else is followed already.
const SURE: f32 = 0.3;
/// Sure enough when nothing is.
const SURE_ENOUGH: f32 = 0.25;
/// And at least so sure, of how sure the finder is of the best of its kind in the frame: flower pots are persons to a
/// detector, but never as much as the person beside them.
const BESIDE_THE_BEST: f32 = 0.6;
/// Frames more in which it was rather something else than not, after which a subject is taken for that.
const DOUBTS: u32 = 5;
/// Frames without being found, after which a subject is gone. About half a second.
pub(super) const PATIENCE: u32 = 15;
/// Regions of one frame: each is a run of the still model. Of a crowd the largest are followed.
const MOST_REGIONS: usize = 12;
/// Least overlap (intersection over union) with the frame before.
const SAME: f32 = 0.2;
/// How much of the way a side moves inwards in a frame. Outwards it moves at once.
const SHRINK: f32 = 0.25;

/// Follows all subjects of a prompt.
#[derive(Debug)]
pub(super) struct Tracker {
    followed: Vec<Followed>,
}

#[derive(Debug)]
struct Followed {
    subject: Subject,
    tracks: Vec<Track>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Track {
    region: Region,
    /// Frames since it was found.
    missed: u32,
    /// Frames in which it was rather something else, less those in which it was not.
    doubts: u32,
}

impl Tracker {
    pub(super) fn new(subjects: &[Subject]) -> Self {
        Self { followed: subjects.iter().map(|&subject| Followed { subject, tracks: Vec::new() }).collect() }
    }

    /// A new scene: nobody is who they were.
    pub(super) fn forget(&mut self) {
        for followed in &mut self.followed {
            followed.tracks.clear();
        }
    }

    /// Whom it follows, subject by subject.
    pub(super) fn tracks(&self) -> Vec<Vec<Track>> {
        self.followed.iter().map(|followed| followed.tracks.clone()).collect()
    }

    /// Goes on with those that another one of the same subjects followed.
    pub(super) fn resume(&mut self, tracks: Vec<Vec<Track>>) {
        for (followed, tracks) in self.followed.iter_mut().zip(tracks) {
            followed.tracks = tracks;
        }
    }

    /// The regions of the subjects in the next frame.
    pub(super) fn follow(&mut self, found: &[Found], scene: &Scene<'_>) -> Vec<Region> {
        let regions = self.followed.iter_mut().flat_map(|followed| followed.next(found, scene));
        let mut regions: Vec<Region> = regions.collect();
        if regions.len() > MOST_REGIONS {
            regions.sort_by(|one, other| other.area().total_cmp(&one.area()));
            regions.truncate(MOST_REGIONS);
        }
        regions
    }
}

impl Followed {
    fn next(&mut self, found: &[Found], scene: &Scene<'_>) -> Vec<Region> {
        let mut found: Vec<Found> = found.iter().copied().filter(|found| found.noun == self.subject.noun).collect();
        let best = found.iter().map(|found| found.score).fold(0.0, f32::max);
        for track in &mut self.tracks {
            track.take_the_best_of(&mut found);
        }
        // Where all are doubtful they may be what was asked for after all.
        let is_certain = |track: &Track| track.doubts <= DOUBTS;
        let keeps_doubtful = !self.tracks.iter().any(is_certain);
        self.tracks.retain(|track| track.missed <= PATIENCE && (keeps_doubtful || is_certain(track)));
        self.tracks.extend(self.newcomers(found, best, scene));
        self.tracks.iter().filter_map(|track| track.region.within(scene.size)).collect()
    }

    /// Whom to begin to follow, of those that nobody is.
    fn newcomers(&self, mut found: Vec<Found>, best: f32, scene: &Scene<'_>) -> Vec<Track> {
        const PART: f32 = 0.7;
        let chooses_one = self.subject.place.is_some() || self.subject.colour.is_some();
        if chooses_one && !self.tracks.is_empty() {
            return Vec::new();
        }
        let sure = if self.tracks.is_empty() { SURE_ENOUGH } else { SURE }.max(best * BESIDE_THE_BEST);
        let known = |found: &Found| self.tracks.iter().any(|track| track.region.containment(&found.region) > PART);
        found.retain(|found| found.score >= sure && !known(found));
        // Whoever asks for a dog means the dog, not the cat that might be one; unless there is nothing else.
        if !self.tracks.is_empty() || found.iter().any(|found| !found.is_rivalled) {
            found.retain(|found| !found.is_rivalled);
        }
        let track = |found: Found| Track { region: found.region, missed: 0, doubts: 0 };
        meant(&self.subject, found, scene).into_iter().map(track).collect()
    }
}

impl Track {
    fn take_the_best_of(&mut self, found: &mut Vec<Found>) {
        let fit = |found: &Found| self.region.overlap(&found.region) * found.score;
        let candidates = found.iter().enumerate().filter(|(_, found)| self.region.overlap(&found.region) >= SAME);
        let best = candidates.max_by(|(_, one), (_, other)| fit(one).total_cmp(&fit(other))).map(|(index, _)| index);
        match best {
            None => self.missed += 1,
            Some(index) => {
                let found = found.swap_remove(index);
                self.missed = 0;
                self.doubts = if found.is_rivalled { self.doubts + 1 } else { self.doubts.saturating_sub(1) };
                self.region = moved(self.region, found.region);
            }
        }
    }
}

/// Each side outwards at once, inwards slowly: the size does not flicker and nothing is cut off.
fn moved(from: Region, to: Region) -> Region {
    let side = |from: f32, to: f32, is_outwards: bool| if is_outwards { to } else { from + (to - from) * SHRINK };
    Region {
        left: side(from.left, to.left, to.left < from.left),
        top: side(from.top, to.top, to.top < from.top),
        right: side(from.right, to.right, to.right > from.right),
        bottom: side(from.bottom, to.bottom, to.bottom > from.bottom),
    }
}

#[cfg(test)]
mod tests {
    use rotoless_contract::prompt::Place;

    use super::*;
    use crate::frame::Size;

    const SIZE: Size = Size { width: 640, height: 360 };

    fn dog(left: f32, score: f32) -> Found {
        let region = Region { left, top: 100.0, right: left + 100.0, bottom: 200.0 };
        Found { noun: 16, score, region, is_rivalled: false }
    }

    fn tracker(place: Option<Place>) -> Tracker {
        Tracker::new(&[Subject { noun: 16, place, colour: None }])
    }

    fn lefts(tracker: &mut Tracker, found: &[Found]) -> Vec<f32> {
        let scene = Scene { colour: [&[], &[], &[]], size: SIZE };
        tracker.follow(found, &scene).iter().map(|region| region.left).collect()
    }

    #[test]
    fn the_one_that_was_leftmost_at_first_stays_the_one() {
        let mut tracker = tracker(Some(Place::Left));
        for step in 0..20 {
            // They pass one another.
            let (chosen, other) = (dog(50.0 + 20.0 * step as f32, 0.5), dog(450.0 - 20.0 * step as f32, 0.6));
            // Not in the frames in which they cover one another.
            if (9..=11).contains(&step) {
                lefts(&mut tracker, &[]);
                continue;
            }
            let left = lefts(&mut tracker, &[other, chosen]);
            assert_eq!(left.len(), 1);
            if step < 9 {
                assert!((left[0] - chosen.region.left).abs() < 90.0, "step {step}: {left:?}");
            }
        }
    }

    #[test]
    fn everyone_is_followed_when_no_one_is_chosen() {
        let mut tracker = tracker(None);
        assert_eq!(lefts(&mut tracker, &[dog(50.0, 0.5), dog(400.0, 0.6)]), [50.0, 400.0]);
        assert_eq!(lefts(&mut tracker, &[dog(405.0, 0.2), dog(45.0, 0.2), dog(200.0, 0.28)]).len(), 2);
        assert_eq!(lefts(&mut tracker, &[dog(405.0, 0.6), dog(45.0, 0.2), dog(200.0, 0.35)]).len(), 2);
        assert_eq!(lefts(&mut tracker, &[dog(405.0, 0.2), dog(45.0, 0.2), dog(200.0, 0.35)]).len(), 3);
    }

    #[test]
    fn who_is_not_found_for_some_frames_is_waited_for_and_then_given_up() {
        let mut tracker = tracker(None);
        lefts(&mut tracker, &[dog(50.0, 0.5)]);
        for _ in 0..PATIENCE {
            assert_eq!(lefts(&mut tracker, &[]), [50.0]);
        }
        assert!(lefts(&mut tracker, &[]).is_empty());
    }

    #[test]
    fn what_is_rather_something_else_is_meant_only_where_there_is_nothing_better() {
        let cat = Found { is_rivalled: true, ..dog(400.0, 0.6) };
        assert_eq!(lefts(&mut tracker(None), &[cat, dog(50.0, 0.5)]), [50.0]);
        assert_eq!(lefts(&mut tracker(None), &[cat]), [400.0]);
    }

    #[test]
    fn what_turns_out_to_be_something_else_is_let_go() {
        let mut tracker = tracker(None);
        assert_eq!(lefts(&mut tracker, &[dog(50.0, 0.5), dog(400.0, 0.4)]).len(), 2);
        let rooster = Found { is_rivalled: true, ..dog(400.0, 0.4) };
        for _ in 0..=DOUBTS {
            lefts(&mut tracker, &[dog(50.0, 0.5), rooster]);
        }
        assert_eq!(lefts(&mut tracker, &[dog(50.0, 0.5), rooster]), [50.0]);
    }

    #[test]
    fn of_a_crowd_the_largest_are_followed() {
        let crowd: Vec<Found> = (0..40_u8)
            .map(|place| {
                let (left, size) = (f32::from(place) * 15.0, 5.0 + f32::from(place) / 5.0);
                let region = Region { left, top: 100.0, right: left + size, bottom: 100.0 + size };
                Found { noun: 16, score: 0.5, region, is_rivalled: false }
            })
            .collect();
        let lefts = lefts(&mut tracker(None), &crowd);
        assert_eq!(lefts.len(), MOST_REGIONS);
        assert!(lefts.iter().all(|left| *left >= 28.0 * 15.0), "{lefts:?}");
    }

    #[test]
    fn a_new_scene_starts_anew() {
        let mut tracker = tracker(Some(Place::Left));
        lefts(&mut tracker, &[dog(50.0, 0.5)]);
        tracker.forget();
        assert_eq!(lefts(&mut tracker, &[dog(300.0, 0.5)]), [300.0]);
    }

    #[test]
    fn nothing_that_was_found_is_cut_off() {
        let from = Region { left: 100.0, top: 100.0, right: 200.0, bottom: 200.0 };
        let to = Region { left: 80.0, top: 120.0, right: 220.0, bottom: 180.0 };
        let now = moved(from, to);
        assert_eq!((now.left, now.right), (80.0, 220.0));
        assert_eq!((now.top, now.bottom), (105.0, 195.0));
    }
}

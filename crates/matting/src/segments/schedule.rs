//! Who makes which segment, without anybody asking anybody: everyone looks at what is finished.
//!
//! Whoever works on a gap began it at its first segment and goes forward. So a newcomer begins somewhere in the middle
//! of the largest gap, not at the same place as the next newcomer, and whoever meets finished work looks again; so does
//! the later one of two that made the same. One segment is lost at each such meeting.

/// What an engine is to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It makes the output, and whatever nobody else does.
    Lead,
    /// It makes segments for another one.
    Assist,
}

/// Where in a gap an engine likes to begin, 0..1: no two the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lean(f64);

impl Lean {
    /// Of this engine and job.
    pub(crate) fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(RandomState::new().hash_one(()) as f64 / u64::MAX as f64)
    }

    /// In the middle half of a gap, and not at its first segment.
    fn within(self, length: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of `length`")]
        let from_begin = (length as f64 * (0.25 + self.0 / 2.0)) as usize;
        from_begin.clamp(1, length.max(2) - 1)
    }
}

/// The segment to begin with: `finished` says of each whether it is there, `has_worked` whether this engine has made
/// some already. None when there is nothing to begin.
pub(crate) fn next(finished: &[bool], role: Role, has_worked: bool, lean: Lean) -> Option<usize> {
    let first = finished.iter().position(|is_finished| !is_finished)?;
    // Nobody else is known of yet; and if there is somebody, it went forward from somewhere else.
    if role == Role::Lead && !has_worked {
        return Some(first);
    }
    match (largest_gap(finished, first), role) {
        ((_, 1), Role::Assist) => None,
        ((begin, 1), Role::Lead) => Some(begin),
        ((begin, length), _) => Some(begin + lean.within(length)),
    }
}

/// Begin and length of the longest run of segments that are not there.
fn largest_gap(finished: &[bool], first: usize) -> (usize, usize) {
    let (mut largest, mut begin) = ((first, 0), None);
    for (index, is_finished) in finished.iter().chain([&true]).enumerate() {
        match (is_finished, begin) {
            (false, None) => begin = Some(index),
            (true, Some(from)) => {
                if index - from > largest.1 {
                    largest = (from, index - from);
                }
                begin = None;
            }
            (false, Some(_)) | (true, None) => {}
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: Lean = Lean(0.5);

    #[test]
    fn a_lone_engine_goes_on_where_the_last_one_ended() {
        assert_eq!(next(&[false; 4], Role::Lead, false, MIDDLE), Some(0));
        assert_eq!(next(&[true, true, false, false], Role::Lead, false, MIDDLE), Some(2));
        assert_eq!(next(&[true; 4], Role::Lead, false, MIDDLE), None);
    }

    #[test]
    fn a_newcomer_parts_the_largest_gap() {
        assert_eq!(next(&[false; 8], Role::Assist, false, MIDDLE), Some(4));
        assert_eq!(next(&[true, false, false, true, false, false, false, false], Role::Assist, true, MIDDLE), Some(6));
        assert_eq!((Lean(0.0).within(8), Lean(1.0).within(8)), (2, 6));
        assert!([0.0, 0.5, 1.0].map(|lean| Lean(lean).within(2)) == [1; 3]);
    }

    #[test]
    fn an_assistant_leaves_the_last_segment_to_the_one_who_is_at_it() {
        assert_eq!(next(&[true, true, false], Role::Assist, true, MIDDLE), None);
        assert_eq!(next(&[true, true, false], Role::Lead, true, MIDDLE), Some(2));
    }

    /// Every engine makes a segment a tick, forward from where it is, until it meets finished work.
    fn work_together(engines: usize, segments: usize) -> (usize, usize) {
        let mut finished = vec![false; segments];
        let mut at: Vec<Option<usize>> = vec![None; engines];
        let mut worked = vec![false; engines];
        let (mut made, mut ticks) = (0, 0);
        while !finished.iter().all(|finished| *finished) {
            ticks += 1;
            for engine in 0..engines {
                let role = if engine == 0 { Role::Lead } else { Role::Assist };
                let lean = Lean((engine as f64 * 0.618 + ticks as f64 * 0.382).fract());
                at[engine] = at[engine].filter(|at| *at < segments && !finished[*at]);
                at[engine] = at[engine].or_else(|| next(&finished, role, worked[engine], lean));
            }
            for engine in 0..engines {
                let Some(index) = at[engine] else { continue };
                let was_first = !std::mem::replace(&mut finished[index], true);
                (worked[engine], made) = (true, made + 1);
                at[engine] = was_first.then_some(index + 1);
            }
            assert!(ticks <= segments, "{engines} engines do not come to an end");
        }
        (made, ticks)
    }

    #[test]
    fn any_number_of_engines_finish_and_little_is_made_twice() {
        assert_eq!(work_together(1, 9), (9, 9));
        for (engines, segments) in [(2, 9), (2, 40), (4, 40), (7, 100), (3, 2)] {
            let (made, ticks) = work_together(engines, segments);
            assert!(made <= segments + segments / 4 + 2 * engines, "{made} made for {segments} by {engines}");
            assert!(ticks * engines <= segments + segments / 2 + 2 * engines, "{engines}: {ticks} for {segments}");
        }
    }
}

//! Lengths that are only known when the graph runs, as far as two of them can be told to be equal before.
//!
//! Invariant: two equal `Side`s are equal whatever is fed, as long as what was promised of the named sides holds.

use std::fmt;

/// One side of a value's shape, or one entry of a list of sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    Known(i64),
    /// `times · ⌈part / 2^halvings⌉`, where the named side of an input is `part · unit`.
    Of {
        name: String,
        unit: i64,
        times: i64,
        halvings: u32,
    },
}

impl Side {
    /// A named side of an input that is a multiple of `unit`, at least 1.
    pub(super) fn named(name: &str, unit: i64) -> Self {
        Self::Of { name: name.to_owned(), unit, times: unit, halvings: 0 }
    }

    /// `None` where the result is no such length.
    pub(super) fn times(&self, factor: i64) -> Option<Self> {
        match self {
            Self::Known(value) => value.checked_mul(factor).map(Self::Known),
            Self::Of { name, unit, times, halvings } => {
                let times = times.checked_mul(factor)?;
                Some(Self::Of { name: name.clone(), unit: *unit, times, halvings: *halvings })
            }
        }
    }

    /// Places of a window that is `reach` long, every `stride`, over the side with `padding` in all:
    /// `⌊(side + padding − reach) / stride⌋ + 1`.
    pub(super) fn windows(&self, reach: i64, stride: i64, padding: i64) -> Option<Self> {
        let over = padding - reach;
        match self {
            Self::Known(value) if stride > 0 && value + over >= 0 => Some(Self::Known((value + over) / stride + 1)),
            Self::Known(_) => None,
            // Of m · stride there are m places; of what leaves a rest, one more when padding makes up for the window.
            Self::Of { times, .. } if (-stride..=-1).contains(&over) && times % stride == 0 => self.divided(stride),
            Self::Of { .. } if over == -1 => self.halved(stride),
            Self::Of { .. } => None,
        }
    }

    /// `⌈side / stride⌉`: windows whose padding is worked out so.
    pub(super) fn steps(&self, stride: i64) -> Option<Self> {
        match self {
            Self::Known(value) if stride > 0 => Some(Self::Known((value + stride - 1) / stride)),
            Self::Known(_) => None,
            Self::Of { times, .. } if stride > 0 && times % stride == 0 => self.divided(stride),
            Self::Of { .. } => self.halved(stride),
        }
    }

    fn divided(&self, by: i64) -> Option<Self> {
        match self {
            Self::Known(_) => None,
            Self::Of { name, unit, times, halvings } => {
                Some(Self::Of { name: name.clone(), unit: *unit, times: times / by, halvings: *halvings })
            }
        }
    }

    /// `⌈⌈p / 2^n⌉ / 2⌉ = ⌈p / 2^(n+1)⌉`
    fn halved(&self, stride: i64) -> Option<Self> {
        match self {
            Self::Of { name, unit, times: 1, halvings } if stride == 2 && *halvings < 16 => {
                Some(Self::Of { name: name.clone(), unit: *unit, times: 1, halvings: halvings + 1 })
            }
            Self::Known(_) | Self::Of { .. } => None,
        }
    }

    /// Whether it is at least as long as `other`, whatever is fed. `false` may only mean that it cannot be told.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(own), Self::Known(other)) => own >= other,
            // Rounding up only makes the left larger.
            (
                Self::Of { name, unit, times, halvings },
                Self::Of { name: other, unit: other_unit, times: other_times, halvings: 0 },
            ) => name == other && unit == other_unit && *times >= other_times << halvings,
            (own, other) => own == other,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => write!(f, "{value}"),
            Self::Of { name, unit, times, halvings: 0 } if times % unit == 0 && times == unit => f.write_str(name),
            Self::Of { name, unit, times, halvings: 0 } if times % unit == 0 => write!(f, "{name}*{}", times / unit),
            Self::Of { name, unit, times, halvings: 0 } if unit % times == 0 => write!(f, "{name}/{}", unit / times),
            Self::Of { name, unit, times, halvings } => write!(f, "ceil({name}/{})*{times}", unit << halvings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a side comes to when its input has `part` units.
    fn length(side: &Side, part: i64) -> i64 {
        match side {
            Side::Known(value) => *value,
            Side::Of { times, halvings, .. } => times * ((part + (1 << halvings) - 1) >> halvings),
        }
    }

    #[test]
    fn what_is_said_of_a_side_holds_for_every_length() {
        let mut sides = vec![Side::named("s", 8), Side::Known(9)];
        for _ in 0..3 {
            for side in sides.clone() {
                sides.extend(
                    [side.times(2), side.steps(2), side.windows(3, 2, 2), side.windows(5, 1, 4)].into_iter().flatten(),
                );
            }
        }
        assert!(sides.len() > 50);
        for side in &sides {
            for part in 1..40 {
                let own = length(side, part);
                for (reach, stride, padding) in [(3, 2, 2), (2, 2, 0), (3, 1, 2), (4, 4, 1), (5, 2, 3)] {
                    if let Some(places) = side.windows(reach, stride, padding) {
                        assert_eq!(length(&places, part), (own + padding - reach) / stride + 1, "{side} {part}");
                    }
                }
                if let Some(half) = side.steps(2) {
                    assert_eq!(length(&half, part), (own + 1) / 2, "{side} {part}");
                }
                for other in sides.iter().filter(|other| side.covers(other)) {
                    assert!(own >= length(other, part), "{side} does not cover {other} at {part}");
                }
            }
        }
    }

    #[test]
    fn a_multiple_of_eight_is_halved_three_times_and_no_more_for_certain() {
        let mut side = Side::named("s", 8);
        for _ in 0..3 {
            let half = side.steps(2).unwrap();
            assert_eq!(half.times(2), Some(side));
            side = half;
        }
        let rounded = side.steps(2).unwrap();
        let doubled = rounded.times(2).unwrap();
        assert_ne!(doubled, side);
        assert!(doubled.covers(&side) && !side.covers(&doubled));
        assert_eq!([&side, &rounded, &doubled].map(ToString::to_string), ["s/8", "ceil(s/16)*1", "ceil(s/16)*2"]);
        assert_eq!(Side::named("s", 1).windows(2, 2, 0), None, "rounded down");
    }
}

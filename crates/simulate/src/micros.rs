//! Simulated time: whole microseconds since the run began, so that the order of events never depends on rounding.

use std::ops::{Add, AddAssign};

use jiff::{SignedDuration, Timestamp};

/// A moment or a length of simulated time. The epoch of the run is also that of the timestamps the core sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// The beginning, or no time at all.
    pub const ZERO: Self = Self(0);
    /// A minute.
    pub const MINUTE: Self = Self::seconds(60);
    /// An hour.
    pub const HOUR: Self = Self::seconds(3600);
    /// A day.
    pub const DAY: Self = Self::seconds(86_400);

    /// Whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Seconds with a fraction; what is negative or no number is none.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Self {
        // A cast from a float saturates, and takes what is no number for 0.
        Self((seconds * 1e6).round() as u64)
    }

    /// In seconds.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// In whole seconds, rounded up: what is billed.
    #[must_use]
    pub const fn billed_seconds(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }

    /// Since `earlier`; none if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// As the core knows moments.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
    }
}

impl Add for Micros {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Micros {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Of the core's durations, none of which is negative.
impl From<SignedDuration> for Micros {
    fn from(duration: SignedDuration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(0))
    }
}

/// Of the core's moments.
impl From<Timestamp> for Micros {
    fn from(moment: Timestamp) -> Self {
        Self(u64::try_from(moment.as_microsecond()).unwrap_or(0))
    }
}

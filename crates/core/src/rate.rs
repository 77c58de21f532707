//! Rate limits: token buckets, kept as one number each.
//!
//! A bucket holds as many tokens as are refilled in a minute. It is kept as the generic cell rate algorithm (GCRA,
//! ITU-T I.371) keeps it: as the moment when it will be full again. Taking a token moves that moment by the time
//! that one token takes to come back, and is refused where it would lie more than a minute ahead. So the whole
//! bucket is one integer that a database can move by one conditional update.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A minute, in µs: how far ahead a bucket's full moment may lie.
pub const WINDOW_US: i64 = 60_000_000;

/// Which of a key's buckets a request takes its token from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Polling and lists: `GET`.
    Reads,
    /// Everything that changes something, or costs us much.
    Creates,
}

/// Tokens a minute, which is also what a full bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerMinute(u32);

impl PerMinute {
    /// From 1 to one each µs; what lies outside is taken as the nearest of these.
    #[must_use]
    pub const fn new(tokens: u32) -> Self {
        match tokens {
            0 => Self(1),
            1..=60_000_000 => Self(tokens),
            _ => Self(60_000_000),
        }
    }

    /// Tokens in a full bucket.
    #[must_use]
    pub const fn tokens(self) -> u32 {
        self.0
    }

    /// Time that one token takes to come back, in µs.
    #[must_use]
    pub const fn token_us(self) -> i64 {
        WINDOW_US / self.0 as i64
    }
}

/// The rates of a key's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of [`Bucket::Reads`].
    pub reads: PerMinute,
    /// Of [`Bucket::Creates`].
    pub creates: PerMinute,
}

impl Default for Rates {
    /// Twenty clients of one key that poll every second; five creates a second, or three hundred at once.
    fn default() -> Self {
        Self { reads: PerMinute::new(1200), creates: PerMinute::new(300) }
    }
}

impl Rates {
    /// The rate of a bucket.
    #[must_use]
    pub const fn of(&self, bucket: Bucket) -> PerMinute {
        match bucket {
            Bucket::Reads => self.reads,
            Bucket::Creates => self.creates,
        }
    }
}

/// A bucket as its owner is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Tokens in a full bucket.
    pub limit: u32,
    /// Tokens left.
    pub remaining: u32,
    /// When it will be full again, if nothing more is taken; Unix time in µs.
    pub full_us: i64,
    /// Time until there is a token, in µs; 0 where there is one.
    pub wait_us: i64,
}

impl Meter {
    /// The bucket whose full moment is `full_us`.
    #[must_use]
    pub fn at(rate: PerMinute, full_us: i64, now_us: i64) -> Self {
        let full_us = full_us.max(now_us);
        let room = (now_us + WINDOW_US - full_us).max(0);
        let remaining = u32::try_from(room / rate.token_us()).unwrap_or(u32::MAX).min(rate.tokens());
        let wait_us = (full_us + rate.token_us() - now_us - WINDOW_US).max(0);
        Self { limit: rate.tokens(), remaining, full_us, wait_us }
    }

    /// An untouched bucket.
    #[must_use]
    pub fn full(rate: PerMinute, now_us: i64) -> Self {
        Self::at(rate, now_us, now_us)
    }
}

/// Takes `tokens` from a bucket: its new full moment.
///
/// # Errors
/// The bucket as it is, where it does not hold them.
pub fn take(rate: PerMinute, full_us: i64, now_us: i64, tokens: u32) -> Result<i64, Meter> {
    let after = full_us.max(now_us) + rate.token_us() * i64::from(tokens);
    if after > now_us + WINDOW_US {
        return Err(Meter::at(rate, full_us, now_us));
    }
    Ok(after)
}

/// Unix time in µs.
#[must_use]
pub fn micros(now: Timestamp) -> i64 {
    now.as_microsecond()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_its_tokens_at_once_and_then_one_at_a_time() {
        let rate = PerMinute::new(60);
        let mut full = 0;
        for left in (0..60).rev() {
            full = take(rate, full, 1_000, 1).unwrap();
            assert_eq!(Meter::at(rate, full, 1_000).remaining, left);
        }
        let empty = take(rate, full, 1_000, 1).unwrap_err();
        assert_eq!((empty.remaining, empty.wait_us), (0, 1_000_000));
        assert!(take(rate, full, 1_000 + 999_999, 1).is_err());
        full = take(rate, full, 1_000 + 1_000_000, 1).unwrap();
        assert!(take(rate, full, 1_000 + 1_000_000, 1).is_err());
    }

    proptest! {
        /// However requests come, no more than the bucket and its refill is given.
        #[test]
        fn no_more_is_given_than_a_bucket_and_its_refill(
            per_minute in 1_u32..2000,
            gaps in proptest::collection::vec(0_i64..3_000_000, 1..300),
        ) {
            let rate = PerMinute::new(per_minute);
            let (mut now, mut full, mut given) = (0, 0, 0_i64);
            for gap in gaps {
                now += gap;
                match take(rate, full, now, 1) {
                    Ok(after) => {
                        full = after;
                        given += 1;
                    }
                    Err(meter) => prop_assert!(meter.remaining == 0 && meter.wait_us > 0),
                }
            }
            prop_assert!(given <= i64::from(per_minute) + now / rate.token_us() + 1);
        }
    }
}

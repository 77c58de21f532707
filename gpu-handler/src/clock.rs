//! Wall time for signatures, corrected by what servers say.
//!
//! Owns: the offset between this host's clock and the servers'. Does not own: leases and deadlines, which are
//! monotonic durations everywhere in this crate.
//! Invariant: nothing but a signature's timestamp is read from here, so a wrong clock costs one refused call.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use jiff::Timestamp;

/// A `Date` header is exact to a second and some latency old: smaller differences are no news, in seconds.
const NOISE_SECONDS: u64 = 60;

/// The servers' wall time, shared by every client of the process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    offset_seconds: Arc<AtomicI64>,
}

impl Clock {
    /// Unix time in seconds to sign with.
    pub(crate) fn unix_seconds(&self) -> i64 {
        Timestamp::now().as_second().saturating_add(self.offset_seconds.load(Ordering::Relaxed))
    }

    /// Takes over a server's `Date` header. True when it differs so much that signing anew may help.
    pub(crate) fn learn(&self, date: &str) -> bool {
        let Ok(theirs) = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date) else { return false };
        let off_by = theirs.as_second().saturating_sub(self.unix_seconds());
        if off_by.unsigned_abs() <= NOISE_SECONDS {
            return false;
        }
        self.offset_seconds.fetch_add(off_by, Ordering::Relaxed);
        tracing::warn!(clock.off_by_seconds = off_by, "the clock of this host is wrong, signing with the server's");
        true
    }

    #[cfg(test)]
    pub(crate) fn wrong_by(seconds: i64) -> Self {
        Self { offset_seconds: Arc::new(AtomicI64::new(seconds)) }
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let offset = self.offset_seconds.load(Ordering::Relaxed);
        let by = Duration::from_secs(offset.unsigned_abs());
        let now = SystemTime::now();
        let shifted = if offset < 0 { now.checked_sub(by) } else { now.checked_add(by) };
        shifted.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_a_day_off_is_set_right_by_one_date_header() {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap();
        for wrong in [-86_400, 86_400] {
            let clock = Clock::wrong_by(wrong);
            assert!(clock.learn(&date));
            assert!(clock.unix_seconds().abs_diff(Timestamp::now().as_second()) <= 2);
            assert!(!clock.learn(&date), "the same date is no news");
        }
    }

    #[test]
    fn a_date_that_cannot_be_read_changes_nothing() {
        let clock = Clock::default();
        for bad in ["", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert!(!clock.learn(bad));
        }
        assert!(clock.unix_seconds().abs_diff(Timestamp::now().as_second()) <= 1);
    }
}

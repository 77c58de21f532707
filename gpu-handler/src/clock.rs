//! Wall time for signatures, corrected by what the control plane says.
//!
//! Owns: the offset between this host's clock and the control plane's. The AWS SDK keeps such an offset of its own and
//! reads the host's clock as it is. Does not own: leases and deadlines, which are monotonic durations everywhere.
//! Invariant: nothing but a signature's timestamp is read from here, so a wrong clock costs one refused call.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};

/// A `Date` header is exact to a second and some latency old: smaller differences are no news, in seconds.
const NOISE_SECONDS: u64 = 60;

/// The control plane's wall time, shared by every client of the process.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    host: SharedTimeSource,
    offset_seconds: Arc<AtomicI64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::over(SharedTimeSource::new(SystemTimeSource::new()))
    }
}

impl Clock {
    pub(crate) fn over(host: SharedTimeSource) -> Self {
        Self { host, offset_seconds: Arc::default() }
    }

    /// The clock of this host, right or wrong.
    pub(crate) fn host(&self) -> SharedTimeSource {
        self.host.clone()
    }

    /// Unix time in seconds to sign with.
    pub(crate) fn unix_seconds(&self) -> i64 {
        unix_seconds(self.host.now()).saturating_add(self.offset_seconds.load(Ordering::Relaxed))
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
}

fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// A host whose clock is wrong by so many seconds.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct WrongClock(pub(crate) i64);

/// A host whose clock jumps: wrong by as many seconds as it says at the moment.
#[cfg(test)]
#[derive(Debug, Default, Clone)]
pub(crate) struct JumpingClock(pub(crate) Arc<AtomicI64>);

#[cfg(test)]
impl aws_smithy_async::time::TimeSource for JumpingClock {
    fn now(&self) -> SystemTime {
        WrongClock(self.0.load(Ordering::SeqCst)).now()
    }
}

#[cfg(test)]
impl aws_smithy_async::time::TimeSource for WrongClock {
    fn now(&self) -> SystemTime {
        let by = std::time::Duration::from_secs(self.0.unsigned_abs());
        if self.0 < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_clock_that_is_a_day_off_is_set_right_by_one_date_header() {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap();
        for wrong in [-86_400, 86_400] {
            let clock = Clock::over(SharedTimeSource::new(WrongClock(wrong)));
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

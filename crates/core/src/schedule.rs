//! When a webhook is tried again: 0, 5 s, 30 s, 5 min, 30 min, 2 h, 6 h, 14 h after the last try, ±20 %.

use jiff::{SignedDuration, Timestamp};

/// Seconds to wait before try 1, 2, …; after the last one the event is given up.
pub const WAITS_SECONDS: [i64; 8] = [0, 5, 30, 300, 1800, 7200, 21_600, 50_400];

/// A whole exchange must end within this time.
pub const EXCHANGE_SECONDS: i64 = 10;

/// When to try again after `tries` tries, or `None` to give up. `retry_after` is what the endpoint asked for; it
/// counts within once and twice the wait. `jitter` is uniform in 0..=255.
#[must_use]
pub fn next_try(tries: u32, now: Timestamp, retry_after: Option<u64>, jitter: u8) -> Option<Timestamp> {
    let base = *WAITS_SECONDS.get(usize::try_from(tries).ok()?)?;
    let base_ms = base * 1000;
    let wait_ms = match retry_after {
        Some(asked) => {
            let asked_ms = i64::try_from(asked).unwrap_or(i64::MAX).saturating_mul(1000);
            asked_ms.clamp(base_ms, base_ms * 2)
        }
        // 0.8 ..= 1.2 of the wait.
        None => base_ms * (800 + i64::from(jitter) * 400 / 255) / 1000,
    };
    now.checked_add(SignedDuration::from_millis(wait_ms)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_tried_eight_times_over_about_a_day() {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut tries = 0;
        while let Some(next) = next_try(tries, now, None, 128) {
            now = next;
            tries += 1;
        }
        assert_eq!(tries, 8);
        let hours = now.as_second() / 3600;
        assert!((20..=24).contains(&hours), "{hours}");
    }

    #[test]
    fn an_endpoint_may_ask_for_at_most_twice_the_wait() {
        let wait = |asked| next_try(1, Timestamp::UNIX_EPOCH, Some(asked), 0).unwrap().as_second();
        assert_eq!((wait(0), wait(7), wait(1_000_000_000), wait(u64::MAX)), (5, 7, 10, 10));
    }
}

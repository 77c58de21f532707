//! Waiting before another try: exponential, capped, with full jitter so that workers do not knock in step.

use std::time::Duration;

/// A run of tries against one dependency.
#[derive(Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
    cap: Duration,
}

impl Backoff {
    /// The first wait is at most `first`, no wait is longer than `cap`.
    pub(crate) const fn new(first: Duration, cap: Duration) -> Self {
        Self { ceiling: first, cap }
    }

    /// How long to wait now. At least `at_least` (a server's `Retry-After`), itself cut at the cap.
    pub(crate) fn wait(&mut self, at_least: Option<Duration>) -> Duration {
        let ceiling = self.ceiling.min(self.cap);
        self.ceiling = ceiling.saturating_mul(2);
        // Half of the ceiling is certain: a wait of zero would make the first retry a part of the same burst.
        let jittered = ceiling / 2 + (ceiling / 2).mul_f64(random_fraction());
        jittered.max(at_least.unwrap_or_default()).min(self.cap)
    }
}

/// Uniform in 0..1. Without entropy it is the middle: jitter is a courtesy, not a promise.
fn random_fraction() -> f64 {
    let mut bytes = [0u8; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_never_pass_the_cap() {
        let cap = Duration::from_secs(8);
        let mut backoff = Backoff::new(Duration::from_secs(1), cap);
        for ceiling in [1, 2, 4, 8, 8, 8] {
            let wait = backoff.wait(None);
            assert!(wait >= Duration::from_secs(ceiling) / 2 && wait <= Duration::from_secs(ceiling), "{wait:?}");
        }
        assert_eq!(backoff.wait(Some(Duration::from_secs(1_000_000_000))), cap);
    }

    #[test]
    fn a_servers_wish_is_a_floor() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(30));
        assert_eq!(backoff.wait(Some(Duration::from_secs(7))), Duration::from_secs(7));
    }
}

//! The system's clock and randomness.

use jiff::Timestamp;
use rotoless_core::ports::{Clock, Entropy};

/// The system's clock, cut to the millisecond: what is stored must come back equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::expect_used, reason = "without randomness no id, key or token may be made; there is no way on")]
    fn bits(&self) -> [u8; 32] {
        let mut bits = [0; 32];
        getrandom::fill(&mut bits).expect("the operating system gives random numbers");
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_ticks_in_milliseconds_and_the_bits_differ() {
        let now = SystemClock.now();
        assert_eq!(now.subsec_nanosecond() % 1_000_000, 0);
        assert!(now.as_second() > 1_700_000_000);
        assert_ne!(SystemEntropy.bits(), SystemEntropy.bits());
    }
}

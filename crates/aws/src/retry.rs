//! Tries of one DynamoDB call: the only owner of its retries.
//!
//! Budget: six tries; none begins later than 2 s after the first, and each ends within the client's 3 s, so that a
//! caller waits 5 s at most.

use std::time::Duration;

use rotoless_core::ports::{Entropy, Retry, StoreError};
use tokio::time::Instant;

use crate::error::Failure;
use crate::system::SystemEntropy;

const TRIES: u32 = 6;
const LAST_START: Duration = Duration::from_secs(2);
const FIRST_WAIT_MS: u64 = 50;

/// The tries of one call.
#[derive(Debug)]
pub(crate) struct Tries {
    begun: Instant,
    made: u32,
}

impl Tries {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), made: 0 }
    }

    /// Waits until the next try may begin; `false` where there is none, or none would help.
    pub(crate) async fn again(&mut self, error: &StoreError) -> bool {
        self.made += 1;
        if error.retry() == Retry::Never {
            return false;
        }
        let Some(wait) = wait(self.made, self.begun.elapsed(), SystemEntropy.bits()[0]) else { return false };
        tokio::time::sleep(wait).await;
        true
    }
}

/// The wait before the next try, with full jitter: somewhere within 50 ms, 100 ms, 200 ms, … after try 1, 2, 3, …
/// `None` where the budget is used up.
fn wait(made: u32, elapsed: Duration, random: u8) -> Option<Duration> {
    if made >= TRIES {
        return None;
    }
    let longest = FIRST_WAIT_MS << made.saturating_sub(1);
    let wait = Duration::from_millis(longest * u64::from(random) / 255);
    (elapsed + wait <= LAST_START).then_some(wait)
}

/// Repeats a call that reads.
pub(crate) async fn read<T, F>(mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut tries = Tries::begin();
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(failure) if tries.again(&failure.error).await => {
                tracing::debug!(error = %failure.error, "reading again");
            }
            Err(failure) => return Err(failure.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_tried_six_times_within_two_seconds() {
        for random in [0, 128, 255] {
            let (mut elapsed, mut made) = (Duration::ZERO, 1);
            while let Some(wait) = wait(made, elapsed, random) {
                elapsed += wait;
                made += 1;
            }
            assert_eq!(made, 6);
            assert!(elapsed <= LAST_START, "{elapsed:?}");
        }
    }

    #[test]
    fn no_try_begins_after_the_budget() {
        assert_eq!(wait(1, Duration::from_millis(2001), 0), None);
        assert_eq!(wait(2, Duration::from_millis(1950), 255), None);
    }

    #[tokio::test]
    async fn what_cannot_help_is_not_repeated() {
        let mut made = 0;
        let result: Result<(), _> = read(|| {
            made += 1;
            async { Err(Failure { error: StoreError::Rejected("test".into()), maybe_applied: false }) }
        })
        .await;
        assert!(matches!(result, Err(StoreError::Rejected(_))));
        assert_eq!(made, 1);
    }
}

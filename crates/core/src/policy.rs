//! What the operator decides: prices, limits, times.

mod pricing;
mod prompts;

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::MilliCredits;
use rotoless_contract::worker::MediaLimits;

pub use self::pricing::{InvalidPricing, Pricing};
pub use self::prompts::{Prompts, UnknownPrompts};
use crate::rate::Rates;

/// A pending job with a message in the queue gets another one after this long, then twice as long, …: a net
/// under the queue. A second message is harmless: the claim of one of them is refused.
const RESEND_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// A duration rounded up to whole seconds; the least that is billed is one.
#[must_use]
pub fn billed_seconds(duration_ms: u64) -> u64 {
    duration_ms.div_ceil(1000).max(1)
}

/// The price of `seconds` at `per_second`; saturates instead of overflowing.
#[must_use]
pub const fn cost(per_second: MilliCredits, seconds: u64) -> MilliCredits {
    MilliCredits(per_second.0.saturating_mul(seconds))
}

/// Everything the use cases take from configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The price list for new runs.
    pub pricing: Pricing,
    /// What is accepted of a source.
    pub limits: MediaLimits,
    /// Length of a lease. The queue's visibility timeout is the same.
    pub lease: SignedDuration,
    /// Greatest age of a run before it fails as expired.
    pub max_job_age: SignedDuration,
    /// A pending job without a known message gets one after this long.
    pub resend_after: SignedDuration,
    /// How long uploads are kept.
    pub upload_retention: SignedDuration,
    /// How long outputs are kept.
    pub output_retention: SignedDuration,
    /// Life of a presigned link given to clients and workers.
    pub link_life: SignedDuration,
    /// How long an idempotency key is remembered.
    pub idempotency_life: SignedDuration,
    /// Whether webhooks and sources may use plain http.
    pub allow_http: bool,
    /// Jobs of one client under way at once: waiting or at work.
    pub max_open_jobs: u32,
    /// Requests a minute and key.
    pub rates: Rates,
    /// Length of the segments that a worker keeps of what it has finished, in seconds of video; 0: it keeps none.
    pub segment_seconds: u32,
    /// What the prompts of model `pro` may say.
    pub prompts: Prompts,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            pricing: Pricing::default(),
            limits: MediaLimits::default(),
            lease: SignedDuration::from_secs(120),
            max_job_age: SignedDuration::from_hours(24),
            resend_after: SignedDuration::from_secs(30),
            upload_retention: SignedDuration::from_hours(24),
            output_retention: SignedDuration::from_hours(7 * 24),
            link_life: SignedDuration::from_hours(1),
            idempotency_life: SignedDuration::from_hours(24),
            allow_http: false,
            max_open_jobs: 1000,
            rates: Rates::default(),
            // About a group of pictures of most encoders, so that a file of segments is hardly larger.
            segment_seconds: 10,
            prompts: Prompts::default(),
        }
    }
}

impl Policy {
    /// Wall time for one attempt at a source of this length: max(10 min, 20 × the video), at most 2 h.
    #[must_use]
    pub fn attempt_deadline(&self, duration_ms: u64) -> SignedDuration {
        // 20 × the length in ms, in seconds.
        let seconds = (duration_ms / 50).clamp(600, 7200);
        SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(7200))
    }

    /// When a pending job gets its next message from the sweep: `enqueued_at` is when its last one was sent, if it is
    /// known to have been; `resends` counts those sent before because the job waited.
    #[must_use]
    pub fn resend_at(&self, updated_at: Timestamp, enqueued_at: Option<Timestamp>, resends: u32) -> Timestamp {
        let (since, wait) = match enqueued_at {
            Some(sent) => (sent, RESEND_AGAIN.saturating_mul(1 << resends.min(10))),
            None => (updated_at, self.resend_after),
        };
        since.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_billed_rounded_up_and_amounts_stay_exact_at_the_edges() {
        for (ms, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (3000, 3), (u64::MAX, u64::MAX.div_ceil(1000))] {
            assert_eq!(billed_seconds(ms), seconds);
        }
        assert_eq!(cost(MilliCredits(750), 3), MilliCredits(2250));
        assert_eq!(cost(MilliCredits(750), u64::MAX), MilliCredits(u64::MAX));
    }

    #[test]
    fn an_attempt_gets_ten_minutes_to_two_hours() {
        let minutes = |ms| Policy::default().attempt_deadline(ms).as_mins();
        assert_eq!(minutes(3_000), 10);
        assert_eq!(minutes(3 * 60_000), 60);
        assert_eq!(minutes(30 * 60_000), 120);
    }
}

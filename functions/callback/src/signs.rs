//! When a worker was last heard of: written now and then, for whoever asks after the health of the service.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rotoless_core::ports::Fleet;

/// A process writes at most this often.
const EVERY: SignedDuration = SignedDuration::from_secs(30);

/// Passes signs of life on.
pub struct SignsOfLife {
    fleet: Arc<dyn Fleet>,
    last: Mutex<Option<Timestamp>>,
}

impl SignsOfLife {
    /// Nothing was heard yet.
    #[must_use]
    pub fn new(fleet: Arc<dyn Fleet>) -> Self {
        Self { fleet, last: Mutex::new(None) }
    }

    /// A worker proved who it is.
    pub(crate) async fn heard(&self, now: Timestamp) {
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.duration_since(last) < EVERY) {
                return;
            }
            *last = Some(now);
        }
        if let Err(err) = self.fleet.seen(now).await {
            tracing::warn!(error = %err, "sign of life not kept");
        }
    }
}

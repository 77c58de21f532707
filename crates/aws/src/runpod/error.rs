//! What a failed call of RunPod means.

use std::time::Duration;

use rotoless_core::ports::{AdapterError, StoreError};

/// A call of RunPod failed. None of the variants holds a key or a URL.
#[derive(Debug, thiserror::Error)]
pub enum RunPodError {
    /// No byte of the request left.
    #[error("RunPod cannot be reached")]
    NotSent(#[source] AdapterError),
    /// Sent, or half sent, and no whole answer came in time.
    #[error("RunPod did not answer within {0:?}")]
    TimedOut(Duration),
    /// Sent, and the connection broke.
    #[error("the connection to RunPod broke")]
    BrokenOff(#[source] AdapterError),
    /// An answer other than 2xx.
    #[error("RunPod answered with status {status}")]
    Refused {
        /// The status.
        status: u16,
        /// The beginning of what it said, without anything secret that was sent. For an operator, never for a decision.
        said: String,
    },
    /// The answer is longer than any that is known.
    #[error("RunPod's answer has more than {0} bytes")]
    TooLarge(usize),
    /// The answer does not look like what was asked for: a proxy's page, for instance.
    #[error("RunPod's answer is not {what}")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
        /// What is wrong with it, where it is not JSON at all.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// Nothing was sent, because of what was to be sent.
    #[error("RunPod was not asked: {0}")]
    NotAsked(&'static str),
}

impl RunPodError {
    /// The status, where there was an answer.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::NotSent(_)
            | Self::TimedOut(_)
            | Self::BrokenOff(_)
            | Self::TooLarge(_)
            | Self::Unreadable { .. }
            | Self::NotAsked(_) => None,
        }
    }
}

impl From<RunPodError> for StoreError {
    fn from(error: RunPodError) -> Self {
        match error {
            RunPodError::Refused { status: 429, .. } => Self::Throttled(Box::new(error)),
            RunPodError::Refused { status: 500.., .. } | RunPodError::NotSent(_) => Self::Unavailable(Box::new(error)),
            RunPodError::TimedOut(_) | RunPodError::BrokenOff(_) => {
                Self::Timeout { maybe_applied: true, source: Box::new(error) }
            }
            // The next answer may be RunPod's own again.
            RunPodError::TooLarge(_) | RunPodError::Unreadable { .. } => Self::Unavailable(Box::new(error)),
            RunPodError::Refused { .. } | RunPodError::NotAsked(_) => Self::Rejected(Box::new(error)),
        }
    }
}

//! The use cases: each reads a job, asks [`crate::lifecycle::apply`], and commits what it says as one change.
//!
//! A commit that finds the job changed is judged anew from a fresh read, a bounded number of times.

mod attempt;
mod cancel;
mod change;
mod claim;
mod delete;
mod deliver;
mod drain;
mod estimate;
mod finished;
mod links;
mod measured;
mod reconcile;
mod replay;
mod segments;
mod submit;
mod sweep;
mod wakes;

pub use attempt::AttemptCalls;
pub use cancel::{Cancel, CancelError};
pub use claim::Claims;
pub use delete::{Delete, DeleteError};
pub use deliver::{Busy, Deliver, Delivered};
pub use drain::{DrainWaker, Drainers};
pub use estimate::Estimate;
pub use reconcile::{Reconcile, Repaired};
pub use replay::{Replay, ReplayError};
pub use submit::{Created, IdempotencyKey, NotExportable, Submit, SubmitError};
pub use sweep::{MOST as JOBS_A_TICK, Sweep, Swept};
pub use wakes::{Wakes, Woken};

use rotoless_contract::worker::Refusal;

use crate::lifecycle::Refused;
use crate::ports::{CommitError, StoreError};

/// How often a job that changed meanwhile is read and judged again.
const JUDGEMENTS: u32 = 8;

/// Why a worker's call changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Unknown job.
    #[error("unknown job")]
    UnknownJob,
    /// The claim token is not the run's.
    #[error("wrong claim token")]
    WrongToken,
    /// The state does not allow it.
    #[error("refused: {refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// When another try may succeed.
        retry_after_seconds: Option<u32>,
    },
    /// What no source or output can be.
    #[error("not plausible: {0}")]
    Implausible(&'static str),
    /// The balance does not cover the measured source; the job has failed.
    #[error("not enough credits")]
    InsufficientCredits,
    /// A dependency failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job kept changing under the call.
    #[error("too much contention")]
    Contention,
}

impl CallError {
    const fn refused(refusal: Refusal) -> Self {
        Self::Refused { refusal, retry_after_seconds: None }
    }

    /// A refusal of the life cycle in the words of the worker's protocol.
    fn from_lifecycle(refused: Refused, now: jiff::Timestamp) -> Self {
        match refused {
            Refused::Terminal | Refused::NothingToDo | Refused::Exhausted => Self::refused(Refusal::Terminal),
            Refused::Superseded | Refused::AlreadyStarted => Self::refused(Refusal::Superseded),
            Refused::StaleAttempt => Self::refused(Refusal::StaleAttempt),
            Refused::Leased { until } => {
                let seconds = until.duration_since(now).as_secs().clamp(0, 3600) + 1;
                Self::Refused { refusal: Refusal::Leased, retry_after_seconds: u32::try_from(seconds).ok() }
            }
        }
    }
}

/// What a commit that did not happen means to a loop that can judge again.
enum Missed {
    /// Read and judge again.
    Again,
    /// The balance does not cover it.
    Credits,
    /// Give up.
    Store(StoreError),
}

impl From<CommitError> for Missed {
    fn from(err: CommitError) -> Self {
        match err {
            // A ledger row without the job's new version cannot be: they are one transaction. So the row stands
            // for a commit that a fresh read will show.
            CommitError::Stale
            | CommitError::AlreadyInLedger
            | CommitError::KeyTaken
            // Only a start meets these, and judges them itself.
            | CommitError::TooManyOpen
            | CommitError::UploadGone => Self::Again,
            CommitError::InsufficientCredits => Self::Credits,
            CommitError::Store(err) => Self::Store(err),
        }
    }
}

//! Lists of jobs, and places in them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use rotoless_contract::job::JobStatus;
use rotoless_contract::{ClientId, JobId};

use crate::record::JobRecord;

/// Which of a client's jobs.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Whose.
    pub client: ClientId,
    /// Only in one of these states; all when empty.
    pub statuses: Vec<JobStatus>,
    /// At most this many.
    pub limit: u32,
    /// Skip this many.
    pub offset: u32,
    /// Go on after this place.
    pub cursor: Option<ListCursor>,
}

/// A place in a client's list of jobs: just after the job that was shown last. On the wire 48 hex digits,
/// opaque to clients. It names no client: used with another's list it is a place in time and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCursor {
    /// When the job shown last was created, in Unix milliseconds.
    pub created_ms: i64,
    /// The job shown last.
    pub job: JobId,
}

/// The text is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list")]
pub struct InvalidCursor;

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.job.as_str().strip_prefix("job_").unwrap_or_default();
        write!(f, "{:016x}{digits}", self.created_ms)
    }
}

impl FromStr for ListCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes: [u8; 24] = hex::decode(text).ok().and_then(|b| b.try_into().ok()).ok_or(InvalidCursor)?;
        let (mut time, mut id) = ([0; 8], [0; 16]);
        time.copy_from_slice(&bytes[..8]);
        id.copy_from_slice(&bytes[8..]);
        let created_ms = i64::from_be_bytes(time);
        // Only times that exist, so that whoever looks it up need not refuse it.
        Timestamp::from_millisecond(created_ms).map_err(|_| InvalidCursor)?;
        Ok(Self { created_ms, job: JobId::from_random(id) })
    }
}

/// Some of a client's jobs, newest first.
#[derive(Debug, Clone)]
pub struct JobPage {
    /// The jobs.
    pub items: Vec<JobRecord>,
    /// How many match in all.
    pub total: u64,
    /// Where to go on, if there are more.
    pub next_cursor: Option<ListCursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_wire_and_a_foreign_text_is_refused() {
        let cursor = ListCursor { created_ms: 1_795_000_000_123, job: JobId::from_random([7; 16]) };
        let text = cursor.to_string();
        assert_eq!(text.len(), 48);
        assert_eq!(text.parse(), Ok(cursor));
        let no_such_time = format!("{}{}", "7f".repeat(8), "07".repeat(16));
        for bad in ["", "a", "cursor", &text[..47], &format!("{text}00"), &"zz".repeat(24), &no_such_time] {
            assert_eq!(bad.parse::<ListCursor>(), Err(InvalidCursor), "{bad}");
        }
    }
}

//! The queue as those who wait in it see it: one look is shared by all who ask within a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rotoless_contract::JobId;
use rotoless_core::ports::Jobs;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(2);
/// How far one looks: whoever stands further back is told nothing yet.
const DEPTH: u32 = 1000;

/// The places of the jobs that wait first.
pub(crate) struct Line {
    jobs: Arc<dyn Jobs>,
    last: Mutex<Option<(Instant, HashMap<JobId, u32>)>>,
}

impl Line {
    pub(crate) fn new(jobs: Arc<dyn Jobs>) -> Self {
        Self { jobs, last: Mutex::new(None) }
    }

    /// Jobs before this one, where that is known.
    pub(crate) async fn position(&self, job: &JobId) -> Option<u32> {
        let mut last = self.last.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
            // A failure is remembered as an empty line: the answer does without, and nobody insists.
            let line = self.jobs.line(DEPTH).await.unwrap_or_default();
            *last = Some((Instant::now(), line.into_iter().zip(0..).collect()));
        }
        last.as_ref().and_then(|(_, places)| places.get(job).copied())
    }
}

//! What a running attempt and its heartbeat share: progress, the lease's end, the stop flag.
//!
//! Invariant: the first cause to stop wins and is never replaced, so what is done about an attempt does not
//! depend on which of several troubles was noticed last.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rotoless_contract::worker::Stage;
use rotoless_matting::Watch;
use tokio::sync::watch;

/// Why an attempt must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCause {
    /// The job has ended without us: cancelled, expired, completed.
    JobOver,
    /// A later attempt or run exists.
    Stale,
    /// The lease must have ended: it could not be renewed.
    LeaseLost,
    /// The message is somebody else's by now.
    ReceiptLost,
    /// The attempt ran past its deadline.
    Deadline,
    /// No new frame for too long.
    Stalled,
    /// This process was asked to end.
    Shutdown,
    /// This session was asked to end.
    Dismissed,
}

impl StopCause {
    /// For logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::JobOver => "job_over",
            Self::Stale => "stale",
            Self::LeaseLost => "lease_lost",
            Self::ReceiptLost => "receipt_lost",
            Self::Deadline => "deadline",
            Self::Stalled => "stalled",
            Self::Shutdown => "shutdown",
            Self::Dismissed => "dismissed",
        }
    }

    /// Whether somebody else decides the job's fate, so that this attempt has nothing to say any more.
    pub(crate) const fn is_quiet(self) -> bool {
        match self {
            Self::JobOver | Self::Stale | Self::LeaseLost | Self::ReceiptLost => true,
            Self::Deadline | Self::Stalled | Self::Shutdown | Self::Dismissed => false,
        }
    }
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    pub(crate) frames_done: u64,
    pub(crate) frames_total: u64,
    /// Frames that were done when the stage's first count came: those of an earlier attempt.
    frames_before: u64,
    /// When the stage began.
    pub(crate) stage_began: Instant,
    /// When the stage or the number of frames last changed, or the engine gave another sign of life.
    pub(crate) moved: Instant,
}

impl Progress {
    /// How long the remaining frames take at the pace of this stage; unknown before the first frame.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        let done = self.frames_done.saturating_sub(self.frames_before);
        let done = u32::try_from(done).ok().filter(|done| *done > 0)?;
        let left = self.frames_total.checked_sub(self.frames_done).filter(|_| self.frames_total > 0)?;
        let a_frame = now.saturating_duration_since(self.stage_began) / done;
        Some(a_frame.saturating_mul(u32::try_from(left).unwrap_or(u32::MAX)))
    }
}

/// Shared by the attempt, the engine (as its [`Watch`]) and the heartbeat.
#[derive(Debug)]
pub(crate) struct Live {
    stop: watch::Sender<Option<StopCause>>,
    lease_end: Mutex<Instant>,
    progress: Mutex<Progress>,
    segments: Mutex<Segments>,
}

/// The segments that an attempt stored.
#[derive(Debug, Clone, Copy, Default)]
struct Segments {
    stored: u32,
    /// When the last one was.
    last: Option<Instant>,
}

impl Live {
    /// An attempt whose lease ends at `lease_end` unless renewed.
    pub(crate) fn new(lease_end: Instant) -> Self {
        let now = Instant::now();
        let progress = Progress {
            stage: Stage::Download,
            frames_done: 0,
            frames_total: 0,
            frames_before: 0,
            stage_began: now,
            moved: now,
        };
        Self {
            stop: watch::Sender::new(None),
            lease_end: Mutex::new(lease_end),
            progress: Mutex::new(progress),
            segments: Mutex::default(),
        }
    }

    /// Asks the attempt to stop, unless it was asked before.
    pub(crate) fn stop(&self, cause: StopCause) {
        self.stop.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(cause);
            }
            first
        });
    }

    /// Why the attempt must stop, if it must. A lease that has run out counts although no timer saw it yet:
    /// the whole process may have been frozen.
    pub(crate) fn cause(&self) -> Option<StopCause> {
        if Instant::now() >= self.lease_end() {
            self.stop(StopCause::LeaseLost);
        }
        *self.stop.borrow()
    }

    /// Resolves once the attempt must stop.
    pub(crate) async fn stopped(&self) -> StopCause {
        let mut receiver = self.stop.subscribe();
        // The sender lives in `self`, so that the channel cannot close meanwhile.
        match receiver.wait_for(Option::is_some).await.map(|cause| *cause) {
            Ok(Some(cause)) => cause,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Runs `work` until it ends or the attempt must stop; work that must not be cut does not come here.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, StopCause> {
        if let Some(cause) = self.cause() {
            return Err(cause);
        }
        tokio::select! {
            biased;
            cause = self.stopped() => Err(cause),
            done = work => Ok(done),
        }
    }

    /// When the lease ends unless renewed.
    pub(crate) fn lease_end(&self) -> Instant {
        *lock(&self.lease_end)
    }

    /// The lease was renewed until `end`. It never becomes shorter: answers may overtake one another.
    pub(crate) fn renew(&self, end: Instant) {
        let mut current = lock(&self.lease_end);
        *current = end.max(*current);
    }

    /// A segment was stored: another attempt need not make it.
    pub(crate) fn segment_stored(&self) {
        let mut segments = lock(&self.segments);
        *segments = Segments { stored: segments.stored + 1, last: Some(Instant::now()) };
    }

    /// Segments that this attempt stored.
    pub(crate) fn segments_stored(&self) -> u32 {
        lock(&self.segments).stored
    }

    /// When the segment that is worked on will be stored, at the pace of those before; unknown before the first.
    pub(crate) fn next_segment_at(&self) -> Option<Instant> {
        let Segments { stored, last } = *lock(&self.segments);
        let last = last?;
        Some(last + last.saturating_duration_since(self.now_at().stage_began) / stored.max(1))
    }

    /// How far the attempt is.
    pub(crate) fn now_at(&self) -> Progress {
        *lock(&self.progress)
    }

    /// The attempt enters a stage that has no frames of its own.
    pub(crate) fn enter(&self, stage: Stage) {
        let Progress { frames_done, frames_total, .. } = self.now_at();
        self.progress(stage, frames_done, frames_total);
    }
}

impl Watch for Live {
    fn progress(&self, stage: Stage, frames_done: u64, frames_total: u64) {
        let now = Instant::now();
        let mut progress = lock(&self.progress);
        let entered = progress.stage != stage;
        let moved = entered || progress.frames_done != frames_done;
        let is_first_count = frames_total > 0 && (entered || progress.frames_total == 0);
        *progress = Progress {
            stage,
            frames_done,
            frames_total,
            frames_before: if is_first_count { frames_done } else { progress.frames_before },
            stage_began: if entered { now } else { progress.stage_began },
            moved: if moved { now } else { progress.moved },
        };
    }

    fn alive(&self) {
        lock(&self.progress).moved = Instant::now();
    }

    fn cancelled(&self) -> bool {
        self.cause().is_some()
    }
}

/// Every value behind these locks is whole after each statement: a panic elsewhere cannot leave it half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live::new(Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn the_first_cause_to_stop_wins() {
        let live = live();
        live.stop(StopCause::Stale);
        live.stop(StopCause::Shutdown);
        assert_eq!(live.cause(), Some(StopCause::Stale));
    }

    #[test]
    fn a_lease_that_ran_out_unseen_stops_the_attempt_at_its_next_step() {
        let live = Live::new(Instant::now());
        assert_eq!(live.cause(), Some(StopCause::LeaseLost));
        assert!(live.cancelled());
    }

    #[test]
    fn a_late_answer_cannot_shorten_the_lease() {
        let live = live();
        let end = live.lease_end();
        live.renew(end - Duration::from_secs(30));
        assert_eq!(live.lease_end(), end);
    }

    #[test]
    fn the_remaining_time_follows_the_pace_of_the_stage() {
        let live = live();
        live.progress(Stage::Matte, 0, 100);
        let began = live.now_at().stage_began;
        assert_eq!(live.now_at().remaining(began + Duration::from_secs(5)), None);
        live.progress(Stage::Matte, 50, 100);
        let remaining = live.now_at().remaining(began + Duration::from_secs(5)).unwrap();
        assert_eq!(remaining.as_secs(), 5);
    }

    #[test]
    fn what_an_earlier_attempt_did_is_no_pace_of_this_one() {
        let live = live();
        live.enter(Stage::Matte);
        live.progress(Stage::Matte, 900, 1000);
        let began = live.now_at().stage_began;
        assert_eq!(live.now_at().remaining(began + Duration::from_secs(5)), None);
        live.progress(Stage::Matte, 910, 1000);
        assert_eq!(live.now_at().remaining(began + Duration::from_secs(5)).unwrap().as_secs(), 45);
    }

    #[test]
    fn the_next_segment_is_expected_at_the_pace_of_those_before() {
        let live = live();
        live.enter(Stage::Matte);
        assert_eq!((live.segments_stored(), live.next_segment_at()), (0, None));
        std::thread::sleep(Duration::from_millis(40));
        live.segment_stored();
        let next = live.next_segment_at().unwrap().saturating_duration_since(Instant::now());
        assert!((Duration::from_millis(20)..Duration::from_secs(2)).contains(&next), "{next:?}");
    }

    #[tokio::test]
    async fn work_is_not_begun_once_the_attempt_must_stop() {
        let live = live();
        live.stop(StopCause::JobOver);
        let outcome = live.unless_stopped(async { panic!("must not run") }).await;
        assert_eq!(outcome, Err::<(), _>(StopCause::JobOver));
    }
}

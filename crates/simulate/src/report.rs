//! What a run came to.

use std::io;

use rotoless_core::lifecycle::Phase;
use serde::Serialize;

use crate::histogram::Histogram;
use crate::jobs::{JobNumber, OpenJob};
use crate::micros::Micros;
use crate::scenario::Scenario;
use crate::series::Row;
use crate::workers::{Paid, Workers};

/// Watches jobs end.
pub trait Observe {
    /// A job has ended.
    fn ended(&mut self, job: &Ended);
}

/// Nobody watches.
impl Observe for () {
    fn ended(&mut self, _: &Ended) {}
}

/// A job that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ended {
    /// In the order of arrival, from 0.
    pub job: u64,
    /// Seconds.
    pub created: f64,
    /// Seconds.
    pub video: f64,
    /// Seconds; `None`: no attempt came so far.
    pub first_frame: Option<f64>,
    /// Seconds.
    pub ended: f64,
    /// How many were made.
    pub attempts: u32,
    /// It has an output.
    pub completed: bool,
}

impl Ended {
    pub(crate) fn of(number: JobNumber, job: &OpenJob, now: Micros) -> Self {
        Self {
            job: number,
            created: job.created.as_seconds(),
            video: job.video.as_seconds(),
            first_frame: job.first_frame.map(Micros::as_seconds),
            ended: now.as_seconds(),
            attempts: job.state.attempts,
            completed: job.state.phase == Phase::Completed,
        }
    }
}

/// Counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) arrived: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) expired: u64,
    pub(crate) video: Micros,
    pub(crate) attempts: u64,
    pub(crate) messages: u64,
    pub(crate) resent: u64,
    pub(crate) wakes_posted: u64,
    pub(crate) wakes_by_look: u64,
    pub(crate) wakes_refused: u64,
    pub(crate) purges: u64,
    pub(crate) sessions: u64,
    pub(crate) empty_polls: u64,
    pub(crate) starts: u64,
    pub(crate) workers_died: u64,
    pub(crate) most_repaired: u64,
    pub(crate) looks_with_findings: u64,
    pub(crate) waits: Histogram,
    pub(crate) turnarounds: Histogram,
}

impl Tally {
    pub(crate) fn ended(&mut self, job: &OpenJob, now: Micros) {
        if job.state.phase == Phase::Completed {
            self.completed += 1;
            self.video += job.video;
            self.turnarounds.add(now.since(job.created));
        } else {
            self.failed += 1;
        }
    }
}

/// Times of many jobs, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half are shorter.
    pub p50: f64,
    /// Nine in ten are shorter.
    pub p90: f64,
    /// 99 in a hundred are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Self {
        let quantile = |share| histogram.quantile(share).as_seconds();
        Self {
            count: histogram.count(),
            mean: histogram.mean(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: histogram.greatest().as_seconds(),
        }
    }
}

/// Shares of the time that was paid for. What is missing to 1 was rounding, and workers on their way to a poll.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Attempts.
    pub working: f64,
    /// Starts.
    pub starting: f64,
    /// Polls, with a message at the end or without.
    pub polling: f64,
    /// Nothing.
    pub idle: f64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The draws' seed.
    pub seed: u64,
    /// Simulated seconds.
    pub seconds: f64,
    /// Things that happened.
    pub events: u64,
    /// Jobs that came.
    pub jobs: u64,
    /// Of them, those with an output.
    pub completed: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// Of the failed, those that reached their greatest age.
    pub expired: u64,
    /// Of them, those that were still open at the end.
    pub unserved: u64,
    /// From the commit of a job to its first frame.
    pub wait: Quantiles,
    /// From the commit of a job to its output.
    pub turnaround: Quantiles,
    /// Hours of completed video.
    pub video_hours: f64,
    /// Hours of workers that are paid for.
    pub gpu_hours: f64,
    /// What became of them.
    pub shares: Shares,
    /// Dollars.
    pub cost: f64,
    /// Dollars; `None` without a completed job.
    pub cost_per_job: Option<f64>,
    /// Dollars; `None` without a completed video.
    pub cost_per_video_hour: Option<f64>,
    /// Workers at once, starting ones included.
    pub workers_peak: u32,
    /// Dollars an hour, with as many workers.
    pub cost_per_hour_peak: f64,
    /// Workers that were started.
    pub starts: u64,
    /// Workers that died or were killed.
    pub workers_died: u64,
    /// Wakes that were posted, …
    pub wakes: u64,
    /// … of them by looks at what waits, …
    pub wakes_by_look: u64,
    /// … and of all of them those that were refused.
    pub wakes_refused: u64,
    /// Times that queued wakes were thrown away.
    pub purges: u64,
    /// Wakes that became sessions.
    pub sessions: u64,
    /// Sessions without a message.
    pub empty_polls: u64,
    /// Claims that were granted.
    pub attempts: u64,
    /// Messages that were sent.
    pub messages: u64,
    /// Of them by the sweep.
    pub resent: u64,
    /// Jobs that one tick of the sweep looked at, at most.
    pub most_repaired: u64,
    /// Looks that found something that people should know.
    pub looks_with_findings: u64,
    /// The course of the run.
    #[serde(skip)]
    pub rows: Vec<Row>,
}

impl Report {
    pub(crate) fn of(
        scenario: &Scenario,
        now: Micros,
        open: usize,
        tally: &Tally,
        workers: &Workers,
        rows: Vec<Row>,
    ) -> Self {
        let Paid { seconds, starting, polling, working } = workers.paid;
        let paid = seconds as f64;
        let share = |part: Micros| if seconds == 0 { 0. } else { part.as_seconds() / paid };
        let busy = Shares { working: share(working), starting: share(starting), polling: share(polling), idle: 0. };
        let rest = 1. - busy.working - busy.starting - busy.polling;
        let shares = Shares { idle: if seconds == 0 { 0. } else { rest.max(0.) }, ..busy };
        let cost = paid * scenario.per_second;
        let video_hours = tally.video.as_seconds() / 3600.;
        let per = |of: f64| (of > 0.).then(|| cost / of);
        Self {
            seed: scenario.seed,
            seconds: now.as_seconds(),
            events: tally.events,
            jobs: tally.arrived,
            completed: tally.completed,
            failed: tally.failed,
            expired: tally.expired,
            unserved: open as u64,
            wait: Quantiles::of(&tally.waits),
            turnaround: Quantiles::of(&tally.turnarounds),
            video_hours,
            gpu_hours: paid / 3600.,
            shares,
            cost,
            cost_per_job: per(tally.completed as f64),
            cost_per_video_hour: per(video_hours),
            workers_peak: workers.peak,
            cost_per_hour_peak: f64::from(workers.peak) * scenario.per_second * 3600.,
            starts: tally.starts,
            workers_died: tally.workers_died,
            wakes: tally.wakes_posted,
            wakes_by_look: tally.wakes_by_look,
            wakes_refused: tally.wakes_refused,
            purges: tally.purges,
            sessions: tally.sessions,
            empty_polls: tally.empty_polls,
            attempts: tally.attempts,
            messages: tally.messages,
            resent: tally.resent,
            most_repaired: tally.most_repaired,
            looks_with_findings: tally.looks_with_findings,
            rows,
        }
    }

    /// The course of the run as lines of numbers with commas, the names first.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn write_rows(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(
            out,
            "seconds,arrived,completed,failed,waiting,in_flight,wakes,workers,starting,idle,working,begun,wait_mean,wait_max"
        )?;
        for row in &self.rows {
            let Row { seconds, arrived, completed, failed, waiting, in_flight, wakes, .. } = row;
            let Row { workers, starting, idle, working, begun, wait_mean, wait_max, .. } = row;
            write!(out, "{seconds},{arrived},{completed},{failed},{waiting},{in_flight},{wakes},")?;
            writeln!(out, "{workers},{starting},{idle},{working},{begun},{wait_mean:.3},{wait_max:.3}")?;
        }
        Ok(())
    }
}

/// Writes a line for each job that ends.
pub struct JobLines<W: io::Write> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: io::Write> JobLines<W> {
    /// Begins with the names.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn new(mut out: W) -> io::Result<Self> {
        writeln!(out, "job,created,video,first_frame,ended,attempts,completed")?;
        Ok(Self { out, failed: None })
    }

    /// Makes sure that all lines were written.
    ///
    /// # Errors
    /// What `out` failed with first.
    pub fn finish(mut self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)?;
        self.out.flush()
    }
}

impl<W: io::Write> Observe for JobLines<W> {
    fn ended(&mut self, job: &Ended) {
        if self.failed.is_some() {
            return;
        }
        let Ended { job, created, video, first_frame, ended, attempts, completed } = *job;
        let first_frame = first_frame.map(|seconds| format!("{seconds:.3}")).unwrap_or_default();
        let line = writeln!(
            self.out,
            "{job},{created:.3},{video:.3},{first_frame},{ended:.3},{attempts},{}",
            u8::from(completed)
        );
        self.failed = line.err();
    }
}

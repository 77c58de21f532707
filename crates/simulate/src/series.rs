//! What the system looked like over time: a row a minute, or a longer step where a run is long.

use serde::Serialize;

use crate::micros::Micros;

/// Rows at most: two weeks of minutes.
const MAX_ROWS: u64 = 20_160;

/// One step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Row {
    /// When the step ends, in seconds.
    pub seconds: f64,
    /// Jobs that came in it.
    pub arrived: u64,
    /// Jobs that were completed in it.
    pub completed: u64,
    /// Jobs that failed in it.
    pub failed: u64,
    /// Messages that wait at its end.
    pub waiting: u32,
    /// Messages that workers have at its end.
    pub in_flight: u32,
    /// Wakes that wait at its end.
    pub wakes: u32,
    /// Workers at its end, whatever they do.
    pub workers: u32,
    /// Workers that start at its end.
    pub starting: u32,
    /// Workers that are idle at its end.
    pub idle: u32,
    /// Workers at work at its end.
    pub working: u32,
    /// Jobs whose first frame came in it.
    pub begun: u64,
    /// Their mean wait in seconds.
    pub wait_mean: f64,
    /// Their longest wait in seconds.
    pub wait_max: f64,
}

/// Rows, and the one that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) rows: Vec<Row>,
    pub(crate) open: Row,
    wait_sum: f64,
}

impl Series {
    /// The length of a step of a run.
    pub(crate) const fn step(horizon: Micros) -> Micros {
        let minutes = horizon.0.div_ceil(Micros::MINUTE.0);
        Micros(Micros::MINUTE.0 * minutes.div_ceil(MAX_ROWS))
    }

    pub(crate) fn began(&mut self, wait: Micros) {
        let wait = wait.as_seconds();
        self.open.begun += 1;
        self.wait_sum += wait;
        self.open.wait_max = self.open.wait_max.max(wait);
    }

    /// Ends the step: `levels` holds what is counted at its end.
    pub(crate) fn close(&mut self, now: Micros, levels: Row) {
        let Row { arrived, completed, failed, begun, wait_max, .. } = self.open;
        let wait_mean = if begun == 0 { 0. } else { self.wait_sum / begun as f64 };
        let seconds = now.as_seconds();
        self.rows.push(Row { seconds, arrived, completed, failed, begun, wait_mean, wait_max, ..levels });
        self.open = Row::default();
        self.wait_sum = 0.;
    }
}

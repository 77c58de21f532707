//! A model of the service under load: jobs come, messages wait, wakes make GPU workers start, and workers cost money.
//!
//! Owns: the event loop, the wake service and its workers, their faults and prices. Does not own the rules: a job's
//! life, the time of every repair and the number of wakes are decided by the same functions of `rotoless_core` that the
//! service runs.
//! Invariants: a run depends on its [`Scenario`] alone; everything that is drawn has a stream of its own, so that two
//! policies meet the same jobs; memory grows with what is open at once, not with what came.

mod arrivals;
mod draws;
mod histogram;
mod jobs;
mod micros;
mod plot;
mod prices;
mod report;
mod scaling;
mod scenario;
mod series;
mod serving;
mod starts;
mod submitting;
mod sweeping;
mod trace;
mod videos;
mod workers;
mod world;

pub use arrivals::{Arrivals, Shape, UnknownShape};
pub use micros::Micros;
pub use plot::{PlotError, plot};
pub use prices::{Gpu, PRICES_SOURCE, UnknownGpu};
pub use report::{Ended, JobLines, Observe, Quantiles, Report, Shares};
pub use scenario::{
    Control, Faults, Fleet, InvalidScenario, Keeping, Scaler, Scenario, Session, Throttle, UnknownScaler,
    UnknownSession, UnknownThrottle,
};
pub use series::Row;
pub use starts::{Start, Starts, UnknownStarts};
pub use trace::{FileError, TraceRow, read_lengths, read_trace};
pub use videos::{Lengths, UnknownLengths, Work};

/// Runs a scenario; `observer` hears of each job that ends.
///
/// # Errors
/// [`InvalidScenario`] when it cannot be run.
pub fn run(scenario: &Scenario, observer: &mut dyn Observe) -> Result<Report, InvalidScenario> {
    scenario.check()?;
    let mut world = world::World::new(scenario, observer);
    world.run();
    let rows = std::mem::take(&mut world.series.rows);
    Ok(Report::of(scenario, world.now, world.jobs.len(), &world.tally, &world.workers, rows))
}

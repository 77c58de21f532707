//! Everything that a run depends on. Two runs of the same scenario are the same, byte for byte.

use std::fmt;
use std::str::FromStr;

use rotoless_core::policy::Policy;
use rotoless_core::wake::WakePolicy;

use crate::arrivals::{Arrivals, Shape};
use crate::micros::Micros;
use crate::starts::Starts;
use crate::videos::{Lengths, Work};

/// Arrivals of a run at most: what a machine simulates in minutes.
const MAX_JOBS: f64 = 50e6;
/// Longer runs are a mistake of unit.
const MAX_DAYS: u64 = 400;
/// More workers than any balance allows.
const MAX_WORKERS: u32 = 10_000;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Of all that is drawn.
    pub seed: u64,
    /// Jobs come before this.
    pub horizon: Micros,
    /// What is still open so long after the last job may come counts as unserved.
    pub tail: Micros,
    /// When jobs come.
    pub arrivals: Arrivals,
    /// How long their videos are.
    pub lengths: Lengths,
    /// How long a worker is at work.
    pub work: Work,
    /// What goes wrong.
    pub faults: Faults,
    /// The control plane.
    pub control: Control,
    /// The wake service and its workers.
    pub fleet: Fleet,
    /// Dollars for a second of a worker.
    pub per_second: f64,
}

/// Probabilities of what goes wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// A wake vanishes.
    pub wake_lost: f64,
    /// A wake counts twice.
    pub wake_doubled: f64,
    /// A wake comes late, by `delay`.
    pub wake_delayed: f64,
    /// How late.
    pub delay: Micros,
    /// The service answers 429 or 500, and nobody tries again.
    pub wake_refused: f64,
    /// A producer dies between commit and message.
    pub message_lost: f64,
    /// A producer dies between message and wake.
    pub wake_omitted: f64,
    /// A worker dies in the middle of an attempt.
    pub worker_dies: f64,
    /// The service goes on counting a dead worker's session.
    pub phantom: f64,
}

/// The control plane's times. What it decides by is the core's.
#[derive(Debug, Clone)]
pub struct Control {
    /// Leases, deadlines, repeats.
    pub policy: Policy,
    /// What a look at the wake service leads to.
    pub wakes: WakePolicy,
    /// Without it only the wake of each submit makes workers come.
    pub reconciles: bool,
    /// Between two ticks of the sweep.
    pub tick: Micros,
    /// How old the queue's counts are when a tick reads them; below a tick.
    pub counts_lag: Micros,
    /// From the commit until the message can be received.
    pub send: Micros,
    /// From the message until the wake service has the wake.
    pub post: Micros,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            wakes: WakePolicy::default(),
            reconciles: true,
            tick: Micros::MINUTE,
            counts_lag: Micros::seconds(15),
            send: Micros(30_000),
            post: Micros(150_000),
        }
    }
}

/// When a service starts another worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaler {
    /// For each wake that has waited so long, less those that start already.
    QueueDelay(Micros),
    /// One for so many wakes, queued or in a session.
    RequestCount(u32),
}

/// A text names no scaler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("delay:SECONDS or count:N")]
pub struct UnknownScaler;

impl FromStr for Scaler {
    type Err = UnknownScaler;

    fn from_str(text: &str) -> Result<Self, UnknownScaler> {
        match text.split_once(':') {
            Some(("delay", seconds)) => match seconds.parse::<f64>() {
                Ok(seconds) if (0. ..=3600.).contains(&seconds) => Ok(Self::QueueDelay(Micros::from_seconds(seconds))),
                Ok(_) | Err(_) => Err(UnknownScaler),
            },
            Some(("count", count)) => match count.parse() {
                Ok(count) if count > 0 => Ok(Self::RequestCount(count)),
                Ok(_) | Err(_) => Err(UnknownScaler),
            },
            Some(_) | None => Err(UnknownScaler),
        }
    }
}

impl fmt::Display for Scaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueDelay(delay) => write!(f, "delay:{}", delay.as_seconds()),
            Self::RequestCount(count) => write!(f, "count:{count}"),
        }
    }
}

/// How much one session serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// One message at most.
    One,
    /// Until a poll finds nothing.
    Drain,
}

impl FromStr for Session {
    type Err = UnknownSession;

    fn from_str(text: &str) -> Result<Self, UnknownSession> {
        match text {
            "one" => Ok(Self::One),
            "drain" => Ok(Self::Drain),
            _ => Err(UnknownSession),
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::Drain => "drain",
        })
    }
}

/// A text names no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("one or drain")]
pub struct UnknownSession;

/// Whether the wake service remembers a wake that it cannot serve at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// RunPod: a wake waits in its queue.
    Queued,
    /// ECS: a submit's wake starts a task if none is awake, a tick's as many as there is room for; the rest is gone.
    Dropped,
}

/// Hosts that others use for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// From then on …
    pub from: Micros,
    /// … until then …
    pub until: Micros,
    /// … so many hosts are gone. Workers that run go on.
    pub hosts: u32,
}

/// A text names no throttling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("FROM-TO:HOSTS, in hours from the beginning")]
pub struct UnknownThrottle;

impl FromStr for Throttle {
    type Err = UnknownThrottle;

    fn from_str(text: &str) -> Result<Self, UnknownThrottle> {
        let parse = || {
            let (window, hosts) = text.split_once(':')?;
            let (from, until) = window.split_once('-')?;
            let hour = |text: &str| text.parse::<f64>().ok().filter(|hour| (0. ..1e5).contains(hour));
            let micros = |hour: f64| Micros::from_seconds(hour * 3600.);
            let (from, until) = (hour(from)?, hour(until)?);
            (from < until).then_some(Self { from: micros(from), until: micros(until), hosts: hosts.parse().ok()? })
        };
        parse().ok_or(UnknownThrottle)
    }
}

/// The wake service and its workers.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// What becomes of wakes that cannot be served at once.
    pub keeping: Keeping,
    /// When another worker is started.
    pub scaler: Scaler,
    /// Workers that never stop.
    pub min: u32,
    /// Workers at once.
    pub max: u32,
    /// Hosts that are ready beyond `max`, for when others use some.
    pub extra: u32,
    /// How long a start takes.
    pub starts: Starts,
    /// A worker without a session stops after this.
    pub idle: Micros,
    /// From a wake to its session on a worker that is there.
    pub pickup: Micros,
    /// How much a session serves.
    pub session: Session,
    /// A longer session is killed, and its worker with it.
    pub execution_timeout: Micros,
    /// Hosts are gone.
    pub throttles: Vec<Throttle>,
    /// RunPod allows two workers after three days without a request, and none after seven.
    pub forgets_idle: bool,
    /// Wakes that are accepted in ten seconds.
    pub wakes_in_ten_seconds: u32,
}

impl Fleet {
    /// RunPod, with the settings that docs/SCALE.md begins from.
    #[must_use]
    pub fn runpod() -> Self {
        Self {
            keeping: Keeping::Queued,
            scaler: Scaler::QueueDelay(Micros::seconds(4)),
            min: 0,
            max: 3,
            extra: 2,
            starts: Starts::published(),
            idle: Micros::seconds(5),
            pickup: Micros(300_000),
            session: Session::One,
            // A poll, the longest attempt, and a minute.
            execution_timeout: Micros::seconds(20 + 7200 + 60),
            throttles: Vec::new(),
            forgets_idle: true,
            wakes_in_ten_seconds: 1000,
        }
    }

    /// Tasks on a capacity provider of EC2 instances, which are given back about 15 minutes after they fell idle.
    #[must_use]
    pub fn ecs() -> Self {
        Self {
            keeping: Keeping::Dropped,
            scaler: Scaler::QueueDelay(Micros::ZERO),
            extra: 0,
            starts: Starts::ecs(),
            idle: Micros::seconds(15 * 60),
            // The container starts; the image is there.
            pickup: Micros::seconds(15),
            session: Session::Drain,
            forgets_idle: false,
            wakes_in_ten_seconds: 10_000,
            ..Self::runpod()
        }
    }
}

/// A scenario that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScenario {
    /// It is too long.
    #[error("between a minute and {MAX_DAYS} days can be simulated")]
    Length,
    /// Too many jobs, or no number of them.
    #[error("between none and {MAX_JOBS} jobs can be simulated in one run")]
    Jobs,
    /// Workers.
    #[error("between 1 and {MAX_WORKERS} workers, at least as many as never stop")]
    Workers,
    /// A probability.
    #[error("a probability is between 0 and 1")]
    Probability,
    /// What a worker takes.
    #[error("a worker's seconds and prices are numbers from 0 on, and an attempt takes some time")]
    Work,
    /// Times of the control plane.
    #[error("the counts of a tick are younger than the tick before")]
    Tick,
    /// There is nothing to draw from.
    #[error("the list of lengths is empty")]
    NoLengths,
}

impl Scenario {
    /// Whether it can be run.
    ///
    /// # Errors
    /// [`InvalidScenario`].
    pub fn check(&self) -> Result<(), InvalidScenario> {
        let Faults { wake_lost, wake_doubled, wake_delayed, wake_refused, wake_omitted, .. } = self.faults;
        let Faults { message_lost, worker_dies, phantom, .. } = self.faults;
        let of_wakes = [wake_lost, wake_doubled, wake_delayed, wake_refused, wake_omitted];
        let probabilities = of_wakes.into_iter().chain([message_lost, worker_dies, phantom]);
        let longest = Micros(Micros::DAY.0 * MAX_DAYS);
        let jobs = match &self.arrivals {
            Arrivals::Recorded(rows) => rows.len() as f64,
            Arrivals::Drawn { shape: Shape::Nothing, .. } => 0.,
            Arrivals::Drawn { jobs_per_day, .. } => jobs_per_day * self.horizon.as_seconds() / 86_400.,
        };
        let positive = |number: f64| number.is_finite() && number >= 0.;
        let Work { startup, ratio } = self.work;
        let has_lengths = !matches!(&self.lengths, Lengths::Recorded(lengths) if lengths.is_empty());
        let takes_time = startup + ratio > 0. && startup < 86_400. && ratio < 86_400.;
        let checks = [
            (self.horizon >= Micros::MINUTE && self.horizon <= longest, InvalidScenario::Length),
            (self.tail <= longest, InvalidScenario::Length),
            (positive(jobs) && jobs <= MAX_JOBS, InvalidScenario::Jobs),
            ((1..=MAX_WORKERS).contains(&self.fleet.max) && self.fleet.min <= self.fleet.max, InvalidScenario::Workers),
            ({ probabilities }.all(|probability| (0. ..=1.).contains(&probability)), InvalidScenario::Probability),
            (positive(startup) && positive(ratio) && takes_time && positive(self.per_second), InvalidScenario::Work),
            (self.control.counts_lag < self.control.tick, InvalidScenario::Tick),
            (has_lengths, InvalidScenario::NoLengths),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, error)| Err(error))
    }
}

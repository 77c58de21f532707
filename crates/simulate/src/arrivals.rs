//! When jobs come.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::draws::Draws;
use crate::micros::Micros;
use crate::trace::TraceRow;

/// Relative numbers of jobs in the hours of a day, from midnight: people at their desks. Made up, of the usual form.
const OFFICE: [f64; 24] =
    [1., 1., 1., 1., 1., 2., 4., 10., 40., 80., 100., 95., 60., 80., 100., 95., 80., 50., 20., 10., 6., 4., 2., 1.];
/// The same of people at home: an evening, and a night that is not empty. Made up as well.
const CONSUMER: [f64; 24] = [
    45., 30., 20., 14., 12., 12., 16., 22., 30., 38., 44., 50., 55., 55., 54., 55., 60., 70., 82., 94., 100., 98., 85.,
    65.,
];

/// The form of a day.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Nothing comes.
    Nothing,
    /// Independent arrivals, at a rate that each hour of the day has its weight in.
    Curve(Box<[f64; 24]>),
    /// So many at the same moment, at equal distances.
    Bursts {
        /// Jobs of one burst.
        size: u32,
    },
}

/// When jobs come.
#[derive(Debug, Clone)]
pub enum Arrivals {
    /// Drawn.
    Drawn {
        /// The form of each day.
        shape: Shape,
        /// The mean.
        jobs_per_day: f64,
    },
    /// As they were recorded, in the order of time.
    Recorded(Arc<[TraceRow]>),
}

/// A text names no form of a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("poisson, office, consumer, nothing, bursts:SIZE, or curve: and 24 weights with commas")]
pub struct UnknownShape;

impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(text: &str) -> Result<Self, UnknownShape> {
        match text.split_once(':') {
            None => match text {
                "poisson" => Ok(Self::Curve(Box::new([1.; 24]))),
                "office" => Ok(Self::Curve(Box::new(OFFICE))),
                "consumer" => Ok(Self::Curve(Box::new(CONSUMER))),
                "nothing" => Ok(Self::Nothing),
                _ => Err(UnknownShape),
            },
            Some(("bursts", size)) => match size.parse() {
                Ok(size) if size > 0 => Ok(Self::Bursts { size }),
                Ok(_) | Err(_) => Err(UnknownShape),
            },
            Some(("curve", weights)) => {
                let weights: Result<Vec<f64>, _> = weights.split(',').map(str::parse).collect();
                let weights: [f64; 24] = weights.map_err(|_| UnknownShape)?.try_into().map_err(|_| UnknownShape)?;
                let fine = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.);
                let any = weights.iter().any(|weight| *weight > 0.);
                if fine && any { Ok(Self::Curve(Box::new(weights))) } else { Err(UnknownShape) }
            }
            Some(_) => Err(UnknownShape),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded(rows) => write!(f, "{} recorded jobs", rows.len()),
            Self::Drawn { shape: Shape::Nothing, .. } => f.write_str("no jobs"),
            Self::Drawn { shape: Shape::Bursts { size }, jobs_per_day } => {
                write!(f, "{jobs_per_day} jobs a day in bursts of {size}")
            }
            Self::Drawn { shape: Shape::Curve(weights), jobs_per_day } => {
                let form = match **weights {
                    OFFICE => "in office hours",
                    CONSUMER => "most in the evening",
                    weights if weights.iter().all(|weight| *weight == weights[0]) => "at any time",
                    _ => "by a curve",
                };
                write!(f, "{jobs_per_day} jobs a day, {form}")
            }
        }
    }
}

/// Brings the moments of arrival one after the other.
pub(crate) struct Calendar {
    arrivals: Arrivals,
    draws: Draws,
    at: Micros,
    brought: u64,
}

/// A job that comes.
pub(crate) struct Coming {
    pub(crate) at: Micros,
    /// The length of its video, where it was recorded.
    pub(crate) video: Option<Micros>,
}

impl Calendar {
    pub(crate) const fn new(arrivals: Arrivals, draws: Draws) -> Self {
        Self { arrivals, draws, at: Micros::ZERO, brought: 0 }
    }

    /// The next one before `end`.
    pub(crate) fn next(&mut self, end: Micros) -> Option<Coming> {
        let number = self.brought;
        self.brought += 1;
        let coming = match &self.arrivals {
            Arrivals::Recorded(rows) => {
                let row = rows.get(usize::try_from(number).ok()?)?;
                Coming { at: row.at, video: row.video }
            }
            Arrivals::Drawn { shape: Shape::Nothing, .. } => return None,
            Arrivals::Drawn { shape: Shape::Bursts { size }, jobs_per_day } => {
                let between = 86_400. * f64::from(*size) / jobs_per_day;
                // The first one in the middle of its interval: so many a day also of one day.
                let burst = (number / u64::from(*size)) as f64 + 0.5;
                Coming { at: Micros::from_seconds(burst * between), video: None }
            }
            Arrivals::Drawn { shape: Shape::Curve(weights), jobs_per_day } => {
                let per_weight = jobs_per_day / weights.iter().sum::<f64>() / 3600.;
                self.at = along(weights, per_weight, self.at, self.draws.exponential(), end)?;
                Coming { at: self.at, video: None }
            }
        };
        (coming.at < end).then_some(coming)
    }
}

/// From `at` on until `expected` arrivals are to be expected: where that number is drawn from the exponential
/// distribution, the moments are those of a Poisson process of this rate (arrivals a second for each weight).
fn along(weights: &[f64; 24], per_weight: f64, mut at: Micros, mut expected: f64, end: Micros) -> Option<Micros> {
    while at < end {
        let hour = at.0 / Micros::HOUR.0;
        let rate = weights[usize::try_from(hour % 24).unwrap_or(0)] * per_weight;
        let next_hour = Micros((hour + 1) * Micros::HOUR.0);
        let left = next_hour.since(at).as_seconds();
        if expected <= rate * left {
            return Some(at + Micros::from_seconds(expected / rate));
        }
        expected -= rate * left;
        at = next_hour;
    }
    None
}

//! How long the videos are, and how long a worker is at work on them.

use std::str::FromStr;
use std::sync::Arc;

use crate::draws::Draws;
use crate::micros::Micros;

/// Lengths of videos, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum Lengths {
    /// All the same.
    Fixed(f64),
    /// Of this mean, without memory.
    Exponential {
        /// The mean.
        mean: f64,
    },
    /// Most short, a few long.
    Lognormal {
        /// Half of them are shorter.
        median: f64,
        /// Deviation of the logarithm.
        sigma: f64,
    },
    /// Drawn from recorded ones, each as likely as any other.
    Recorded(Arc<[f64]>),
}

/// A text names no lengths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fixed:SECONDS, exponential:MEAN or lognormal:MEDIAN:SIGMA")]
pub struct UnknownLengths;

impl FromStr for Lengths {
    type Err = UnknownLengths;

    fn from_str(text: &str) -> Result<Self, UnknownLengths> {
        let (name, numbers) = text.split_once(':').ok_or(UnknownLengths)?;
        let numbers: Result<Vec<f64>, _> = numbers.split(':').map(str::parse).collect();
        let numbers = numbers.map_err(|_| UnknownLengths)?;
        if !numbers.iter().all(|number| number.is_finite() && *number >= 0.) {
            return Err(UnknownLengths);
        }
        match (name, numbers[..].first_chunk(), numbers.get(1), numbers.len()) {
            ("fixed", Some([seconds]), None, 1) => Ok(Self::Fixed(*seconds)),
            ("exponential", Some([mean]), None, 1) => Ok(Self::Exponential { mean: *mean }),
            ("lognormal", Some([median]), Some(sigma), 2) => Ok(Self::Lognormal { median: *median, sigma: *sigma }),
            _ => Err(UnknownLengths),
        }
    }
}

impl Lengths {
    /// Seconds, before any limit of the service.
    pub(crate) fn draw(&self, draws: &mut Draws) -> f64 {
        match self {
            Self::Fixed(seconds) => *seconds,
            Self::Exponential { mean } => mean * draws.exponential(),
            Self::Lognormal { median, sigma } => median * (sigma * draws.normal()).exp(),
            Self::Recorded(lengths) => {
                let at = (draws.uniform() * lengths.len() as f64) as usize;
                lengths.get(at).copied().unwrap_or(0.)
            }
        }
    }
}

/// What a worker does with a video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Seconds from the claim to the first frame: download, probe.
    pub startup: f64,
    /// Seconds of work for a second of video: its frames a second over the worker's.
    pub ratio: f64,
}

impl Work {
    /// The whole of an attempt at so much video.
    pub(crate) fn of(self, video: Micros) -> Micros {
        Micros::from_seconds(self.startup + self.ratio * video.as_seconds())
    }

    /// How much video is done after this long.
    pub(crate) fn done_after(self, elapsed: Micros) -> Micros {
        let working = elapsed.as_seconds() - self.startup;
        if working <= 0. || self.ratio <= 0. { Micros::ZERO } else { Micros::from_seconds(working / self.ratio) }
    }
}

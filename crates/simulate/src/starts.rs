//! How long a worker takes from being asked for to its first poll.

use std::str::FromStr;

use crate::draws::Draws;
use crate::micros::Micros;

/// One way for a worker to start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Start {
    /// How often, beside the others' shares.
    pub share: f64,
    /// Median seconds that are not billed: the image is being fetched.
    pub free: f64,
    /// Median seconds that are billed: the process starts, the model is loaded.
    pub billed: f64,
    /// Deviation of the logarithm of both.
    pub sigma: f64,
}

/// All ways for a worker to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Starts(Vec<Start>);

/// A FlashBoot restore on the same host, somebody's measurement (mineru-runpod, 2026-05).
const RESTORE: f64 = 7.5;
/// A first pull of a 27 GB image, without the boot that follows (the same source: 456 s with it).
const PULL: f64 = 346.;

/// A text names no starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("published, whisper, mineru, ecs, fixed:SECONDS, or SHARE:FREE:BILLED:SIGMA in seconds, several with commas")]
pub struct UnknownStarts;

impl Starts {
    /// What is published, mixed by shares that are ours: most are restored, some boot with the image at hand ("40 s
    /// and more", Fooocus-API#5), few pull it first.
    #[must_use]
    pub fn published() -> Self {
        Self::of(&[(0.70, 0., RESTORE, 0.3), (0.28, 0., 40., 0.4), (0.02, PULL, 40., 0.4)])
    }

    /// RunPod's blog, Whisper: 563 ms to 42 s, nine in ten below 2 s.
    fn whisper() -> Self {
        Self::of(&[(0.9, 0., 1.0, 0.4), (0.1, 0., 12., 0.6)])
    }

    /// The 27 GB image of mineru-runpod, with the shares of `published`: a boot takes 110 s.
    fn mineru() -> Self {
        Self::of(&[(0.70, 0., RESTORE, 0.3), (0.28, 0., 110., 0.3), (0.02, PULL, 110., 0.3)])
    }

    /// An instance of a capacity provider from zero: launch, agent, image, task. Minutes, by AWS's documentation of its
    /// parts; nobody measured ours.
    #[must_use]
    pub fn ecs() -> Self {
        Self::of(&[(1., 60., 240., 0.2)])
    }

    fn of(starts: &[(f64, f64, f64, f64)]) -> Self {
        let start = |&(share, free, billed, sigma): &(f64, f64, f64, f64)| Start { share, free, billed, sigma };
        Self(starts.iter().map(start).collect())
    }

    /// How long nothing is billed, and then how long something is, until the worker can poll.
    pub(crate) fn draw(&self, draws: &mut Draws) -> (Micros, Micros) {
        let all: f64 = self.0.iter().map(|start| start.share).sum();
        let mut at = draws.uniform() * all;
        let spread = draws.normal();
        let mut chosen = None;
        for start in &self.0 {
            chosen = Some(start);
            at -= start.share;
            if at < 0. {
                break;
            }
        }
        chosen.map_or((Micros::ZERO, Micros::ZERO), |start| {
            let factor = (start.sigma * spread).exp();
            (Micros::from_seconds(start.free * factor), Micros::from_seconds(start.billed * factor))
        })
    }
}

impl FromStr for Starts {
    type Err = UnknownStarts;

    fn from_str(text: &str) -> Result<Self, UnknownStarts> {
        match text {
            "published" => return Ok(Self::published()),
            "whisper" => return Ok(Self::whisper()),
            "mineru" => return Ok(Self::mineru()),
            "ecs" => return Ok(Self::ecs()),
            _ => {}
        }
        let number = |text: &str| match text.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0. => Ok(number),
            Ok(_) | Err(_) => Err(UnknownStarts),
        };
        if let Some(seconds) = text.strip_prefix("fixed:") {
            return Ok(Self::of(&[(1., 0., number(seconds)?, 0.)]));
        }
        let mut starts = Vec::new();
        for start in text.split(',') {
            let numbers: Vec<f64> = start.split(':').map(number).collect::<Result<_, _>>()?;
            let [share, free, billed, sigma] = numbers[..] else { return Err(UnknownStarts) };
            starts.push((share, free, billed, sigma));
        }
        let all: f64 = starts.iter().map(|start| start.0).sum();
        if all > 0. { Ok(Self::of(&starts)) } else { Err(UnknownStarts) }
    }
}

//! Randomness: one seed, and a stream of its own for everything that is drawn, so that another policy meets the same
//! arrivals, videos and fates.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// When jobs come.
    Arrivals,
    /// How long their videos are.
    Videos,
    /// What befalls a job's attempts.
    Fates,
    /// What befalls wakes.
    Wakes,
    /// How long workers take to start.
    Starts,
}

/// A stream of draws.
#[derive(Debug, Clone)]
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64, source: Source) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match source {
            Source::Arrivals => 1,
            Source::Videos => 2,
            Source::Fates => 3,
            Source::Wakes => 4,
            Source::Starts => 5,
        });
        Self(rng)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Above 0 and below 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Of mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Of mean 0 and deviation 1; always two draws, so that the next ones do not shift (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Whether something of this probability happens.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }
}

/// The `n`th number of what was drawn once for a job: its attempts meet the same fate whenever they are made.
pub(crate) fn fate(drawn: u64, n: u64) -> f64 {
    // SplitMix64.
    let mut bits = drawn.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    unit(bits ^ (bits >> 31))
}

/// 53 bits, and a half so that it is never 0.
fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

//! Times counted in buckets, so that a million of them take as much memory as one. A quantile is off by at most 0.4 %.

use crate::micros::Micros;

/// Buckets to each doubling.
const SPLIT_BITS: u32 = 7;
const SPLIT: u64 = 1 << SPLIT_BITS;

/// Counted times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: u128,
    greatest: Micros,
}

impl Histogram {
    pub(crate) fn add(&mut self, time: Micros) {
        let bucket = bucket(time.0);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum += u128::from(time.0);
        self.greatest = self.greatest.max(time);
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) const fn greatest(&self) -> Micros {
        self.greatest
    }

    /// In seconds; 0 of nothing.
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 / 1e6 }
    }

    /// The time that this share of all do not exceed; 0 of nothing.
    pub(crate) fn quantile(&self, share: f64) -> Micros {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Micros(middle(bucket)).min(self.greatest);
            }
        }
        self.greatest
    }
}

/// Below `SPLIT` each number has its own bucket; above, each doubling has `SPLIT`.
fn bucket(value: u64) -> usize {
    let doubling = value.checked_ilog2().unwrap_or(0).saturating_sub(SPLIT_BITS);
    let within = value >> doubling;
    usize::try_from(u64::from(doubling) * SPLIT + within).unwrap_or(usize::MAX)
}

fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doubling = (bucket / SPLIT).saturating_sub(1);
    let within = bucket - doubling * SPLIT;
    (within << doubling) + ((1 << doubling) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_comes_back_within_a_hundredth(value in 0u64..1 << 50) {
            let back = middle(bucket(value));
            prop_assert!(back.abs_diff(value) * 200 <= value, "{value} as {back}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Micros::ZERO);
        for second in 1..=1000 {
            histogram.add(Micros::seconds(second));
        }
        for (share, second) in [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(share).as_seconds();
            assert!((found - second).abs() <= second * 0.005, "{share}: {found}");
        }
        assert!((histogram.mean() - 500.5).abs() < 1e-9);
    }
}

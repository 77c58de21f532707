//! The figures of `rotoless bench --api`: as tables for people, as JSON for others, and held against the aims.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::calls::RouteCalls;
use super::load::Load;
use super::overhead::Overhead;

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    /// How the program was built: `dev` or `release`.
    profile: &'static str,
    calls: Vec<RouteCalls>,
    overhead: Vec<Overhead>,
    load: Vec<Load>,
}

impl Summary {
    pub(super) fn new(calls: Vec<RouteCalls>, overhead: Vec<Overhead>, load: Vec<Load>) -> Self {
        Self { profile: if cfg!(debug_assertions) { "dev" } else { "release" }, calls, overhead, load }
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!("profile {}\n\n", self.profile);
        // Writing to a text cannot fail.
        let _ = self.write_calls(&mut text);
        let _ = self.write_overhead(&mut text);
        let _ = self.write_load(&mut text);
        text
    }

    fn write_calls(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{:<33} {:>5} {:>6} {:>7} {:>6} {:>6} {:>3} {:>3}",
            "calls of AWS", "reads", "writes", "refused", "RRU", "WRU", "S3", "SQS"
        )?;
        for row in &self.calls {
            let RouteCalls { route, reads, writes, refused, read_units, write_units, s3, sqs, .. } = row;
            let operations: Vec<String> = row.dynamodb.iter().map(|(name, count)| format!("{count} {name}")).collect();
            writeln!(
                text,
                "{route:<33} {reads:>5} {writes:>6} {refused:>7} {read_units:>6.1} {write_units:>6.1} {s3:>3} {sqs:>3}  {}",
                operations.join(", ")
            )?;
        }
        writeln!(text)
    }

    fn write_overhead(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{:<33} {:>9} {:>9} {:>6}", "one at a time, medians", "whole ms", "AWS ms", "ratio")?;
        for Overhead { route, whole_ms, calls_ms, ratio } in &self.overhead {
            writeln!(text, "{route:<33} {whole_ms:>9.2} {calls_ms:>9.2} {ratio:>6.2}")?;
        }
        writeln!(text)
    }

    fn write_load(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "{:<33} {:>8} {:>8} {:>8} {:>8} {:>6} {:>12}",
            "one core, 16 connections", "req/s", "p50 ms", "p99 ms", "CPU ms", "errors", "memory MiB"
        )?;
        for load in &self.load {
            let Load { route, per_second, p50_ms, p99_ms, cpu_ms, errors, .. } = load;
            let mib = |bytes: u64| bytes >> 20;
            let memory = format!("{} → {}", mib(load.memory_before), mib(load.memory_after));
            writeln!(
                text,
                "{route:<33} {per_second:>8.0} {p50_ms:>8.1} {p99_ms:>8.1} {cpu_ms:>8.2} {errors:>6} {memory:>12}"
            )?;
        }
        Ok(())
    }

    /// Fails where a request under load did: its figures then say nothing.
    pub(super) fn verdict(&self) -> Result<()> {
        let failed: Vec<&str> = self.load.iter().filter(|load| load.errors > 0).map(|load| load.route).collect();
        if failed.is_empty() { Ok(()) } else { bail!("requests failed under load: {}", failed.join(", ")) }
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    percentile(&values, 50.0)
}

/// The least of the sorted values that this share of them does not exceed; of none, 0.
pub(super) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    // Counts of values are far below 2^52, and the share is within 0..=100.
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(percentile(&[], 50.0), 0.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([1.0, 50.0, 99.0, 100.0].map(|p| percentile(&hundred, p)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
    }
}

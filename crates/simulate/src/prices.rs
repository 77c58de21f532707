//! What a second of a worker costs, in dollars.

use std::str::FromStr;

/// Where the prices are from, for whoever reads a result.
pub const PRICES_SOURCE: &str =
    "RunPod's documentation, flexible workers (2026-08-20); EC2 on demand, Linux, us-east-1 (2026-06)";

/// RunPod's flexible workers by GPU, and what the ECS home's instance costs. The lower price counts where a GPU is
/// in no group of its own.
const PRICES: [(&str, f64); 12] = [
    ("16gb", 0.000_16),
    ("l4", 0.000_19),
    ("a5000", 0.000_19),
    ("3090", 0.000_19),
    ("4090", 0.000_31),
    ("a6000", 0.000_34),
    ("l40s", 0.000_53),
    ("a100", 0.000_76),
    ("h100", 0.001_16),
    ("h200", 0.001_55),
    ("b200", 0.002_40),
    ("g5.xlarge", 1.006 / 3600.),
];

/// What runs the workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// As in the price list.
    pub name: &'static str,
    /// Dollars.
    pub per_second: f64,
}

/// Not in the price list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("one of {}", PRICES.map(|(name, _)| name).join(", "))]
pub struct UnknownGpu;

impl FromStr for Gpu {
    type Err = UnknownGpu;

    fn from_str(text: &str) -> Result<Self, UnknownGpu> {
        let (name, per_second) = PRICES.into_iter().find(|(name, _)| *name == text).ok_or(UnknownGpu)?;
        Ok(Self { name, per_second })
    }
}

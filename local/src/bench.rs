//! `rotoless bench`: the pipeline beside its floor.

use anyhow::Result;

use crate::cli::BenchArgs;

pub fn run(_args: &BenchArgs) -> Result<()> {
    anyhow::bail!("not wired yet")
}

//! `rotoless runpod`: the endpoint on RunPod as `infra/runpod-endpoint.json` wants it.
//!
//! Owns: the order of the calls and what is told. Does not own: what is wanted and whether it can be (`wanted`), what
//! differs and what to do about it (`plan`), the calls (`rotoless_aws::runpod`).
//! Invariants: what is changed was shown before; what was asked for is compared with what came back; no value of the
//! worker's environment and no key is ever told.

mod apply;
pub(crate) mod arguments;
mod differences;
mod found;
mod plan;
mod prices;
mod status;
#[cfg(test)]
mod tests;
mod wanted;
mod worker_env;

use std::io::Write;

use anyhow::Result;

use self::arguments::RunPodCommand;

pub(crate) async fn run(command: RunPodCommand) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let out: &mut dyn Write = &mut out;
    match command {
        RunPodCommand::Apply(args) => apply::run(&args, out).await,
        RunPodCommand::Status(args) => status::run(&args, out).await,
    }
}

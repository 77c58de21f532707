//! `rotoless bench`: the whole pipeline beside its floor, measured in the same run.

use std::io::Write;

use anyhow::{Context, Result};
use rotoless_contract::{Background, JobSpec, OutputFormat};
use rotoless_matting::bench::measure;

use crate::cli::BenchArgs;
use crate::models::models_dir;
use crate::remove::open_engine;

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let engine = open_engine(&models_dir(&args.models), args.threads)?;
    let spec = JobSpec {
        model: args.model,
        background: Background::Transparent,
        output_format: OutputFormat::Webm,
        text_prompt: None,
        composition: None,
    };
    let work = tempfile::tempdir()?;
    let report = measure(&engine, &args.clip, &spec, work.path())?;
    write!(std::io::stdout().lock(), "{}", report.table())?;
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

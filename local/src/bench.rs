//! `rotoless bench`: one job beside its floor; all figures of the pipeline, by `--all`; or the service, by `--api`.

mod calls;
mod client;
mod cores;
mod load;
mod media;
mod neighbour;
mod overhead;
mod quality;
mod service;
mod summary;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rotoless_contract::{Background, JobSpec, Model, OutputFormat};
use rotoless_matting::Techniques;
use rotoless_matting::bench::{ModelCost, Report, measure, models, models_table};
use serde::Serialize;

use self::client::Order;
use self::service::Service;
use self::summary::Summary;
use crate::cli::{BenchArgs, BenchWhat, PipelineBenchArgs};
use crate::models::models_dir;
use crate::remove::open_engine;

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match &args.what {
        Some(BenchWhat::Quality(args)) => quality::run(args),
        None => pipeline_or_api(&args.pipeline),
    }
}

fn pipeline_or_api(args: &PipelineBenchArgs) -> Result<()> {
    match args {
        PipelineBenchArgs { api: true, .. } => api(args),
        PipelineBenchArgs { all: true, .. } => media::run(args),
        PipelineBenchArgs { first_frame: true, .. } => media::first_frame(args),
        _ => pipeline(args),
    }
}

fn pipeline(args: &PipelineBenchArgs) -> Result<()> {
    let engine = open_engine(&models_dir(&args.models), args.threads, args.compute.into(), Techniques::ALL)?;
    let spec = order(args.model);
    let work = tempfile::tempdir()?;
    let report = measure(&engine, args.clip()?, &spec, work.path())?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report.table())?;
    let each = args.each_model || args.compute.device.is_gpu();
    let models = if each { models(&engine, args.clip()?, work.path())? } else { Vec::new() };
    if each {
        write!(out, "\n{}", models_table(engine.provider(), &models))?;
    }
    keep(args, &Figures { report, models })
}

/// The pipeline's figures as they are kept.
#[derive(Serialize)]
struct Figures {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<ModelCost>,
}

/// A transparent WebM.
fn order(model: Model) -> JobSpec {
    JobSpec {
        model,
        background: Background::Transparent,
        output_format: OutputFormat::Webm,
        text_prompt: None,
        composition: None,
    }
}

/// The service: its calls and its own cost in this process, then one in a process and on a core of its own.
fn api(args: &PipelineBenchArgs) -> Result<()> {
    let models = models_dir(&args.models);
    let clip = args.clip()?;
    let clip = std::fs::read(clip).with_context(|| format!("cannot read {}", clip.display()))?;
    let order = Order { clip: clip.into(), model: args.model };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (calls, overhead) = runtime.block_on(async {
        let service = Service::start(&models).await?;
        let calls = calls::measure(&service, &order).await?;
        let overhead = overhead::measure(&service, &order).await?;
        service.stop().await;
        anyhow::Ok((calls, overhead))
    })?;
    drop(runtime);
    let load = load::measure(&models, &order, Duration::from_secs(args.seconds))?;
    let report = Summary::new(calls, overhead, load);
    write!(std::io::stdout().lock(), "{}", report.table())?;
    keep(args, &report)?;
    report.verdict()
}

impl PipelineBenchArgs {
    fn clip(&self) -> Result<&Path> {
        self.clip.as_deref().context("which clip? --clip FILE")
    }
}

fn keep(args: &PipelineBenchArgs, report: &impl Serialize) -> Result<()> {
    let Some(path) = &args.json else { return Ok(()) };
    std::fs::write(path, serde_json::to_vec_pretty(report)?).with_context(|| format!("cannot write {}", path.display()))
}

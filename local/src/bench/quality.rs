//! `rotoless bench quality`: mattes beside the truth.

use std::io::Write;

use anyhow::{Context, Result, bail};
use rotoless_matting::bench_quality::{QualityOrder, QualityRow, clips, measure_quality};

use crate::cli::{ModelsDir, QualityBenchArgs};
use crate::models::models_dir;
use crate::remove::open_engine;

pub(crate) fn run(args: &QualityBenchArgs) -> Result<()> {
    if clips(&args.clips)?.is_empty() {
        bail!("{} holds no NAME.mp4 with NAME.alpha.mkv beside it", args.clips.display());
    }
    let engine = open_engine(
        &models_dir(&ModelsDir { models: args.models_dir.clone() }),
        args.threads,
        args.techniques.left()?,
    )?;
    for directory in args.sheets.iter().chain(&args.mattes) {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let work = tempfile::tempdir()?;
    let order = QualityOrder {
        clips: &args.clips,
        models: &args.roles,
        frames: args.frames.clone(),
        sheets: args.sheets.as_deref(),
        mattes: args.mattes.as_deref(),
        work_dir: work.path(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", QualityRow::heading())?;
    let mut told = Ok(());
    let rows = measure_quality(&engine, &order, |row| {
        if told.is_ok() {
            told = writeln!(out, "{}", row.line()).and_then(|()| out.flush());
        }
    })?;
    told?;
    let Some(path) = &args.json else { return Ok(()) };
    std::fs::write(path, serde_json::to_vec_pretty(&rows)?).with_context(|| format!("cannot write {}", path.display()))
}

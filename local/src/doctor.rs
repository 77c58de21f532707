//! `rotoless doctor`: what this machine lacks, and how to get it. Fails when something needed is missing.

use std::io::Write;

use anyhow::{Result, bail};
use rotoless_matting::registry::Registry;
use rotoless_matting::{Engine, EngineConfig, Isolation, Techniques, Tools, fetch};

use crate::cli::DoctorArgs;
use crate::models::models_dir;

/// Below this an upload and its output may not fit.
const LITTLE_DISK_BYTES: u64 = 2 << 30;

enum Finding {
    Fine(String),
    Optional(String),
    Missing(String),
}

pub(crate) fn run(args: &DoctorArgs) -> Result<()> {
    let models = models_dir(&args.models);
    let mut findings = Vec::new();
    let tools = check_tools(&mut findings);
    check_models(&models, &mut findings);
    if let Some(tools) = tools {
        findings.push(
            match Engine::open(EngineConfig { models_dir: models, tools, threads: 0, techniques: Techniques::ALL }) {
                Ok(engine) => Finding::Fine(format!("ONNX Runtime loads; models run on: {}", engine.provider())),
                Err(err) => Finding::Missing(format!("ONNX Runtime: {err}. Run `rotoless models fetch`")),
            },
        );
    }
    findings.push(match Isolation::of_this_machine() {
        Isolation::Network | Isolation::UserAndNetwork => Finding::Fine("ffmpeg runs without a network".to_owned()),
        Isolation::None => Finding::Optional(
            "this machine allows no network namespaces: ffmpeg is kept from the network by its own options alone"
                .to_owned(),
        ),
    });
    findings.push(check_disk(&args.data_dir.data_dir));

    let mut out = std::io::stdout().lock();
    let mut missing = 0;
    for finding in findings {
        match finding {
            Finding::Fine(text) => writeln!(out, "ok       {text}")?,
            Finding::Optional(text) => writeln!(out, "note     {text}")?,
            Finding::Missing(text) => {
                missing += 1;
                writeln!(out, "MISSING  {text}")?;
            }
        }
    }
    if missing > 0 { bail!("{missing} things are missing") } else { Ok(()) }
}

fn check_tools(findings: &mut Vec<Finding>) -> Option<Tools> {
    let tools = match Tools::find(std::env::var_os("PATH").as_deref()) {
        Ok(tools) => tools,
        Err(err) => {
            findings.push(Finding::Missing(format!("ffmpeg: {err}. Install your system's package `ffmpeg`")));
            return None;
        }
    };
    findings.push(match tools.missing_codecs() {
        Ok(codecs) if codecs.is_empty() => Finding::Fine(format!("ffmpeg: {}", tools.ffmpeg.display())),
        Ok(codecs) => Finding::Missing(format!("{} lacks {}", tools.ffmpeg.display(), codecs.join(", "))),
        Err(err) => Finding::Missing(format!("ffmpeg: {err}")),
    });
    Some(tools)
}

fn check_models(models: &std::path::Path, findings: &mut Vec<Finding>) {
    let registry = match Registry::load(models) {
        Ok(registry) => registry,
        Err(err) => {
            findings.push(Finding::Missing(format!("model registry: {err}")));
            return;
        }
    };
    for model in registry.models().iter().filter(|model| model.role.is_some()) {
        let role = model.role.map_or("-", |role| role.as_str());
        findings.push(match fetch::is_installed(&model.file, models) {
            Ok(true) => Finding::Fine(format!("model `{role}`: {} ({})", model.name, model.licence)),
            Ok(false) => {
                Finding::Optional(format!("model `{role}` is not installed: run `rotoless models fetch {role}`"))
            }
            Err(err) => Finding::Missing(format!("model `{role}`: {err}")),
        });
    }
}

fn check_disk(data_dir: &std::path::Path) -> Finding {
    let existing = data_dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(std::path::Path::new("."));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(disk) => {
            let free = disk.blocks_available() * disk.fragment_size();
            let text = format!("{:.1} GB free for {}", free as f64 / 1e9, data_dir.display());
            if free < LITTLE_DISK_BYTES { Finding::Optional(text) } else { Finding::Fine(text) }
        }
        Err(err) => Finding::Missing(format!("{}: {err}", existing.display())),
    }
}

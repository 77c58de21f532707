//! `rotoless doctor`: what this machine lacks, and how to get it; with `--remote`, what a deployment lacks. Fails when
//! something needed is missing.

mod door;
mod remote;

use std::io::Write;

use anyhow::{Result, bail};
use rotoless_matting::registry::Registry;
use rotoless_matting::{Device, Engine, EngineConfig, Isolation, Techniques, Tools, fetch};

use crate::cli::DoctorArgs;
use crate::models::models_dir;

/// Below this an upload and its output may not fit.
const LITTLE_DISK_BYTES: u64 = 2 << 30;

enum Finding {
    Fine(String),
    Optional(String),
    Missing(String),
}

pub(crate) async fn remote(args: &DoctorArgs, url: &url::Url) -> Result<()> {
    let (api_key, admin_token) = (args.api_key.as_deref(), args.admin_token.as_deref());
    remote::run(url, remote::Secrets { api_key, admin_token }).await
}

pub(crate) fn run(args: &DoctorArgs) -> Result<()> {
    let models = models_dir(&args.models);
    let mut findings = Vec::new();
    let tools = check_tools(&mut findings);
    check_models(&models, &mut findings);
    findings.push(check_gpu(&models));
    if let Some(tools) = tools {
        let (compute, techniques) = (args.compute.into(), Techniques::ALL);
        findings.push(
            match Engine::open(EngineConfig { models_dir: models, tools, threads: 0, compute, techniques }) {
                Ok(engine) => Finding::Fine(format!("ONNX Runtime loads; models run on: {}", engine.provider())),
                Err(err) => Finding::Missing(format!("ONNX Runtime: {:#}", anyhow::Error::from(err))),
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

/// What is there of a GPU; whether it works, only `--device` tries.
fn check_gpu(models: &std::path::Path) -> Finding {
    let built = [Device::Cuda(0), Device::TensorRt(0)].map(|device| {
        let is_built = device.missing_feature().is_none();
        format!("{} {}", device.provider(), if is_built { "built in" } else { "not built in" })
    });
    let is_driver_loaded = std::path::Path::new("/proc/driver/nvidia/version").exists();
    let entry = Registry::load(models).ok().and_then(|registry| registry.gpu_runtime().cloned());
    let is_runtime_there = entry.is_some_and(|entry| entry.files().all(|file| file.path(models).is_file()));
    let text = format!(
        "GPU: {}; ONNX Runtime for it {}; NVIDIA's driver {} (docs/GPU.md; `--device cuda` tries it)",
        built.join(", "),
        if is_runtime_there { "installed" } else { "not installed: `rotoless models fetch gpu`" },
        if is_driver_loaded { "loaded" } else { "not loaded" },
    );
    Finding::Optional(text)
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

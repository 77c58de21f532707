//! `rotoless models`: what the registry knows, what is installed, fetching and checking.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rotoless_contract::Model;
use rotoless_core::policy::Prompts;
use rotoless_matting::fetch::{self, Clients, FetchEvent, FileState, GPU_RUNTIME, RUNTIME, Selection};
use rotoless_matting::registry::{Finder, Grounding, Registry, Work};

use crate::cli::{ModelsCommand, ModelsDir};

/// The models directory: as given, else `./models` where there is one, else the user's data directory.
pub(crate) fn models_dir(given: &ModelsDir) -> PathBuf {
    if let Some(dir) = &given.models {
        return dir.clone();
    }
    let here = Path::new("models");
    let home = crate::environment("HOME").map(|home| Path::new(&home).join(".local/share"));
    let data = crate::environment("XDG_DATA_HOME").map(PathBuf::from).or(home);
    match data {
        Some(data) if !here.is_dir() => data.join("rotoless/models"),
        Some(_) | None => here.to_owned(),
    }
}

/// What the model that fills the role `pro` understands.
pub(crate) fn prompts(models: &Path) -> Result<Prompts> {
    let registry = Registry::load(models)?;
    let work = registry.for_role(Model::Pro).map(|entry| &entry.work);
    Ok(match work {
        Some(Work::Ground(Grounding { finder: Finder::Detector { vocabulary, .. }, .. })) => {
            Prompts::Closed(vocabulary.clone())
        }
        Some(Work::Ground(Grounding { finder: Finder::HeatMap { .. }, .. })) => Prompts::Open,
        Some(Work::Matte(_)) | None => Prompts::default(),
    })
}

pub(crate) fn run(command: ModelsCommand) -> Result<()> {
    match command {
        ModelsCommand::List { models } => list(&models_dir(&models)),
        ModelsCommand::Fetch { names, models, quiet } => fetch(&models_dir(&models), names, quiet),
        ModelsCommand::Verify { models } => verify(&models_dir(&models)),
    }
}

fn list(dir: &Path) -> Result<()> {
    let registry = Registry::load(dir)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "models directory: {}", dir.display())?;
    writeln!(out, "{:<12} {:<10} {:<10} {:<14} {:<10} file", "name", "role", "family", "licence", "installed")?;
    for model in registry.models() {
        let role = model.role.map_or("-", |role| role.as_str());
        let installed = if fetch::is_installed(&model.file, dir)? { "yes" } else { "no" };
        let (name, family, licence, file) = (&model.name, model.family(), &model.licence, &model.file.name);
        writeln!(out, "{name:<12} {role:<10} {:<10} {licence:<14} {installed:<10} {file}", family.as_str())?;
    }
    Ok(())
}

fn fetch(dir: &Path, mut names: Vec<String>, quiet: bool) -> Result<()> {
    let registry = Registry::load(dir)?;
    if !names.is_empty() && !names.iter().any(|name| [RUNTIME, GPU_RUNTIME].contains(&name.as_str())) {
        // A model without the runtime runs nowhere.
        names.insert(0, RUNTIME.to_owned());
    }
    let selection = if names.is_empty() { Selection::DefaultSet } else { Selection::Named(&names) };
    fetch::fetch(&registry, selection, dir, &Clients::default(), &mut |event| say(event, quiet))?;
    Ok(())
}

/// Progress goes to standard error: standard output is for results.
fn say(event: FetchEvent<'_>, quiet: bool) {
    let mut err = std::io::stderr().lock();
    let _ = match event {
        FetchEvent::Present { name } if !quiet => writeln!(err, "{name}: installed"),
        FetchEvent::Present { .. } | FetchEvent::Downloaded { .. } => Ok(()),
        FetchEvent::Terms { name, licence, notice: Some(notice) } => {
            writeln!(err, "{name}: licence {licence}. {notice}")
        }
        FetchEvent::Terms { name, licence, notice: None } => writeln!(err, "{name}: licence {licence}"),
        FetchEvent::Downloading { package } => writeln!(err, "fetching {package}"),
        FetchEvent::Installed { name, path, bytes } => {
            writeln!(err, "{name}: {} ({:.1} MB)", path.display(), bytes as f64 / 1e6)
        }
    };
}

fn verify(dir: &Path) -> Result<()> {
    let registry = Registry::load(dir)?;
    let mut wrong = 0;
    let mut out = std::io::stdout().lock();
    let mut files = fetch::verify(&registry, Selection::All, dir).context("cannot verify")?;
    if registry.gpu_runtime().is_some_and(|entry| entry.files().any(|file| file.path(dir).exists())) {
        files.extend(fetch::verify(&registry, Selection::Named(&[GPU_RUNTIME.to_owned()]), dir)?);
    }
    for file in files {
        match file.state {
            FileState::Right => writeln!(out, "{:<12} right", file.name)?,
            FileState::Missing => writeln!(out, "{:<12} not installed", file.name)?,
            FileState::Wrong { found } => {
                wrong += 1;
                writeln!(out, "{:<12} WRONG: {} has SHA-256 {found}", file.name, file.path.display())?;
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} installed files are not what the registry says: delete them and fetch again");
    }
    Ok(())
}

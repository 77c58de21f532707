//! Which entries of the registry are meant.

use super::{FetchError, FetchEvent};
use crate::registry::{InstalledFile, ModelEntry, Registry, RuntimeBuild, RuntimeEntry, RuntimePart, Source};

/// The name by which ONNX Runtime is asked for.
pub const RUNTIME: &str = "runtime";
/// The name by which ONNX Runtime for GPUs is asked for, with its providers.
pub const GPU_RUNTIME: &str = "gpu";

/// What is fetched or verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection<'a> {
    /// The runtime and the models of the default set.
    DefaultSet,
    /// The runtime and every model.
    All,
    /// Models by name or by role, `runtime`, and `gpu`, which is in no other selection.
    Named(&'a [String]),
}

/// One file of the registry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    Runtime(&'a RuntimeEntry),
    RuntimePart(&'a RuntimeEntry, &'a RuntimePart),
    Model(&'a ModelEntry),
}

impl<'a> Target<'a> {
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Runtime(RuntimeEntry { build: RuntimeBuild::Cpu, .. }) => RUNTIME,
            Self::Runtime(RuntimeEntry { build: RuntimeBuild::Gpu, .. }) => GPU_RUNTIME,
            Self::RuntimePart(_, part) => &part.file.name,
            Self::Model(entry) => &entry.name,
        }
    }

    pub(super) fn file(self) -> &'a InstalledFile {
        match self {
            Self::Runtime(entry) => &entry.file,
            Self::RuntimePart(_, part) => &part.file,
            Self::Model(entry) => &entry.file,
        }
    }

    pub(super) fn source(self) -> Option<&'a Source> {
        match self {
            Self::Runtime(entry) => entry.source.as_ref(),
            Self::RuntimePart(_, part) => part.source.as_ref(),
            Self::Model(entry) => entry.source.as_ref(),
        }
    }

    pub(super) fn terms(self) -> FetchEvent<'a> {
        match self {
            Self::Runtime(entry) | Self::RuntimePart(entry, _) => {
                FetchEvent::Terms { name: self.name(), licence: &entry.licence, notice: None }
            }
            Self::Model(ModelEntry { name, licence, notice, .. }) => {
                FetchEvent::Terms { name, licence, notice: notice.as_deref() }
            }
        }
    }
}

pub(super) fn targets<'a>(registry: &'a Registry, selection: Selection<'_>) -> Result<Vec<Target<'a>>, FetchError> {
    let runtime = || registry.runtime().map(Target::Runtime).ok_or(FetchError::NoRuntime);
    let models = |wanted: fn(&&ModelEntry) -> bool| registry.models().iter().filter(wanted).map(Target::Model);
    match selection {
        Selection::DefaultSet => Ok(std::iter::once(runtime()?).chain(models(|entry| entry.in_default_set)).collect()),
        Selection::All => Ok(std::iter::once(runtime()?).chain(models(|_| true)).collect()),
        Selection::Named(names) => {
            let mut targets: Vec<Target<'a>> = Vec::new();
            for name in names {
                let named = match name.as_str() {
                    RUNTIME => vec![runtime()?],
                    GPU_RUNTIME => gpu_runtime(registry)?,
                    // With the models that it works with: by itself it does nothing.
                    _ => registry.with_partners(named(registry, name)?).map(Target::Model).collect(),
                };
                for target in named {
                    if !targets.iter().any(|other| other.name() == target.name()) {
                        targets.push(target);
                    }
                }
            }
            Ok(targets)
        }
    }
}

fn gpu_runtime(registry: &Registry) -> Result<Vec<Target<'_>>, FetchError> {
    let entry = registry.gpu_runtime().ok_or(FetchError::NoRuntime)?;
    let parts = entry.parts.iter().map(|part| Target::RuntimePart(entry, part));
    Ok(std::iter::once(Target::Runtime(entry)).chain(parts).collect())
}

fn named<'a>(registry: &'a Registry, name: &str) -> Result<&'a ModelEntry, FetchError> {
    let by_role = || name.parse().ok().and_then(|role| registry.for_role(role));
    registry.by_name(name).or_else(by_role).ok_or_else(|| {
        let names = registry.models().iter().map(|entry| entry.name.clone());
        let roles = registry.models().iter().filter_map(|entry| entry.role).map(|role| role.to_string());
        FetchError::UnknownName {
            name: name.to_owned(),
            known: names.chain(roles).chain([RUNTIME.into(), GPU_RUNTIME.into()]).collect(),
        }
    })
}

//! The model registry: the only place that knows a model.
//!
//! Owns: the entries built into the program (`registry.toml`), an operator's own `registry.toml`, their validation.
//! Does not own: the files (`fetch`), running them (the session).
//! Invariants: a `Registry` that exists is valid; names are unique; at most one entry fills a role; every file name is
//! a plain name, so a path never leaves the models directory.
//!
//! The engine needs nothing else to run a model: what to feed ([`InputSpec`]), what to read ([`OutputSpec`]) and what
//! to carry from frame to frame ([`StateSpec`]).

mod digest;
mod findings;
mod grounding;
mod raw;
mod raw_source;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use rotoless_contract::Model;

pub use self::digest::{NotASha256, Sha256};
pub use self::grounding::{DetectorHead, Finder, Grounding, Words};
pub use self::source::{Content, Package, PackageIndex, Source, WheelTags};

/// The name of an operator's registry in the models directory.
pub const REGISTRY_FILE: &str = "registry.toml";

/// A registry is a page or two of text; whatever is larger is not one.
const MAX_REGISTRY_BYTES: u64 = 1 << 20;

const BUILTIN: &str = include_str!("../registry.toml");

/// Models and the runtime they need.
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    models: Vec<ModelEntry>,
    runtimes: Vec<RuntimeEntry>,
}

/// One model: where its weights come from and how they are run.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelEntry {
    /// Unique, lower case; what an operator types.
    pub name: String,
    /// The role that this model fills; without one it is only used by name.
    pub role: Option<Model>,
    /// Whether it belongs to the set that is fetched when nothing is named.
    pub in_default_set: bool,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// What is said when the weights are fetched.
    pub notice: Option<String>,
    /// The file in the models directory.
    pub file: InstalledFile,
    /// Where the file comes from; without one the operator puts it there.
    pub source: Option<Source>,
    /// Name of an entry with the same weights in the graph as it was published, for comparisons.
    pub published: Option<String>,
    /// What the model is fed.
    pub input: InputSpec,
    /// What it makes of it.
    pub work: Work,
}

/// What a model makes of a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A matte.
    Matte(MatteSpec),
    /// Where the subjects are that a text asks for.
    Ground(Grounding),
}

/// How a model makes a matte.
#[derive(Debug, Clone, PartialEq)]
pub struct MatteSpec {
    /// What the model answers.
    pub output: OutputSpec,
    /// Tensors carried from frame to frame, in feeding order; none for the family still.
    pub states: Vec<StateSpec>,
    /// Name of a `[1]` f32 input that takes the factor by which the model shrinks its picture (0 < factor ≤ 1), for
    /// models that are fed the full picture and refine the matte themselves.
    pub downsample_ratio: Option<String>,
    /// It is run on every so-manyth frame; the mattes between are carried by motion. 1 for the family recurrent.
    pub every: u32,
    /// Regions of its subject that a still model is shown, at most: beside each whole frame, or by turns with it.
    pub closer_looks: u32,
}

/// How a model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// One frame in, one matte out.
    Still,
    /// State is carried from frame to frame, reset at a cut, never shared between jobs.
    Recurrent,
    /// A text chooses the subject.
    Grounded,
}

impl Family {
    /// Every family.
    pub const ALL: &'static [Self] = &[Self::Still, Self::Recurrent, Self::Grounded];

    /// The word used in a registry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::Recurrent => "recurrent",
            Self::Grounded => "grounded",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file in the models directory and what it must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledFile {
    /// A plain file name.
    pub name: String,
    /// Digest of the whole file.
    pub sha256: Sha256,
}

impl InstalledFile {
    /// Where it lies.
    #[must_use]
    pub fn path(&self, models_dir: &Path) -> PathBuf {
        models_dir.join(&self.name)
    }
}

/// The image input of a model, batch 1, f32: `(value · scale − mean[c]) / std[c]` of 8-bit values.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Name of the tensor.
    pub name: String,
    /// The sizes it takes.
    pub size: InputSize,
    /// Order of the axes.
    pub layout: Layout,
    /// Order of the channels.
    pub channels: ChannelOrder,
    /// Factor from 8-bit values, as a rule 1/255.
    pub scale: f32,
    /// Subtracted after scaling, per channel in the order of `channels`.
    pub mean: [f32; 3],
    /// Divided by after the subtraction, never zero.
    pub std: [f32; 3],
}

/// The picture sizes that a model takes, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputSize {
    /// Exactly this.
    Fixed {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// How the picture comes to it.
        fit: PictureFit,
    },
    /// Any size whose sides are multiples of `multiple_of`, the picture's own aspect.
    Free {
        /// At least 1.
        multiple_of: u32,
        /// The longer side that serves best when the subject is a whole figure or smaller.
        long_side: u32,
        /// The longer side that serves best when the subject fills the picture.
        close_up_long_side: u32,
    },
}

/// How a picture comes to a model's fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PictureFit {
    /// Each side by its own factor.
    Stretch,
    /// Both sides by one factor, in the middle of black.
    Contain,
}

/// Order of a tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[1, channels, height, width]`
    Nchw,
    /// `[1, height, width, channels]`
    Nhwc,
}

/// Order of the colour channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// The outputs that the engine reads; others are never asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSpec {
    /// Name of the tensor with the matte: one channel, the size of the input.
    pub matte: String,
    /// What makes 0..1 of it.
    pub activation: Activation,
    /// Name of a tensor with the foreground's colour, 3 channels in 0..1, the input's layout and channel order.
    pub foreground: Option<String>,
}

/// What makes a matte in 0..1 of a model's numbers. Clamping comes after it in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// They are a matte already.
    None,
    /// They are logits.
    Sigmoid,
}

/// One tensor carried from frame to frame: zeros of `initial` at first, then what `output` was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// Name of the input.
    pub input: String,
    /// Name of the output fed back into it.
    pub output: String,
    /// Shape of the first, all zero, value.
    pub initial: Vec<usize>,
}

/// Which build of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuntimeBuild {
    /// Models run on the processor.
    Cpu,
    /// They may also run on NVIDIA's GPUs.
    Gpu,
}

/// ONNX Runtime's library for one kind of machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeEntry {
    /// What it can use.
    pub build: RuntimeBuild,
    /// As in `std::env::consts::OS`.
    pub os: String,
    /// As in `std::env::consts::ARCH`.
    pub arch: String,
    /// Release of ONNX Runtime.
    pub version: String,
    /// SPDX expression.
    pub licence: String,
    /// The library in the models directory.
    pub file: InstalledFile,
    /// Where the library comes from; without one the operator puts it there.
    pub source: Option<Source>,
    /// Libraries that it loads itself, from its own directory.
    pub parts: Vec<RuntimePart>,
}

/// A library that belongs to a [`RuntimeEntry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePart {
    /// In the models directory, under the name by which it is looked for.
    pub file: InstalledFile,
    /// Where it comes from: the same package.
    pub source: Option<Source>,
}

/// A registry that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file is there but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The registry.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML of a registry's outline.
    #[error("{origin} is not a registry")]
    Syntax {
        /// The registry: a path, or the built-in one.
        origin: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Entries are wrong; every problem found is listed.
    #[error("{origin}: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// The registry: a path, or the built-in one.
        origin: String,
        /// All of them.
        problems: Vec<Problem>,
    },
}

/// One thing wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `model NAME`, `model #N` when it has no name, or `runtime OS/ARCH`.
    pub entry: String,
    /// Dotted name of the field; empty when the entry as a whole is wrong.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{}: {}", self.entry, self.what)
        } else {
            write!(f, "{}: {}: {}", self.entry, self.field, self.what)
        }
    }
}

impl Registry {
    /// The registry that is part of the program.
    ///
    /// # Errors
    /// None in a released program: a test reads it. It is a `Result` so that no code path panics.
    pub fn builtin() -> Result<Self, RegistryError> {
        Self::parse("the built-in registry", BUILTIN)?.complete("the built-in registry".to_owned())
    }

    /// The built-in registry and, over it, `registry.toml` of the models directory when there is one.
    ///
    /// # Errors
    /// The operator's file cannot be read or is wrong.
    pub fn load(models_dir: &Path) -> Result<Self, RegistryError> {
        let path = models_dir.join(REGISTRY_FILE);
        match Self::load_file(&path) {
            Err(RegistryError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Self::builtin(),
            other => other,
        }
    }

    /// The built-in registry and, over it, the named file, which must exist.
    ///
    /// # Errors
    /// The file cannot be read or is wrong.
    pub fn load_file(path: &Path) -> Result<Self, RegistryError> {
        let failed = |source| RegistryError::Read { path: path.to_owned(), source };
        let text = read_capped(path).map_err(failed)?;
        let origin = path.display().to_string();
        Self::builtin()?.overridden_by(Self::parse(&origin, &text)?).complete(origin)
    }

    /// Checks what entries say about one another.
    fn complete(self, origin: String) -> Result<Self, RegistryError> {
        let mut problems = raw::clashes(&self.models, &self.runtimes);
        problems.extend(grounding::dangling(&self.models));
        problems.extend(findings::unpublished(&self.models));
        if problems.is_empty() { Ok(self) } else { Err(RegistryError::Invalid { origin, problems }) }
    }

    /// A registry from its text alone; `origin` is what errors call it. Entries may name models of other registries.
    ///
    /// # Errors
    /// The text is not TOML, or entries are wrong.
    pub fn parse(origin: &str, text: &str) -> Result<Self, RegistryError> {
        raw::parse(origin, text)
    }

    /// Every model, the operator's first.
    #[must_use]
    pub fn models(&self) -> &[ModelEntry] {
        &self.models
    }

    /// The model of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.name == name)
    }

    /// The model that fills the role.
    #[must_use]
    pub fn for_role(&self, role: Model) -> Option<&ModelEntry> {
        self.models.iter().find(|entry| entry.role == Some(role))
    }

    /// An entry and those of the models that it works with.
    pub fn with_partners<'r>(&'r self, entry: &'r ModelEntry) -> impl Iterator<Item = &'r ModelEntry> {
        let partner = match &entry.work {
            Work::Ground(grounding) => self.by_name(&grounding.matte),
            Work::Matte(_) => None,
        };
        std::iter::once(entry).chain(partner)
    }

    /// ONNX Runtime for this machine's processor, when the registry has one.
    #[must_use]
    pub fn runtime(&self) -> Option<&RuntimeEntry> {
        self.runtime_for(std::env::consts::OS, std::env::consts::ARCH, RuntimeBuild::Cpu)
    }

    /// ONNX Runtime for a GPU in this machine, when the registry has one.
    #[must_use]
    pub fn gpu_runtime(&self) -> Option<&RuntimeEntry> {
        self.runtime_for(std::env::consts::OS, std::env::consts::ARCH, RuntimeBuild::Gpu)
    }

    /// ONNX Runtime for another machine.
    #[must_use]
    pub fn runtime_for(&self, os: &str, arch: &str, build: RuntimeBuild) -> Option<&RuntimeEntry> {
        self.runtimes.iter().find(|entry| entry.os == os && entry.arch == arch && entry.build == build)
    }

    /// Where ONNX Runtime for this machine's processor lies.
    #[must_use]
    pub fn runtime_path(&self, models_dir: &Path) -> Option<PathBuf> {
        self.runtime().map(|entry| entry.file.path(models_dir))
    }

    /// Entries of `other` come first, take the place of entries of the same name and take over their roles.
    fn overridden_by(self, other: Self) -> Self {
        let Self { mut models, mut runtimes } = other;
        for mut entry in self.models {
            if models.iter().any(|own| own.name == entry.name) {
                continue;
            }
            if models.iter().any(|own| own.role.is_some() && own.role == entry.role) {
                entry.role = None;
            }
            models.push(entry);
        }
        for entry in self.runtimes {
            if !runtimes.iter().any(|own| own.is_for_the_same(&entry)) {
                runtimes.push(entry);
            }
        }
        Self { models, runtimes }
    }
}

impl RuntimeEntry {
    fn is_for_the_same(&self, other: &Self) -> bool {
        self.os == other.os && self.arch == other.arch && self.build == other.build
    }

    /// Every file that running models with it takes.
    pub fn files(&self) -> impl Iterator<Item = &InstalledFile> {
        std::iter::once(&self.file).chain(self.parts.iter().map(|part| &part.file))
    }
}

impl ModelEntry {
    /// How it is run.
    #[must_use]
    pub const fn family(&self) -> Family {
        match &self.work {
            Work::Matte(MatteSpec { states, .. }) if states.is_empty() => Family::Still,
            Work::Matte(_) => Family::Recurrent,
            Work::Ground(_) => Family::Grounded,
        }
    }

    /// Every file that running it takes; those of a model that it works with are that model's own.
    pub fn files(&self) -> impl Iterator<Item = &InstalledFile> {
        let tokenizer = match &self.work {
            Work::Ground(grounding) => grounding.tokenizer(),
            Work::Matte(_) => None,
        };
        std::iter::once(&self.file).chain(tokenizer)
    }

    /// Where the model's file lies.
    #[must_use]
    pub fn path(&self, models_dir: &Path) -> PathBuf {
        self.file.path(models_dir)
    }
}

fn read_capped(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_REGISTRY_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_REGISTRY_BYTES {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

//! Where files come from: packages of public registries, and what is taken out of them.

use std::fmt;

use super::Sha256;
use crate::onnx_writer::Rewriting;
use crate::tfjs::Conversion;

/// A file inside a package of a public registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The package.
    pub package: Package,
    /// Digest of the package's archive, checked before anything in it is looked at.
    pub archive_sha256: Sha256,
    /// What is taken out of the archive.
    pub content: Content,
}

/// A package by name and exact version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Package {
    /// Which registry has it.
    pub index: PackageIndex,
    /// Name, with its scope.
    pub name: String,
    /// Exact version.
    pub version: String,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = match self.index {
            PackageIndex::Npm => "npm",
            PackageIndex::Pypi { .. } => "pypi",
        };
        write!(f, "{index}:{}@{}", self.name, self.version)
    }
}

/// A registry of packages; each is asked through its ordinary client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PackageIndex {
    /// `npm pack`: a gzipped tar.
    Npm,
    /// `pip download`: a wheel, which is a zip.
    Pypi {
        /// Python version and platform tag of the wheel, when it is not one for any machine.
        wheel: Option<WheelTags>,
    },
}

/// Chooses one of a release's wheels, whatever machine asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WheelTags {
    /// As in `3.11`.
    pub python: String,
    /// As in `manylinux_2_28_x86_64`.
    pub platform: String,
}

/// What is taken out of an archive. Paths are those inside the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One file as it is.
    File {
        /// Its path.
        member: String,
    },
    /// One ONNX file, changed.
    Rewritten {
        /// Its path.
        member: String,
        /// Its digest, as it is in the archive.
        sha256: Sha256,
        /// What is made of it.
        rewriting: Rewriting,
    },
    /// A TensorFlow.js graph model, converted to ONNX.
    TfjsGraph {
        /// Path of the `.json`.
        graph: String,
        /// Paths of the weight shards, in the order of the graph's manifest.
        weights: Vec<String>,
        /// What becomes of it.
        conversion: Conversion,
    },
}

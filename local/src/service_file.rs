//! `service.json` in the data directory: where the service that runs on it answers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServiceFile {
    pub(crate) url: String,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("service.json")
}

impl ServiceFile {
    pub(crate) fn write(&self, data_dir: &Path) -> Result<()> {
        let path = path(data_dir);
        fs::write(&path, serde_json::to_vec(self)?).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(data_dir)).ok()?).ok()
    }

    pub(crate) fn remove(data_dir: &Path) {
        // Gone already is as good.
        let _ = fs::remove_file(path(data_dir));
    }
}

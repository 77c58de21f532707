//! The secrets of one data directory: made at its first start, kept in `secrets.json` for its owner's eyes only.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rotoless_core::api_key;
use rotoless_core::ports::Entropy;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// What a data directory must remember to open itself again.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// Schema version: 1.
    v: u32,
    /// Access key of the embedded AWS.
    pub(crate) access_key: String,
    #[serde(serialize_with = "expose")]
    pub(crate) secret_key: SecretString,
    /// Signs claims.
    #[serde(serialize_with = "expose")]
    pub(crate) fleet_key: SecretString,
    /// Attempts' secrets are derived from it.
    #[serde(serialize_with = "expose")]
    pub(crate) report_master: SecretString,
    /// Clients' webhook secrets are derived from it.
    #[serde(serialize_with = "expose")]
    pub(crate) webhook_master: SecretString,
    /// The first API key, for the owner of the data directory. The database holds its hash only.
    #[serde(serialize_with = "expose")]
    pub(crate) api_key: SecretString,
}

impl Secrets {
    /// Reads the data directory's secrets, making them first if there are none.
    pub(crate) fn open(data_dir: &Path, entropy: &dyn Entropy) -> Result<Self> {
        let path = path(data_dir);
        if let Some(secrets) = Self::read(data_dir)? {
            return Ok(secrets);
        }
        let secrets = Self::generate(entropy);
        let json = serde_json::to_vec_pretty(&secrets)?;
        // Whole or not at all: a start that is killed here leaves the next one a clean slate.
        let draft = path.with_extension("json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&draft, &path).with_context(|| format!("cannot write {}", path.display()))?;
        fs::File::open(data_dir)?.sync_all()?;
        Ok(secrets)
    }

    /// The data directory's secrets, if it has been started before.
    pub(crate) fn read(data_dir: &Path) -> Result<Option<Self>> {
        let path = path(data_dir);
        match fs::read(&path) {
            Ok(json) => {
                let secrets = serde_json::from_slice(&json)
                    .with_context(|| format!("{} is not readable as this version's secrets", path.display()))?;
                Ok(Some(secrets))
            }
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn generate(entropy: &dyn Entropy) -> Self {
        let secret = || SecretString::from(hex::encode(entropy.bits()));
        Self {
            v: 1,
            access_key: format!("RTL{}", hex::encode_upper(&entropy.bits()[..8])),
            secret_key: secret(),
            fleet_key: secret(),
            report_master: secret(),
            webhook_master: secret(),
            api_key: api_key::generate(entropy.bits()),
        }
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("secrets.json")
}

fn expose<S: serde::Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Entropy for Counting {
        fn bits(&self) -> [u8; 32] {
            [self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 32]
        }
    }

    #[test]
    fn secrets_are_made_once_and_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let entropy = Counting(0.into());
        let first = Secrets::open(dir.path(), &entropy).unwrap();
        let again = Secrets::open(dir.path(), &entropy).unwrap();
        assert_eq!(first.api_key.expose_secret(), again.api_key.expose_secret());
        assert_ne!(first.fleet_key.expose_secret(), first.report_master.expose_secret());
        let mode = fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

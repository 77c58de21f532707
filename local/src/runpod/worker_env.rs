//! The worker's environment out of a file: `NAME=VALUE` a line, as `worker.env` of a data directory has it.
//!
//! Invariant: a value is never shown, whatever is wrong with it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rotoless_gpu_handler::KEYS;
use secrecy::{ExposeSecret, SecretString};

use super::wanted::Environment;

const MAX_FILE: u64 = 256 * 1024;

/// What was given, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerEnv(BTreeMap<String, SecretString>);

impl WorkerEnv {
    /// Reads a file, or standard input for `-`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut text = String::new();
        let read = if path == Path::new("-") {
            std::io::stdin().lock().take(MAX_FILE).read_to_string(&mut text)
        } else {
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            file.take(MAX_FILE).read_to_string(&mut text)
        };
        read.with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
    }

    /// Lines that are empty or begin with `#` say nothing; quotes around a value are not part of it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut found = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { bail!("line {number} is not NAME=VALUE") };
            let name = name.trim().trim_start_matches("export ").trim();
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                bail!("line {number} does not begin with a name");
            }
            let value = value.trim();
            let unquoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
            if found.insert(name.to_owned(), SecretString::from(unquoted.unwrap_or(value))).is_some() {
                bail!("line {number} gives {name} a second time");
            }
        }
        Ok(Self(found))
    }

    /// The template's environment: what the file sets, and what was given. Names that the file does not know are
    /// refused: a typing error would otherwise be a worker that does not start.
    pub(crate) fn complete(&self, wanted: &Environment) -> Result<BTreeMap<String, String>> {
        let is_known = |name: &&String| wanted.required.contains(name) || wanted.optional.contains(name);
        let unknown: Vec<&str> = self.0.keys().filter(|name| !is_known(name)).map(String::as_str).collect();
        if !unknown.is_empty() {
            bail!("the worker's environment has names that are neither required nor optional: {}", unknown.join(", "));
        }
        let is_missing = |name: &&String| self.0.get(*name).is_none_or(|value| value.expose_secret().is_empty());
        let missing: Vec<&str> = wanted.required.iter().filter(is_missing).map(String::as_str).collect();
        if !missing.is_empty() {
            bail!("the worker's environment lacks {}", missing.join(", "));
        }
        let given = self.0.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned()));
        Ok(wanted.set.clone().into_iter().chain(given).collect())
    }

    /// Secrets that stand here themselves, and not as a reference to one of RunPod's.
    pub(crate) fn in_plain(&self) -> Vec<&str> {
        let is_secret = |name: &str| KEYS.iter().any(|key| key.secret && key.name == name);
        let is_plain = |value: &SecretString| !value.expose_secret().contains("RUNPOD_SECRET_");
        self.0
            .iter()
            .filter(|(name, value)| is_secret(name) && is_plain(value))
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let set = BTreeMap::from([("SESSIONS".to_owned(), "runpod".to_owned())]);
        Environment { set, required: names(&["QUEUE_URL", "FLEET_KEY"]), optional: names(&["BATCH"]) }
    }

    #[test]
    fn a_file_of_names_and_values_becomes_the_templates_environment() {
        let text =
            "# the worker\n\nQUEUE_URL=https://sqs.example/1/q?a=b\nexport FLEET_KEY=\"{{ RUNPOD_SECRET_fleet }}\"\n";
        let given = WorkerEnv::parse(text).unwrap();
        let complete = given.complete(&environment()).unwrap();
        assert_eq!(complete["QUEUE_URL"], "https://sqs.example/1/q?a=b");
        assert_eq!(complete["FLEET_KEY"], "{{ RUNPOD_SECRET_fleet }}");
        assert_eq!((complete["SESSIONS"].as_str(), complete.len()), ("runpod", 3));
        assert!(given.in_plain().is_empty());
        assert_eq!(WorkerEnv::parse("FLEET_KEY=abc").unwrap().in_plain(), ["FLEET_KEY"]);
    }

    #[test]
    fn what_is_wrong_with_it_is_told_without_a_value() {
        let errors = [
            WorkerEnv::parse("QUEUE_URL=a\nmysecretvalue").unwrap_err(),
            WorkerEnv::parse("my secretvalue=1").unwrap_err(),
            WorkerEnv::parse("BATCH=1\nBATCH=secretvalue").unwrap_err(),
            WorkerEnv::parse("QUEUE_URL=secretvalue\nFLEET_KEY=").unwrap().complete(&environment()).unwrap_err(),
            WorkerEnv::parse("QUEUE_URL=1\nFLEET_KEY=1\nFLET_KEY=secretvalue")
                .unwrap()
                .complete(&environment())
                .unwrap_err(),
        ];
        let told = errors.map(|error| format!("{error:?}"));
        assert!(told.iter().all(|told| !told.contains("secretvalue")), "{told:?}");
        assert!(told[3].contains("lacks FLEET_KEY") && told[4].contains("FLET_KEY"), "{told:?}");
    }
}

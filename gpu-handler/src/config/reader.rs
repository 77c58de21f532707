//! Reading one key after the other, and remembering what is wrong with each.

use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use rotoless_egress::Exception;
use rotoless_matting::{Compute, MAX_BATCH};
use secrecy::SecretString;

use super::{KEYS, SESSION_KEYS, StaticCredentials};
use crate::net::PlainHttp;

/// Reads keys by name. What is wrong is collected, without any value.
pub(crate) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, problems: Vec::new() }
    }

    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        let default = || key(name).and_then(|key| key.default).map(str::to_owned);
        (self.lookup)(name).filter(|value| !value.is_empty()).or_else(default).filter(|value| !value.is_empty())
    }

    pub(crate) fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("{name} {what}"));
    }

    pub(crate) fn required(&mut self, name: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.problem(name, "is not set");
        }
        value
    }

    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let value = self.required(name)?.parse().ok();
        if value.is_none() {
            self.problem(name, "has a value of the wrong form");
        }
        value
    }

    pub(crate) fn address(&mut self, name: &str, plain: PlainHttp) -> Option<Url> {
        match plain.admit(&self.required(name)?) {
            Ok(url) => Some(url),
            Err(error) => {
                self.problem(name, &format!("cannot be used: {error}"));
                None
            }
        }
    }

    pub(super) fn origin(&mut self, name: &str, plain: PlainHttp) -> Option<Url> {
        let url = self.address(name, plain)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !bare {
            // The path is signed: a prefix that a proxy takes away would spoil every signature.
            self.problem(name, "must be an origin, without a path");
        }
        bare.then_some(url)
    }

    pub(super) fn fleet_key(&mut self) -> Option<SecretString> {
        let list = self.required("FLEET_KEY")?;
        // While keys are exchanged the control plane accepts all of the list, and its first is the new one.
        let value = list.split(',').next().unwrap_or_default().trim();
        if value.len() < 16 {
            self.problem("FLEET_KEY", "is shorter than 16 characters");
            return None;
        }
        Some(value.to_owned().into())
    }

    pub(super) fn credentials(&mut self) -> Option<StaticCredentials> {
        let session_token = self.optional("AWS_SESSION_TOKEN").map(SecretString::from);
        match (self.optional("AWS_ACCESS_KEY_ID"), self.optional("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key_id), Some(secret)) => {
                Some(StaticCredentials { access_key_id, secret_access_key: secret.into(), session_token })
            }
            (None, None) => None,
            (Some(_), None) => {
                self.problem("AWS_SECRET_ACCESS_KEY", "is not set, but AWS_ACCESS_KEY_ID is");
                None
            }
            (None, Some(_)) => {
                self.problem("AWS_ACCESS_KEY_ID", "is not set, but AWS_SECRET_ACCESS_KEY is");
                None
            }
        }
    }

    pub(super) fn worker_id(&mut self) -> String {
        let host = || (self.lookup)("HOSTNAME").unwrap_or_else(|| "worker".to_owned());
        let id = self.optional("WORKER_ID").or_else(|| self.optional("RUNPOD_POD_ID"));
        let id = id.unwrap_or_else(|| format!("{}-{}", host(), std::process::id()));
        if id.chars().count() > 128 || id.chars().any(char::is_control) {
            self.problem("WORKER_ID", "is longer than 128 characters or not printable");
        }
        id
    }

    /// The processor's where a value is wrong, which is a problem then.
    pub(super) fn compute(&mut self) -> Compute {
        let device = self.parsed("DEVICE").unwrap_or_default();
        let batch = self.parsed("BATCH").unwrap_or_default();
        if batch > MAX_BATCH {
            self.problem("BATCH", &format!("is not between 0 and {MAX_BATCH}"));
        }
        Compute { device, batch, reduced_precision: self.parsed("REDUCED_PRECISION").unwrap_or_default() }
    }

    pub(super) fn exceptions(&mut self) -> Vec<Exception> {
        const NAME: &str = "ALLOW_EGRESS_DANGEROUS";
        let listed = self.optional(NAME).unwrap_or_default();
        let parsed: Result<Vec<_>, _> = listed.split(',').filter(|text| !text.is_empty()).map(str::parse).collect();
        parsed.unwrap_or_else(|_| {
            self.problem(NAME, "is not a list of HOST:PORT, ADDRESS or NETWORK/BITS");
            Vec::new()
        })
    }

    pub(crate) fn seconds(&mut self, name: &'static str, least: u64, most: u64) -> Option<Duration> {
        let seconds: u64 = self.parsed(name)?;
        if !(least..=most).contains(&seconds) {
            self.problem(name, &format!("is not between {least} and {most}"));
            return None;
        }
        Some(Duration::from_secs(seconds))
    }
}

fn key(name: &str) -> Option<&'static super::Key> {
    KEYS.iter().chain(SESSION_KEYS).find(|key| key.name == name)
}

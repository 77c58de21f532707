//! The worker's configuration: read once, checked whole, all problems named at once.
//!
//! Invariant: nothing else in this crate reads the environment. [`KEYS`] is the documentation of every key.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use rotoless_egress::Exception;
use rotoless_matting::{Compute, MAX_BATCH};
use secrecy::SecretString;

use crate::net::PlainHttp;

/// A configuration key and what it means.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the environment.
    pub name: &'static str,
    /// What applies when it is not set; `None`: it must be set, unless `doc` says otherwise.
    pub default: Option<&'static str>,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// What it means, with its unit.
    pub doc: &'static str,
}

const fn key(name: &'static str, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, default, secret: false, doc }
}

const fn secret(name: &'static str, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, default, secret: true, doc }
}

/// Every key that the worker reads.
pub const KEYS: &[Key] = &[
    key("QUEUE_URL", None, "URL of the SQS queue that names the jobs."),
    key("CONTROL_URL", None, "Origin of the control plane's internal API: https://host[:port], without a path."),
    secret(
        "FLEET_KEY",
        None,
        "Secret that signs claims, at least 16 characters; of several by commas the first. The control plane knows it too.",
    ),
    key("AWS_REGION", None, "Region of the queue."),
    key("AWS_ENDPOINT_URL_SQS", Some(""), "Endpoint of SQS, where it is not AWS's own."),
    key("AWS_ACCESS_KEY_ID", Some(""), "Static credentials for the queue; without them the AWS chain is asked."),
    secret("AWS_SECRET_ACCESS_KEY", Some(""), "The secret that belongs to AWS_ACCESS_KEY_ID."),
    secret("AWS_SESSION_TOKEN", Some(""), "The session token that belongs to temporary static credentials."),
    key("MODELS_DIR", None, "Directory of ONNX Runtime and the models' weights."),
    key("WORK_DIR", Some("/tmp/rotoless-worker"), "Directory for temporary files, used by one worker at a time."),
    key("FFMPEG_PATH", Some(""), "Directories to look for ffmpeg and ffprobe in, as in PATH; without it PATH itself."),
    key("THREADS", Some("0"), "Threads of the model; 0: as many as the machine or its cgroup has cores."),
    key(
        "DEVICE",
        Some("cpu"),
        "What models run on: cpu, cuda, cuda:N, tensorrt, tensorrt:N (docs/GPU.md). One that cannot be used ends the worker.",
    ),
    key("BATCH", Some("0"), "Frames that a still model takes at once, 0 to 32; 0: 1 on the processor, 8 on a GPU."),
    key(
        "REDUCED_PRECISION",
        Some("false"),
        "Lets a GPU calculate with fewer bits: quicker, other in the third decimal.",
    ),
    key("WORKER_ID", Some(""), "Name of this worker in logs, 1 to 128 characters; without it one is made."),
    key("VISIBILITY_SECONDS", Some("120"), "How long a message stays invisible unless extended, 6 to 43200 s."),
    key("HEARTBEAT_SECONDS", Some("40"), "Greatest time between two heartbeats, which carry progress, 1 to 3600 s."),
    key("DIE_WITH_PARENT", Some(""), "Pid of the process whose death is ours too, however it dies."),
    key(
        "ALLOW_EGRESS_DANGEROUS",
        Some(""),
        "HOST:PORT, ADDRESS or NETWORK/BITS, by commas: clients' URLs may lead there although it is not public.",
    ),
    key("ALLOW_HTTP_LOOPBACK", Some("false"), "Allows plain http, to loopback addresses only."),
];

/// The worker's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// URL of the queue.
    pub queue_url: String,
    /// Origin of the control plane.
    pub control_url: Url,
    /// Signs claims.
    pub fleet_key: SecretString,
    /// Region of the queue.
    pub region: String,
    /// Endpoint of SQS, where it is not AWS's own.
    pub sqs_endpoint: Option<String>,
    /// Credentials for the queue; `None`: the AWS chain is asked.
    pub credentials: Option<StaticCredentials>,
    /// Directory of ONNX Runtime and weights.
    pub models_dir: PathBuf,
    /// Directory for temporary files.
    pub work_dir: PathBuf,
    /// Directories of ffmpeg and ffprobe, as in `PATH`.
    pub ffmpeg_path: Option<String>,
    /// Threads of the model; 0: all cores.
    pub threads: usize,
    /// What models run on.
    pub compute: Compute,
    /// Name of this worker in logs.
    pub worker_id: String,
    /// How long a message stays invisible unless extended.
    pub visibility: Duration,
    /// Greatest time between two heartbeats.
    pub heartbeat: Duration,
    /// Pid of the process whose death is ours too.
    pub die_with_parent: Option<u32>,
    /// Whether plain http to loopback is allowed.
    pub allow_http_loopback: bool,
    /// Where clients' URLs may lead although it is not public.
    pub allow_egress_dangerous: Vec<Exception>,
}

/// Credentials that were given, not found.
#[derive(Debug, Clone)]
pub struct StaticCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretString>,
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// One sentence each, beginning with the key's name. No values: some are secrets.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot be used: {}", self.problems.join("; "))
    }
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_env() -> Result<Self, ConfigError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads keys by name. An empty value counts as none.
    ///
    /// # Errors
    /// All that is wrong with the values.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut read = Reader { lookup: &lookup, problems: Vec::new() };
        let allow_http_loopback = read.parsed("ALLOW_HTTP_LOOPBACK").unwrap_or(false);
        let plain = plain_http(allow_http_loopback);
        let queue_url = read.address("QUEUE_URL", plain).map(String::from);
        let control_url = read.origin("CONTROL_URL", plain);
        let fleet_key = read.fleet_key();
        let region = read.required("AWS_REGION");
        let sqs_endpoint = read.optional("AWS_ENDPOINT_URL_SQS").is_some();
        let sqs_endpoint = if sqs_endpoint { read.address("AWS_ENDPOINT_URL_SQS", plain) } else { None };
        let credentials = read.credentials();
        let models_dir = read.required("MODELS_DIR");
        let work_dir = read.required("WORK_DIR");
        let ffmpeg_path = read.optional("FFMPEG_PATH").or_else(|| read.optional("PATH"));
        let threads = read.parsed("THREADS");
        let compute = read.compute();
        let worker_id = read.worker_id();
        let visibility = read.seconds("VISIBILITY_SECONDS", 6, 43_200);
        let heartbeat = read.seconds("HEARTBEAT_SECONDS", 1, 3600);
        let die_with_parent = read.optional("DIE_WITH_PARENT").and_then(|_| read.parsed("DIE_WITH_PARENT"));
        let allow_egress_dangerous = read.exceptions();
        let problems = read.problems;
        match (queue_url, control_url, fleet_key, region, models_dir, work_dir, threads, visibility, heartbeat) {
            (
                Some(queue_url),
                Some(control_url),
                Some(fleet_key),
                Some(region),
                Some(models_dir),
                Some(work_dir),
                Some(threads),
                Some(visibility),
                Some(heartbeat),
            ) if problems.is_empty() => Ok(Self {
                queue_url,
                control_url,
                fleet_key,
                region,
                sqs_endpoint: sqs_endpoint.map(String::from),
                credentials,
                models_dir: models_dir.into(),
                work_dir: work_dir.into(),
                ffmpeg_path,
                threads,
                compute,
                worker_id,
                visibility,
                heartbeat,
                die_with_parent,
                allow_http_loopback,
                allow_egress_dangerous,
            }),
            _ => Err(ConfigError { problems }),
        }
    }

    pub(crate) const fn plain_http(&self) -> PlainHttp {
        plain_http(self.allow_http_loopback)
    }
}

const fn plain_http(allowed: bool) -> PlainHttp {
    if allowed { PlainHttp::LoopbackOnly } else { PlainHttp::Refused }
}

struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn optional(&self, name: &str) -> Option<String> {
        let default = || KEYS.iter().find(|key| key.name == name).and_then(|key| key.default).map(str::to_owned);
        (self.lookup)(name).filter(|value| !value.is_empty()).or_else(default).filter(|value| !value.is_empty())
    }

    fn problem(&mut self, name: &str, what: &str) {
        self.problems.push(format!("{name} {what}"));
    }

    fn required(&mut self, name: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.problem(name, "is not set");
        }
        value
    }

    fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let value = self.required(name)?.parse().ok();
        if value.is_none() {
            self.problem(name, "has a value of the wrong form");
        }
        value
    }

    fn address(&mut self, name: &str, plain: PlainHttp) -> Option<Url> {
        match plain.admit(&self.required(name)?) {
            Ok(url) => Some(url),
            Err(error) => {
                self.problem(name, &format!("cannot be used: {error}"));
                None
            }
        }
    }

    fn origin(&mut self, name: &str, plain: PlainHttp) -> Option<Url> {
        let url = self.address(name, plain)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !bare {
            // The path is signed: a prefix that a proxy takes away would spoil every signature.
            self.problem(name, "must be an origin, without a path");
        }
        bare.then_some(url)
    }

    fn fleet_key(&mut self) -> Option<SecretString> {
        let list = self.required("FLEET_KEY")?;
        // While keys are exchanged the control plane accepts all of the list, and its first is the new one.
        let value = list.split(',').next().unwrap_or_default().trim();
        if value.len() < 16 {
            self.problem("FLEET_KEY", "is shorter than 16 characters");
            return None;
        }
        Some(value.to_owned().into())
    }

    fn credentials(&mut self) -> Option<StaticCredentials> {
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

    fn worker_id(&mut self) -> String {
        let host = || (self.lookup)("HOSTNAME").unwrap_or_else(|| "worker".to_owned());
        let id = self.optional("WORKER_ID").unwrap_or_else(|| format!("{}-{}", host(), std::process::id()));
        if id.chars().count() > 128 || id.chars().any(char::is_control) {
            self.problem("WORKER_ID", "is longer than 128 characters or not printable");
        }
        id
    }

    /// The processor's where a value is wrong, which is a problem then.
    fn compute(&mut self) -> Compute {
        let device = self.parsed("DEVICE").unwrap_or_default();
        let batch = self.parsed("BATCH").unwrap_or_default();
        if batch > MAX_BATCH {
            self.problem("BATCH", &format!("is not between 0 and {MAX_BATCH}"));
        }
        Compute { device, batch, reduced_precision: self.parsed("REDUCED_PRECISION").unwrap_or_default() }
    }

    fn exceptions(&mut self) -> Vec<Exception> {
        const NAME: &str = "ALLOW_EGRESS_DANGEROUS";
        let listed = self.optional(NAME).unwrap_or_default();
        let parsed: Result<Vec<_>, _> = listed.split(',').filter(|text| !text.is_empty()).map(str::parse).collect();
        parsed.unwrap_or_else(|_| {
            self.problem(NAME, "is not a list of HOST:PORT, ADDRESS or NETWORK/BITS");
            Vec::new()
        })
    }

    fn seconds(&mut self, name: &'static str, least: u64, most: u64) -> Option<Duration> {
        let seconds: u64 = self.parsed(name)?;
        if !(least..=most).contains(&seconds) {
            self.problem(name, &format!("is not between {least} and {most}"));
            return None;
        }
        Some(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret;

    use super::*;

    fn complete() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/1/jobs"),
            ("CONTROL_URL", "https://api.example.com"),
            ("FLEET_KEY", "0123456789abcdef"),
            ("AWS_REGION", "eu-central-1"),
            ("MODELS_DIR", "/models"),
            ("PATH", "/usr/bin"),
        ])
    }

    fn read(values: &BTreeMap<&str, &str>) -> Result<Config, ConfigError> {
        Config::from_lookup(|name| values.get(name).map(|value| (*value).to_owned()))
    }

    #[test]
    fn defaults_fill_what_is_not_set() {
        let config = read(&complete()).unwrap();
        assert_eq!(config.visibility, Duration::from_secs(120));
        assert_eq!(config.ffmpeg_path.as_deref(), Some("/usr/bin"));
        assert!(config.credentials.is_none() && !config.allow_http_loopback && config.die_with_parent.is_none());
        assert!(!config.worker_id.is_empty());
    }

    #[test]
    fn all_problems_are_named_at_once_and_none_shows_a_value() {
        let error = read(&BTreeMap::from([
            ("CONTROL_URL", "http://plain.example.com/secret-path"),
            ("FLEET_KEY", "tooshort"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("THREADS", "many"),
            ("VISIBILITY_SECONDS", "1"),
            ("DIE_WITH_PARENT", "me"),
        ]))
        .unwrap_err();
        let text = error.to_string();
        for name in [
            "QUEUE_URL",
            "CONTROL_URL",
            "FLEET_KEY",
            "AWS_REGION",
            "AWS_SECRET_ACCESS_KEY",
            "MODELS_DIR",
            "THREADS",
            "VISIBILITY_SECONDS",
            "DIE_WITH_PARENT",
        ] {
            assert!(text.contains(name), "{name} is missing in: {text}");
        }
        for value in ["tooshort", "many", "secret-path", "AKIA"] {
            assert!(!text.contains(value), "{text}");
        }
    }

    #[test]
    fn of_several_fleet_keys_the_first_signs() {
        let mut values = complete();
        values.insert("FLEET_KEY", "fedcba9876543210, 0123456789abcdef");
        assert_eq!(read(&values).unwrap().fleet_key.expose_secret(), "fedcba9876543210");
        values.insert("FLEET_KEY", "short,0123456789abcdef");
        assert!(read(&values).unwrap_err().to_string().contains("FLEET_KEY"));
    }

    #[test]
    fn a_device_is_named_whole_or_the_worker_does_not_start() {
        use rotoless_matting::Device;
        let mut values = complete();
        assert_eq!(read(&values).unwrap().compute, Compute::default());
        values.extend([("DEVICE", "tensorrt:1"), ("BATCH", "4"), ("REDUCED_PRECISION", "true")]);
        let compute = Compute { device: Device::TensorRt(1), batch: 4, reduced_precision: true };
        assert_eq!(read(&values).unwrap().compute, compute);
        values.extend([("DEVICE", "gpu"), ("BATCH", "33"), ("REDUCED_PRECISION", "yes")]);
        let text = read(&values).unwrap_err().to_string();
        assert!(["DEVICE", "BATCH", "REDUCED_PRECISION"].iter().all(|name| text.contains(name)), "{text}");
    }

    #[test]
    fn plain_http_needs_the_switch_and_loopback() {
        let mut values = complete();
        values.insert("CONTROL_URL", "http://127.0.0.1:8080");
        assert!(read(&values).is_err());
        values.insert("ALLOW_HTTP_LOOPBACK", "true");
        assert!(read(&values).is_ok());
        values.insert("AWS_ENDPOINT_URL_SQS", "http://10.0.0.7:9324");
        assert!(read(&values).unwrap_err().to_string().contains("AWS_ENDPOINT_URL_SQS"));
    }

    /// G-37
    #[test]
    fn a_printed_configuration_shows_no_secret() {
        let mut values = complete();
        values.insert("AWS_ACCESS_KEY_ID", "AKIA");
        values.insert("AWS_SECRET_ACCESS_KEY", "hush-hush");
        let config = read(&values).unwrap();
        assert_eq!(config.fleet_key.expose_secret(), "0123456789abcdef");
        let printed = format!("{config:?}");
        assert!(!printed.contains("0123456789abcdef") && !printed.contains("hush-hush"), "{printed}");
    }

    #[test]
    fn every_key_that_is_read_is_documented() {
        let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let values = complete();
        Config::from_lookup(|name| {
            asked.borrow_mut().insert(name.to_owned());
            values.get(name).map(|value| (*value).to_owned())
        })
        .unwrap();
        let documented = |name: &str| KEYS.iter().any(|key| key.name == name) || ["PATH", "HOSTNAME"].contains(&name);
        for name in asked.borrow().iter() {
            assert!(documented(name), "{name}");
        }
        for key in KEYS {
            assert!(asked.borrow().contains(key.name), "{} is documented and never read", key.name);
        }
    }
}

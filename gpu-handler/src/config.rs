//! The worker's configuration: read once, checked whole, all problems named at once.
//!
//! Invariant: nothing else in this crate reads the environment. [`KEYS`] and [`SESSION_KEYS`] are the documentation of
//! every key.

mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use rotoless_egress::Exception;
use rotoless_matting::Compute;
use secrecy::SecretString;

pub(crate) use self::reader::Reader;
use crate::net::PlainHttp;
use crate::sessions::{SESSION_KEYS, Sessions};

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

pub(crate) const fn key(name: &'static str, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, default, secret: false, doc }
}

pub(crate) const fn secret(name: &'static str, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, default, secret: true, doc }
}

/// Every key that a worker reads, wherever it runs.
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
    /// What starts a session.
    pub sessions: Sessions,
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

    /// The same for a single session, whatever would start sessions here.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_env_for_one_session() -> Result<Self, ConfigError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        Self::from_lookup(|name| if name == "SESSIONS" { Some("once".to_owned()) } else { std::env::var(name).ok() })
    }

    /// The work directory alone: where a worker of this environment gives its signs of life.
    #[must_use]
    pub fn work_dir_from_env() -> PathBuf {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        let lookup = |name: &str| std::env::var(name).ok();
        Reader::new(&lookup).optional("WORK_DIR").unwrap_or_default().into()
    }

    /// Reads keys by name. An empty value counts as none.
    ///
    /// # Errors
    /// All that is wrong with the values.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut read = Reader::new(&lookup);
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
        let sessions = Sessions::read(&mut read);
        let problems = read.problems;
        match (
            queue_url,
            control_url,
            fleet_key,
            region,
            models_dir,
            work_dir,
            threads,
            visibility,
            heartbeat,
            sessions,
        ) {
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
                Some(sessions),
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
                sessions,
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

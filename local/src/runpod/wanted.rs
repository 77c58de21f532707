//! The wanted endpoint, as `infra/runpod-endpoint.json` has it, and whether it can be wanted.
//!
//! Invariant: the file holds no secret: of those only names.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rotoless_aws::runpod::{Fields, RunPolicy};
use rotoless_core::policy::Policy;
use rotoless_gpu_handler::{KEYS, SESSION_KEYS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A file of settings has a few kilobytes.
const MAX_FILE: u64 = 256 * 1024;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    pub(crate) template: Template,
    pub(crate) environment: Environment,
    pub(crate) endpoint: Endpoint,
}

/// How a worker's container is made: `TemplateCreateInput` of RunPod's management API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) image_name: String,
    pub(crate) category: String,
    pub(crate) is_serverless: bool,
    pub(crate) is_public: bool,
    pub(crate) container_disk_in_gb: u32,
    pub(crate) volume_in_gb: u32,
    pub(crate) docker_entrypoint: Vec<String>,
    pub(crate) docker_start_cmd: Vec<String>,
    pub(crate) ports: Vec<String>,
    /// Where the image is in a registry that asks for a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container_registry_auth_id: Option<String>,
}

/// What the worker finds in its environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Environment {
    /// Values that are no secret and the same for everybody.
    pub(crate) set: BTreeMap<String, String>,
    /// Names that must be given.
    pub(crate) required: Vec<String>,
    /// Names that may be given.
    pub(crate) optional: Vec<String>,
}

/// A queue with workers: `EndpointCreateInput` of RunPod's management API, but for the template's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    /// In the order in which they are preferred.
    pub(crate) gpu_type_ids: Vec<String>,
    pub(crate) gpu_count: u32,
    pub(crate) min_cuda_version: String,
    pub(crate) workers_min: u32,
    pub(crate) workers_max: u32,
    /// Seconds.
    pub(crate) idle_timeout: u32,
    pub(crate) scaler_type: Scaler,
    pub(crate) scaler_value: u32,
    pub(crate) execution_timeout_ms: u64,
    pub(crate) flashboot: bool,
    /// Nowhere else; without it anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_center_ids: Option<Vec<String>>,
}

/// What makes RunPod start a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Scaler {
    /// A request that waits longer than so many seconds.
    QueueDelay,
    /// A worker for so many requests that wait or are at work.
    RequestCount,
}

impl Wanted {
    /// Reads a file, with another image where one is given.
    pub(crate) fn read(path: &Path, image: Option<&str>) -> Result<Self> {
        let named = || format!("cannot use {}", path.display());
        let size = std::fs::metadata(path).with_context(named)?.len();
        if size > MAX_FILE {
            bail!("{} has {size} bytes: that is no endpoint", path.display());
        }
        let mut wanted: Self = serde_json::from_slice(&std::fs::read(path)?).with_context(named)?;
        if let Some(image) = image {
            image.clone_into(&mut wanted.template.image_name);
        }
        let problems = wanted.problems();
        if problems.is_empty() { Ok(wanted) } else { bail!("{}: {}", path.display(), problems.join("; ")) }
    }

    /// Whether the image is still the committed file's, which names nobody's registry.
    pub(crate) fn names_an_image(&self) -> bool {
        is_image(&self.template.image_name)
    }

    /// Everything that would cost money or lose work, or that RunPod would refuse.
    fn problems(&self) -> Vec<String> {
        let (template, endpoint) = (&self.template, &self.endpoint);
        let longest = RunPolicy::of(&Policy::default()).execution_timeout.as_millis();
        let rules = [
            (template.is_serverless, "template.isServerless must be true"),
            (!template.name.is_empty() && !endpoint.name.is_empty(), "template and endpoint need names"),
            (template.container_disk_in_gb >= 5, "template.containerDiskInGb: a job takes up to 5 GB"),
            (!endpoint.gpu_type_ids.is_empty(), "endpoint.gpuTypeIds names no GPU"),
            (endpoint.gpu_count == 1, "endpoint.gpuCount: a worker uses one"),
            (endpoint.workers_max >= 1, "endpoint.workersMax lets nobody work"),
            (endpoint.workers_min <= endpoint.workers_max, "endpoint.workersMin is above workersMax"),
            ((1..=3600).contains(&endpoint.idle_timeout), "endpoint.idleTimeout is 1 to 3600 s"),
            (endpoint.scaler_value >= 1, "endpoint.scalerValue is at least 1"),
            (
                u128::from(endpoint.execution_timeout_ms) >= longest,
                "endpoint.executionTimeoutMs is shorter than the longest session, 7280000: RunPod would kill its worker",
            ),
        ];
        let broken = rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule.to_owned());
        let is_secret = |name: &&String| KEYS.iter().chain(SESSION_KEYS).any(|key| key.secret && key.name == **name);
        let told = self.environment.set.keys().filter(is_secret);
        broken.chain(told.map(|name| format!("environment.set.{name} is a secret, and does not belong here"))).collect()
    }

    /// The template's fields as they are sent, but for its environment.
    pub(crate) fn template_fields(&self) -> Result<Fields> {
        fields(&self.template)
    }

    /// The endpoint's fields as they are sent, but for its template.
    pub(crate) fn endpoint_fields(&self) -> Result<Fields> {
        fields(&self.endpoint)
    }
}

fn fields(of: &impl Serialize) -> Result<Fields> {
    match serde_json::to_value(of)? {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => bail!("not an object"),
    }
}

/// A reference in lower case with a version: `latest` is whatever was pushed last, and two of its kind serve together.
fn is_image(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/:".contains(c);
    if let Some((repository, digest)) = name.split_once("@sha256:") {
        let is_hex = digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit());
        return is_hex && !repository.is_empty() && repository.chars().all(is_plain);
    }
    let Some((repository, tag)) = name.rsplit_once(':') else { return false };
    let is_tag =
        !tag.is_empty() && tag != "latest" && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    is_tag && !repository.is_empty() && repository.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Wanted {
        serde_json::from_str(include_str!("../../../infra/runpod-endpoint.json")).unwrap()
    }

    #[test]
    fn the_committed_endpoint_costs_nothing_while_idle_and_kills_no_long_video() {
        let wanted = committed();
        assert_eq!(wanted.problems(), Vec::<String>::new());
        let endpoint = &wanted.endpoint;
        assert_eq!((endpoint.workers_min, endpoint.workers_max), (0, 3));
        assert!((5..=15).contains(&endpoint.idle_timeout));
        // A request that only RunPod believes in keeps nobody running.
        assert_eq!((endpoint.scaler_type, endpoint.scaler_value), (Scaler::QueueDelay, 4));
        assert!(endpoint.flashboot);
        let longest = RunPolicy::of(&Policy::default()).execution_timeout;
        assert_eq!(u128::from(endpoint.execution_timeout_ms), longest.as_millis());
        assert_eq!(wanted.template.volume_in_gb, 0);
        let text = include_str!("../../../infra/runpod-endpoint.json");
        assert!(!text.contains("networkVolume"), "RunPod gives all work to one worker of an endpoint with a volume");
        // A prompt to name one's own, which `apply` insists on.
        assert!(!wanted.names_an_image());
        let tag = format!(":{}", env!("CARGO_PKG_VERSION"));
        assert!(wanted.template.image_name.ends_with(&tag), "the version of this program");
    }

    #[test]
    fn the_workers_environment_is_what_the_worker_reads() {
        let Environment { set, required, optional } = committed().environment;
        let known = |name: &str| KEYS.iter().chain(SESSION_KEYS).any(|key| key.name == name);
        for name in set.keys().chain(&required).chain(&optional) {
            assert!(known(name) || name == "RUST_LOG", "{name}");
            assert!(!name.starts_with("RUNPOD_"), "{name} is RunPod's to set");
        }
        // What has no default must come from somewhere; the image brings the models.
        for key in KEYS.iter().filter(|key| key.default.is_none()) {
            let is_given = key.name == "MODELS_DIR" || required.iter().any(|name| name == key.name);
            assert!(is_given, "{}", key.name);
        }
    }

    #[test]
    fn an_image_has_an_owner_and_a_version() {
        let digest = "a1".repeat(32);
        let by_digest = format!("ghcr.io/o/w@sha256:{digest}");
        for fine in ["ghcr.io/o/rotoless-worker:0.1.0", "localhost:5000/w:1", by_digest.as_str()] {
            assert!(is_image(fine), "{fine}");
        }
        for odd in
            ["ghcr.io/OWNER/w:0.1.0", "ghcr.io/o/w", "ghcr.io/o/w:latest", "w:", ":1", "a b:1", "w@sha256:12", ""]
        {
            assert!(!is_image(odd), "{odd}");
        }
    }

    #[test]
    fn what_would_cost_money_or_lose_work_is_refused() {
        let broken = |change: fn(&mut Wanted)| {
            let mut wanted = committed();
            change(&mut wanted);
            wanted.problems().len()
        };
        assert_eq!(broken(|_| ()), 0);
        assert_eq!(broken(|w| w.endpoint.execution_timeout_ms = 600_000), 1);
        assert_eq!(broken(|w| w.endpoint.workers_max = 0), 1);
        assert_eq!(broken(|w| w.endpoint.workers_min = 4), 1);
        assert_eq!(broken(|w| w.endpoint.idle_timeout = 0), 1);
        assert_eq!(broken(|w| w.endpoint.gpu_type_ids.clear()), 1);
        assert_eq!(broken(|w| w.template.is_serverless = false), 1);
        assert_eq!(broken(|w| _ = w.environment.set.insert("FLEET_KEY".to_owned(), "x".to_owned())), 1);
    }
}

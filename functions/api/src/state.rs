//! What the routes need of the world, given by the host: a Lambda function or `rotoless up`.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::{JobSpec, Model};
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Accounts, Clock, Entropy, Jobs, Keys, Objects, UploadSink};
use rotoless_core::usecase::{Cancel, Submit};
use secrecy::SecretString;

/// Says in words for the client why this service's workers have no such model, if they have not.
pub type ModelCheck = Arc<dyn Fn(Model) -> Result<(), String> + Send + Sync>;

/// Says in words for the client why the engine cannot do what a valid request orders, if it cannot.
pub type SpecCheck = Arc<dyn Fn(&JobSpec) -> Result<(), String> + Send + Sync>;

/// Everything the router works with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// Jobs, to be read.
    pub jobs: Arc<dyn Jobs>,
    /// API keys.
    pub keys: Arc<dyn Keys>,
    /// Balances.
    pub accounts: Arc<dyn Accounts>,
    /// Links to inputs and outputs.
    pub objects: Arc<dyn Objects>,
    /// Where multipart uploads go.
    pub uploads: Arc<dyn UploadSink>,
    /// Creates and starts jobs.
    pub submit: Arc<Submit>,
    /// Cancels jobs.
    pub cancel: Arc<Cancel>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids and keys.
    pub entropy: Arc<dyn Entropy>,
    /// Prices, limits, times. The same that the use cases have.
    pub policy: Arc<Policy>,
    /// The service's own URL as clients reach it, without a slash at the end.
    pub public_base: String,
    /// Opens `/v1/admin/*`; without it those routes do not exist.
    pub admin_token: Option<SecretString>,
    /// Greatest file of a multipart upload in bytes: what the host can take in one request body.
    pub max_multipart_bytes: u64,
    /// Clients' webhook secrets are derived from it.
    pub webhook_master: SecretString,
    /// Which models the workers have.
    pub models: ModelCheck,
    /// What the engine can do.
    pub supported: SpecCheck,
    /// The state of what the service depends on.
    pub health: Arc<dyn HealthProbe>,
}

/// Looks at what the service depends on.
#[async_trait]
pub trait HealthProbe: Send + Sync {
    /// One look. Bounded in time by the caller; how often it happens is bounded as well.
    async fn look(&self) -> Dependencies;
}

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dependencies {
    /// The database answers.
    pub database: bool,
    /// The queue of work answers.
    pub queue: bool,
    /// The object store answers.
    pub object_store: bool,
    /// Jobs are given to workers on RunPod.
    pub runpod_configured: bool,
    /// When a worker was last heard of, where that is known.
    pub worker_last_seen: Option<Timestamp>,
}

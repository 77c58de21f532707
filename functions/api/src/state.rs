//! What the routes need of the world, given by the host: a Lambda function or `rotoless up`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_contract::{JobSpec, Model};
use rotoless_core::policy::Policy;
use rotoless_core::ports::{
    Accounts, Clock, Deliveries, Entropy, Jobs, Keys, Objects, Promises, Signings, SourceProbe, UploadSink, UrlPolicy,
    Usage, Waker, WorkQueue,
};
use rotoless_core::usecase::{Cancel, Delete, Replay, Submit};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::line::Line;

/// Says in words for the client why this service's workers have no such model, if they have not.
pub type ModelCheck = Arc<dyn Fn(Model) -> Result<(), String> + Send + Sync>;

/// Says in words for the client why the engine cannot do what a valid request orders, if it cannot.
pub type SpecCheck = Arc<dyn Fn(&JobSpec) -> Result<(), String> + Send + Sync>;

/// The ports of the routes and of their use cases.
#[derive(Clone)]
pub struct Ports {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Idempotency records.
    pub promises: Arc<dyn Promises>,
    /// API keys.
    pub keys: Arc<dyn Keys>,
    /// Balances.
    pub accounts: Arc<dyn Accounts>,
    /// What clients used.
    pub usage: Arc<dyn Usage>,
    /// Webhook events.
    pub deliveries: Arc<dyn Deliveries>,
    /// Which webhook secrets are in use.
    pub signings: Arc<dyn Signings>,
    /// Links to inputs and outputs.
    pub objects: Arc<dyn Objects>,
    /// Where multipart uploads go.
    pub uploads: Arc<dyn UploadSink>,
    /// Headers of uploads.
    pub probe: Arc<dyn SourceProbe>,
    /// Which URLs of clients may be opened.
    pub urls: Arc<dyn UrlPolicy>,
    /// The queue of work.
    pub queue: Arc<dyn WorkQueue>,
    /// Makes workers exist.
    pub waker: Arc<dyn Waker>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids and keys.
    pub entropy: Arc<dyn Entropy>,
}

/// What the host decided.
#[derive(Clone)]
pub struct Host {
    /// Prices, limits, times.
    pub policy: Arc<Policy>,
    /// The service's own URL as clients reach it, without a slash at the end; none: the name that a request used.
    pub public_base: Option<String>,
    /// Opens `/v1/admin/*`; without it those routes do not exist.
    pub admin_token: Option<SecretString>,
    /// Who may use the legacy routes.
    pub legacy: LegacyApi,
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
    /// Live streams, where the host can keep a connection open.
    pub streams: Option<Streams>,
    /// What the service runs on, by part; for the operator.
    pub backends: BTreeMap<String, String>,
}

/// Who may use `/api/upload`, `/api/process` and `/api/status/{id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LegacyApi {
    /// Nobody: the routes do not exist.
    Off,
    /// Holders of a key, as everywhere.
    #[default]
    Keyed,
    /// Everybody: callers without a key share the client `open` and its credits.
    Open,
}

/// Not one of `off`, `keyed`, `open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be off, keyed or open")]
pub struct UnknownLegacyApi;

impl FromStr for LegacyApi {
    type Err = UnknownLegacyApi;

    fn from_str(text: &str) -> Result<Self, UnknownLegacyApi> {
        match text {
            "off" => Ok(Self::Off),
            "keyed" => Ok(Self::Keyed),
            "open" => Ok(Self::Open),
            _ => Err(UnknownLegacyApi),
        }
    }
}

impl fmt::Display for LegacyApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Keyed => "keyed",
            Self::Open => "open",
        })
    }
}

/// Live streams of one process.
#[derive(Debug, Clone)]
pub struct Streams {
    /// A stream holds one of these.
    pub places: Arc<Semaphore>,
    /// Ends them all, so that the host can stop.
    pub closing: CancellationToken,
}

impl Streams {
    /// At most `most` at once, until `closing`.
    #[must_use]
    pub fn new(most: usize, closing: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), closing }
    }
}

/// Everything the router works with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) jobs: Arc<dyn Jobs>,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) usage: Arc<dyn Usage>,
    pub(crate) deliveries: Arc<dyn Deliveries>,
    pub(crate) signings: Arc<dyn Signings>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) uploads: Arc<dyn UploadSink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) submit: Arc<Submit>,
    pub(crate) cancel: Arc<Cancel>,
    pub(crate) delete: Arc<Delete>,
    pub(crate) replay: Arc<Replay>,
    pub(crate) line: Arc<Line>,
    host: Host,
}

impl std::ops::Deref for ApiState {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl ApiState {
    /// The use cases over these ports, as this host wants them.
    #[must_use]
    pub fn new(ports: Ports, host: Host) -> Self {
        let Ports { jobs, objects, clock, entropy, .. } = &ports;
        let (jobs, objects, clock, entropy) = (jobs.clone(), objects.clone(), clock.clone(), entropy.clone());
        let policy = host.policy.clone();
        let cancel =
            Cancel { jobs: jobs.clone(), clock: clock.clone(), entropy: entropy.clone(), policy: policy.clone() };
        let delete = Delete {
            jobs: jobs.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy: policy.clone(),
        };
        let replay = Replay {
            jobs: jobs.clone(),
            deliveries: ports.deliveries.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy: policy.clone(),
        };
        let submit = Submit {
            jobs: jobs.clone(),
            promises: ports.promises,
            objects: objects.clone(),
            probe: ports.probe,
            urls: ports.urls,
            queue: ports.queue,
            waker: ports.waker,
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy,
        };
        Self {
            line: Arc::new(Line::new(jobs.clone())),
            jobs,
            keys: ports.keys,
            accounts: ports.accounts,
            usage: ports.usage,
            deliveries: ports.deliveries,
            signings: ports.signings,
            objects,
            uploads: ports.uploads,
            clock,
            entropy,
            submit: Arc::new(submit),
            cancel: Arc::new(cancel),
            delete: Arc::new(delete),
            replay: Arc::new(replay),
            host,
        }
    }
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

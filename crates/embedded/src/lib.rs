//! The embedded AWS of one machine: DynamoDB, S3 and SQS in this process, over one data directory.
//!
//! Owns: starting and stopping the three stand-ins, the lock on the data directory, and making tables, queues and
//! the bucket what `template.yaml` says. Does not own: the SDK clients that call them, and anything of Rotoless's
//! rules. Invariants: what a service acknowledged survives a kill; one process a data directory; DynamoDB and SQS
//! answer on loopback only, and all three only to holders of the data directory's key.

mod bootstrap;
mod disk;
mod dynamodb;
mod endpoint;
mod lock;
mod s3;
mod sigv4;
mod sqs;
pub mod template;

pub use bootstrap::BootstrapError;
pub use sqs::Chaos;

use axum::Router;
use dynoxide::{Database, DynoxideError};
use endpoint::Endpoint;
use lock::DataDirLock;
use s3::{Expired, S3Host};
use secrecy::SecretString;
use sigv4::Credential;
use sqs::Sqs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use template::{BucketSpec, Resources, TemplateError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The stack's name: the prefix of the names of tables, queues and the bucket.
pub const STACK: &str = "rotoless";

/// The region callers sign for. Any would do; this one needs no configuration in AWS's tools.
pub const REGION: &str = "us-east-1";

/// How long a stop waits for running requests. Long polls end at once.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What an embedded AWS is started with.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Created if missing, readable by its owner only.
    pub data_dir: PathBuf,
    /// The one key of this data directory. Callers sign with it.
    pub access_key: String,
    pub secret_key: SecretString,
    /// Misbehaviour of the queues, for tests.
    pub chaos: Option<Chaos>,
    /// Visibility timeout of the job queue in seconds, instead of the template's.
    pub visibility_seconds: Option<u32>,
}

/// Physical names of the template's resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceNames {
    pub keys_table: String,
    pub accounts_table: String,
    pub jobs_table: String,
    pub idempotency_table: String,
    pub deliveries_table: String,
    pub limits_table: String,
    /// Name of the table of usage.
    pub usage_table: String,
    pub media_bucket: String,
    pub jobs_queue_url: String,
    pub jobs_dlq_url: String,
}

/// Why the embedded AWS did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("the data directory {path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("the data directory {path} cannot be used: {source}")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("template.yaml has no {kind} named {logical_id}")]
    MissingResource { kind: &'static str, logical_id: &'static str },
    #[error("the embedded DynamoDB cannot open its file: {0}")]
    DynamoDb(#[from] DynoxideError),
    #[error("the embedded SQS cannot open its file: {0}")]
    Sqs(#[from] rusqlite::Error),
    #[error("the embedded S3 cannot open its files: {0}")]
    S3(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("no port on the loopback address: {0}")]
    Bind(#[source] std::io::Error),
    #[error("a worker thread of the start-up ended")]
    Aborted,
}

/// What one sweep deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    pub items: u64,
    pub messages: u64,
    pub objects: u64,
    /// Unfinished uploads in parts.
    pub uploads: u64,
}

/// A running embedded AWS. Dropping it stops it without waiting for running requests.
pub struct Embedded {
    /// Where the DynamoDB API answers.
    pub dynamodb_url: String,
    /// Where the SQS API answers: the same address, told apart by the operation asked for.
    pub sqs_url: String,
    pub names: ResourceNames,
    database: Database,
    sqs: Sqs,
    s3: S3Host,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
    _lock: DataDirLock,
}

impl Embedded {
    /// Opens or creates the data directory and answers.
    ///
    /// # Errors
    /// When another process has the directory, when its tables are not the template's, or when files or ports fail.
    pub async fn start(config: EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let EmbeddedConfig { data_dir, access_key, secret_key, chaos, visibility_seconds } = config;
        let credential = Credential { access_key, secret_key };
        let resources = Resources::of_stack(STACK)?;
        let bucket = only_bucket(&resources)?.clone();
        let endpoint = Endpoint::bind().await.map_err(EmbeddedError::Bind)?;
        let url = endpoint.url();
        let names = ResourceNames::new(&resources, &url)?;
        let (stop, stopping) = watch::channel(false);

        let opened = Opening { data_dir, chaos, resources, bucket, credential: credential.clone(), url: url.clone() };
        let stopping_queues = stopping.clone();
        let Opened { lock, database, sqs, s3, resources } =
            tokio::task::spawn_blocking(move || opened.open(stopping_queues))
                .await
                .map_err(|_| EmbeddedError::Aborted)??;
        bootstrap::queues(&sqs, &resources.queues, visibility_seconds).await?;

        let server = endpoint.serve(database.clone(), sqs.clone(), credential, stopping);
        Ok(Self { dynamodb_url: url.clone(), sqs_url: url, names, database, sqs, s3, stop, server, _lock: lock })
    }

    /// The bucket, to be merged into the public router: it answers under `/{bucket}/…` and nowhere else.
    /// Not to be nested: signatures cover the whole path.
    pub fn s3(&self) -> Router {
        self.s3.router()
    }

    /// Deletes what the template's rules call expired: items past their TTL, messages past their retention,
    /// objects and unfinished uploads past their age. To be called now and then; each service also keeps its own
    /// promises in between (an expired message is never received). Failures are logged and tried again next time.
    pub async fn sweep_expired(&self) -> Swept {
        let database = self.database.clone();
        let items = tokio::task::spawn_blocking(move || database.sweep_ttl()).await;
        let items = match items {
            Ok(Ok(items)) => items as u64,
            Ok(Err(error)) => {
                tracing::error!(error = %error, "the sweep of expired items failed");
                0
            }
            Err(_) => 0,
        };
        let messages = self.sqs.expire().await.unwrap_or_else(|error| {
            tracing::error!(error = ?error, "the sweep of expired messages failed");
            0
        });
        let expired = self.s3.expire(now_ms()).await.unwrap_or_else(|error| {
            tracing::error!(error = ?error, "the sweep of expired objects failed");
            Expired::default()
        });
        Swept { items, messages, objects: expired.objects, uploads: expired.uploads }
    }

    /// Stops answering, lets running requests end, closes the files and gives the data directory free.
    /// The server that mounts [`Embedded::s3`] has to be stopped first: it holds the bucket's files.
    pub async fn shutdown(self) {
        let Self { stop, mut server, .. } = self;
        let _ = stop.send(true);
        if tokio::time::timeout(STOP_TIMEOUT, &mut server).await.is_err() {
            tracing::warn!("requests to the embedded AWS did not end in time");
            server.abort();
        }
    }
}

/// The blocking part of a start.
struct Opening {
    data_dir: PathBuf,
    chaos: Option<Chaos>,
    resources: Resources,
    bucket: BucketSpec,
    credential: Credential,
    url: String,
}

struct Opened {
    lock: DataDirLock,
    database: Database,
    sqs: Sqs,
    s3: S3Host,
    resources: Resources,
}

impl Opening {
    fn open(self, stopping: watch::Receiver<bool>) -> Result<Opened, EmbeddedError> {
        let Self { data_dir, chaos, resources, bucket, credential, url } = self;
        let lock = DataDirLock::take(&data_dir)?;
        let database = Database::new(&path_text(&data_dir.join("ddb.sqlite"))?)?;
        bootstrap::tables(&database, &resources.tables)?;
        let sqs = Sqs::open(&data_dir.join("sqs.sqlite"), &url, chaos, stopping)?;
        let s3 = S3Host::open(&data_dir.join("s3"), bucket, &credential)
            .map_err(|error| EmbeddedError::S3(Box::new(error)))?;
        Ok(Opened { lock, database, sqs, s3, resources })
    }
}

fn path_text(path: &Path) -> Result<String, EmbeddedError> {
    path.to_str().map(str::to_owned).ok_or_else(|| EmbeddedError::DataDir {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not UTF-8"),
    })
}

fn only_bucket(resources: &Resources) -> Result<&BucketSpec, EmbeddedError> {
    let find = |bucket: &&BucketSpec| bucket.logical_id == "MediaBucket";
    resources
        .buckets
        .iter()
        .find(find)
        .ok_or(EmbeddedError::MissingResource { kind: "bucket", logical_id: "MediaBucket" })
}

impl ResourceNames {
    fn new(resources: &Resources, sqs_url: &str) -> Result<Self, EmbeddedError> {
        let table = |logical_id: &'static str| {
            let found = resources.tables.iter().find(|table| table.logical_id == logical_id);
            found.map(|t| t.name.clone()).ok_or(EmbeddedError::MissingResource { kind: "table", logical_id })
        };
        let queue = |logical_id: &'static str| {
            let found = resources.queues.iter().find(|queue| queue.logical_id == logical_id);
            found
                .map(|q| format!("{sqs_url}/{}/{}", template::ACCOUNT_ID, q.name))
                .ok_or(EmbeddedError::MissingResource { kind: "queue", logical_id })
        };
        Ok(Self {
            keys_table: table("KeysTable")?,
            accounts_table: table("AccountsTable")?,
            jobs_table: table("JobsTable")?,
            idempotency_table: table("IdempotencyTable")?,
            deliveries_table: table("DeliveriesTable")?,
            limits_table: table("LimitsTable")?,
            usage_table: table("UsageTable")?,
            media_bucket: only_bucket(resources)?.name.clone(),
            jobs_queue_url: queue("JobsQueue")?,
            jobs_dlq_url: queue("JobsDeadLetterQueue")?,
        })
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// 128 random bits.
fn random_hex() -> String {
    let mut bytes = [0_u8; 16];
    #[expect(clippy::expect_used, reason = "an operating system without randomness cannot run a service")]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    hex::encode(bytes)
}

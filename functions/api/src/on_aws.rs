//! The routes' parts put together over AWS, or over whatever stands in for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rotoless_aws::system::{SystemClock, SystemEntropy};
use rotoless_aws::wakers::{Drain, Home, Homes};
use rotoless_aws::{AwsClients, HeaderProbe, S3Objects, Settings, SqsQueue, Store};
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Accounts as _, Clock, Fleet as _, Objects as _, UrlPolicy, Waiting as _};
use rotoless_telemetry::{Metrics, watched};

use crate::config::Config;
use crate::state::{ApiState, Dependencies, HealthProbe, Host, Ports};

/// A function's request is at most 6 MB, its body in base64, and headers beside it.
const MAX_MULTIPART_BYTES: u64 = 4_400_000;

/// The adapters. Cheap to clone.
#[derive(Clone)]
pub struct Adapters {
    /// The tables.
    pub store: Arc<Store>,
    /// The bucket.
    pub objects: Arc<S3Objects>,
    /// The queue of work.
    pub queue: Arc<SqsQueue>,
}

impl Adapters {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(clients: &AwsClients, settings: &Settings) -> Self {
        Self {
            store: Arc::new(Store::new(clients.dynamodb.clone(), settings.names.clone())),
            objects: Arc::new(S3Objects::new(clients, &settings.names.bucket)),
            queue: Arc::new(SqsQueue::new(clients.sqs.clone(), &settings.names.jobs_queue_url)),
        }
    }

    /// The routes' ports over them. `egress` says which URLs of clients are worth a try, `homes` where workers are woken.
    #[must_use]
    pub fn ports(&self, egress: rotoless_egress::Policy, homes: &Homes) -> Ports {
        let Self { store, objects, queue } = self;
        Ports {
            jobs: store.clone(),
            promises: store.clone(),
            keys: store.clone(),
            accounts: store.clone(),
            usage: store.clone(),
            deliveries: store.clone(),
            signings: store.clone(),
            objects: objects.clone(),
            uploads: objects.clone(),
            probe: Arc::new(HeaderProbe::new(objects.as_ref().clone())),
            urls: Arc::new(Urls(egress)),
            queue: queue.clone(),
            waker: homes.waker(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// The egress rules, as far as they need no look-up. Nothing is opened here.
struct Urls(rotoless_egress::Policy);

impl UrlPolicy for Urls {
    fn check(&self, url: &str) -> Result<(), String> {
        self.0.check(url).map(drop).map_err(|refused| refused.to_string())
    }
}

/// Connects to AWS. Nothing is sent yet.
pub async fn assemble(config: Config, metrics: Metrics) -> ApiState {
    let Config { aws, wakes, public_base, webhook_master, admin_token, legacy, .. } = config;
    let Config { rates, max_open_jobs, pricing, prompts, allow_egress_dangerous, .. } = config;
    // Whoever lets webhooks out to hosts of his own has no certificate for them as a rule.
    let allow_http = !allow_egress_dangerous.is_empty();
    let egress = rotoless_egress::Policy { allow_http: false, allow_addresses_dangerous: allow_egress_dangerous };
    let clients = AwsClients::connect(&aws).await;
    let adapters = Adapters::new(&clients, &aws);
    let policy = Arc::new(Policy { rates, max_open_jobs, pricing, prompts, allow_http, ..Policy::default() });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let drain = Drain { clients: &clients, names: &aws.names, eventcount: adapters.store.clone() };
    let homes = Homes::connect(&wakes, &policy, &clock, &drain);
    let host = Host {
        policy,
        public_base,
        admin_token,
        legacy,
        max_multipart_bytes: MAX_MULTIPART_BYTES,
        webhook_master,
        // What workers elsewhere have and can do is not known here: they say so by the job's `error_code`.
        models: Arc::new(|_| Ok(())),
        supported: Arc::new(|_| Ok(())),
        health: Arc::new(AwsHealth { adapters: adapters.clone(), home: wakes.first.home() }),
        // A function's answer goes out when it is whole.
        streams: None,
        backends: backends(["DynamoDB", "S3", "SQS", "AWS Lambda"]),
    };
    let ports = adapters.ports(egress, &homes);
    ApiState::new(Ports { jobs: watched(adapters.store, metrics), ..ports }, host)
}

/// What the parts run on, in the order of database, object store, queue, API.
#[must_use]
pub fn backends([database, object_store, queue, api]: [&str; 4]) -> BTreeMap<String, String> {
    let parts = [("database", database), ("object_store", object_store), ("queue", queue), ("api", api)];
    parts.map(|(part, backend)| (part.to_owned(), backend.to_owned())).into()
}

/// One cheap question to each dependency.
pub struct AwsHealth {
    /// What is asked.
    pub adapters: Adapters,
    /// Where workers are woken.
    pub home: Home,
}

#[async_trait]
impl HealthProbe for AwsHealth {
    async fn look(&self) -> Dependencies {
        let Adapters { store, objects, queue } = &self.adapters;
        let database = async {
            match "health".parse() {
                Ok(nobody) => store.balance(&nobody).await.is_ok(),
                Err(_) => false,
            }
        };
        let (database, queue, object_store, worker) =
            tokio::join!(database, queue.backlog(), objects.head("health"), store.last_seen());
        Dependencies {
            database,
            queue: queue.is_ok(),
            object_store: object_store.is_ok(),
            runpod_configured: self.home == Home::RunPod,
            worker_last_seen: worker.ok().flatten(),
        }
    }
}

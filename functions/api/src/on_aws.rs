//! The function's parts put together over AWS.

use std::sync::Arc;

use async_trait::async_trait;
use rotoless_aws::system::{SystemClock, SystemEntropy};
use rotoless_aws::wakers::InProcessWaker;
use rotoless_aws::{AwsClients, HeaderProbe, S3Objects, SqsQueue, Store};
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Accounts as _, Objects as _};
use rotoless_core::usecase::{Cancel, Submit};

use crate::config::Config;
use crate::state::{ApiState, Dependencies, HealthProbe};

/// A function's request is at most 6 MB, its body in base64, and headers beside it.
const MAX_MULTIPART_BYTES: u64 = 4_400_000;

/// Connects to AWS. Nothing is sent yet.
pub async fn assemble(config: Config) -> ApiState {
    let Config { aws, public_base, webhook_master, admin_token } = config;
    let clients = AwsClients::connect(&aws).await;
    let store = Arc::new(Store::new(clients.dynamodb.clone(), aws.names.clone()));
    let objects = Arc::new(S3Objects::new(&clients, &aws.names.bucket));
    let queue = Arc::new(SqsQueue::new(clients.sqs.clone(), &aws.names.jobs_queue_url));
    let (clock, entropy, policy) = (Arc::new(SystemClock), Arc::new(SystemEntropy), Arc::new(Policy::default()));
    let submit = Submit {
        jobs: store.clone(),
        promises: store.clone(),
        objects: objects.clone(),
        probe: Arc::new(HeaderProbe::new(objects.as_ref().clone())),
        queue: queue.clone(),
        // Workers that poll the queue need no wake; those that must be woken are woken by the sweep.
        waker: Arc::new(InProcessWaker),
        clock: clock.clone(),
        entropy: entropy.clone(),
        policy: policy.clone(),
    };
    let cancel = Cancel { jobs: store.clone(), clock: clock.clone(), entropy: entropy.clone(), policy: policy.clone() };
    ApiState {
        jobs: store.clone(),
        keys: store.clone(),
        accounts: store.clone(),
        objects: objects.clone(),
        uploads: objects.clone(),
        submit: Arc::new(submit),
        cancel: Arc::new(cancel),
        clock,
        entropy,
        policy,
        public_base,
        admin_token,
        max_multipart_bytes: MAX_MULTIPART_BYTES,
        webhook_master,
        // What workers elsewhere have and can do is not known here: they say so by the job's `error_code`.
        models: Arc::new(|_| Ok(())),
        supported: Arc::new(|_| Ok(())),
        health: Arc::new(AwsHealth { store, objects, queue }),
    }
}

/// One cheap question to each dependency.
struct AwsHealth {
    store: Arc<Store>,
    objects: Arc<S3Objects>,
    queue: Arc<SqsQueue>,
}

#[async_trait]
impl HealthProbe for AwsHealth {
    async fn look(&self) -> Dependencies {
        let database = async {
            match "health".parse() {
                Ok(nobody) => self.store.balance(&nobody).await.is_ok(),
                Err(_) => false,
            }
        };
        let (database, queue, object_store) =
            tokio::join!(database, self.queue.visible_count(), self.objects.head("health"));
        Dependencies { database, queue: queue.is_ok(), object_store: object_store.is_ok(), ..Dependencies::default() }
    }
}

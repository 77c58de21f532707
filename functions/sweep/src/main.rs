//! The function's entry: a schedule calls it once a minute.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, service_fn};
use rotoless_aws::system::{SystemClock, SystemEntropy};
use rotoless_aws::wakers::InProcessWaker;
use rotoless_aws::{AwsClients, S3Objects, Settings, SqsQueue, Store};
use rotoless_core::policy::Policy;
use rotoless_core::ports::Waker;
use rotoless_core::usecase::Sweep;
use rotoless_sweep::{Tick, Workers};
use rotoless_telemetry::{Metrics, watched};
use serde_json::{Value, json};

#[expect(clippy::disallowed_methods, reason = "the one place where this program reads its environment")]
fn environment(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let metrics = rotoless_telemetry::begin(environment);
    let settings = Settings::from_lookup(environment)
        .map_err(|problems| anyhow!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    let tick = Arc::new(tick(&settings, metrics.clone()).await);
    let handle = |_: LambdaEvent<Value>| {
        let (tick, metrics) = (Arc::clone(&tick), metrics.clone());
        async move {
            let ticked = tick.run().await?;
            metrics.tell(Timestamp::now(), &ticked.figures(), &[]);
            Ok::<_, lambda_runtime::Error>(json!({ "seen": ticked.swept.seen, "waiting": ticked.backlog.visible }))
        }
    };
    lambda_runtime::run(service_fn(handle)).await.map_err(|err| anyhow!(err))
}

async fn tick(settings: &Settings, metrics: Metrics) -> Tick {
    let clients = AwsClients::connect(settings).await;
    let store = Arc::new(Store::new(clients.dynamodb.clone(), settings.names.clone()));
    let queue = SqsQueue::new(clients.sqs.clone(), &settings.names.jobs_queue_url);
    let waker: Arc<dyn Waker> = Arc::new(InProcessWaker);
    let sweep = Sweep {
        jobs: watched(store, metrics),
        objects: Arc::new(S3Objects::new(&clients, &settings.names.bucket)),
        queue: Arc::new(queue.clone()),
        waker: Arc::clone(&waker),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        policy: Arc::new(Policy::default()),
    };
    Tick { sweep: Arc::new(sweep), workers: Workers::Polling(Arc::new(queue)) }
}

//! The function's entry: whatever wakes it (a schedule, a queue, a stream), it sends what is due.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, service_fn};
use rotoless_aws::system::{SystemClock, SystemEntropy};
use rotoless_aws::{AwsClients, S3Objects, Settings, Store};
use rotoless_core::policy::Policy;
use rotoless_core::usecase::{Busy, Deliver};
use rotoless_deliver::config::Config;
use rotoless_deliver::{EgressSender, drain, figures};
use serde_json::{Value, json};

/// No tick begins after this long; one lasts up to 25 s, and the function is cut at 55 s.
const BUDGET: Duration = Duration::from_secs(25);

#[expect(clippy::disallowed_methods, reason = "the one place where this program reads its environment")]
fn environment(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let metrics = rotoless_telemetry::begin(environment);
    let settings = Settings::from_lookup(environment)
        .map_err(|problems| anyhow!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    let config = Config::from_lookup(environment).map_err(|missing| anyhow!("{missing} is not set"))?;
    let deliver = Arc::new(deliver(&settings, config).await?);
    let handle = |_: LambdaEvent<Value>| {
        let (deliver, metrics) = (Arc::clone(&deliver), metrics.clone());
        async move {
            let busy = Busy::default();
            let done = drain(|| deliver.tick_beside(&busy), BUDGET).await?;
            metrics.tell(Timestamp::now(), &figures(&done), &[]);
            tracing::info!(
                deliver.sent = done.sent,
                deliver.retried = done.retried,
                deliver.given_up = done.given_up,
                deliver.postponed = done.postponed,
                deliver.failed = done.failed,
                "deliver"
            );
            Ok::<_, lambda_runtime::Error>(json!({ "sent": done.sent }))
        }
    };
    lambda_runtime::run(service_fn(handle)).await.map_err(|err| anyhow!(err))
}

async fn deliver(settings: &Settings, config: Config) -> Result<Deliver> {
    let clients = AwsClients::connect(settings).await;
    let store = Arc::new(Store::new(clients.dynamodb.clone(), settings.names.clone()));
    Ok(Deliver {
        signings: store.clone(),
        deliveries: store.clone(),
        jobs: store,
        objects: Arc::new(S3Objects::new(&clients, &settings.names.bucket)),
        sender: Arc::new(EgressSender::new(&config.allow_egress_dangerous)?),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        policy: Arc::new(Policy::default()),
        master: config.webhook_master,
    })
}

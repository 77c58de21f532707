//! The function's entry: a schedule calls it once a minute.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, service_fn};
use rotoless_aws::system::{SystemClock, SystemEntropy};
use rotoless_aws::wakers::{Drain, Homes, WakeSettings};
use rotoless_aws::{AwsClients, S3Objects, Settings, SqsQueue, Store};
use rotoless_core::policy::Policy;
use rotoless_core::ports::Clock;
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
    let (settings, wakes) = (Settings::from_lookup(environment), WakeSettings::from_lookup(environment));
    let problems: Vec<_> = [settings.as_ref().err(), wakes.as_ref().err()]
        .into_iter()
        .flatten()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let (Ok(settings), Ok(wakes)) = (settings, wakes) else { bail!(problems.join("; ")) };
    let tick = Arc::new(tick(&settings, &wakes, metrics.clone()).await);
    let handle = |_: LambdaEvent<Value>| {
        let (tick, metrics) = (Arc::clone(&tick), metrics.clone());
        async move {
            let ticked = tick.run().await?;
            metrics.tell(Timestamp::now(), &ticked.figures(), &[]);
            let woken = ticked.woken.as_ref().map_or(0, |woken| woken.wakes);
            Ok::<_, lambda_runtime::Error>(json!({
                "seen": ticked.swept.seen,
                "waiting": ticked.backlog.visible,
                "woken": woken,
            }))
        }
    };
    lambda_runtime::run(service_fn(handle)).await.map_err(|err| anyhow!(err))
}

async fn tick(settings: &Settings, wakes: &WakeSettings, metrics: Metrics) -> Tick {
    let clients = AwsClients::connect(settings).await;
    let store = Arc::new(Store::new(clients.dynamodb.clone(), settings.names.clone()));
    let queue = SqsQueue::new(clients.sqs.clone(), &settings.names.jobs_queue_url);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let policy = Arc::new(Policy::default());
    let drain = Drain { clients: &clients, names: &settings.names, eventcount: store.clone() };
    let homes = Homes::connect(wakes, &policy, &clock, &drain);
    let waiting = Arc::new(queue.clone());
    let workers = match homes.wakes(waiting.clone(), store.clone(), clock.clone()) {
        Some(wakes) => Workers::Woken(Arc::new(wakes)),
        None => Workers::Polling(waiting),
    };
    let sweep = Sweep {
        jobs: watched(store, metrics),
        objects: Arc::new(S3Objects::new(&clients, &settings.names.bucket)),
        queue: Arc::new(queue),
        waker: homes.waker(),
        clock,
        entropy: Arc::new(SystemEntropy),
        policy,
    };
    Tick { sweep: Arc::new(sweep), workers }
}

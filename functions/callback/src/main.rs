//! The function's entry: the workers' routes as Lambda runs them.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use rotoless_aws::system::{SystemClock, SystemEntropy};
use rotoless_aws::{AwsClients, S3Objects, Settings, Store};
use rotoless_callback::{CallbackState, Secrets, SignsOfLife, config, router};
use rotoless_core::policy::Policy;
use rotoless_core::usecase::{AttemptCalls, Claims, Drainers};
use rotoless_telemetry::{Metrics, watched};

#[expect(clippy::disallowed_methods, reason = "the one place where this program reads its environment")]
fn environment(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let metrics = rotoless_telemetry::begin(environment);
    let settings = Settings::from_lookup(environment)
        .map_err(|problems| anyhow!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    let secrets = config::secrets(environment).map_err(|missing| anyhow!("not set: {}", missing.join(", ")))?;
    let policy = config::policy(environment).map_err(|name| anyhow!("{name} is not a number of seconds"))?;
    let state = state(&settings, secrets, policy, metrics).await;
    rotoless_gateway::run(router(state)).await.map_err(|err| anyhow!(err))
}

async fn state(settings: &Settings, secrets: Secrets, policy: Policy, metrics: Metrics) -> CallbackState {
    let clients = AwsClients::connect(settings).await;
    let store = Arc::new(Store::new(clients.dynamodb.clone(), settings.names.clone()));
    let jobs = watched(store.clone(), metrics);
    let objects = Arc::new(S3Objects::new(&clients, &settings.names.bucket));
    let (clock, entropy, policy) = (Arc::new(SystemClock), Arc::new(SystemEntropy), Arc::new(policy));
    let claims = Claims {
        jobs: jobs.clone(),
        objects: objects.clone(),
        clock: clock.clone(),
        entropy: entropy.clone(),
        policy: policy.clone(),
        // The first is the current one; attempts that began under an older one are still accepted.
        master: secrets.masters[0].clone(),
    };
    let drainers = Arc::new(Drainers { eventcount: store.clone(), clock: clock.clone() });
    let signs = Arc::new(SignsOfLife::new(store));
    let attempts = AttemptCalls { jobs, objects, clock: clock.clone(), entropy: entropy.clone(), policy };
    let (claims, attempts, secrets) = (Arc::new(claims), Arc::new(attempts), Arc::new(secrets));
    CallbackState { claims, attempts, drainers, clock, entropy, secrets, signs }
}

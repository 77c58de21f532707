//! The public routes as a Lambda function: configuration from the environment, logs as JSON lines.

use anyhow::{Result, anyhow};
use rotoless_api::config::Config;
use rotoless_api::{on_aws, router};

#[expect(clippy::disallowed_methods, reason = "what logs and metrics are set up by; the rest is read in config.rs")]
fn environment(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let metrics = rotoless_telemetry::begin(environment);
    let state = on_aws::assemble(Config::from_env()?, metrics).await;
    rotoless_gateway::run(router(state)).await.map_err(|error| anyhow!(error))
}

//! The public routes as a Lambda function: configuration from the environment, logs as JSON lines.

use anyhow::{Result, anyhow};
use rotoless_api::config::Config;
use rotoless_api::{on_aws, router};
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    let state = on_aws::assemble(Config::from_env()?).await;
    rotoless_gateway::run(router(state)).await.map_err(|error| anyhow!(error))
}

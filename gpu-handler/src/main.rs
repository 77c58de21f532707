//! The worker as a program of its own: configuration from the environment, logs as JSON lines.

use std::process::ExitCode;

use rotoless_gpu_handler::{Config, run};
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "worker cannot start");
            return ExitCode::FAILURE;
        }
    };
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "worker ends");
            // Not by returning: an engine that hangs would keep the process.
            std::process::exit(1)
        }
    }
}

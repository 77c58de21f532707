//! The worker as a Lambda function: SQS hands it messages, a few at most, and hears which of them were not done.

mod batch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::anyhow;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use rotoless_gpu_handler::{Config, HandedWorker};
use tracing_subscriber::EnvFilter;

use crate::batch::{Answer, Batch};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the function ends");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    let worker = Arc::new(HandedWorker::open(Config::from_env()?).await?);
    let handle = |event: LambdaEvent<Batch>| {
        let worker = Arc::clone(&worker);
        async move {
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            Ok::<_, Error>(turn(&worker, event.payload, left).await)
        }
    };
    lambda_runtime::run(service_fn(handle)).await.map_err(|error| anyhow!(error))
}

/// One invocation: the messages one after the other. What is done is deleted here already, so that what the others need
/// of the time, or a crash, does not bring it back; Lambda's own deletion finds nothing then, which is no error.
async fn turn(worker: &HandedWorker, batch: Batch, whole: Duration) -> Answer {
    let ends = Instant::now() + whole;
    let mut answer = Answer::default();
    for record in batch.records {
        let (id, message) = record.message();
        match worker.serve(message, whole, ends).await {
            Ok(true) => {}
            Ok(false) => answer.failed(id),
            Err(error) => {
                tracing::error!(error = format!("{:#}", anyhow!(error)), "the function ends");
                // Not by an answer: a process that goes on would keep the thread that hangs.
                std::process::exit(1);
            }
        }
    }
    answer
}

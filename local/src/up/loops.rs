//! What runs beside the port: deliver and sweep, which on AWS a schedule starts, and the embedded AWS's own expiry.

use std::sync::Arc;
use std::time::Duration;

use rotoless_core::usecase::{Deliver, Sweep};
use rotoless_embedded::Embedded;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::assembly::Assembly;

const DELIVER_EVERY: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Runs all of them until `stop`; gives the embedded AWS back when nobody uses it any more.
pub(crate) fn spawn(assembly: &Assembly, embedded: Embedded, stop: CancellationToken) -> JoinHandle<Embedded> {
    let delivering = tokio::spawn(deliver(Arc::clone(assembly.deliver()), stop.clone()));
    let sweeping = tokio::spawn(sweep(Arc::clone(assembly.sweep()), stop.clone()));
    tokio::spawn(async move {
        while !stopped_within(EXPIRE_EVERY, &stop).await {
            embedded.sweep_expired().await;
        }
        let _ = tokio::join!(delivering, sweeping);
        embedded
    })
}

async fn deliver(deliver: Arc<Deliver>, stop: CancellationToken) {
    while !stopped_within(DELIVER_EVERY, &stop).await {
        if let Err(err) = deliver.tick().await {
            tracing::error!(error = %err, "deliver could not list what is due");
        }
    }
}

async fn sweep(sweep: Arc<Sweep>, stop: CancellationToken) {
    while !stopped_within(SWEEP_EVERY, &stop).await {
        if let Err(err) = sweep.tick().await {
            tracing::error!(error = %err, "sweep could not list what is due");
        }
    }
}

/// Waits for the next tick. `true` when it is the end instead.
async fn stopped_within(interval: Duration, stop: &CancellationToken) -> bool {
    tokio::time::timeout(interval, stop.cancelled()).await.is_ok()
}

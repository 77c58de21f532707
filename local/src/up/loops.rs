//! What runs beside the port: deliver and sweep, which on AWS a schedule starts, and the embedded AWS's own expiry.

use std::sync::Arc;
use std::time::Duration;

use rotoless_embedded::Embedded;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::assembly::Assembly;

const DELIVER_EVERY: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Runs all of them until `stop`; gives the embedded AWS back when nobody uses it any more.
pub fn spawn(assembly: &Assembly, embedded: Embedded, stop: CancellationToken) -> JoinHandle<Embedded> {
    let (deliver, sweep) = (Arc::clone(assembly.deliver()), Arc::clone(assembly.sweep()));
    tokio::spawn(async move {
        let delivering = every(DELIVER_EVERY, &stop, async || {
            if let Err(err) = deliver.tick().await {
                tracing::error!(error = %err, "deliver could not list what is due");
            }
        });
        let sweeping = every(SWEEP_EVERY, &stop, async || {
            if let Err(err) = sweep.tick().await {
                tracing::error!(error = %err, "sweep could not list what is due");
            }
        });
        let expiring = every(EXPIRE_EVERY, &stop, async || {
            embedded.sweep_expired().await;
        });
        tokio::join!(delivering, sweeping, expiring);
        embedded
    })
}

async fn every(interval: Duration, stop: &CancellationToken, tick: impl AsyncFn()) {
    loop {
        tick().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

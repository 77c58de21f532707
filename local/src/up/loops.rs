//! What runs beside the port: deliver and sweep, which on AWS a schedule starts, and the embedded AWS's own expiry.

use std::sync::Arc;
use std::time::Duration;

use rotoless_core::usecase::{Busy, Deliver};
use rotoless_embedded::Embedded;
use rotoless_sweep::Tick;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::assembly::Assembly;

const DELIVER_EVERY: Duration = Duration::from_secs(1);
/// Ticks at once: as many as begin while the slowest one lasts.
const MOST_TICKS: usize = 30;
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Runs all of them until `stop`; gives the embedded AWS back when nobody uses it any more.
pub(crate) fn spawn(assembly: &Assembly, embedded: Embedded, stop: CancellationToken) -> JoinHandle<Embedded> {
    let delivering = tokio::spawn(deliver(Arc::clone(assembly.deliver()), stop.clone()));
    let sweeping = tokio::spawn(sweep(Arc::clone(assembly.tick()), stop.clone()));
    tokio::spawn(async move {
        while !stopped_within(EXPIRE_EVERY, &stop).await {
            embedded.sweep_expired().await;
        }
        let _ = tokio::join!(delivering, sweeping);
        embedded
    })
}

/// Ticks beside one another: a tick lasts as long as its slowest endpoint, and nobody else is to wait for that.
async fn deliver(deliver: Arc<Deliver>, stop: CancellationToken) {
    let busy = Busy::default();
    let mut ticks = JoinSet::new();
    while !stopped_within(DELIVER_EVERY, &stop).await {
        while ticks.try_join_next().is_some() {}
        if ticks.len() < MOST_TICKS {
            let (deliver, busy) = (Arc::clone(&deliver), busy.clone());
            ticks.spawn(async move {
                if let Err(err) = deliver.tick_beside(&busy).await {
                    tracing::error!(error = %err, "deliver could not list what is due");
                }
            });
        }
    }
    while ticks.join_next().await.is_some() {}
}

async fn sweep(tick: Arc<Tick>, stop: CancellationToken) {
    while !stopped_within(SWEEP_EVERY, &stop).await {
        if let Err(err) = tick.run().await {
            tracing::error!(error = %err, "sweep could not list what is due, or not count what waits");
        }
    }
}

/// Waits for the next tick. `true` when it is the end instead.
async fn stopped_within(interval: Duration, stop: &CancellationToken) -> bool {
    tokio::time::timeout(interval, stop.cancelled()).await.is_ok()
}

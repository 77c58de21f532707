//! The public port.

use std::time::Duration;

use anyhow::Result;
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Requests under way at the end may take this long.
const DRAIN: Duration = Duration::from_secs(10);

/// Answers until `stop`, then lets requests under way end.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> Result<()> {
    let signal = stop.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { signal.cancelled().await });
    let cut = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = server => result?,
        () = cut => tracing::warn!("requests did not end in time"),
    }
    Ok(())
}

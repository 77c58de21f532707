//! The public port: who may connect, how long he may take to say what he wants, and how it ends.
//!
//! Owns: bounds on connections and on the heads of requests; the end of the port. Does not own: bodies (their readers
//! bound them), what is answered (the router; and for what is no request at all, [`refusal`]).

mod refusal;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use self::refusal::Refusing;

/// Requests under way at the end may take this long.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at once; further ones wait to be accepted. Idle ones end by [`HEAD_TIME`], so that a place comes free.
const MOST_CONNECTIONS: usize = 4096;
/// From the end of a request to the end of the next one's head: bounds idle connections and dripped heads alike.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Greatest head of a request in bytes, and its most headers.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
/// After a failed accept (no file descriptors, as a rule) the next try waits this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers until `stop`, then lets requests under way end.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> Result<()> {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let connections = TaskTracker::new();
    while let Some((stream, place)) = next(&listener, &places, &stop).await? {
        connections.spawn(converse(stream, router.clone(), stop.clone(), place));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("requests did not end in time");
    }
    Ok(())
}

/// The next connection with its place, until `stop`.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Result<Option<(TcpStream, OwnedSemaphorePermit)>> {
    let accepted = async {
        let place = Arc::clone(places).acquire_owned().await?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return anyhow::Ok((stream, place)),
                Err(err) => {
                    tracing::warn!(error = %err, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(None),
        accepted = accepted => accepted.map(Some),
    }
}

/// One connection, from its first request to its last.
async fn converse(stream: TcpStream, router: Router, stop: CancellationToken, _place: OwnedSemaphorePermit) {
    // Answers are written whole: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let connection = http.serve_connection(TokioIo::new(Refusing::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = ended {
        // A client that hung up, or said nothing that could be understood: his affair.
        tracing::debug!(error = %err, "a connection broke off");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> axum::response::Response {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Port {
        address: std::net::SocketAddr,
        stop: CancellationToken,
        server: tokio::task::JoinHandle<Result<()>>,
    }

    async fn port() -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let id = (HeaderName::from_static("x-request-id"), "req_of_the_router");
        let router = Router::new().fallback(async move || ([id], axum::Json(true)));
        let server = tokio::spawn(serve(listener, router, stop.clone()));
        Port { address, stop, server }
    }

    impl Port {
        /// Everything that comes back until the other side ends.
        async fn said(&self, bytes: &[u8]) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            // Refused while sending: what was answered is read all the same.
            let _ = stream.write_all(bytes).await;
            let mut said = Vec::new();
            let reading = stream.read_to_end(&mut said);
            tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap().unwrap();
            String::from_utf8(said).unwrap()
        }

        async fn end(self) {
            self.stop.cancel();
            self.server.await.unwrap().unwrap();
        }
    }

    /// G-35, R1: hyper answers these by itself, without a body.
    #[tokio::test]
    async fn what_is_no_request_is_refused_with_an_envelope() {
        let port = port().await;
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(200));
        let far = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
        for bytes in [
            "hello\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n",
            &long,
            &many,
            &far,
        ] {
            let what = &bytes[..bytes.len().min(60)];
            let said = port.said(bytes.as_bytes()).await;
            let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what:?}: {said:?}"));
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{what:?}: {head}");
            let envelope: Value = serde_json::from_str(body).unwrap();
            let id = envelope["error"]["request_id"].as_str().unwrap();
            assert!(id.starts_with("req_") && head.contains(&format!("x-request-id: {id}")), "{what:?}: {said}");
            assert_eq!(envelope["error"]["code"], "invalid_request");
        }
        port.end().await;
    }

    #[tokio::test]
    async fn a_good_request_before_a_bad_one_is_answered_by_the_router() {
        let port = port().await;
        let said = port.said(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("req_of_the_router"), "{said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 2, "{said}");
        assert_eq!(said.matches("\"invalid_request\"").count(), 1, "{said}");
        port.end().await;
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_end() {
        let port = port().await;
        let idle = TcpStream::connect(port.address).await.unwrap();
        port.said(b"GET / HTTP/1.0\r\n\r\n").await;
        let began = std::time::Instant::now();
        port.end().await;
        assert!(began.elapsed() < DRAIN);
        drop(idle);
    }
}

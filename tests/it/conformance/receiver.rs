//! A customer's webhook endpoint on this machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// From an event to its arrival, on a machine that is busy with other tests.
const ARRIVES: Duration = Duration::from_secs(90);

/// A webhook as it came.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Clone)]
struct Shared {
    came: Arc<Mutex<Vec<Sent>>>,
    status: Arc<AtomicU16>,
}

pub(crate) struct Receiver {
    address: std::net::SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { came: Arc::default(), status: Arc::new(AtomicU16::new(200)) };
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, server }
    }

    /// Arguments of a service that may reach it.
    pub(crate) fn allowed(&self) -> Vec<String> {
        vec!["--allow-egress-dangerous".to_owned(), self.address.to_string()]
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// Everything that came to a path, once there is so much.
    pub(crate) async fn wait(&self, path: &str, count: usize) -> Vec<Sent> {
        let deadline = Instant::now() + ARRIVES;
        loop {
            let came: Vec<Sent> =
                self.shared.came.lock().await.iter().filter(|sent| sent.path == path).cloned().collect();
            if came.len() >= count {
                return came;
            }
            assert!(Instant::now() < deadline, "{} of {count} webhooks came to {path}: {came:#?}", came.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    shared.came.lock().await.push(Sent { path: uri.path().to_owned(), headers, body: body.to_vec() });
    StatusCode::from_u16(shared.status.load(Ordering::SeqCst)).unwrap()
}

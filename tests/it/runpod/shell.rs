//! The endpoint as it is reached: RunPod's public routes, its workers' routes and its management routes, on loopback.
//!
//! Owns: the wire, keys, long polls, and the troubles that calls meet. Does not own: any decision (`platform`).
//! Invariant: a take whose worker hangs up is withdrawn, with or without an answer.

mod management;
mod public;
mod worker_side;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::platform::{Millis, Order, Platform, Route, Settings, Trouble};

/// What callers put behind `Bearer`.
pub(crate) const API_KEY: &str = "rpa_the-key-of-the-callers";
/// What workers send as it is.
pub(crate) const WORKER_KEY: &str = "the-key-of-the-workers";
pub(crate) const ENDPOINT: &str = "fake0endpoint";
/// Results above this are refused, as they are in the cloud.
const LARGEST_RESULT: usize = 20 << 20;

/// What a caller gets.
#[derive(Debug)]
enum Answer {
    Json(u16, Value),
    Empty(u16),
    /// The connection ends without one.
    Cut,
}

impl Answer {
    fn of(result: Result<Value, u16>) -> Self {
        match result {
            Ok(value) => Self::Json(200, value),
            Err(status) => Self::Json(status, json!({"error": "refused"})),
        }
    }
}

/// The connection broke, by the caller's doing or by ours.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

/// A running endpoint. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Shared>);

struct Shared {
    platform: Mutex<Platform>,
    management: Mutex<management::Management>,
    began: Instant,
    /// `http://host:port`
    url: String,
    /// How long a take waits for work.
    poll: Duration,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
    }
}

impl Endpoint {
    /// Opens the endpoint at a port that the system chooses.
    pub(crate) async fn open(settings: Settings, poll: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = Self(Arc::new(Shared {
            platform: Mutex::new(Platform::new(settings)),
            management: Mutex::default(),
            began: Instant::now(),
            url,
            poll,
            server: Mutex::default(),
        }));
        // The server must not keep the endpoint: it ends with it.
        let weak = Arc::downgrade(&endpoint.0);
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, weak.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        *endpoint.0.server.lock().unwrap() = Some(server);
        endpoint
    }

    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    /// The root of the endpoint's own routes.
    pub(crate) fn base(&self) -> String {
        format!("{}/v2/{ENDPOINT}", self.0.url)
    }

    pub(crate) fn now(&self) -> Millis {
        Millis::try_from(self.0.began.elapsed().as_millis()).unwrap()
    }

    /// A look at the platform, or a hand in it, at this moment.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Platform, Millis) -> T) -> T {
        let mut platform = self.0.platform.lock().unwrap();
        let now = self.now();
        act(&mut platform, now)
    }

    /// Lets time pass. Gives what a host has to do.
    pub(crate) fn tick(&self) -> Vec<Order> {
        self.with(|platform, now| platform.tick(now))
    }

    /// What a call meets instead of its answer. Never ends when it hangs.
    async fn trouble(&self, route: Route) -> Option<Trouble> {
        let trouble = self.with(|platform, _| platform.faults.meet(route));
        if trouble == Some(Trouble::Hang) {
            std::future::pending::<()>().await;
        }
        trouble
    }

    async fn answer(&self, parts: &Parts, body: Result<Bytes, Broken>) -> Answer {
        let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
        let method = parts.method.as_str();
        let said = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match path.as_slice() {
            ["v2", ENDPOINT, kind @ ("job-take" | "job-take-batch" | "job-stop" | "ping"), worker]
                if method == "GET" =>
            {
                if said != WORKER_KEY {
                    return self.unknown_worker(parts);
                }
                self.worker_asks(kind, worker, &query_of(parts)).await
            }
            ["v2", ENDPOINT, kind @ ("job-done" | "job-stream"), worker, job] if method == "POST" => {
                if said != WORKER_KEY {
                    return self.unknown_worker(parts);
                }
                self.worker_says(kind, worker, job, parts, body).await
            }
            _ if said.strip_prefix("Bearer ") != Some(API_KEY) => Answer::Json(401, json!({"error": "unauthorized"})),
            ["v2", ENDPOINT, rest @ ..] => {
                let body = body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or(Value::Null);
                self.caller(method, rest, &query_of(parts), &body).await
            }
            ["v1", rest @ ..] => {
                let body = body.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or(Value::Null);
                self.manage(method, rest, &body).await
            }
            _ => Answer::Json(404, json!({"error": "not found"})),
        }
    }

    fn unknown_worker(&self, parts: &Parts) -> Answer {
        self.with(|platform, _| platform.witness.breach(format!("a wrong key at {}", parts.uri.path())));
        Answer::Json(401, json!({"error": "unauthorized"}))
    }
}

/// The pairs of a query, each name's last.
type Query = std::collections::BTreeMap<String, String>;

fn query_of(parts: &Parts) -> Query {
    let query = parts.uri.query().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace("%2C", ","))).collect()
}

async fn converse(stream: TcpStream, shared: std::sync::Weak<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move {
            let endpoint = Endpoint(shared.upgrade().ok_or(Broken)?);
            respond(&endpoint, request).await
        }
    });
    // Broken connections are part of it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(endpoint: &Endpoint, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_RESULT).collect().await.map(|body| body.to_bytes()).map_err(|_| Broken);
    let (status, body) = match endpoint.answer(&parts, body).await {
        Answer::Json(status, value) => (status, Bytes::from(value.to_string())),
        Answer::Empty(status) => (status, Bytes::new()),
        Answer::Cut => return Err(Broken),
    };
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    response.body(Full::new(body)).map_err(|_| Broken)
}

//! The Lambda Runtime API, as one execution environment sees it.
//!
//! Owns: handing invocations to the process that asks for them, and what it answers. Does not own: the process
//! (`sandbox`). Invariants: one invocation at a time; an answer counts for the invocation that it names and for no other;
//! an answer beyond Lambda's bound is an error of the function, as there.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

/// Greatest event and greatest answer of a synchronous invocation: 6 MiB and a little for Lambda's own words.
pub(crate) const MOST_BYTES: usize = 6 * 1024 * 1024 + 100;

/// What became of an invocation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Answered(Value),
    /// The function said that it failed: `errorType` and `errorMessage`.
    Failed(Value),
    /// The process ended before it answered.
    Ended,
    /// The time was over; the process was killed.
    TimedOut,
}

impl Outcome {
    pub(crate) fn answer(self) -> Value {
        match self {
            Self::Answered(value) => value,
            Self::Failed(_) | Self::Ended | Self::TimedOut => panic!("no answer: {self:?}"),
        }
    }
}

struct Waiting {
    id: String,
    event: Bytes,
    deadline: SystemTime,
    answer: oneshot::Sender<Outcome>,
}

#[derive(Default)]
struct Shared {
    next: Mutex<Option<Waiting>>,
    came: Notify,
    in_flight: Mutex<Option<(String, oneshot::Sender<Outcome>)>>,
    /// How often the process asked for an invocation.
    asked: watch::Sender<u64>,
    init_error: Mutex<Option<Value>>,
    name: String,
}

/// One environment's API, on a port of its own.
pub(crate) struct RuntimeApi {
    pub(crate) address: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl RuntimeApi {
    pub(crate) async fn start(function: &str) -> Self {
        let shared = Arc::new(Shared { name: function.to_owned(), ..Shared::default() });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(4 * MOST_BYTES))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, shared, server }
    }

    /// Leaves an invocation for the process. What it leads to comes through the channel; a closed channel says that
    /// nobody can answer any more.
    pub(crate) fn leave(&self, event: &Value, id: &str, time: Duration) -> oneshot::Receiver<Outcome> {
        let (answer, outcome) = oneshot::channel();
        let event = serde_json::to_vec(event).unwrap().into();
        let waiting = Waiting { id: id.to_owned(), event, deadline: SystemTime::now() + time, answer };
        *self.shared.next.lock().unwrap() = Some(waiting);
        self.shared.came.notify_one();
        outcome
    }

    /// How often the process asked for an invocation so far.
    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        self.shared.asked.subscribe()
    }

    pub(crate) fn init_error(&self) -> Option<Value> {
        self.shared.init_error.lock().unwrap().clone()
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    shared.asked.send_modify(|asked| *asked += 1);
    let waiting = loop {
        if let Some(waiting) = shared.next.lock().unwrap().take() {
            break waiting;
        }
        shared.came.notified().await;
    };
    let Waiting { id, event, deadline, answer } = waiting;
    let deadline = deadline.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let arn = format!("arn:aws:lambda:{}:{}:function:{}", super::REGION, super::ACCOUNT, shared.name);
    let headers = [
        ("lambda-runtime-aws-request-id", id.clone()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", arn),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0".to_owned(),
        ),
        ("content-type", "application/json".to_owned()),
    ];
    *shared.in_flight.lock().unwrap() = Some((id, answer));
    (headers, event).into_response()
}

impl Shared {
    fn take(&self, id: &str) -> Option<oneshot::Sender<Outcome>> {
        let mut in_flight = self.in_flight.lock().unwrap();
        in_flight.take_if(|(current, _)| current == id).map(|(_, answer)| answer)
    }
}

fn unknown() -> Response {
    let body = json!({"errorType": "InvalidRequestID", "errorMessage": "no such invocation"});
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

async fn response(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Response {
    let Some(answer) = shared.take(&id) else { return unknown() };
    if body.len() > MOST_BYTES {
        let error =
            json!({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": format!("{} bytes", body.len())});
        let _ = answer.send(Outcome::Failed(error.clone()));
        return (StatusCode::PAYLOAD_TOO_LARGE, axum::Json(error)).into_response();
    }
    let outcome = match serde_json::from_slice(&body) {
        Ok(value) => Outcome::Answered(value),
        Err(error) => Outcome::Failed(json!({"errorType": "NotJson", "errorMessage": error.to_string()})),
    };
    let _ = answer.send(outcome);
    accepted()
}

async fn error(State(shared): State<Arc<Shared>>, Path(id): Path<String>, _: HeaderMap, body: Bytes) -> Response {
    let Some(answer) = shared.take(&id) else { return unknown() };
    let _ = answer.send(Outcome::Failed(serde_json::from_slice(&body).unwrap_or(Value::Null)));
    accepted()
}

async fn init_error(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    *shared.init_error.lock().unwrap() = Some(serde_json::from_slice(&body).unwrap_or(Value::Null));
    accepted()
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, axum::Json(json!({"status": "OK"}))).into_response()
}

//! A stand-in of RunPod's routes for one worker: what it answers is scripted, what it was sent is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::config::Config;
use crate::runpod::RunPod;
use crate::sessions::Start;

pub(super) const KEY: &str = "rpa_worker_key";

/// What a take answers.
#[derive(Debug, Clone)]
pub(super) enum Take {
    /// A job with this id and this input.
    Job(&'static str, Value),
    /// This body, as JSON.
    Json(Value),
    Status(u16),
    /// 200 with this content type and body.
    Other(&'static str, &'static str),
    /// Nothing, for longer than anybody waits.
    Hang,
    /// A job, after so long.
    Late(Duration, &'static str),
}

/// A call as it came.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Call {
    fn route(&self) -> String {
        self.path.trim_start_matches("/v2/ep/").split('/').next().unwrap_or_default().to_owned()
    }

    pub(super) fn is(&self, route: &str) -> bool {
        self.route() == route
    }
}

#[derive(Default)]
struct Shared {
    takes: VecDeque<Take>,
    dones: VecDeque<u16>,
    pings: VecDeque<u16>,
    stops: VecDeque<Vec<&'static str>>,
    /// Polls of the stop channel whose callers went away.
    stops_unheard: u32,
    takes_outstanding: u32,
    most_outstanding: u32,
}

#[derive(Clone)]
pub(super) struct Platform {
    shared: Arc<Mutex<Shared>>,
    calls: Arc<watch::Sender<Vec<Call>>>,
    origin: String,
}

impl Platform {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let platform = Self { shared: Arc::default(), calls: Arc::new(watch::Sender::new(Vec::new())), origin };
        let app = Router::new().fallback(answer).with_state(platform.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        platform
    }

    /// As RunPod's environment has it.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let at = |rest: &str| format!("{}/v2/ep/{rest}", self.origin);
        vec![
            ("RUNPOD_WEBHOOK_GET_JOB", at("job-take/$ID?gpu=NVIDIA+L4")),
            ("RUNPOD_WEBHOOK_POST_OUTPUT", at("job-done/$RUNPOD_POD_ID/$ID?gpu=NVIDIA+L4")),
            ("RUNPOD_WEBHOOK_PING", at("ping/$RUNPOD_POD_ID?gpu=NVIDIA+L4")),
            ("RUNPOD_PING_INTERVAL", "1000".to_owned()),
            ("RUNPOD_AI_API_KEY", KEY.to_owned()),
            ("RUNPOD_POD_ID", "pod7".to_owned()),
            ("RUNPOD_ENDPOINT_ID", "ep".to_owned()),
        ]
    }

    /// As a worker reads it.
    pub(super) fn read(&self) -> RunPod {
        let own = [
            ("QUEUE_URL", "https://sqs.example.com/1/jobs"),
            ("CONTROL_URL", "https://api.example.com"),
            ("FLEET_KEY", "0123456789abcdef"),
            ("AWS_REGION", "eu-central-1"),
            ("MODELS_DIR", "/models"),
        ];
        let mut values: BTreeMap<&str, String> = self.environment().into_iter().collect();
        values.extend(own.map(|(name, value)| (name, value.to_owned())));
        match Config::from_lookup(|name| values.get(name).cloned()).unwrap().sessions.start {
            Start::RunPod(platform) => *platform,
            other @ (Start::Poll | Start::Once | Start::Drain(_)) => panic!("{other:?}"),
        }
    }

    fn change<T>(&self, how: impl FnOnce(&mut Shared) -> T) -> T {
        how(&mut self.shared.lock().unwrap())
    }

    /// The next take that is not scripted yet. After the last one takes hang.
    pub(super) fn give(&self, take: Take) {
        self.change(|shared| shared.takes.push_back(take));
    }

    pub(super) fn wake(&self, id: &'static str) {
        self.give(Take::Job(id, json!({"v": 1})));
    }

    pub(super) fn answer_done(&self, statuses: &[u16]) {
        self.change(|shared| shared.dones.extend(statuses));
    }

    pub(super) fn answer_pings(&self, statuses: &[u16]) {
        self.change(|shared| shared.pings.extend(statuses));
    }

    pub(super) fn stop_jobs(&self, ids: Vec<&'static str>) {
        self.change(|shared| shared.stops.push_back(ids));
    }

    pub(super) fn stops_unheard(&self) -> u32 {
        self.change(|shared| shared.stops_unheard)
    }

    pub(super) fn most_takes_at_once(&self) -> u32 {
        self.change(|shared| shared.most_outstanding)
    }

    pub(super) fn calls(&self, route: &str) -> Vec<Call> {
        self.calls.borrow().iter().filter(|call| call.is(route)).cloned().collect()
    }

    /// The routes that were called, in order.
    pub(super) fn order(&self) -> Vec<String> {
        self.calls.borrow().iter().map(Call::route).collect()
    }

    /// Bodies of all results, in order.
    pub(super) fn dones(&self) -> Vec<Value> {
        self.calls("job-done").iter().map(|call| serde_json::from_str(&call.body).unwrap()).collect()
    }

    pub(super) async fn until(&self, route: &str, count: usize) {
        let mut calls = self.calls.subscribe();
        let there = |calls: &Vec<Call>| calls.iter().filter(|call| call.is(route)).count() >= count;
        let waited = tokio::time::timeout(Duration::from_secs(20), calls.wait_for(there)).await;
        assert!(waited.is_ok(), "no {count} calls of {route}: {:?}", self.calls.borrow());
    }
}

async fn answer(State(platform): State<Platform>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    let call = Call {
        method: parts.method,
        path: parts.uri.path_and_query().unwrap().to_string(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let route = call.route();
    platform.calls.send_modify(|calls| calls.push(call));
    match route.as_str() {
        "job-take" => take(&platform).await,
        "job-done" => status(platform.change(|shared| shared.dones.pop_front()).unwrap_or(200)),
        "ping" => status(platform.change(|shared| shared.pings.pop_front()).unwrap_or(200)),
        "job-stop" => stop(&platform).await,
        other => panic!("unknown route {other}"),
    }
}

/// Counts a take as long as it is outstanding, also when its caller goes away.
struct Outstanding(Platform);

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.change(|shared| shared.takes_outstanding -= 1);
    }
}

/// A long poll. As with a real one, a word that is said to a caller that went away is lost.
async fn stop(platform: &Platform) -> Response {
    struct Unheard(Platform);
    impl Drop for Unheard {
        fn drop(&mut self) {
            self.0.change(|shared| shared.stops_unheard += 1);
        }
    }
    let unheard = Unheard(platform.clone());
    loop {
        if let Some(ids) = platform.change(|shared| shared.stops.pop_front()) {
            std::mem::forget(unheard);
            let mut answer: Value = serde_json::from_str(include_str!("../../../events/runpod-stop.json")).unwrap();
            answer["jobsToStop"] = json!(ids);
            return json_answer(&answer);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn take(platform: &Platform) -> Response {
    platform.change(|shared| {
        shared.takes_outstanding += 1;
        shared.most_outstanding = shared.most_outstanding.max(shared.takes_outstanding);
    });
    let _outstanding = Outstanding(platform.clone());
    let take = loop {
        match platform.change(|shared| shared.takes.pop_front()) {
            Some(take) => break take,
            // As a long poll: what is scripted later is answered then.
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    match take {
        Take::Job(id, input) => json_answer(&json!({"id": id, "input": input, "webhook": null})),
        Take::Json(body) => json_answer(&body),
        Take::Status(code) => status(code),
        Take::Other(kind, body) => ([(header::CONTENT_TYPE, kind)], body).into_response(),
        Take::Hang => std::future::pending().await,
        Take::Late(after, id) => {
            tokio::time::sleep(after).await;
            json_answer(&json!({"id": id, "input": {"v": 1}}))
        }
    }
}

fn status(code: u16) -> Response {
    Response::builder().status(StatusCode::from_u16(code).unwrap()).body(Body::empty()).unwrap()
}

fn json_answer(body: &Value) -> Response {
    axum::Json(body).into_response()
}

//! The servers a worker talks to, in one place: a control plane that checks signatures, a queue, an object store.
//! What they do by the way is scripted; everything that reaches them is logged in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use jiff::Timestamp;
use rotoless_contract::manifest::Manifest;
use rotoless_contract::queue::QueueMessage;
use rotoless_contract::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, report_secret, sha256_hex, verify_call};
use rotoless_contract::worker::{
    ClaimReply, ClaimRequest, Download, HeartbeatReply, HeartbeatRequest, MediaLimits, ProbedReply, ProbedRequest,
    Refusal, ReportReply, ReportRequest, Upload,
};
use rotoless_contract::{Attempt, Background, JobId, JobSpec, JobStatus, MilliCredits, Model, OutputFormat, Run};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::engine::{Script, ScriptedEngine};
use crate::clock::Clock;
use crate::connect::Connect;
use crate::net::{self, PlainHttp};
use crate::process::{AskShutdown, Shutdown, WorkDir};
use crate::queue::QueueSettings;
use crate::session::Worker;
use crate::timing::Timing;
use crate::transfer::Transfer;

pub(super) const SOURCE: &[u8] = b"a source of some bytes";
const FLEET_KEY: &str = "a fleet key of the tests";
const CLAIM_TOKEN: &str = "claim-token";

/// Something that reached a server or the engine.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Receive,
    Claim,
    Download,
    Probe,
    Probed,
    Matte,
    Heartbeat,
    Upload,
    Manifest,
    Report(ReportRequest),
    /// The message becomes visible again after so many seconds; extensions are [`Event::Extend`].
    Release(i64),
    Extend,
    Delete,
}

/// A call that can be scripted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Claim,
    Heartbeat,
    Probed,
    Report,
    Download,
    Upload,
    Manifest,
    Extend,
}

/// What happens to one call instead of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twist {
    /// No effect, this status.
    Fail(u16),
    /// No effect, 409.
    Refuse(Refusal),
    /// The effect happens, the answer is lost.
    LoseReply,
    /// The job is no longer wanted.
    Cancel,
    /// The receipt is not valid any more.
    Stale,
    /// More than was announced.
    TooLong,
    /// A byte at a time.
    Drip,
    /// Ends before its end.
    Cut,
}

/// What happened, in order.
#[derive(Clone)]
pub(super) struct Log(Arc<watch::Sender<Vec<Event>>>);

impl Log {
    pub(super) fn add(&self, event: Event) {
        self.0.send_modify(|events| events.push(event));
    }

    pub(super) fn all(&self) -> Vec<Event> {
        self.0.borrow().clone()
    }
}

/// The part of the world behind a lock.
pub(super) struct Shared {
    pub(super) message: Option<String>,
    receipt: u32,
    visible_at: Instant,
    pub(super) attempt: Attempt,
    pub(super) report: Option<(ReportRequest, ReportReply)>,
    pub(super) output: Option<Bytes>,
    pub(super) manifest: Option<Bytes>,
    twists: VecDeque<(On, Twist)>,
    pub(super) refused_signatures: u32,
    pub(super) lease_seconds: u32,
    pub(super) deadline_seconds: u32,
    /// A change to this many seconds is an extension.
    pub(super) visibility_seconds: i64,
    /// What a report of failure leads to.
    pub(super) reply_to_failure: ReportReply,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) log: Log,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) job: JobId,
    origin: String,
}

impl World {
    /// Servers on a port of their own, and one message in the queue.
    pub(super) async fn start() -> Self {
        net::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let job = JobId::from_random([7; 16]);
        let shared = Shared {
            message: None,
            receipt: 0,
            visible_at: Instant::now(),
            attempt: Attempt::FIRST,
            report: None,
            output: None,
            manifest: None,
            twists: VecDeque::new(),
            refused_signatures: 0,
            lease_seconds: 60,
            deadline_seconds: 600,
            visibility_seconds: 60,
            reply_to_failure: ReportReply { status: JobStatus::Pending, delete_message: false },
        };
        let log = Log(Arc::new(watch::Sender::new(Vec::new())));
        let world = Self { log, shared: Arc::new(Mutex::new(shared)), job, origin };
        world.enqueue();
        let app = Router::new()
            .route("/", post(sqs))
            .route("/internal/v1/jobs/{job}/claim", post(claim))
            .route("/internal/v1/jobs/{job}/attempts/{attempt}/{call}", post(attempt_call))
            .route("/store/source", get(source))
            .route("/store/output", put(output))
            .route("/store/manifest", put(manifest))
            .with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        world
    }

    pub(super) fn enqueue(&self) {
        let message = QueueMessage { v: 1, job_id: self.job.clone(), run: Run::FIRST, claim_token: CLAIM_TOKEN.into() };
        self.change(|shared| {
            shared.message = Some(serde_json::to_string(&message).unwrap());
            shared.visible_at = Instant::now();
        });
    }

    pub(super) fn change<T>(&self, how: impl FnOnce(&mut Shared) -> T) -> T {
        how(&mut self.shared.lock().unwrap())
    }

    /// The next call of this kind goes wrong, after those scripted before.
    pub(super) fn twist(&self, on: On, twist: Twist) {
        self.change(|shared| shared.twists.push_back((on, twist)));
    }

    fn twisted(&self, on: On) -> Option<Twist> {
        self.change(|shared| {
            let at = shared.twists.iter().position(|(call, _)| *call == on)?;
            shared.twists.remove(at).map(|(_, twist)| twist)
        })
    }

    /// Twists that nothing ran into: a test that expects them all checks that there are none.
    pub(super) fn twists_left(&self) -> usize {
        self.change(|shared| shared.twists.len())
    }

    /// The events, without those that come and go with time.
    pub(super) fn events(&self) -> Vec<Event> {
        let passing = |event: &Event| matches!(event, Event::Heartbeat | Event::Extend);
        self.log.all().into_iter().filter(|event| !passing(event)).collect()
    }

    pub(super) fn count(&self, event: &Event) -> usize {
        self.log.all().iter().filter(|other| *other == event).count()
    }

    pub(super) fn reports(&self) -> Vec<ReportRequest> {
        let report = |event| if let Event::Report(report) = event { Some(report) } else { None };
        self.log.all().into_iter().filter_map(report).collect()
    }

    /// Waits until the events fulfil a condition.
    pub(super) async fn until(&self, condition: impl Fn(&[Event]) -> bool) {
        let mut events = self.log.0.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(20), events.wait_for(|events| condition(events))).await;
        assert!(waited.is_ok(), "never happened; instead: {:?}", self.log.all());
    }

    pub(super) fn stored_manifest(&self) -> Manifest {
        self.change(|shared| serde_json::from_slice(shared.manifest.as_ref().unwrap()).unwrap())
    }

    pub(super) fn worker(&self, script: Script) -> Served {
        self.worker_with(script, Clock::default(), quick())
    }

    pub(super) fn worker_with(&self, script: Script, clock: Clock, timing: Timing) -> Served {
        let connect = Connect {
            control_url: self.origin.parse().unwrap(),
            queue: QueueSettings {
                url: format!("{}/1/jobs", self.origin),
                region: "us-east-1".to_owned(),
                endpoint: Some(self.origin.clone()),
                credentials: Some(aws_sdk_sqs::config::SharedCredentialsProvider::new(
                    aws_credential_types::Credentials::new("key", "secret", None, None, "test"),
                )),
            },
            clock,
        };
        let dir = tempfile::tempdir().unwrap();
        let (ask, shutdown) = Shutdown::channel();
        let engine = Arc::new(ScriptedEngine { script, log: self.log.clone(), jobs: 0.into() });
        let worker = Worker {
            control: connect.control(&timing).unwrap(),
            queue: connect.queue(&timing),
            transfer: Transfer::new(net::client().unwrap(), PlainHttp::LoopbackOnly, timing.clone()),
            connect,
            engine: Arc::new(engine),
            provider: "cpu".to_owned(),
            worker_id: "test".to_owned(),
            fleet_key: FLEET_KEY.into(),
            work_dir: WorkDir::open(dir.path()).unwrap(),
            timing,
            shutdown,
        };
        Served { worker, ask, dir }
    }

    fn secret(&self, attempt: Attempt) -> SecretString {
        report_secret(&FLEET_KEY.into(), &self.job, attempt)
    }
}

/// A worker and what belongs to it.
pub(super) struct Served {
    pub(super) worker: Worker,
    pub(super) ask: AskShutdown,
    dir: tempfile::TempDir,
}

impl Served {
    /// Names of what attempts left on disk.
    pub(super) fn left_on_disk(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "lock").collect()
    }
}

/// Everything fast, nothing changed in kind.
pub(super) fn quick() -> Timing {
    Timing {
        receive_wait: Duration::ZERO,
        visibility: Duration::from_secs(60),
        call: Duration::from_secs(5),
        retry_first: Duration::from_millis(10),
        retry_cap: Duration::from_millis(50),
        tick: Duration::from_millis(10),
        engine_grace: Duration::from_millis(300),
        prompt_retry: Duration::from_secs(2),
        abandon_report: Duration::from_secs(1),
        session_retry_cap: Duration::from_millis(20),
        ..Timing::default()
    }
}

fn refusal(refusal: Refusal) -> Response {
    let retry_after = (refusal == Refusal::Leased).then_some(17);
    envelope(409, "conflict", Some(refusal.as_str()), retry_after)
}

fn envelope(status: u16, code: &str, reason: Option<&str>, retry_after: Option<u32>) -> Response {
    let error = json!({"code": code, "message": "", "request_id": "r", "reason": reason,
        "retry_after_seconds": retry_after});
    (StatusCode::from_u16(status).unwrap(), axum::Json(json!({ "error": error }))).into_response()
}

/// The answer breaks off before its first byte of body.
fn lost() -> Response {
    let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("lost"))]);
    Response::new(Body::from_stream(broken))
}

/// The twists that every call of the control plane has in common.
fn plain(twist: Option<Twist>) -> Option<Response> {
    match twist? {
        Twist::Fail(402) => Some(envelope(402, "insufficient_credits", None, None)),
        Twist::Fail(status) => Some(envelope(status, "unavailable", None, None)),
        Twist::Refuse(why) => Some(refusal(why)),
        _ => None,
    }
}

fn verified(secret: &SecretString, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Box<Response>> {
    let header = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    verify_call(secret, "POST", path, header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER), body, Timestamp::now())
        .map_err(|_| Box::new(envelope(401, "invalid_signature", None, None)))
}

async fn claim(State(world): State<World>, Path(job): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let path = format!("/internal/v1/jobs/{job}/claim");
    if let Err(refused) = verified(&FLEET_KEY.into(), &path, &headers, &body) {
        world.change(|shared| shared.refused_signatures += 1);
        return *refused;
    }
    let request: ClaimRequest = serde_json::from_slice(&body).unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&request.claim_token), CLAIM_TOKEN);
    world.log.add(Event::Claim);
    let twist = world.twisted(On::Claim);
    if let Some(response) = plain(twist) {
        return response;
    }
    let (attempt, lease_seconds, deadline_seconds) =
        world.change(|shared| (shared.attempt, shared.lease_seconds, shared.deadline_seconds));
    let store = |name: &str| format!("{}/store/{name}?X-Amz-Signature=canary", world.origin);
    let reply = ClaimReply {
        job_id: world.job.clone(),
        run: request.run,
        attempt,
        lease_seconds,
        deadline_seconds,
        spec: JobSpec {
            model: Model::Light,
            background: Background::Transparent,
            output_format: OutputFormat::Webm,
            text_prompt: None,
            composition: None,
        },
        input: Download { url: store("source"), size_bytes: SOURCE.len() as u64 },
        output: Upload {
            key: "outputs/x/1/1/output.webm".to_owned(),
            url: store("output"),
            headers: vec![("content-type".to_owned(), "video/webm".to_owned())],
        },
        manifest: Upload { key: "outputs/x/1/manifest.json".to_owned(), url: store("manifest"), headers: Vec::new() },
        report_secret: world.secret(attempt),
        limits: MediaLimits::default(),
    };
    if twist == Some(Twist::LoseReply) { lost() } else { axum::Json(reply).into_response() }
}

async fn attempt_call(
    State(world): State<World>,
    Path((job, attempt, call)): Path<(String, Attempt, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = format!("/internal/v1/jobs/{job}/attempts/{attempt}/{call}");
    if let Err(refused) = verified(&world.secret(attempt), &path, &headers, &body) {
        world.change(|shared| shared.refused_signatures += 1);
        return *refused;
    }
    match call.as_str() {
        "heartbeat" => heartbeat(&world, &serde_json::from_slice(&body).unwrap()),
        "probed" => probed(&world, &serde_json::from_slice(&body).unwrap()),
        "report" => report(&world, serde_json::from_slice(&body).unwrap()),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn heartbeat(world: &World, request: &HeartbeatRequest) -> Response {
    assert!(request.frames_done <= request.frames_total);
    world.log.add(Event::Heartbeat);
    let twist = world.twisted(On::Heartbeat);
    plain(twist).unwrap_or_else(|| {
        let lease_seconds = world.change(|shared| shared.lease_seconds);
        axum::Json(HeartbeatReply { cancel: twist == Some(Twist::Cancel), lease_seconds }).into_response()
    })
}

fn probed(world: &World, request: &ProbedRequest) -> Response {
    assert_eq!(request.duration_ms, 2000);
    world.log.add(Event::Probed);
    plain(world.twisted(On::Probed))
        .unwrap_or_else(|| axum::Json(ProbedReply { paid_seconds: 2, held: MilliCredits::default() }).into_response())
}

fn report(world: &World, request: ReportRequest) -> Response {
    world.log.add(Event::Report(request.clone()));
    let twist = world.twisted(On::Report);
    if let Some(response) = plain(twist) {
        return response;
    }
    let reply = world.change(|shared| {
        if let Some((first, reply)) = &shared.report {
            return if *first == request { Ok(reply.clone()) } else { Err(Refusal::Contradiction) };
        }
        let reply = match &request {
            ReportRequest::Completed { manifest_sha256 } => {
                let stored = shared.manifest.as_ref().map(|bytes| sha256_hex(bytes));
                if stored.as_ref() != Some(manifest_sha256) {
                    return Err(Refusal::BadManifest);
                }
                ReportReply { status: JobStatus::Completed, delete_message: true }
            }
            ReportRequest::Failed { .. } => shared.reply_to_failure.clone(),
            ReportRequest::Abandoned { .. } => ReportReply { status: JobStatus::Pending, delete_message: false },
        };
        shared.report = Some((request, reply.clone()));
        Ok(reply)
    });
    match reply {
        Err(why) => refusal(why),
        Ok(_) if twist == Some(Twist::LoseReply) => lost(),
        Ok(reply) => axum::Json(reply).into_response(),
    }
}

async fn source(State(world): State<World>) -> Response {
    world.log.add(Event::Download);
    match world.twisted(On::Download) {
        Some(Twist::Fail(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Twist::TooLong) => {
            let pieces = std::iter::repeat_n(Ok::<_, std::convert::Infallible>(Bytes::from_static(SOURCE)), 1000);
            Response::new(Body::from_stream(futures::stream::iter(pieces)))
        }
        Some(Twist::Drip) => Response::new(Body::from_stream(futures::stream::unfold(0usize, |at| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let byte = SOURCE.get(at..=at).map_or(Bytes::new(), Bytes::from_static);
            Some((Ok::<_, std::io::Error>(byte), at + 1))
        }))),
        Some(Twist::Cut) => Bytes::from_static(&SOURCE[..5]).into_response(),
        _ => Bytes::from_static(SOURCE).into_response(),
    }
}

async fn output(State(world): State<World>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["content-type"], "video/webm");
    assert_eq!(headers["content-length"], body.len().to_string());
    assert!(!headers.contains_key("transfer-encoding"));
    world.log.add(Event::Upload);
    if let Some(Twist::Fail(status)) = world.twisted(On::Upload) {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    world.change(|shared| shared.output = Some(body));
    StatusCode::OK.into_response()
}

async fn manifest(State(world): State<World>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["if-none-match"], "*");
    world.log.add(Event::Manifest);
    let twist = world.twisted(On::Manifest);
    if let Some(Twist::Fail(status)) = twist {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let written = world.change(|shared| {
        let free = shared.manifest.is_none();
        shared.manifest.get_or_insert(body);
        free
    });
    match (written, twist) {
        (false, _) => StatusCode::PRECONDITION_FAILED.into_response(),
        (true, Some(Twist::LoseReply)) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        (true, _) => StatusCode::OK.into_response(),
    }
}

/// Three operations of SQS in its JSON protocol, on a queue of one message.
async fn sqs(State(world): State<World>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    if !signed_now(&headers) {
        world.change(|shared| shared.refused_signatures += 1);
        return sqs_error("InvalidSignatureException");
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let handle = request["ReceiptHandle"].as_str().unwrap_or_default().to_owned();
    let ours = |shared: &Shared| shared.message.is_some() && handle == shared.receipt.to_string();
    match target.as_str() {
        "AmazonSQS.ReceiveMessage" => receive(&world, &request),
        "AmazonSQS.DeleteMessage" => {
            world.log.add(Event::Delete);
            world.change(|shared| {
                if ours(shared) {
                    shared.message = None;
                }
            });
            sqs_answer(json!({}))
        }
        "AmazonSQS.ChangeMessageVisibility" => {
            let seconds = request["VisibilityTimeout"].as_i64().unwrap();
            let extends = seconds == world.change(|shared| shared.visibility_seconds);
            world.log.add(if extends { Event::Extend } else { Event::Release(seconds) });
            if extends && world.twisted(On::Extend) == Some(Twist::Stale) || !world.change(|shared| ours(shared)) {
                return sqs_error("ReceiptHandleIsInvalid");
            }
            let after = Duration::from_secs(seconds.unsigned_abs());
            world.change(|shared| shared.visible_at = Instant::now() + after);
            sqs_answer(json!({}))
        }
        other => panic!("{other} is not a worker's business"),
    }
}

/// AWS takes signatures of 15 minutes around its own time.
fn signed_now(headers: &HeaderMap) -> bool {
    let signed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", headers["x-amz-date"].as_bytes()).unwrap();
    let signed = signed.to_datetime().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    Timestamp::now().as_second().abs_diff(signed.as_second()) <= 900
}

fn receive(world: &World, request: &Value) -> Response {
    let visibility = Duration::from_secs(request["VisibilityTimeout"].as_u64().unwrap());
    assert_eq!(request["MaxNumberOfMessages"], 1);
    let message = world.change(|shared| {
        let body = shared.message.clone().filter(|_| shared.visible_at <= Instant::now())?;
        shared.receipt += 1;
        shared.visible_at = Instant::now() + visibility;
        Some(json!({"MessageId": "m", "ReceiptHandle": shared.receipt.to_string(), "Body": body}))
    });
    if message.is_some() {
        world.log.add(Event::Receive);
    }
    sqs_answer(json!({"Messages": message.into_iter().collect::<Vec<_>>()}))
}

fn sqs_answer(body: Value) -> Response {
    ([("content-type", "application/x-amz-json-1.0")], body.to_string()).into_response()
}

fn sqs_error(code: &str) -> Response {
    let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": ""}).to_string();
    (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.0")], body).into_response()
}

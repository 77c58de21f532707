//! What workers call: claim, heartbeat, probed, segments, report, awake, asleep. Internal, signed, apart from the public routes because its
//! callers, secrets, throttle and rights differ.
//!
//! Owns: authentication of worker calls and their mapping to HTTP. Does not own: rules (`rotoless-core`).
//! Invariant: nothing is looked up or parsed before the signature holds, and no body beyond
//! [`MAX_WORKER_BODY_BYTES`] is read.

mod answer;
mod auth;
pub mod config;
mod signs;

use std::sync::Arc;
use std::time::{Duration, Instant};

use answer::{Answer, Problem};
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use rotoless_contract::awake::{AsleepReply, AsleepRequest, AwakeReply, AwakeRequest};
use rotoless_contract::signature::report_secret;
use rotoless_contract::worker::{
    ClaimReply, ClaimRequest, HeartbeatReply, HeartbeatRequest, MAX_WORKER_BODY_BYTES, ProbedReply, ProbedRequest,
    ReportReply, ReportRequest, SegmentsReply, SegmentsRequest,
};
use rotoless_contract::{Attempt, JobId, WorkerId};
use rotoless_core::ports::{Clock, Entropy};
use rotoless_core::usecase::{AttemptCalls, Claims, Drainers};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span};

pub use signs::SignsOfLife;

/// A whole call must be read and answered within this time.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// What the routes need.
#[derive(Clone)]
pub struct CallbackState {
    /// Gives out leases.
    pub claims: Arc<Claims>,
    /// What the holder of an attempt says.
    pub attempts: Arc<AttemptCalls>,
    /// What workers that drain the queue ask for.
    pub drainers: Arc<Drainers>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Request ids.
    pub entropy: Arc<dyn Entropy>,
    /// Secrets of workers.
    pub secrets: Arc<Secrets>,
    /// Remembers that a worker was heard of.
    pub signs: Arc<SignsOfLife>,
}

/// Secrets of workers. The first of each signs; all of them are accepted, so that one can be rotated.
pub struct Secrets {
    /// Fleet keys: sign claims.
    pub fleet: Vec<SecretString>,
    /// Masters: attempts' secrets are derived from them.
    pub masters: Vec<SecretString>,
}

/// The internal routes. Every answer, also to an unknown route, is the service's envelope.
pub fn router(state: CallbackState) -> Router {
    Router::new()
        .route("/internal/v1/jobs/{id}/claim", post(claim))
        .route("/internal/v1/jobs/{id}/attempts/{attempt}/heartbeat", post(heartbeat))
        .route("/internal/v1/jobs/{id}/attempts/{attempt}/probed", post(probed))
        .route("/internal/v1/jobs/{id}/attempts/{attempt}/segments", post(segments))
        .route("/internal/v1/jobs/{id}/attempts/{attempt}/report", post(report))
        .route("/internal/v1/workers/{id}/awake", post(awake))
        .route("/internal/v1/workers/{id}/asleep", post(asleep))
        .fallback(async || Problem::UnknownRoute)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(MAX_WORKER_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(state.clone(), finish))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .with_state(state)
}

async fn claim(State(state): State<CallbackState>, path: JobPath, request: Request) -> Answer<ClaimReply> {
    let id = path?.0;
    Span::current().record("job.id", display(&id));
    let (parts, body) = read(request).await?;
    auth::accept(&state.secrets.fleet, &parts, &body, state.clock.now())?;
    state.signs.heard(state.clock.now()).await;
    let request: ClaimRequest = parse(&body)?;
    let reply = state.claims.claim(&id, &request).await?;
    Span::current().record("attempt", reply.attempt.get());
    Ok(reply.into())
}

async fn heartbeat(State(state): State<CallbackState>, path: AttemptPath, request: Request) -> Answer<HeartbeatReply> {
    let (id, attempt, body) = attempt_call(&state, path, request).await?;
    let beat: HeartbeatRequest = parse(&body)?;
    Ok(state.attempts.heartbeat(&id, attempt, &beat).await?.into())
}

async fn probed(State(state): State<CallbackState>, path: AttemptPath, request: Request) -> Answer<ProbedReply> {
    let (id, attempt, body) = attempt_call(&state, path, request).await?;
    let probed: ProbedRequest = parse(&body)?;
    Ok(state.attempts.probed(&id, attempt, &probed).await?.into())
}

async fn segments(State(state): State<CallbackState>, path: AttemptPath, request: Request) -> Answer<SegmentsReply> {
    let (id, attempt, body) = attempt_call(&state, path, request).await?;
    let request: SegmentsRequest = parse(&body)?;
    Ok(state.attempts.segments(&id, attempt, &request).await?.into())
}

async fn report(State(state): State<CallbackState>, path: AttemptPath, request: Request) -> Answer<ReportReply> {
    let (id, attempt, body) = attempt_call(&state, path, request).await?;
    let report: ReportRequest = parse(&body)?;
    Ok(state.attempts.report(&id, attempt, &report, &body).await?.into())
}

async fn awake(State(state): State<CallbackState>, path: WorkerPath, request: Request) -> Answer<AwakeReply> {
    let (id, body) = worker_call(&state, path, request).await?;
    let AwakeRequest { v: _, renew } = parse(&body)?;
    Ok(state.drainers.awake(&id, renew).await?.into())
}

async fn asleep(State(state): State<CallbackState>, path: WorkerPath, request: Request) -> Answer<AsleepReply> {
    let (id, body) = worker_call(&state, path, request).await?;
    let AsleepRequest { v: _, seq } = parse(&body)?;
    Ok(state.drainers.asleep(&id, seq).await?.into())
}

type WorkerPath = Result<Path<WorkerId>, axum::extract::rejection::PathRejection>;
type JobPath = Result<Path<JobId>, axum::extract::rejection::PathRejection>;
type AttemptPath = Result<Path<(JobId, Attempt)>, axum::extract::rejection::PathRejection>;

/// A call of one worker's life, accepted as signed by the fleet.
async fn worker_call(state: &CallbackState, path: WorkerPath, request: Request) -> Result<(WorkerId, Bytes), Problem> {
    let Path(id) = path?;
    Span::current().record("worker.id", display(&id));
    let (parts, body) = read(request).await?;
    let now = state.clock.now();
    auth::accept(&state.secrets.fleet, &parts, &body, now)?;
    state.signs.heard(now).await;
    Ok((id, body))
}

/// A call of one attempt, accepted as signed by that attempt's own secret.
async fn attempt_call(
    state: &CallbackState,
    path: AttemptPath,
    request: Request,
) -> Result<(JobId, Attempt, Bytes), Problem> {
    let Path((id, attempt)) = path?;
    Span::current().record("job.id", display(&id)).record("attempt", attempt.get());
    let (parts, body) = read(request).await?;
    let secrets: Vec<_> = state.secrets.masters.iter().map(|master| report_secret(master, &id, attempt)).collect();
    auth::accept(&secrets, &parts, &body, state.clock.now())?;
    state.signs.heard(state.clock.now()).await;
    Ok((id, attempt, body))
}

async fn read(request: Request) -> Result<(Parts, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(CALL_TIMEOUT, axum::body::to_bytes(body, MAX_WORKER_BODY_BYTES)).await {
        Ok(Ok(body)) => Ok((parts, body)),
        Ok(Err(_)) => Err(Problem::TooLarge),
        Err(_) => Err(Problem::Timeout),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|_| Problem::BadBody)
}

/// Gives every answer its request id, and turns a [`Problem`] into the envelope that carries it.
async fn finish(State(state): State<CallbackState>, request: Request, next: axum::middleware::Next) -> Response {
    let request_id = format!("req_{}", hex_id(state.entropy.id_bits()));
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "callback",
        request.id = %request_id,
        http.method = %request.method(),
        http.route = %route,
        job.id = Empty,
        attempt = Empty,
        worker.id = Empty
    );
    let began = Instant::now();
    let response = match tokio::time::timeout(CALL_TIMEOUT, next.run(request).instrument(span.clone())).await {
        Ok(response) => response,
        Err(_) => axum::response::IntoResponse::into_response(Problem::Timeout),
    };
    span.in_scope(|| {
        let response = answer::seal(response, &request_id);
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(http.status = response.status().as_u16(), duration_ms, "answered");
        response
    })
}

fn hex_id(bits: [u8; 16]) -> String {
    bits.iter().map(|byte| format!("{byte:02x}")).collect()
}

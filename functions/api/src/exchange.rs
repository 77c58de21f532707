//! What is known of one request while it is answered: its id, when it came, who sent it, what his bucket holds.
//!
//! Owns: the rate limit headers of every `/v1` answer, and the usage event of every request that was not a read.
//! Invariant: a request costs one write on the key's item; one that is kept as an event, and was not stored with
//! its job, one transaction more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use rotoless_contract::{ClientId, JobId};
use rotoless_core::rate::{Bucket, Meter, micros};
use rotoless_core::usage::Caller;

use crate::App;

/// Greatest path that is kept, in characters.
const MAX_PATH: usize = 200;

/// One request under way. In the request's extensions, for extractors and handlers.
#[derive(Debug, Clone)]
pub(crate) struct Exchange(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    caller: Caller,
    client: OnceLock<ClientId>,
    meter: OnceLock<Meter>,
    is_kept: AtomicBool,
}

impl Exchange {
    pub(crate) fn begin(request_id: String, request: &Request, began: Timestamp) -> Self {
        let caller = Caller {
            request_id,
            method: request.method().as_str().to_owned(),
            path: request.uri().path().chars().take(MAX_PATH).collect(),
            began,
        };
        let (client, meter, is_kept) = (OnceLock::new(), OnceLock::new(), AtomicBool::new(false));
        Self(Arc::new(Inner { caller, client, meter, is_kept }))
    }

    /// The sender is known. The first word counts.
    pub(crate) fn admit(&self, client: &ClientId) {
        let _ = self.0.client.set(client.clone());
        tracing::Span::current().record("client.id", tracing::field::display(client));
        if let Some(job) = job_of(&self.0.caller.path) {
            self.concerns(&job);
        }
    }

    /// The request is about this job: the lines that are logged of it say so.
    pub(crate) fn concerns(&self, job: &JobId) {
        tracing::Span::current().record("job.id", tracing::field::display(job));
    }

    /// His bucket is known. The first word counts.
    pub(crate) fn measure(&self, meter: Meter) {
        let _ = self.0.meter.set(meter);
    }

    /// The request as it will be kept.
    pub(crate) fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// The event was stored with the job.
    pub(crate) fn kept(&self) {
        self.0.is_kept.store(true, Ordering::Relaxed);
    }
}

/// The bucket that a method takes its token from.
pub(crate) fn bucket(method: &Method) -> Bucket {
    if method == Method::GET || method == Method::HEAD { Bucket::Reads } else { Bucket::Creates }
}

/// Writes the headers, keeps the event.
pub(crate) async fn account(State(app): State<App>, request: Request, next: Next) -> Response {
    let exchange = request.extensions().get::<Exchange>().cloned();
    let bucket = bucket(request.method());
    let is_public = request.uri().path().starts_with("/v1/");
    let mut response = next.run(request).await;
    let Some(exchange) = exchange else { return response };
    let meter = exchange.0.meter.get().copied();
    if let Some(meter) = meter.or_else(|| is_public.then(|| untouched(&app, bucket))) {
        write(response.headers_mut(), &meter);
    }
    if let Some(client) = exchange.0.client.get() {
        keep(&app, client, &exchange, bucket, response.status()).await;
    }
    response
}

/// Whoever has no bucket yet is told of a full one.
fn untouched(app: &App, bucket: Bucket) -> Meter {
    Meter::full(app.policy.rates.of(bucket), micros(app.clock.now()))
}

fn write(headers: &mut HeaderMap, meter: &Meter) {
    // Unix seconds, rounded up: by then it is true.
    let reset = meter.full_us.max(0).unsigned_abs().div_ceil(1_000_000);
    for (name, value) in [
        ("x-ratelimit-limit", u64::from(meter.limit)),
        ("x-ratelimit-remaining", u64::from(meter.remaining)),
        ("x-ratelimit-reset", reset),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

async fn keep(app: &App, client: &ClientId, exchange: &Exchange, bucket: Bucket, status: StatusCode) {
    // A flood is answered by 429 and must not become a flood of writes.
    let is_event = bucket == Bucket::Creates && status != StatusCode::TOO_MANY_REQUESTS;
    if !is_event || exchange.0.is_kept.load(Ordering::Relaxed) {
        return;
    }
    let caller = exchange.caller();
    let mut call = caller.record(app.clock.now(), status.as_u16(), None);
    call.job_id = job_of(&caller.path);
    if let Err(err) = app.usage.record_call(client, &call).await {
        // The work is done and answered for; the event is a courtesy.
        tracing::warn!(error = %err, "usage event not kept");
    }
}

/// The job that a path names.
fn job_of(path: &str) -> Option<JobId> {
    path.strip_prefix("/v1/jobs/")?.split('/').next()?.parse().ok()
}

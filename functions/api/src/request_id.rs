//! The outermost layer: a request id on every answer, a span around the work, headers that every answer has.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::App;
use crate::envelope;
use crate::exchange::Exchange;
use crate::openapi;

/// The id is always ours: one from outside could be anybody's, and would end up in our log.
pub(crate) async fn attach(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let request_id = format!("req_{}", hex::encode(app.entropy.id_bits()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let shown: String = path.chars().take(200).collect();
    let span = tracing::info_span!(
        "request",
        request.id = %request_id,
        http.method = %method,
        http.path = %shown,
        http.route = Empty,
        client.id = Empty,
        job.id = Empty
    );
    if let Some(route) = request.extensions().get::<MatchedPath>() {
        span.record("http.route", route.as_str());
    }
    let exchange = Exchange::begin(request_id.clone(), &request, app.clock.now());
    request.extensions_mut().insert(exchange);
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    span.in_scope(|| {
        let mut response = envelope::seal(response, &request_id, &method, &path);
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(http.status = response.status().as_u16(), duration_ms, "answered");
        let is_ok = response.status().is_success();
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            headers.insert(HeaderName::from_static("x-request-id"), value);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Presigned links, keys and balances: nothing here is for a cache, but for the document.
        let cache = if path == openapi::PATH && is_ok { openapi::CACHE } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        response
    })
}

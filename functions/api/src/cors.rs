//! Browsers: any page may call the public routes, with a key that its user gave it. No cookies, so no credentials.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Headers that a page may send.
const ALLOWED: HeaderValue =
    HeaderValue::from_static("content-type, x-api-key, x-admin-token, idempotency-key, accept, last-event-id");
/// Headers that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, retry-after, idempotency-replayed, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset",
);

/// Answers preflights (with JSON, as every answer) and opens the other answers to any page.
pub(crate) async fn open(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !path.starts_with("/v1/") && !path.starts_with("/api/") {
        return next.run(request).await;
    }
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight { Json(json!({"success": true})).into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if preflight {
        permit(headers);
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

fn permit(headers: &mut HeaderMap) {
    let permissions: [(HeaderName, HeaderValue); 3] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200")),
    ];
    headers.extend(permissions);
}

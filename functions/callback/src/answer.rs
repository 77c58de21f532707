//! Answers to workers: the reply, or the public error envelope with a `reason` the worker acts on.

use std::any::Any;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rotoless_contract::signature::SignatureError;
use rotoless_contract::{ErrorBody, ErrorCode, ErrorEnvelope};
use rotoless_core::ports::{Retry, StoreError};
use rotoless_core::usecase::CallError;

/// What a route gives back.
pub(crate) type Answer<T> = Result<Json<T>, Problem>;

/// Why a call got no reply.
#[derive(Debug)]
pub(crate) enum Problem {
    UnknownRoute,
    MethodNotAllowed,
    TooLarge,
    Timeout,
    BadBody,
    BadPath,
    Unsigned(SignatureError),
    Call(CallError),
    Panicked,
}

impl From<CallError> for Problem {
    fn from(err: CallError) -> Self {
        Self::Call(err)
    }
}

impl From<StoreError> for Problem {
    fn from(err: StoreError) -> Self {
        Self::Call(err.into())
    }
}

impl From<SignatureError> for Problem {
    fn from(err: SignatureError) -> Self {
        Self::Unsigned(err)
    }
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::BadPath
    }
}

/// The parts of the envelope that depend on the problem.
struct Said {
    code: ErrorCode,
    message: String,
    reason: Option<&'static str>,
    retry_after: Option<u32>,
}

impl Problem {
    fn said(&self) -> Said {
        let plain = |code, message: &str| Said { code, message: message.to_owned(), reason: None, retry_after: None };
        match self {
            Self::UnknownRoute | Self::BadPath => plain(ErrorCode::NotFound, "Not found"),
            Self::MethodNotAllowed => plain(ErrorCode::MethodNotAllowed, "Method not allowed"),
            Self::TooLarge => plain(ErrorCode::PayloadTooLarge, "Body too large"),
            Self::Timeout => plain(ErrorCode::Timeout, "Timed out"),
            Self::BadBody => plain(ErrorCode::InvalidRequest, "The body is not of the expected form"),
            Self::Panicked => plain(ErrorCode::InternalError, "Internal error"),
            Self::Unsigned(err) => {
                let reason = match err {
                    SignatureError::Clock => "clock",
                    SignatureError::Malformed => "malformed",
                    SignatureError::Mismatch => "mismatch",
                };
                Said { reason: Some(reason), ..plain(ErrorCode::InvalidSignature, &err.to_string()) }
            }
            Self::Call(err) => call(err),
        }
    }
}

fn call(err: &CallError) -> Said {
    let said = |code| Said { code, message: err.to_string(), reason: None, retry_after: None };
    match err {
        CallError::UnknownJob => said(ErrorCode::NotFound),
        CallError::WrongToken => Said { reason: Some("claim_token"), ..said(ErrorCode::InvalidSignature) },
        CallError::Implausible(_) => said(ErrorCode::InvalidRequest),
        CallError::InsufficientCredits => said(ErrorCode::InsufficientCredits),
        CallError::Refused { refusal, retry_after_seconds } => {
            Said { reason: Some(refusal.as_str()), retry_after: *retry_after_seconds, ..said(ErrorCode::Conflict) }
        }
        CallError::Contention => Said { retry_after: Some(1), ..said(ErrorCode::Unavailable) },
        CallError::Store(store) => {
            tracing::error!(error = %store, cause = ?store, "dependency failed");
            let code = match store.retry() {
                Retry::Backoff => ErrorCode::Unavailable,
                Retry::Never => ErrorCode::InternalError,
            };
            Said { code, message: "Temporarily unavailable".to_owned(), reason: None, retry_after: Some(1) }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Said { code, message, reason, retry_after } = self.said();
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retryable = Some(matches!(code, ErrorCode::Unavailable | ErrorCode::Timeout));
        let error = ErrorBody {
            code,
            message,
            request_id: String::new(),
            reason: reason.map(str::to_owned),
            param: None,
            retryable,
            retry_after_seconds: retry_after,
        };
        let mut response = status.into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Unsealed(error));
        response
    }
}

/// An envelope that still lacks its request id.
#[derive(Clone)]
struct Unsealed(ErrorBody);

/// Puts the request id on an answer, and into its envelope. An error without one (axum's own) gets one.
pub(crate) fn seal(mut response: Response, request_id: &str) -> Response {
    let unsealed = response.extensions_mut().remove::<Unsealed>();
    if unsealed.is_none() && response.status().as_u16() >= 400 {
        response = Problem::BadBody.into_response();
        return seal(response, request_id);
    }
    if let Some(Unsealed(error)) = unsealed {
        let envelope = ErrorEnvelope { error: ErrorBody { request_id: request_id.to_owned(), ..error } };
        let (parts, _) = response.into_parts();
        let (mut json, body) = Json(envelope).into_response().into_parts();
        json.status = parts.status;
        json.headers.extend(parts.headers.into_iter().filter_map(|(name, value)| Some((name?, value))));
        response = Response::from_parts(json, body);
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

/// A panic becomes a 500 in the envelope; what it said stays in the log.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a route panicked");
    seal(Problem::Panicked.into_response(), "req_panicked")
}

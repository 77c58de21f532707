//! Every answer of 400 and above: the public error envelope, made in one place.
//!
//! Owns: from a typed failure to status, code, message and headers; the one log line of an internal cause. Does not
//! own: request ids ([`crate::request_id`] puts them on). Invariant: `message` never carries internals, and an
//! answer that some layer made on its own becomes an envelope too.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rotoless_contract::{ErrorBody, ErrorCode, ErrorEnvelope};
use rotoless_core::ports::{Retry, StoreError};
use rotoless_core::rate::Meter;
use rotoless_core::request::InvalidRequest;
use rotoless_core::usecase::{CancelError, DeleteError, NotExportable, ReplayError, SubmitError};

/// Seconds after which a client should try again who has too many jobs under way: about what a short one takes.
const RETRY_WHEN_ONE_ENDED: u32 = 30;
/// Seconds after which a client should try again when a dependency was away.
const RETRY_SOON: u32 = 1;

/// A request that failed, as its sender will see it.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    code: ErrorCode,
    message: Cow<'static, str>,
    reason: Option<&'static str>,
    param: Option<&'static str>,
    retry_after: Option<u32>,
    /// For the log alone.
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), reason: None, param: None, retry_after: None, cause: None }
    }

    pub(crate) fn with_reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    pub(crate) fn with_param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// A field with a value that is not allowed.
    pub(crate) fn field(param: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message).with_param(param)
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    pub(crate) fn job_not_found() -> Self {
        Self::new(ErrorCode::NotFound, "Job not found")
    }

    pub(crate) fn delivery_not_found() -> Self {
        Self::new(ErrorCode::NotFound, "Delivery not found")
    }

    pub(crate) fn unknown_route() -> Self {
        Self::new(ErrorCode::NotFound, "Not found")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(ErrorCode::MethodNotAllowed, "Method not allowed")
    }

    pub(crate) fn too_large() -> Self {
        Self::new(ErrorCode::PayloadTooLarge, "The body is larger than 256 KB")
    }

    pub(crate) fn timeout() -> Self {
        Self::new(ErrorCode::Timeout, "Timed out")
    }

    pub(crate) fn rate_limited(meter: &Meter) -> Self {
        let seconds = u32::try_from(meter.wait_us.max(0).unsigned_abs().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Self::new(ErrorCode::RateLimited, "Too many requests").retry_after(seconds.max(1))
    }

    pub(crate) fn internal() -> Self {
        Self::new(ErrorCode::InternalError, "Internal error")
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(ErrorCode::Unavailable, "Temporarily unavailable").retry_after(RETRY_SOON)
    }

    fn retryable(&self) -> bool {
        match self.code {
            ErrorCode::RateLimited | ErrorCode::Unavailable | ErrorCode::Timeout => true,
            ErrorCode::InvalidRequest
            | ErrorCode::JobNotCompleted
            | ErrorCode::MissingApiKey
            | ErrorCode::InvalidApiKey
            | ErrorCode::InvalidAdminToken
            | ErrorCode::InvalidSignature
            | ErrorCode::InsufficientCredits
            | ErrorCode::Forbidden
            | ErrorCode::NotFound
            | ErrorCode::MethodNotAllowed
            | ErrorCode::Conflict
            | ErrorCode::IdempotencyConflict
            | ErrorCode::PayloadTooLarge
            | ErrorCode::InternalError => self.retry_after.is_some(),
        }
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(invalid: InvalidRequest) -> Self {
        let error = Self::invalid(invalid.message);
        Self { param: invalid.param, reason: invalid.reason, ..error }
    }
}

impl From<StoreError> for ApiError {
    fn from(err: StoreError) -> Self {
        match err.retry() {
            Retry::Backoff => Self::unavailable().because(err),
            Retry::Never => Self::internal().because(err),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(err: SubmitError) -> Self {
        match err {
            SubmitError::Invalid(invalid) => invalid.into(),
            SubmitError::UnknownJob => Self::job_not_found(),
            SubmitError::InsufficientCredits => {
                Self::new(ErrorCode::InsufficientCredits, "Not enough credits to process this video")
            }
            SubmitError::TooManyJobs => {
                Self::new(ErrorCode::RateLimited, "Too many jobs under way: wait until one has ended")
                    .with_reason("too_many_jobs")
                    .retry_after(RETRY_WHEN_ONE_ENDED)
            }
            SubmitError::NotExportable(why) => {
                let (message, reason) = match why {
                    NotExportable::NotCompleted => ("Only a completed job can be exported", "not_completed"),
                    NotExportable::NoMatte => ("The job's matte was not kept", "no_matte"),
                    NotExportable::Expired => ("The job's video or matte has expired", "media_expired"),
                };
                Self::new(ErrorCode::Conflict, message).with_reason(reason)
            }
            SubmitError::AlreadyStarted => {
                Self::new(ErrorCode::Conflict, "The job has started with other options").with_reason("already_started")
            }
            SubmitError::KeyReused => {
                Self::new(ErrorCode::IdempotencyConflict, "The idempotency key was used for another request")
            }
            SubmitError::JobDeleted => {
                Self::new(ErrorCode::IdempotencyConflict, "The idempotency key belongs to a job that was deleted")
                    .with_reason("job_deleted")
            }
            SubmitError::Store(err) => err.into(),
            SubmitError::Contention => Self::unavailable(),
        }
    }
}

impl From<CancelError> for ApiError {
    fn from(err: CancelError) -> Self {
        match err {
            CancelError::UnknownJob => Self::job_not_found(),
            CancelError::Completed => {
                Self::new(ErrorCode::Conflict, "The job has completed").with_reason("already_completed")
            }
            CancelError::Store(err) => err.into(),
            CancelError::Contention => Self::unavailable(),
        }
    }
}

impl From<DeleteError> for ApiError {
    fn from(err: DeleteError) -> Self {
        match err {
            DeleteError::UnknownJob => Self::job_not_found(),
            DeleteError::Store(err) => err.into(),
            DeleteError::Contention => Self::unavailable(),
        }
    }
}

impl From<ReplayError> for ApiError {
    fn from(err: ReplayError) -> Self {
        match err {
            ReplayError::UnknownJob => Self::job_not_found(),
            ReplayError::UnknownDelivery => Self::delivery_not_found(),
            ReplayError::Store(err) => err.into(),
            ReplayError::Contention => Self::unavailable(),
        }
    }
}

impl IntoResponse for ApiError {
    /// A response without a body yet: [`seal`] writes it, who knows the request.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A panic is a 500; what it said stays in the log.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a route panicked");
    ApiError::internal().into_response()
}

/// Writes the envelope of an answer of 400 and above; other answers pass.
pub(crate) fn seal(mut response: Response, request_id: &str, method: &Method, path: &str) -> Response {
    if response.status().as_u16() < 400 {
        return response;
    }
    let error = response.extensions_mut().remove::<ApiError>().unwrap_or_else(|| foreign(response.status()));
    if let Some(cause) = &error.cause {
        tracing::error!(error = %chain(&**cause), "a dependency failed");
    }
    let retryable = error.retryable();
    let ours = matches!(error.code, ErrorCode::InternalError | ErrorCode::Unavailable | ErrorCode::Timeout);
    let message = if ours && method == Method::POST && path == "/v1/jobs" {
        // Clients know this text.
        "Processing failed".to_owned()
    } else {
        error.message.into_owned()
    };
    let body = ErrorBody {
        code: error.code,
        message,
        request_id: request_id.to_owned(),
        reason: error.reason.map(str::to_owned),
        param: error.param.map(str::to_owned),
        retryable: Some(retryable),
        retry_after_seconds: error.retry_after,
    };
    let status = StatusCode::from_u16(body.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut sealed = (status, Json(ErrorEnvelope { error: body })).into_response();
    // What other layers said (Allow, Retry-After, CORS) stays; what described the old body does not.
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            sealed.headers_mut().append(name.clone(), value.clone());
        }
    }
    sealed
}

/// The error that stands for an answer which a layer below made on its own.
fn foreign(status: StatusCode) -> ApiError {
    match status.as_u16() {
        404 => ApiError::unknown_route(),
        405 => ApiError::method_not_allowed(),
        408 | 504 => ApiError::timeout(),
        413 => ApiError::too_large(),
        503 => ApiError::unavailable(),
        500.. => ApiError::internal(),
        _ => ApiError::invalid("The request is not acceptable"),
    }
}

/// An error and its sources on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.chars().take(1000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

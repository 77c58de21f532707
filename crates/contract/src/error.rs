//! The error envelope and its codes: `{"error":{"code","message","request_id",…}}` on every answer ≥ 400.

use serde::{Deserialize, Serialize};

/// Why a request failed. Part of the public contract: few, stable, snake_case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: bad payload or bad file.
    InvalidRequest,
    /// 400: a download was asked for before the job completed.
    JobNotCompleted,
    /// 401: no `X-Api-Key`.
    MissingApiKey,
    /// 401: the key is unknown or disabled.
    InvalidApiKey,
    /// 401: `X-Admin-Token` is absent or wrong.
    InvalidAdminToken,
    /// 401: a worker's signature, clock or claim token does not hold.
    InvalidSignature,
    /// 402: the balance does not cover the hold.
    InsufficientCredits,
    /// 403.
    Forbidden,
    /// 404: unknown job (or somebody else's), unknown route.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 409: the job's state does not allow this.
    Conflict,
    /// 409: the same idempotency key with another body.
    IdempotencyConflict,
    /// 413: a JSON body beyond the cap.
    PayloadTooLarge,
    /// 429, with `Retry-After`.
    RateLimited,
    /// 500.
    InternalError,
    /// 503, with `Retry-After`.
    Unavailable,
    /// 504.
    Timeout,
}

impl ErrorCode {
    /// The HTTP status this code is always sent with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::JobNotCompleted => 400,
            Self::MissingApiKey | Self::InvalidApiKey | Self::InvalidAdminToken | Self::InvalidSignature => 401,
            Self::InsufficientCredits => 402,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::IdempotencyConflict => 409,
            Self::PayloadTooLarge => 413,
            Self::RateLimited => 429,
            Self::InternalError => 500,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// The body of every answer with a status of 400 or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorEnvelope {
    /// Always an object: clients call `.get()` on it.
    pub error: ErrorBody,
}

/// What went wrong, for the caller. `message` never carries internals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// Stable code.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub message: String,
    /// The same as the `X-Request-Id` header.
    pub request_id: String,
    /// A narrower, stable reason: `invalid_file_type`, `file_too_large`, `leased`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub reason: Option<String>,
    /// The request field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub param: Option<String>,
    /// Whether the same request may succeed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub retryable: Option<bool>,
    /// Seconds after which to try again, as in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub retry_after_seconds: Option<u32>,
}

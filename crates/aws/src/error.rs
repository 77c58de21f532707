//! What an SDK failure means: here and nowhere else.
//!
//! Owns: the way from an `SdkError` to a [`StoreError`]. Does not own: what a cancelled transaction means
//! (`store::transaction`, which knows what stood at which position), whether to try again (`retry`).
//!
//! Invariant: decided by error codes, status codes and error types, never by a message.

use std::error::Error;
use std::io;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use rotoless_core::ports::{AdapterError, StoreError};

/// Whether a call changes anything where it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It reads.
    None,
    /// It writes.
    Change,
}

/// A failed call.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is said of it.
    pub(crate) error: StoreError,
    /// Its change may have been made all the same.
    pub(crate) maybe_applied: bool,
}

/// Classifies a failure other than those an operation has words of its own for.
pub(crate) fn classify<E>(failure: SdkError<E, HttpResponse>, effect: Effect) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let answer = match &failure {
        SdkError::ServiceError(answered) => answered_with(answered.err().code(), answered.raw().status().as_u16()),
        SdkError::ResponseError(cut) => match cut.raw().status().as_u16() {
            429 => Kind::Throttled,
            _ => Kind::NoAnswer,
        },
        SdkError::TimeoutError(_) => Kind::NoAnswer,
        SdkError::DispatchFailure(failed) if failed.is_user() => Kind::Rejected,
        SdkError::DispatchFailure(_) if never_sent(&failure) => Kind::NotSent,
        SdkError::DispatchFailure(_) => Kind::NoAnswer,
        // Credentials are fetched while a request is constructed: they may be there the next time.
        SdkError::ConstructionFailure(_) if is_credentials(&failure) => Kind::NotSent,
        SdkError::ConstructionFailure(_) => Kind::Rejected,
        // The variants that the SDK may yet add: `SdkError` is not ours to close.
        _ => Kind::Rejected,
    };
    answer.failure(Box::new(failure), effect)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Throttled,
    Conflict,
    /// Sent, and no usable answer came; a 5xx is none: DynamoDB may have written before it.
    NoAnswer,
    /// The service says that it is down.
    ServerError,
    NotSent,
    Rejected,
}

impl Kind {
    fn failure(self, source: AdapterError, effect: Effect) -> Failure {
        let changes = effect == Effect::Change;
        let (error, maybe_applied) = match self {
            Self::Throttled => (StoreError::Throttled(source), false),
            Self::Conflict => (StoreError::Conflict(source), false),
            Self::NoAnswer => (StoreError::Timeout { maybe_applied: changes, source }, changes),
            Self::ServerError if changes => (StoreError::Timeout { maybe_applied: true, source }, true),
            Self::ServerError | Self::NotSent => (StoreError::Unavailable(source), false),
            Self::Rejected => (StoreError::Rejected(source), false),
        };
        Failure { error, maybe_applied }
    }
}

fn answered_with(code: Option<&str>, status: u16) -> Kind {
    match code {
        Some(
            "ThrottlingException"
            | "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "Throttling"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestThrottled"
            | "OverLimit"
            | "SlowDown",
        ) => Kind::Throttled,
        Some("TransactionConflictException") => Kind::Conflict,
        // Our own first try is still at work.
        Some("TransactionInProgressException") => Kind::NoAnswer,
        Some(_) | None => match status {
            429 => Kind::Throttled,
            500.. => Kind::ServerError,
            _ => Kind::Rejected,
        },
    }
}

/// Whether the connection was refused or the name did not resolve: no byte of the request left.
pub(crate) fn never_sent(failure: &(dyn Error + 'static)) -> bool {
    chain(failure).any(|e| {
        e.downcast_ref::<io::Error>().is_some_and(|e| {
            matches!(
                e.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::AddrNotAvailable
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
            )
        })
    })
}

fn is_credentials(failure: &(dyn Error + 'static)) -> bool {
    chain(failure).any(|e| e.is::<aws_credential_types::provider::error::CredentialsError>())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

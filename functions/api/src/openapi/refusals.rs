//! Which errors an operation can answer: the one place. The document is made from it, and the tests provoke every line.

use rotoless_contract::ErrorCode::{self, *};

/// Behind a client's key; reads the store.
const KEYED: &[ErrorCode] = &[MissingApiKey, InvalidApiKey, InternalError, Unavailable, Timeout];
/// Behind the operator's token; unknown where none is configured.
const OPERATOR: &[ErrorCode] = &[InvalidAdminToken, NotFound, InternalError, Unavailable, Timeout];
/// For anybody; reads the store.
const OPEN: &[ErrorCode] = &[InternalError, Unavailable, Timeout];
/// Has a body of JSON.
const BODY: &[ErrorCode] = &[InvalidRequest, PayloadTooLarge];
/// Has a query.
const QUERY: &[ErrorCode] = &[InvalidRequest];
/// Is about one job, or one key.
const ONE: &[ErrorCode] = &[NotFound];
/// Starts work that costs credits.
const COSTS: &[ErrorCode] = &[InsufficientCredits];
/// Happens once for each idempotency key.
const ONCE: &[ErrorCode] = &[Conflict, IdempotencyConflict];
/// Depends on where the job is.
const STATE: &[ErrorCode] = &[Conflict];

/// By operation.
const REFUSALS: &[(&str, &[&[ErrorCode]])] = &[
    ("createUpload", &[KEYED, BODY]),
    ("createJob", &[KEYED, BODY, COSTS, ONCE]),
    ("listJobs", &[KEYED, QUERY]),
    ("getJob", &[KEYED, ONE]),
    ("startJob", &[KEYED, BODY, ONE, COSTS, STATE]),
    ("cancelJob", &[KEYED, ONE, STATE]),
    ("getCredits", &[KEYED]),
    ("createKey", &[OPERATOR, BODY]),
    ("listKeys", &[OPERATOR]),
    ("disableKey", &[OPERATOR, BODY]),
    ("enableKey", &[OPERATOR, BODY]),
    ("grantCredits", &[OPERATOR, BODY]),
    ("getDownload", &[OPEN, ONE, &[JobNotCompleted]]),
    ("getPricing", &[]),
    ("getHealth", &[]),
    ("getOpenApi", &[]),
];

/// The codes of an operation, each once, in the order of their status. `None` for one that is not in the table.
pub(crate) fn of(operation: &str) -> Option<Vec<ErrorCode>> {
    let (_, groups) = REFUSALS.iter().find(|(id, _)| *id == operation)?;
    let mut codes: Vec<ErrorCode> = groups.concat();
    codes.sort_by_key(|code| code.status());
    let mut known = Vec::new();
    codes.retain(|code| {
        !known.contains(code) && {
            known.push(*code);
            true
        }
    });
    Some(codes)
}

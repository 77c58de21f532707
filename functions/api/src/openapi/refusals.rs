//! Which errors an operation can answer: the one place. The document is made from it, and the tests provoke every line.

use rotoless_contract::ErrorCode::{self, *};

/// Behind a client's key, which is looked up in the store.
const KEYED: &[ErrorCode] = &[MissingApiKey, InvalidApiKey, RateLimited, InternalError, Unavailable, Timeout];
/// Behind the operator's token; unknown where none is configured.
const OPERATOR: &[ErrorCode] = &[InvalidAdminToken, NotFound];
/// Needs the store.
const STORE: &[ErrorCode] = &[InternalError, Unavailable, Timeout];
/// Unknown where the operator turned the old routes off.
const OLD: &[ErrorCode] = &[NotFound];
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
    ("exportJob", &[KEYED, BODY, ONE, ONCE]),
    ("cancelJob", &[KEYED, ONE, STATE]),
    ("deleteJob", &[KEYED, ONE]),
    ("getJobEvents", &[KEYED, ONE]),
    ("listDeliveries", &[KEYED, ONE]),
    ("replayDelivery", &[KEYED, ONE]),
    ("estimateJob", &[KEYED, BODY]),
    ("getCredits", &[KEYED]),
    ("getUsageSummary", &[KEYED, QUERY]),
    ("listUsageEvents", &[KEYED, QUERY]),
    ("getConfig", &[OPERATOR]),
    ("createKey", &[OPERATOR, STORE, BODY]),
    ("listKeys", &[OPERATOR, STORE]),
    ("disableKey", &[OPERATOR, STORE, BODY]),
    ("enableKey", &[OPERATOR, STORE, BODY]),
    ("grantCredits", &[OPERATOR, STORE, BODY]),
    ("getWebhookSecrets", &[OPERATOR, STORE, QUERY]),
    ("stageWebhookSecret", &[OPERATOR, STORE, BODY]),
    ("promoteWebhookSecret", &[OPERATOR, STORE, BODY, STATE]),
    ("discardWebhookSecret", &[OPERATOR, STORE, BODY, STATE]),
    ("legacyUpload", &[OLD, KEYED, BODY]),
    ("legacyProcess", &[OLD, KEYED, BODY, COSTS, ONCE]),
    ("legacyStatus", &[OLD, KEYED, ONE]),
    ("getDownload", &[STORE, ONE, &[JobNotCompleted]]),
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

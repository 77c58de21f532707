//! Authentication of worker calls: HMAC over method, path, timestamp and body digest.

use axum::http::HeaderMap;
use axum::http::request::Parts;
use jiff::Timestamp;
use rotoless_contract::signature::{SIGNATURE_HEADER, SignatureError, TIMESTAMP_HEADER, verify_call};
use secrecy::SecretString;

/// Accepts a call signed with one of `secrets`. A handful at most: the work is bounded whatever is sent.
///
/// # Errors
/// The worst of what the secrets say: `Clock` before `Mismatch`, so that a worker with a wrong clock can sign anew.
pub(crate) fn accept(
    secrets: &[SecretString],
    parts: &Parts,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    let timestamp = single(&parts.headers, TIMESTAMP_HEADER)?;
    let signature = single(&parts.headers, SIGNATURE_HEADER)?;
    let mut result = Err(SignatureError::Mismatch);
    for secret in secrets {
        let path = parts.uri.path();
        match verify_call(secret, parts.method.as_str(), path, Some(timestamp), Some(signature), body, now) {
            Err(SignatureError::Mismatch) => {}
            other => result = other,
        }
    }
    result
}

/// A header that is there exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, SignatureError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| SignatureError::Malformed),
        (Some(_) | None, _) => Err(SignatureError::Malformed),
    }
}

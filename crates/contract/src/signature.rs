//! Signatures: worker calls (HMAC over method, path, timestamp, body digest), per-attempt secrets (HKDF), and
//! customers' webhooks in both styles. Comparison is constant-time; clock tolerance is 300 s.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::{Attempt, ClientId, DeliveryId, JobId};

/// Header with the Unix time in seconds at which a worker call was signed.
pub const TIMESTAMP_HEADER: &str = "x-rotoless-timestamp";
/// Header with the signature of a worker call: `v1=` and 64 hex digits.
pub const SIGNATURE_HEADER: &str = "x-rotoless-signature";
/// A worker's clock may be off by this much.
pub const CLOCK_TOLERANCE_SECONDS: i64 = 300;

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Absent, of another version, or not of the form.
    #[error("signature is missing or malformed")]
    Malformed,
    /// Signed too long ago or too far ahead; the answer carries our time so that the caller can sign anew.
    #[error("timestamp is outside the tolerance")]
    Clock,
    /// Does not belong to this secret and this request.
    #[error("signature does not match")]
    Mismatch,
}

fn hmac(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The value of [`SIGNATURE_HEADER`] for a worker call. `path` is the path without a query.
#[must_use]
pub fn sign_call(secret: &SecretString, method: &str, path: &str, timestamp: i64, body: &[u8]) -> String {
    let text = format!("v1\n{method}\n{path}\n{timestamp}\n{}", sha256_hex(body));
    format!("v1={}", hex::encode(hmac(secret.expose_secret().as_bytes(), &[text.as_bytes()])))
}

/// Checks a worker call. `timestamp` and `signature` are the headers as received.
///
/// # Errors
/// [`SignatureError`]; the clock is judged before the signature, so a replay after 300 s is `Clock`.
pub fn verify_call(
    secret: &SecretString,
    method: &str,
    path: &str,
    timestamp: Option<&str>,
    signature: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    let timestamp: i64 = timestamp.and_then(|text| text.parse().ok()).ok_or(SignatureError::Malformed)?;
    let signature = signature.ok_or(SignatureError::Malformed)?;
    if signature.len() != "v1=".len() + 64 || !signature.starts_with("v1=") {
        return Err(SignatureError::Malformed);
    }
    if now.as_second().abs_diff(timestamp) > CLOCK_TOLERANCE_SECONDS.unsigned_abs() {
        return Err(SignatureError::Clock);
    }
    let expected = sign_call(secret, method, path, timestamp, body);
    if bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) { Ok(()) } else { Err(SignatureError::Mismatch) }
}

/// The secret that signs one attempt's calls: HKDF-SHA256(master, job ‖ attempt), in hex. Never stored.
#[must_use]
pub fn report_secret(master: &SecretString, job: &JobId, attempt: Attempt) -> SecretString {
    SecretString::from(derive(master, &format!("rotoless/report/v1/{job}/{attempt}")))
}

/// The secret that signs one client's webhooks: `whsec_` and HKDF-SHA256(master, client ‖ generation) in hex.
/// Generation 0 is that of a client whose secret was never rotated.
#[must_use]
pub fn webhook_secret(master: &SecretString, client: &ClientId, generation: u32) -> SecretString {
    let info = match generation {
        0 => format!("rotoless/webhook/v1/{client}"),
        // A client id has no `/`.
        later => format!("rotoless/webhook/v1/{client}/{later}"),
    };
    SecretString::from(format!("whsec_{}", derive(master, &info)))
}

fn derive(master: &SecretString, info: &str) -> String {
    let mut okm = [0u8; 32];
    #[expect(clippy::expect_used, reason = "32 bytes are within HKDF-SHA256's 255 blocks")]
    Hkdf::<Sha256>::new(None, master.expose_secret().as_bytes()).expand(info.as_bytes(), &mut okm).expect("32 bytes");
    hex::encode(okm)
}

/// The value of `X-Webhook-Signature`: `sha256=` and the hex HMAC-SHA256 of `<timestamp>.<raw body>`,
/// where `timestamp` is the text of `X-Webhook-Timestamp`.
#[must_use]
pub fn sign_webhook(secret: &SecretString, timestamp: &str, body: &[u8]) -> String {
    let mac = hmac(secret.expose_secret().as_bytes(), &[timestamp.as_bytes(), b".", body]);
    format!("sha256={}", hex::encode(mac))
}

/// The value of Standard Webhooks' `webhook-signature`: `v1,` and the base64 HMAC-SHA256 of
/// `<id>.<unix seconds>.<raw body>`. <https://www.standardwebhooks.com>
///
/// As its libraries do, what follows `whsec_` is read as base64: 64 hex digits are the base64 of 48 bytes.
#[must_use]
pub fn sign_standard_webhook(secret: &SecretString, id: &DeliveryId, unix_seconds: i64, body: &[u8]) -> String {
    let head = format!("{id}.{unix_seconds}.");
    let text = secret.expose_secret();
    let key = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text));
    let mac = hmac(key.as_deref().unwrap_or(text.as_bytes()), &[head.as_bytes(), body]);
    format!("v1,{}", STANDARD.encode(mac))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATH: &str = "/internal/v1/jobs/job_x/claim";

    fn secret() -> SecretString {
        SecretString::from("fleet")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_worker_call_is_accepted_only_within_the_clock_tolerance() {
        let signature = sign_call(&secret(), "POST", PATH, 1_000, b"{}");
        let verify = |now| verify_call(&secret(), "POST", PATH, Some("1000"), Some(&signature), b"{}", at(now));
        assert_eq!(verify(1_300), Ok(()));
        assert_eq!(verify(700), Ok(()));
        assert_eq!(verify(1_301), Err(SignatureError::Clock));
        assert_eq!(verify(699), Err(SignatureError::Clock));
    }

    #[test]
    fn each_attempt_has_its_own_secret() {
        let job = JobId::from_random([1; 16]);
        let of = |attempt| report_secret(&secret(), &job, attempt).expose_secret().to_owned();
        assert_ne!(of(Attempt::FIRST), of(Attempt::FIRST.next()));
        assert_eq!(of(Attempt::FIRST), of(Attempt::FIRST));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_anywhere_is_refused(flip in 0usize..600, bit in 0u8..8, body in "[a-z]{0,40}") {
            let signature = sign_call(&secret(), "POST", PATH, 1_000, body.as_bytes());
            let mut parts = [PATH.as_bytes().to_vec(), b"1000".to_vec(), signature.into_bytes(), body.into_bytes()];
            let total: usize = parts.iter().map(Vec::len).sum();
            let mut at_byte = flip % total;
            for part in &mut parts {
                if at_byte < part.len() {
                    part[at_byte] ^= 1 << bit;
                    break;
                }
                at_byte -= part.len();
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let refused = verify_call(
                &secret(), "POST", &text(&parts[0]), Some(&text(&parts[1])), Some(&text(&parts[2])), &parts[3], at(1_000),
            );
            prop_assert!(refused.is_err());
        }
    }
}

//! AWS Signature Version 4 as a server checks it, for the JSON protocols (DynamoDB and SQS).
//!
//! Owns: the check of a whole request, body included, against the one credential of this machine. Does not own:
//! S3's signatures and presigned URLs (`s3s` checks those). Invariant: a request passes only if every byte that
//! matters was signed with the secret, not longer than [`MAX_SKEW_SECONDS`] ago.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::request::Parts;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// How far the clocks of caller and service may be apart.
pub(crate) const MAX_SKEW_SECONDS: i64 = 300;

/// The one credential of a data directory.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) access_key: String,
    pub(crate) secret_key: SecretString,
}

/// Why a request was refused. The words are for the log and the caller's error message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SignatureError {
    #[error("the request is not signed")]
    Missing,
    #[error("the authorization header is not a complete AWS4-HMAC-SHA256 one")]
    Malformed,
    #[error("the access key is not known here")]
    UnknownKey,
    #[error("the credential is for another service")]
    WrongService,
    #[error("host and x-amz-target must be among the signed headers")]
    UnsignedHeader,
    #[error("the request is signed for another time")]
    Skewed,
    #[error("the signature does not match")]
    Mismatch,
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key: &'a str,
    /// `date/region/service/aws4_request`
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let fields = header.strip_prefix("AWS4-HMAC-SHA256")?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            match field.trim().split_once('=')? {
                ("Credential", value) => credential = Some(value),
                ("SignedHeaders", value) => signed_headers = Some(value),
                ("Signature", value) => signature = Some(value),
                _ => return None,
            }
        }
        let (access_key, scope) = credential?.split_once('/')?;
        Some(Self { access_key, scope, signed_headers: signed_headers?, signature: signature? })
    }
}

/// Checks that `body` and `parts` were signed for `service` by the holder of `credential`.
pub(crate) fn verify(
    credential: &Credential,
    service: &str,
    parts: &Parts,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    let header = parts.headers.get(http::header::AUTHORIZATION).ok_or(SignatureError::Missing)?;
    let header = header.to_str().map_err(|_| SignatureError::Malformed)?;
    let authorization = Authorization::parse(header).ok_or(SignatureError::Malformed)?;
    if !bool::from(authorization.access_key.as_bytes().ct_eq(credential.access_key.as_bytes())) {
        return Err(SignatureError::UnknownKey);
    }
    let scope: Vec<&str> = authorization.scope.split('/').collect();
    let [date, region, scoped_service, "aws4_request"] = scope[..] else { return Err(SignatureError::Malformed) };
    if scoped_service != service {
        return Err(SignatureError::WrongService);
    }
    let signed: Vec<&str> = authorization.signed_headers.split(';').collect();
    if !["host", "x-amz-date", "x-amz-target"].iter().all(|name| signed.contains(name)) {
        return Err(SignatureError::UnsignedHeader);
    }
    let amz_date = single(&parts.headers, "x-amz-date").ok_or(SignatureError::Malformed)?;
    check_time(&amz_date, date, now)?;

    let request = canonical_request(parts, &signed, authorization.signed_headers, body)?;
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{amz_date}\n{}\n{}",
        authorization.scope,
        hex::encode(Sha256::digest(request.as_bytes()))
    );
    let mut key = mac(format!("AWS4{}", credential.secret_key.expose_secret()).as_bytes(), date)?;
    for part in [region, service, "aws4_request"] {
        key = mac(&key, part)?;
    }
    let expected = hex::encode(mac(&key, &to_sign)?);
    if bool::from(expected.as_bytes().ct_eq(authorization.signature.as_bytes())) {
        Ok(())
    } else {
        Err(SignatureError::Mismatch)
    }
}

fn check_time(amz_date: &str, scope_date: &str, now: Timestamp) -> Result<(), SignatureError> {
    if !amz_date.starts_with(scope_date) {
        return Err(SignatureError::Malformed);
    }
    let signed = DateTime::strptime("%Y%m%dT%H%M%SZ", amz_date)
        .and_then(|civil| civil.to_zoned(TimeZone::UTC))
        .map_err(|_| SignatureError::Malformed)?;
    if (signed.timestamp().as_second() - now.as_second()).abs() > MAX_SKEW_SECONDS {
        return Err(SignatureError::Skewed);
    }
    Ok(())
}

fn canonical_request(
    parts: &Parts,
    signed: &[&str],
    signed_headers: &str,
    body: &[u8],
) -> Result<String, SignatureError> {
    // The JSON protocols use neither a query nor a path that needs escaping; refusing both leaves no
    // question of how they would have to be canonicalised.
    let path = parts.uri.path();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    if parts.uri.query().is_some_and(|query| !query.is_empty()) || !path.bytes().all(plain) {
        return Err(SignatureError::Malformed);
    }
    let mut request = format!("{}\n{path}\n\n", parts.method);
    for name in signed {
        let value = single(&parts.headers, name).ok_or(SignatureError::Malformed)?;
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(request, "{name}:{value}");
    }
    let _ = write!(request, "\n{signed_headers}\n{}", hex::encode(Sha256::digest(body)));
    Ok(request)
}

/// The header's value if it occurs exactly once.
fn single(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
        _ => None,
    }
}

fn mac(key: &[u8], message: &str) -> Result<Vec<u8>, SignatureError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| SignatureError::Malformed)?;
    mac.update(message.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"QueueNamePrefix\":\"\"}";

    /// Signed by an independent implementation (botocore 1.43) for key AKIDEXAMPLE/secret, 2026-01-02T03:04:05Z.
    fn signed() -> (Credential, Parts, Timestamp) {
        let credential = Credential { access_key: "AKIDEXAMPLE".into(), secret_key: "secret".to_owned().into() };
        let (parts, ()) = http::Request::post("http://127.0.0.1:4000/")
            .header("host", "127.0.0.1:4000")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", "AmazonSQS.ListQueues")
            .header("x-amz-date", "20260102T030405Z")
            .header("authorization", BOTOCORE)
            .body(())
            .unwrap()
            .into_parts();
        (credential, parts, "2026-01-02T03:05:00Z".parse().unwrap())
    }

    const BOTOCORE: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/sqs/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=c0b910edaee0dc74e984cfcb4ced8e574fc69a2dd16021a9b84ce9f65a8ab8d5";

    #[test]
    fn a_request_signed_elsewhere_is_accepted() {
        let (credential, parts, now) = signed();
        assert_eq!(verify(&credential, "sqs", &parts, BODY, now), Ok(()));
    }

    #[test]
    fn a_changed_body_header_key_service_or_time_is_refused() {
        let (credential, parts, now) = signed();
        assert_eq!(verify(&credential, "sqs", &parts, b"{}", now), Err(SignatureError::Mismatch));
        assert_eq!(verify(&credential, "dynamodb", &parts, BODY, now), Err(SignatureError::WrongService));

        let mut changed = parts.clone();
        changed.headers.insert("x-amz-target", "AmazonSQS.PurgeQueue".parse().unwrap());
        assert_eq!(verify(&credential, "sqs", &changed, BODY, now), Err(SignatureError::Mismatch));

        let other = Credential { secret_key: "other".to_owned().into(), ..credential.clone() };
        assert_eq!(verify(&other, "sqs", &parts, BODY, now), Err(SignatureError::Mismatch));
        let other = Credential { access_key: "AKIDOTHER".into(), ..credential.clone() };
        assert_eq!(verify(&other, "sqs", &parts, BODY, now), Err(SignatureError::UnknownKey));

        let later = "2026-01-02T03:09:06Z".parse().unwrap();
        assert_eq!(verify(&credential, "sqs", &parts, BODY, later), Err(SignatureError::Skewed));
    }

    #[test]
    fn an_unsigned_or_malformed_request_is_refused() {
        let (credential, mut parts, now) = signed();
        for (header, error) in [
            ("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/x", SignatureError::Malformed),
            ("AWS4-HMAC-SHA256 nonsense", SignatureError::Malformed),
            ("Bearer AKIDEXAMPLE", SignatureError::Malformed),
            (
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=00",
                SignatureError::UnsignedHeader,
            ),
        ] {
            parts.headers.insert("authorization", header.parse().unwrap());
            assert_eq!(verify(&credential, "sqs", &parts, BODY, now), Err(error), "{header}");
        }
        parts.headers.remove("authorization");
        assert_eq!(verify(&credential, "sqs", &parts, BODY, now), Err(SignatureError::Missing));
    }
}

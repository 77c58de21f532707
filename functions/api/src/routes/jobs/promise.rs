//! A client's wish that a repeated request has one effect: the `Idempotency-Key` header or, for clients that
//! cannot set headers, `metadata.external_job_id` with `metadata.idempotent: true`. The header wins.

use axum::http::HeaderMap;
use rotoless_contract::api::JobRequest;
use rotoless_contract::signature::sha256_hex;
use rotoless_core::usecase::IdempotencyKey;
use serde_json::Value;

use crate::auth::{Given, single};
use crate::envelope::ApiError;
use crate::extract::JsonBytes;

const HEADER: &str = "Idempotency-Key";

/// The wish that comes with a request, if one does.
pub(super) fn of(
    headers: &HeaderMap,
    request: &JobRequest,
    method: &str,
    path: &str,
    body: &JsonBytes,
) -> Result<Option<IdempotencyKey>, ApiError> {
    let key = match single(headers, HEADER) {
        Given::No if headers.contains_key(HEADER) => return Err(bad_header()),
        Given::No => external_id(request)?.map(|id| format!("external_job_id:{id}")),
        Given::Once(key) if is_readable(key) => Some(format!("header:{key}")),
        Given::Once(_) | Given::Twice | Given::Unreadable => return Err(bad_header()),
    };
    let Some(key) = key else { return Ok(None) };
    let mut canonical = format!("{method}\n{path}\n");
    write_canonical(&body.value()?, &mut canonical);
    Ok(Some(IdempotencyKey { key, digest: sha256_hex(canonical.as_bytes()) }))
}

fn bad_header() -> ApiError {
    ApiError::field(HEADER, "Idempotency-Key must be sent once, 1 to 255 visible ASCII characters")
}

fn is_readable(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

fn external_id(request: &JobRequest) -> Result<Option<&str>, ApiError> {
    let Some(metadata) = &request.metadata else { return Ok(None) };
    if metadata.get("idempotent") != Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let id = metadata.get("external_job_id").and_then(Value::as_str);
    let id = id.filter(|id| (1..=255).contains(&id.len()));
    let message = "metadata.idempotent needs metadata.external_job_id, a text of 1 to 255 bytes";
    id.map(Some).ok_or_else(|| ApiError::field("metadata", message))
}

/// JSON with its keys sorted and no spaces: equal requests give equal text, however their sender ordered them.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in fields {
                text.push_str(&Value::String(name.clone()).to_string());
                text.push(':');
                write_canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_requests_have_one_digest_whatever_the_order_of_their_fields() {
        let canonical = |json: &str| {
            let mut text = String::new();
            write_canonical(&serde_json::from_str(json).unwrap(), &mut text);
            text
        };
        assert_eq!(canonical(r#"{"a":1,"b":{"d":[1,2],"c":"x"}}"#), canonical(r#"{ "b":{"c":"x","d":[1,2]}, "a":1 }"#));
        for other in [r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, r#"{"a":"[1,2]"}"#, r#"{"a":[[1],2]}"#, r#"{"b":[1,2]}"#] {
            let first = canonical(r#"{"a":[1,2]}"#);
            assert_eq!(canonical(other) == first, other == r#"{"a":[1,2]}"#, "{other}");
        }
    }
}

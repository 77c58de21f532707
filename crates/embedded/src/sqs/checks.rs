//! What callers may send, and the digests of it.

use super::error::SqsError;
use super::settings::{MAX_DELAY_SECONDS, MAX_MESSAGE_BYTES};
use super::store::{NewMessage, Receipt};
use super::wire::{Entry, MessageAttribute, Outgoing, Sent};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use md5::{Digest, Md5};
use std::collections::{BTreeMap, BTreeSet};

const MAX_BATCH_ENTRIES: usize = 10;
const MAX_ATTRIBUTES: usize = 10;

/// A message that passed the checks, and the answer to its sender.
pub(crate) struct Checked {
    pub(crate) message: NewMessage,
    pub(crate) answer: Sent,
    pub(crate) bytes: usize,
}

/// Checks a message against the queue's limit on size (body and attributes, in bytes).
pub(crate) fn message(outgoing: Outgoing, max_bytes: u32) -> Result<Checked, SqsError> {
    let Outgoing { message_body, delay_seconds, message_attributes, message_group_id } = outgoing;
    if message_body.is_empty() {
        return Err(SqsError::MissingParameter("MessageBody"));
    }
    if !message_body.chars().all(allowed) {
        return Err(SqsError::InvalidMessageContents);
    }
    let bytes = message_body.len() + attribute_bytes(&message_attributes)?;
    if bytes > max_bytes as usize {
        return Err(SqsError::InvalidParameterValue(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {max_bytes} bytes."
        )));
    }
    let delay_seconds = delay_seconds.map(|s| within("DelaySeconds", s, 0, MAX_DELAY_SECONDS)).transpose()?;
    let message_id = message_id();
    let answer = Sent {
        id: None,
        message_id: message_id.clone(),
        md5_of_body: md5_of_body(&message_body),
        md5_of_attributes: md5_of_attributes(&message_attributes)?,
    };
    let attributes = serde_json::to_string(&message_attributes)?;
    let message = NewMessage { message_id, body: message_body, attributes, group_id: message_group_id, delay_seconds };
    Ok(Checked { message, answer, bytes })
}

/// Ids of a batch: one to ten, well formed, distinct.
pub(crate) fn batch<E>(entries: &[Entry<E>]) -> Result<(), SqsError> {
    if entries.is_empty() {
        return Err(SqsError::EmptyBatchRequest);
    }
    if entries.len() > MAX_BATCH_ENTRIES {
        return Err(SqsError::TooManyEntriesInBatchRequest(entries.len()));
    }
    let mut seen = BTreeSet::new();
    for Entry { id, .. } in entries {
        let well_formed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > 80 || !id.chars().all(well_formed) {
            return Err(SqsError::InvalidBatchEntryId);
        }
        if !seen.insert(id) {
            return Err(SqsError::BatchEntryIdsNotDistinct(id.clone()));
        }
    }
    Ok(())
}

/// The messages of a batch share the limit on the size of one.
pub(crate) fn batch_bytes(bytes: usize) -> Result<(), SqsError> {
    let max = MAX_MESSAGE_BYTES as usize;
    if bytes > max { Err(SqsError::BatchRequestTooLong(max)) } else { Ok(()) }
}

pub(crate) fn within(name: &'static str, value: i64, min: u32, max: u32) -> Result<u32, SqsError> {
    u32::try_from(value).ok().filter(|v| (min..=max).contains(v)).ok_or_else(|| {
        SqsError::InvalidParameterValue(format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be between {min} and {max}, if provided."
        ))
    })
}

pub(crate) fn queue_name(name: &str) -> Result<(), SqsError> {
    let well_formed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 80 || !name.chars().all(well_formed) {
        return Err(SqsError::InvalidParameterValue(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length".to_owned(),
        ));
    }
    Ok(())
}

/// A receipt as callers carry it.
pub(crate) fn receipt_handle(receipt: &Receipt) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", receipt.seq, receipt.nonce))
}

pub(crate) fn receipt(handle: &str) -> Result<Receipt, SqsError> {
    let parse = || {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(handle).ok()?).ok()?;
        let (seq, nonce) = plain.split_once('.')?;
        Some(Receipt { seq: seq.parse().ok()?, nonce: nonce.to_owned() })
    };
    parse().ok_or(SqsError::ReceiptHandleIsInvalid)
}

pub(crate) fn md5_of_body(body: &str) -> String {
    hex::encode(Md5::digest(body.as_bytes()))
}

/// The digest SDKs compare with their own: name, type and value of each attribute, by name, each with its length.
pub(crate) fn md5_of_attributes(attributes: &BTreeMap<String, MessageAttribute>) -> Result<Option<String>, SqsError> {
    if attributes.is_empty() {
        return Ok(None);
    }
    let mut digest = Md5::new();
    for (name, attribute) in attributes {
        let (kind, value) = value(name, attribute)?;
        for part in [name.as_bytes(), attribute.data_type.as_bytes()] {
            digest.update(length(part));
            digest.update(part);
        }
        digest.update([kind]);
        digest.update(length(&value));
        digest.update(&value);
    }
    Ok(Some(hex::encode(digest.finalize())))
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn attribute_bytes(attributes: &BTreeMap<String, MessageAttribute>) -> Result<usize, SqsError> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(SqsError::InvalidParameterValue(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{MAX_ATTRIBUTES}].",
            attributes.len()
        )));
    }
    let mut bytes = 0;
    for (name, attribute) in attributes {
        bytes += name.len() + attribute.data_type.len() + value(name, attribute)?.1.len();
    }
    Ok(bytes)
}

/// The attribute's transport type (1: string, 2: binary) and its bytes.
fn value(name: &str, attribute: &MessageAttribute) -> Result<(u8, Vec<u8>), SqsError> {
    let invalid = |why: &str| SqsError::InvalidParameterValue(format!("The message attribute '{name}' {why}."));
    let base = attribute.data_type.split('.').next().unwrap_or_default();
    match (base, &attribute.string_value, &attribute.binary_value) {
        ("String" | "Number", Some(text), None) if text.chars().all(allowed) => Ok((1, text.clone().into_bytes())),
        ("Binary", None, Some(encoded)) => Ok((2, STANDARD.decode(encoded).map_err(|_| invalid("is not base64"))?)),
        _ => Err(invalid("must have a type and the one value of that type")),
    }
}

/// The characters XML allows, as the service was born speaking XML.
fn allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn message_id() -> String {
    let hex = super::random_hex();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_attributes_is_the_one_sdks_compute() {
        // By a second implementation of the documented algorithm, in Python.
        let attributes: BTreeMap<String, MessageAttribute> = serde_json::from_str(
            r#"{"trace": {"DataType": "String", "StringValue": "abc"}, "blob": {"DataType": "Binary", "BinaryValue": "AQI="}}"#,
        )
        .unwrap();
        assert_eq!(md5_of_attributes(&attributes).unwrap().unwrap(), "9bd4dc7572f9a40ac99d00b233b80213");
    }

    #[test]
    fn text_outside_xml_is_refused() {
        for (text, ok) in [("plain\n", true), ("\u{1F600}", true), ("\u{0}", false), ("\u{FFFF}", false)] {
            assert_eq!(text.chars().all(allowed), ok, "{text:?}");
        }
    }

    #[test]
    fn a_receipt_survives_its_handle_and_garbage_is_refused() {
        let original = Receipt { seq: 7, nonce: "abc".into() };
        assert_eq!(receipt(&receipt_handle(&original)).unwrap(), original);
        for garbage in ["", "not base64!", "YWJj"] {
            assert!(matches!(receipt(garbage), Err(SqsError::ReceiptHandleIsInvalid)), "{garbage}");
        }
    }
}

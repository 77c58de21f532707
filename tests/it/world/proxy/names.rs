//! What an exchange is, by its head and, where that is not enough, by its answer.

use std::collections::BTreeMap;

use hyper::http::request::Parts;

use super::Exchange;

/// What an exchange is, and of which job and attempt, as far as its head says.
pub(super) fn named(parts: &Parts) -> (Exchange, Option<String>, Option<u64>) {
    if let Some(target) = parts.headers.get("x-amz-target") {
        let exchange = match target.to_str().unwrap_or_default() {
            "AmazonSQS.ReceiveMessage" => Exchange::Receive,
            "AmazonSQS.ChangeMessageVisibility" => Exchange::Extend,
            "AmazonSQS.DeleteMessage" => Exchange::Delete,
            _ => Exchange::Other,
        };
        return (exchange, None, None);
    }
    let steps: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    match (parts.method.as_str(), &steps[..]) {
        ("POST", ["internal", "v1", "jobs", job, "claim"]) => (Exchange::Claim, Some((*job).to_owned()), None),
        ("POST", ["internal", "v1", "jobs", job, "attempts", attempt, call]) => {
            let exchange = match *call {
                "heartbeat" => Exchange::Heartbeat,
                "probed" => Exchange::Probed,
                "segments" => Exchange::Segments,
                "report" => Exchange::Report,
                _ => Exchange::Other,
            };
            (exchange, Some((*job).to_owned()), attempt.parse().ok())
        }
        ("POST", ["internal", "v1", "workers", _, "awake"]) => (Exchange::Awake, None, None),
        ("POST", ["internal", "v1", "workers", _, "asleep"]) => (Exchange::Asleep, None, None),
        ("PUT", [_, "outputs", job, _, "manifest.json"]) => (Exchange::PutManifest, Some((*job).to_owned()), None),
        ("PUT", [_, "outputs", job, _, attempt, "matte.mkv"]) => {
            (Exchange::PutMatte, Some((*job).to_owned()), attempt.parse().ok())
        }
        ("PUT", [_, "segments", job, ..]) => (Exchange::PutSegment, Some((*job).to_owned()), None),
        ("PUT", [_, "outputs", job, _, attempt, ..]) => {
            (Exchange::PutOutput, Some((*job).to_owned()), attempt.parse().ok())
        }
        ("GET", [_, "uploads", ..]) => (Exchange::GetSource, None, None),
        ("POST", ["v1", "jobs"]) => (Exchange::Create, None, None),
        _ => (Exchange::Other, None, None),
    }
}

/// The job of the message that a receive answered with.
pub(super) fn received(body: &[u8]) -> Option<String> {
    let reply: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(reply["Messages"][0]["Body"].as_str()?).ok()?;
    Some(message["job_id"].as_str()?.to_owned())
}

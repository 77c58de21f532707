//! Golden wire forms: every file in `events/` that is ours is read and written back exactly. Changing one of them
//! changes a protocol that an older worker or client may speak: it needs a version note.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use rotoless_contract::ErrorEnvelope;
use rotoless_contract::awake::{AsleepReply, AsleepRequest, AwakeReply, AwakeRequest};
use rotoless_contract::manifest::Manifest;
use rotoless_contract::queue::{QueueMessage, Wake};
use rotoless_contract::webhook::WebhookEvent;
use rotoless_contract::worker::{
    ClaimReply, ClaimRequest, HeartbeatReply, HeartbeatRequest, ProbedReply, ProbedRequest, ReportReply, ReportRequest,
    Stage,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[track_caller]
fn survives<T: Serialize + DeserializeOwned + Debug>(json: &str) -> T {
    let golden: Value = serde_json::from_str(json).unwrap();
    let read: T = serde_json::from_value(golden.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), golden);
    read
}

#[test]
fn the_queue_message_and_the_wake_keep_their_form() {
    survives::<QueueMessage>(include_str!("../../../events/queue-message.json"));
    survives::<Wake>(include_str!("../../../events/wake.json"));
    survives::<Wake>(r#"{"v":1}"#);
}

#[test]
fn the_workers_protocol_keeps_its_form() {
    survives::<ClaimRequest>(include_str!("../../../events/claim-request.json"));
    survives::<HeartbeatRequest>(include_str!("../../../events/heartbeat-request.json"));
    survives::<HeartbeatReply>(include_str!("../../../events/heartbeat-reply.json"));
    survives::<HeartbeatRequest>(include_str!("../../../events/heartbeat-request-links.json"));
    survives::<ProbedRequest>(include_str!("../../../events/probed-request.json"));
    survives::<ProbedReply>(include_str!("../../../events/probed-reply.json"));
    survives::<ReportRequest>(include_str!("../../../events/report-completed.json"));
    survives::<ReportRequest>(include_str!("../../../events/report-failed.json"));
    survives::<ReportRequest>(include_str!("../../../events/report-abandoned.json"));
    survives::<ReportReply>(include_str!("../../../events/report-reply.json"));
    survives::<Manifest>(include_str!("../../../events/manifest.json"));
}

#[test]
fn what_a_draining_worker_says_of_itself_keeps_its_form() {
    survives::<AwakeRequest>(include_str!("../../../events/awake-request.json"));
    survives::<AwakeReply>(include_str!("../../../events/awake-reply.json"));
    survives::<AsleepRequest>(include_str!("../../../events/asleep-request.json"));
    survives::<AsleepReply>(include_str!("../../../events/asleep-reply.json"));
    // A worker that is asked to end leaves without having looked.
    let leaves: AsleepRequest = serde_json::from_str(r#"{"v":1,"later":true}"#).unwrap();
    assert_eq!(leaves.seq, None);
}

#[test]
fn a_claims_answer_keeps_its_form_and_shows_no_link_in_a_log() {
    let reply: ClaimReply = survives(include_str!("../../../events/claim-reply.json"));
    let logged = format!("{reply:?}");
    assert!(!logged.contains("X-Amz-Signature") && !logged.contains("5ec2e7"), "{logged}");
}

/// G-39, TW-9: a worker or a control plane of the version before leaves the new fields out, and ignores them.
#[test]
fn fresh_links_are_asked_for_and_given_in_fields_that_the_version_before_does_not_know() {
    let reply: HeartbeatReply = survives(include_str!("../../../events/heartbeat-reply-links.json"));
    let logged = format!("{reply:?}");
    assert!(!logged.contains("X-Amz-Signature"), "{logged}");
    let old: HeartbeatRequest = survives(include_str!("../../../events/heartbeat-request.json"));
    assert_eq!((old.seq, old.fresh_links), (None, false));
    let old: HeartbeatReply = survives(include_str!("../../../events/heartbeat-reply.json"));
    assert!(old.links.is_none());

    /// As it was before there were fresh links.
    #[derive(serde::Deserialize)]
    struct Before {
        stage: Stage,
        frames_done: u64,
    }
    let read: Before = serde_json::from_str(include_str!("../../../events/heartbeat-request-links.json")).unwrap();
    assert_eq!((read.stage, read.frames_done), (Stage::Upload, 75));
}

#[test]
fn what_clients_are_sent_keeps_its_form() {
    survives::<WebhookEvent>(include_str!("../../../events/webhook-completed.json"));
    survives::<ErrorEnvelope>(include_str!("../../../events/error.json"));
}

//! Records to store.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::api::JobRequest;
use rotoless_contract::job::EventState;
use rotoless_contract::webhook::EventKind;
use rotoless_contract::{
    Attempt, Background, ClientId, DeliveryId, JobId, JobSpec, MilliCredits, Model, OutputFormat, Run, UploadId,
};
use rotoless_core::ledger::{Cause, Hold, Movement};
use rotoless_core::lifecycle::{JobState, Phase};
use rotoless_core::policy::Policy;
use rotoless_core::ports::Change;
use rotoless_core::record::{AttemptRecord, ClaimToken, DeliveryRecord, IdempotencyRecord, JobRecord, Source};
use rotoless_core::view;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(crate) fn client(name: &str) -> ClientId {
    name.parse().unwrap()
}

pub(crate) fn job_id(n: u32) -> JobId {
    let mut bits = [0; 16];
    bits[..4].copy_from_slice(&n.to_be_bytes());
    JobId::from_random(bits)
}

/// A pending job with 2250 milli-credits held, created `n` seconds after the start of time.
pub(crate) fn job(n: u32, client: &ClientId) -> JobRecord {
    let created_at = at(n.into());
    let metadata = serde_json::json!({
        "huge": 1e300, "tiny": 5e-324, "unicode": "日本 \u{1F980}", "empty": "", "null": null,
        "most": u64::MAX, "deep": [[[{"a": [true]}]]], "0.1": 0.1
    });
    JobRecord {
        id: job_id(n),
        client: client.clone(),
        version: 1,
        state: JobState {
            phase: Phase::Pending,
            run: Some(Run::FIRST),
            hold: Hold::Held(MilliCredits(2250)),
            ..JobState::draft()
        },
        request: JobRequest { metadata: metadata.as_object().cloned(), ..JobRequest::default() },
        spec: JobSpec {
            model: Model::Human,
            background: Background::Transparent,
            output_format: OutputFormat::Webm,
            text_prompt: None,
            composition: None,
        },
        source: Source::Upload { upload_id: UploadId::from_random([1; 16]), key: "k".to_owned(), size_bytes: 7 },
        background_source: None,
        webhook_url: Some("https://example.com/hook".to_owned()),
        metadata: metadata.as_object().cloned(),
        warnings: vec!["none".to_owned()],
        pricing_version: "2026-11-01".to_owned(),
        rate: MilliCredits(750),
        billed_seconds: 3,
        claim_token: Some(ClaimToken("token".to_owned())),
        created_at,
        updated_at: created_at,
        queued_at: Some(created_at),
        enqueued_at: None,
        resends: 0,
        started_at: None,
        completed_at: None,
        stage: None,
        frames: None,
        matting_since: None,
        input: None,
        output: None,
        matte: None,
        exported: None,
        quality: None,
        events: BTreeMap::new(),
        last_beat: None,
        last_report: None,
        due_at: Some(created_at),
        postponed: None,
        trail: Vec::new(),
        deletion: None,
    }
}

/// The same job one commit later.
pub(crate) fn next(job: &JobRecord) -> JobRecord {
    JobRecord { version: job.version + 1, ..job.clone() }
}

pub(crate) fn only(job: JobRecord) -> Change {
    Change::of(job)
}

pub(crate) fn with_hold(job: JobRecord) -> Change {
    let amount = job.state.hold.held();
    let money = Some((Cause::Hold(job.id.clone(), Run::FIRST), Movement::Hold(amount)));
    Change { money, ..only(job) }
}

/// A change with every part there is.
pub(crate) fn whole(job: JobRecord) -> Change {
    Change {
        attempts: vec![attempt(1)],
        delivery: Some(delivery(&job)),
        idempotency: Some(promise(&job)),
        ..with_hold(job)
    }
}

pub(crate) fn attempt(n: u32) -> AttemptRecord {
    AttemptRecord {
        attempt: Attempt::new(n).unwrap(),
        run: Run::FIRST,
        worker_id: "worker".to_owned(),
        provider: "cpu".to_owned(),
        claimed_at: at(0),
        ended_at: None,
        outcome: None,
    }
}

pub(crate) fn promise(job: &JobRecord) -> IdempotencyRecord {
    IdempotencyRecord {
        scope: format!("{}#key", job.client),
        digest: "d".to_owned(),
        job_id: job.id.clone(),
        expires_at: job.created_at.saturating_add(SignedDuration::from_hours(24)).unwrap(),
    }
}

pub(crate) fn delivery(job: &JobRecord) -> DeliveryRecord {
    DeliveryRecord {
        id: DeliveryId::from_random([9; 16]),
        job_id: job.id.clone(),
        client: job.client.clone(),
        event: EventKind::Started,
        sequence: 1,
        created_at: job.created_at,
        url: "https://example.com/hook".to_owned(),
        data: Box::new(view::job(job, None, &Policy::default(), job.created_at)),
        state: EventState::Pending,
        tries: 0,
        due_at: Some(job.created_at),
        last_result: None,
        attempts: Vec::new(),
        version: 1,
    }
}

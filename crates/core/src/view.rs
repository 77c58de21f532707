//! A stored job as its client sees it.

use jiff::Timestamp;
use rotoless_contract::job::JobOutput;
use rotoless_contract::{BillingStatus, Credits, Job, JobStatus};

use crate::ledger::Hold;
use crate::lifecycle::Phase;
use crate::policy::Policy;
use crate::ports::PresignedUrl;
use crate::record::{JobRecord, Source};

/// The public job. `output_url` is presigned by the caller, who alone knows whether the reader may have it.
#[must_use]
pub fn job(record: &JobRecord, output_url: Option<PresignedUrl>, policy: &Policy, now: Timestamp) -> Job {
    let state = &record.state;
    let status = state.status();
    let reason = match state.phase {
        Phase::Failed { reason } => Some(reason),
        Phase::Draft | Phase::Pending | Phase::Processing { .. } | Phase::Completed => None,
    };
    let output = record.output.as_ref().filter(|_| status == JobStatus::Completed);
    Job {
        id: record.id.clone(),
        job_id: record.id.clone(),
        status,
        progress: state.progress,
        output_url: output.and(output_url).map(|url| url.0),
        error: reason.map(|reason| reason.message().to_owned()),
        created_at: record.created_at,
        duration_seconds: output.map(|output| seconds(output.info.duration_ms)),
        billing_status: billing(state.hold),
        webhook_url: record.webhook_url.clone(),
        webhook_events: record.events.clone(),
        model: record.spec.model,
        output_format: record.spec.output_format,
        background: record.spec.background.clone(),
        composition: record.spec.composition.clone(),
        text_prompt: record.spec.text_prompt.clone(),
        exported_from: record.exported.as_ref().map(|exported| exported.from.clone()),
        exportable_until: exportable_until(record, policy),
        metadata: record.metadata.clone(),
        stage: record.stage.filter(|_| status == JobStatus::Processing),
        queue_position: None,
        eta_seconds: eta(record, now),
        started_at: record.started_at,
        completed_at: record.completed_at,
        updated_at: record.updated_at,
        credits_held: Credits(state.hold.held()),
        credits_charged: Credits(state.hold.charged()),
        billed_seconds: match state.hold {
            Hold::Held(_) | Hold::Captured(_) => Some(record.billed_seconds),
            Hold::None | Hold::Released(_) => None,
        },
        pricing_version: record.pricing_version.clone(),
        error_code: reason,
        error_retryable: reason.map(|reason| reason.retryable()),
        attempts: state.attempts,
        input: record.input.clone(),
        output: output.map(|output| JobOutput {
            info: output.info.clone(),
            expires_at: record
                .completed_at
                .unwrap_or(record.updated_at)
                .saturating_add(policy.output_retention)
                .unwrap_or(now),
        }),
        quality: record.quality.clone(),
        warnings: record.warnings.clone(),
    }
}

/// As long as the output, and the upload that it was made of, are kept.
fn exportable_until(record: &JobRecord, policy: &Policy) -> Option<Timestamp> {
    if record.state.status() != JobStatus::Completed || (record.matte.is_none() && record.exported.is_none()) {
        return None;
    }
    let outputs_end = record.completed_at?.saturating_add(policy.output_retention).ok()?;
    match record.source {
        // It was uploaded before the job was made, so it may go a little earlier.
        Source::Upload { .. } => Some(outputs_end.min(record.created_at.saturating_add(policy.upload_retention).ok()?)),
        Source::External { .. } => Some(outputs_end),
    }
}

fn billing(hold: Hold) -> Option<BillingStatus> {
    match hold {
        Hold::None => None,
        Hold::Held(_) => Some(BillingStatus::Reserved),
        Hold::Captured(_) => Some(BillingStatus::Charged),
        Hold::Released(_) => Some(BillingStatus::Released),
    }
}

/// Remaining frames at the attempt's own pace so far.
fn eta(record: &JobRecord, now: Timestamp) -> Option<u64> {
    let (done, total) = record.frames?;
    let since = record.matting_since?;
    if !matches!(record.state.phase, Phase::Processing { .. }) || done == 0 || total <= done {
        return None;
    }
    let spent_ms = u64::try_from(now.duration_since(since).as_millis()).ok()?;
    Some((spent_ms.saturating_mul(total - done) / done).div_ceil(1000))
}

/// Milliseconds as seconds.
#[must_use]
pub fn seconds(ms: u64) -> f64 {
    // Exact: media is far shorter than 2^53 ms.
    ms as f64 / 1000.0
}

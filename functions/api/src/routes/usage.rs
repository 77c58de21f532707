//! What a client used: sums by day, and the requests behind them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rotoless_contract::api::{ModelUsage, UsageDay, UsageEvent, UsageEvents, UsageSummary, UsageTotals};
use rotoless_contract::{ClientId, Credits, MilliCredits, Model};
use rotoless_core::record::JobRecord;
use rotoless_core::usage::{CallRecord, DayUsage, day};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use crate::App;
use crate::auth::Client;
use crate::envelope::ApiError;
use crate::extract::{Asked, readable, up_to};

/// Jobs looked up at once.
const LOOKUPS: usize = 16;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(summary)).routes(routes!(events))
}

#[derive(Deserialize)]
struct Params {
    days: Option<String>,
    limit: Option<String>,
}

/// Sum up what was used
///
/// By day, of UTC, and by model.
#[utoipa::path(
    get, path = "/v1/usage/summary", operation_id = "getUsageSummary", tag = "Account",
    params(("days" = Option<u32>, Query, minimum = 1, maximum = 90, description = "How many days, with today; 7 when absent")),
    responses((status = 200, description = "The sums", body = UsageSummary)),
)]
async fn summary(State(app): State<App>, Client(client): Client, asked: Asked<Params>) -> Answer<UsageSummary> {
    let days = up_to(90, readable(asked)?.days.as_deref(), "days", 7)?;
    let now = app.clock.now();
    let last = day(now);
    let first = last.saturating_sub((i64::from(days) - 1).days());
    let used = app.usage.days(&client, first, last).await?;
    Ok(Json(summed(days, first, now, &used)))
}

/// The sums over days that are there, and a line for each day, also for those that are not.
fn summed(days: u32, first: Date, now: Timestamp, used: &[DayUsage]) -> UsageSummary {
    let mut totals = UsageTotals::default();
    let mut by_model: BTreeMap<Model, ModelUsage> = BTreeMap::new();
    let mut lines: BTreeMap<Date, UsageDay> =
        first.series(1.day()).take(days as usize).map(|date| (date, empty(date))).collect();
    for day in used {
        totals.total_calls += day.calls;
        let Some(line) = lines.get_mut(&day.date) else { continue };
        for (model, tally) in &day.models {
            let of_model = by_model.entry(*model).or_default();
            of_model.jobs += tally.jobs;
            of_model.completed += tally.completed;
            of_model.failed += tally.failed;
            of_model.seconds += tally.seconds;
            of_model.credits_used = add(of_model.credits_used, tally.credits);
            line.jobs += tally.jobs;
            line.completed += tally.completed;
            line.failed += tally.failed;
            line.seconds += tally.seconds;
            line.credits_used = add(line.credits_used, tally.credits);
        }
    }
    for line in lines.values() {
        totals.total_jobs += line.jobs;
        totals.completed_jobs += line.completed;
        totals.failed_jobs += line.failed;
        totals.seconds_processed += line.seconds;
        totals.credits_used = add(totals.credits_used, line.credits_used.0);
    }
    let from = first.to_zoned(TimeZone::UTC).map_or(now, |begin| begin.timestamp());
    UsageSummary { days, from, to: now, sums: totals, totals, daily: lines.into_values().collect(), by_model }
}

fn empty(date: Date) -> UsageDay {
    UsageDay { date, jobs: 0, completed: 0, failed: 0, credits_used: Credits::default(), seconds: 0 }
}

fn add(sum: Credits, amount: MilliCredits) -> Credits {
    Credits(sum.0 + amount)
}

/// List requests
///
/// Newest first; mere reads are not kept.
#[utoipa::path(
    get, path = "/v1/usage/events", operation_id = "listUsageEvents", tag = "Account",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 20 when absent")),
    responses((status = 200, description = "The requests", body = UsageEvents)),
)]
async fn events(State(app): State<App>, Client(client): Client, asked: Asked<Params>) -> Answer<UsageEvents> {
    let limit = up_to(100, readable(asked)?.limit.as_deref(), "limit", 20)?;
    let calls = app.usage.calls(&client, limit).await?;
    let shown = stream::iter(calls).map(|call| shown(&app, &client, call)).buffered(LOOKUPS);
    let items: Vec<UsageEvent> = shown.try_collect().await?;
    Ok(Json(UsageEvents { events: items.clone(), items }))
}

/// The event, with what its job costs by now.
async fn shown(app: &App, client: &ClientId, call: CallRecord) -> Result<UsageEvent, ApiError> {
    let job = match &call.job_id {
        Some(id) => app.jobs.job(id).await?.filter(|job| job.client == *client),
        None => None,
    };
    let succeeded = call.status_code == 200;
    let is_order =
        succeeded && (call.path.ends_with("/jobs") || call.path.ends_with("/start") || call.path == "/api/process");
    // A hold is open or charged, never both.
    let cost = |job: &JobRecord| job.state.hold.held() + job.state.hold.charged();
    let credits = job.as_ref().filter(|_| is_order).map_or(MilliCredits::ZERO, cost);
    Ok(UsageEvent {
        id: format!("use_{}", call.request_id.trim_start_matches("req_")),
        timestamp: call.at,
        method: call.method,
        path: call.path,
        status_code: call.status_code,
        // Another's id, or none at all, may stand in a path.
        job_id: job.as_ref().map(|job| job.id.clone()),
        model: call.model.or_else(|| job.map(|job| job.spec.model)),
        credits: Credits(credits),
        request_id: call.request_id,
        latency_ms: call.latency_ms,
    })
}

//! A job's webhook events: what became of them, and sending one again.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use rotoless_contract::api::{DeliveryInfo, DeliveryList, ReplayReply};
use rotoless_contract::job::EventState;
use rotoless_contract::{DeliveryId, JobId};
use rotoless_core::record::DeliveryRecord;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use super::jobs::{IdPath, id, own};
use crate::App;
use crate::auth::Client;
use crate::envelope::ApiError;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(replay))
}

/// List a job's webhook events
///
/// With the tries to deliver each.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/deliveries", operation_id = "listDeliveries", tag = "Webhooks",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The events", body = DeliveryList)),
)]
async fn list(State(app): State<App>, Client(client): Client, path: IdPath) -> Answer<DeliveryList> {
    let job = own(&app, &client, &id(path)?).await?;
    let events = app.deliveries.deliveries_of(&job.id).await?;
    Ok(Json(DeliveryList { job_id: job.id, items: events.into_iter().map(shown).collect() }))
}

/// Send a webhook event again
///
/// Under the same delivery id, beginning now.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/deliveries/{delivery_id}/replay", operation_id = "replayDelivery", tag = "Webhooks",
    params(
        ("id" = JobId, Path, description = "The job"),
        ("delivery_id" = DeliveryId, Path, description = "The event"),
    ),
    responses((status = 200, description = "The event, due now", body = ReplayReply)),
)]
async fn replay(
    State(app): State<App>,
    Client(client): Client,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Answer<ReplayReply> {
    let Path((job, delivery)) = path.map_err(|_| ApiError::job_not_found())?;
    let job = job.parse().map_err(|_| ApiError::job_not_found())?;
    let Ok(delivery) = delivery.parse() else {
        // What is no id names no event; but whether the job is the client's own comes first.
        own(&app, &client, &job).await?;
        return Err(ApiError::delivery_not_found());
    };
    let event = app.replay.replay(&client, &job, &delivery).await?;
    Ok(Json(ReplayReply { success: true, message: "The event will be sent".to_owned(), delivery: shown(event) }))
}

fn shown(event: DeliveryRecord) -> DeliveryInfo {
    DeliveryInfo {
        next_attempt_at: event.due_at.filter(|_| event.state == EventState::Pending),
        delivery_id: event.id,
        event: event.event,
        sequence: event.sequence,
        status: event.state,
        url: event.url,
        created_at: event.created_at,
        tries: event.tries,
        attempts: event.attempts,
    }
}

//! What a job would cost. Nothing is created.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use rotoless_contract::Credits;
use rotoless_contract::api::EstimateReply;
use rotoless_core::view::seconds;

use super::Answer;
use super::jobs::can_do;
use crate::App;
use crate::auth::Client;
use crate::extract::JsonBytes;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/v1/estimate", post(estimate))
}

async fn estimate(State(app): State<App>, Client(client): Client, body: JsonBytes) -> Answer<EstimateReply> {
    let request = body.job_request()?;
    can_do(&app, &request)?;
    let estimate = app.submit.estimate(&client, &request).await?;
    let available = app.accounts.balance(&client).await?.available;
    Ok(Json(EstimateReply {
        success: true,
        model: estimate.order.spec.model,
        output_format: estimate.order.spec.output_format,
        duration_seconds: estimate.duration_ms.map(seconds),
        billed_seconds: estimate.billed_seconds,
        credits: Credits(estimate.cost),
        available: Credits(available),
        sufficient: available >= estimate.cost,
        expected_seconds: estimate.expected_seconds,
        pricing_version: app.policy.pricing.version.clone(),
        warnings: estimate.order.warnings,
    }))
}

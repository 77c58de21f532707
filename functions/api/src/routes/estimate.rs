//! What a job would cost. Nothing is created.

use axum::Json;
use axum::extract::State;
use rotoless_contract::Credits;
use rotoless_contract::api::EstimateReply;
use rotoless_core::view::seconds;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use super::jobs::can_do;
use crate::App;
use crate::auth::Client;
use crate::extract::JsonBytes;
use crate::openapi::CreateJobRequest;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(estimate))
}

/// Ask what a job would cost
///
/// Takes the body of a job. Nothing is created or held.
#[utoipa::path(
    post, path = "/v1/estimate", operation_id = "estimateJob", tag = "Jobs",
    request_body(content = CreateJobRequest, example = json!({
        "video_url": "https://example.com/clip.mp4", "model": "human", "output_format": "webm",
    })),
    responses((status = 200, description = "The estimate", body = EstimateReply)),
)]
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

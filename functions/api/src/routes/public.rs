//! Routes without a key: a job's download, the prices, the state of the service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use rotoless_contract::api::{DownloadReply, HealthChecks, HealthReply, HealthStatus, PricingReply};
use rotoless_contract::{Credits, ErrorCode, JobId, Model};
use rotoless_core::policy::cost;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use super::jobs::{IdPath, Output, id, output_link};
use crate::App;
use crate::envelope::ApiError;
use crate::state::{Dependencies, HealthProbe};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(download)).routes(routes!(pricing)).routes(routes!(health))
}

/// Find a job's output
///
/// Needs no key: the id, of 128 random bits, is the right.
#[utoipa::path(
    get, path = "/api/download/{id}", operation_id = "getDownload", tag = "Public",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "A link", body = DownloadReply)),
)]
async fn download(State(app): State<App>, path: IdPath) -> Answer<DownloadReply> {
    let job = app.jobs.job(&id(path)?).await?.filter(|job| job.deletion.is_none());
    let job = job.ok_or_else(ApiError::job_not_found)?;
    match output_link(&app, &job).await? {
        Output::NotYet => Err(ApiError::new(ErrorCode::JobNotCompleted, "Job not completed")),
        Output::Gone => Err(ApiError::new(ErrorCode::NotFound, "The output has expired").with_reason("output_expired")),
        Output::Link(url) => Ok(Json(DownloadReply {
            success: true,
            status: job.state.status(),
            job_id: job.id,
            download_url: url.0,
            output_format: job.spec.output_format,
        })),
    }
}

/// Read the prices
#[utoipa::path(
    get, path = "/api/pricing", operation_id = "getPricing", tag = "Public",
    responses((status = 200, description = "Prices", body = PricingReply)),
)]
async fn pricing(State(app): State<App>) -> Json<PricingReply> {
    Json(prices(&app))
}

/// The price list.
pub(super) fn prices(app: &App) -> PricingReply {
    let pricing = &app.policy.pricing;
    let per_minute = |model: Model| (model.to_string(), Credits(cost(pricing.per_second(model), 60)));
    PricingReply {
        model_pricing_credits_per_minute: Model::ALL.iter().copied().map(per_minute).collect::<BTreeMap<_, _>>(),
        price_per_second_cents: pricing.price_per_second_cents,
        packages: pricing.packages.clone(),
        pricing_version: pricing.version.clone(),
    }
}

/// A look at the dependencies is shared by all who ask within this time: anybody may ask, as often as he likes.
const FRESH: Duration = Duration::from_secs(5);
/// A dependency that does not answer within this time is away.
const LOOK: Duration = Duration::from_secs(3);

/// What the dependencies looked like lately.
pub(crate) struct Recent {
    probe: Arc<dyn HealthProbe>,
    last: Mutex<Option<(Instant, Dependencies)>>,
}

impl Recent {
    pub(crate) fn new(app: &App) -> Arc<Self> {
        Arc::new(Self { probe: app.health.clone(), last: Mutex::new(None) })
    }

    async fn look(&self) -> Dependencies {
        let mut last = self.last.lock().await;
        if let Some((at, found)) = *last
            && at.elapsed() < FRESH
        {
            return found;
        }
        let found = timeout(LOOK, self.probe.look()).await.unwrap_or_default();
        *last = Some((Instant::now(), found));
        found
    }
}

/// Ask how the service is
///
/// Always 200. Looks are shared by all who ask within 5 s.
#[utoipa::path(
    get, path = "/health", operation_id = "getHealth", tag = "Public",
    responses((status = 200, description = "The state of the service", body = HealthReply)),
)]
async fn health(Extension(recent): Extension<Arc<Recent>>) -> Json<HealthReply> {
    let found = recent.look().await;
    let all = found.database && found.queue && found.object_store;
    Json(HealthReply {
        status: if all { HealthStatus::Healthy } else { HealthStatus::Degraded },
        checks: HealthChecks {
            api: true,
            runpod_configured: found.runpod_configured,
            r2_configured: found.object_store,
            s3_configured: found.object_store,
            queue: found.queue,
            database: found.database,
            worker_last_seen: found.worker_last_seen,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    })
}

//! The routes of older clients: the same handlers under their old names.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use rotoless_contract::api::{JobReply, PresignRequest};
use rotoless_contract::{Job, JobId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::jobs::IdPath;
use super::{Answer, jobs, uploads};
use crate::App;
use crate::auth::Client;
use crate::envelope::ApiError;
use crate::exchange::Exchange;
use crate::extract::JsonBytes;
use crate::openapi::{CreateJobRequest, UploadAnswer, UploadForm};
use crate::own_url::OwnUrl;

/// Where older clients send files.
pub(crate) const UPLOAD: &str = "/api/upload";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(upload)).routes(routes!(process)).routes(routes!(status))
}

/// Upload a file
///
/// The same as `POST /v1/uploads`.
#[utoipa::path(
    post, path = UPLOAD, operation_id = "legacyUpload", tag = "Legacy",
    request_body(content((UploadForm = "multipart/form-data"), (PresignRequest = "application/json"))),
    responses((status = 200, description = "As of `POST /v1/uploads`", body = UploadAnswer)),
)]
async fn upload(state: State<App>, client: Client, own: OwnUrl, request: Request) -> Result<Response, ApiError> {
    uploads::upload(state, client, own, request).await
}

/// Create a job
///
/// The same as `POST /v1/jobs`.
#[utoipa::path(
    post, path = "/api/process", operation_id = "legacyProcess", tag = "Legacy",
    request_body = CreateJobRequest,
    responses((status = 200, description = "The job", body = JobReply)),
)]
async fn process(
    state: State<App>,
    client: Client,
    exchange: Extension<Exchange>,
    headers: HeaderMap,
    body: JsonBytes,
) -> Result<Response, ApiError> {
    jobs::create(state, client, exchange, headers, body).await
}

/// Read a job
///
/// The same as `GET /v1/jobs/{id}`.
#[utoipa::path(
    get, path = "/api/status/{id}", operation_id = "legacyStatus", tag = "Legacy",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The job", body = Job)),
)]
async fn status(state: State<App>, client: Client, path: IdPath) -> Answer<Job> {
    jobs::read(state, client, path).await
}

//! Jobs: create, start, read, list, cancel.
//!
//! Owns: from request to use case and back. Does not own: what is valid and what may happen (`rotoless-core`).

mod promise;

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use rotoless_contract::api::{DeletedReply, JobList, JobReply, JobRequest};
use rotoless_contract::{ClientId, ErrorCode, Job, JobId, JobStatus};
use rotoless_core::ports::ListQuery;
use rotoless_core::record::JobRecord;
use rotoless_core::usecase::SubmitError;
use rotoless_core::{request, view};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use crate::App;
use crate::auth::Client;
use crate::envelope::ApiError;
use crate::exchange::Exchange;
use crate::extract::{Asked, JsonBytes, query_value, readable, up_to};
use crate::openapi::CreateJobRequest;

const PATH: &str = "/v1/jobs";
/// Skipped jobs are read all the same: beyond this, a cursor is the way.
const MAX_OFFSET: u32 = 10_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(create, list))
        .routes(routes!(read, delete))
        .routes(routes!(start))
        .routes(routes!(export))
        .routes(routes!(cancel))
}

/// A job's id as part of a path: what is no id names no job.
pub(super) type IdPath = Result<Path<JobId>, PathRejection>;

pub(super) fn id(path: IdPath) -> Result<JobId, ApiError> {
    path.map(|Path(id)| id).map_err(|_| ApiError::job_not_found())
}

/// Create a job
///
/// Starts it as well, unless `auto_start` is `false`: the credits for its length are held, and charged when it
/// completes. Unknown fields are ignored and named in `warnings`.
#[utoipa::path(
    post, path = PATH, operation_id = "createJob", tag = "Jobs",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        description = "A repeated request with the same key and body gets the first one's answer, for 24 h")),
    request_body(content = CreateJobRequest, example = json!({
        "video_url": "https://example.com/clip.mp4", "model": "human", "bg_type": "transparent", "output_format": "webm",
    })),
    responses((status = 200, description = "The job", body = JobReply)),
)]
pub(super) async fn create(
    State(app): State<App>,
    Client(client): Client,
    Extension(exchange): Extension<Exchange>,
    headers: HeaderMap,
    body: JsonBytes,
) -> Result<Response, ApiError> {
    let request = body.job_request()?;
    let promise = promise::of(&headers, &request, "POST", PATH, &body)?;
    if let Err(refusal) = can_do(&app, &request) {
        // A request that was accepted once is answered as it was then, whatever the workers can do now.
        let before = match &promise {
            Some(promise) => app.submit.replay(&client, promise).await?,
            None => None,
        };
        return match before {
            Some(job) => Ok(replayed(answer(&app, &job, "Job created").await?)),
            None => Err(refusal),
        };
    }
    let caller = Some(exchange.caller());
    let created = app.submit.create(&client, &request, promise.as_ref(), caller).await.map_err(|err| {
        if promise.is_some() && matches!(err, SubmitError::Contention) {
            // The same key at the same moment, and neither answer is there yet.
            return ApiError::new(ErrorCode::Conflict, "The same request is being worked on").retry_after(1);
        }
        err.into()
    })?;
    exchange.concerns(&created.job.id);
    if !created.replayed {
        exchange.kept();
    }
    let message = if request.auto_start == Some(false) { "Job created" } else { "Job created and started" };
    let reply = answer(&app, &created.job, message).await?;
    Ok(if created.replayed { replayed(reply) } else { reply.into_response() })
}

/// Start a draft
///
/// Fields of the body override the draft's; `video_url` and `auto_start` are ignored. A job that has started is answered
/// as it is. A failed one is started again, and charged only if it completes.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/start", operation_id = "startJob", tag = "Jobs",
    params(("id" = JobId, Path, description = "The job")),
    request_body(content = JobRequest, example = json!({"bg_type": "blur"})),
    responses((status = 200, description = "The job", body = JobReply)),
)]
async fn start(State(app): State<App>, Client(client): Client, path: IdPath, body: JsonBytes) -> Answer<JobReply> {
    let id = id(path)?;
    let overrides = body.job_request()?;
    let before = own(&app, &client, &id).await?;
    match before.state.status() {
        JobStatus::Created | JobStatus::Failed => {
            let started = JobRequest { auto_start: None, ..request::overlay(&before.request, &overrides) };
            can_do(&app, &started)?;
        }
        // Nothing will start, so nothing needs to be possible.
        JobStatus::Pending | JobStatus::Processing | JobStatus::Completed => {}
    }
    let job = app.submit.start(&client, &id, &overrides).await?;
    let message = match before.state.status() {
        JobStatus::Created | JobStatus::Failed => "Job started",
        JobStatus::Pending | JobStatus::Processing | JobStatus::Completed => "Job has already started",
    };
    answer(&app, &job, message).await
}

/// Export a job
///
/// Makes another format, background or composition of a completed job, from the matte that was kept with it: no model
/// runs and no credits are taken. The export is a job of its own, with its own output and events; fields of the video,
/// the model and the prompt are the exported job's and are ignored.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/exports", operation_id = "exportJob", tag = "Jobs",
    params(
        ("id" = JobId, Path, description = "The completed job"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "A repeated request with the same key and body gets the first one's answer, for 24 h"),
    ),
    request_body(content = JobRequest, example = json!({"output_format": "mp4", "bg_type": "blur"})),
    responses((status = 200, description = "The export", body = JobReply)),
)]
async fn export(
    State(app): State<App>,
    Client(client): Client,
    Extension(exchange): Extension<Exchange>,
    headers: HeaderMap,
    path: IdPath,
    body: JsonBytes,
) -> Result<Response, ApiError> {
    let id = id(path)?;
    let request = body.job_request()?;
    let promise = promise::of(&headers, &request, "POST", &format!("{PATH}/{id}/exports"), &body)?;
    let caller = Some(exchange.caller());
    let created = app.submit.export(&client, &id, &request, promise.as_ref(), caller).await?;
    if !created.replayed {
        exchange.kept();
    }
    let reply = answer(&app, &created.job, "Export created and started").await?;
    Ok(if created.replayed { replayed(reply) } else { reply.into_response() })
}

/// Read a job
///
/// `output_url` is made anew on each read. Poll until `status` is `completed` or `failed`.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "getJob", tag = "Jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The job", body = Job)),
)]
pub(super) async fn read(State(app): State<App>, Client(client): Client, path: IdPath) -> Answer<Job> {
    let job = own(&app, &client, &id(path)?).await?;
    Ok(Json(polled(&app, &job).await?))
}

/// Delete a job
///
/// With its media. One that has not ended is cancelled first.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", operation_id = "deleteJob", tag = "Jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "It is no more", body = DeletedReply)),
)]
async fn delete(State(app): State<App>, Client(client): Client, path: IdPath) -> Answer<DeletedReply> {
    let id = id(path)?;
    app.delete.delete(&client, &id).await?;
    Ok(Json(DeletedReply { success: true, id: id.clone(), job_id: id, deleted: true }))
}

/// Cancel a job
///
/// It becomes `failed` with `error_code` `cancelled`, and its credits are released.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", operation_id = "cancelJob", tag = "Jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The job", body = JobReply)),
)]
async fn cancel(State(app): State<App>, Client(client): Client, path: IdPath) -> Answer<JobReply> {
    let job = app.cancel.cancel(&client, &id(path)?).await?;
    answer(&app, &job, "Job cancelled").await
}

#[derive(Deserialize)]
struct ListParams {
    limit: Option<String>,
    offset: Option<String>,
    status: Option<String>,
    cursor: Option<String>,
}

/// List jobs
///
/// Newest first.
#[utoipa::path(
    get, path = PATH, operation_id = "listJobs", tag = "Jobs",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 20 when absent"),
        ("offset" = Option<u32>, Query, maximum = 10_000, description = "Skip so many; not together with `cursor`"),
        ("status" = Option<JobStatus>, Query, description = "Only these; `pending` also finds drafts"),
        ("cursor" = Option<String>, Query, pattern = "^([0-9a-fA-F]{48})?$", description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "Jobs", body = JobList)),
)]
async fn list(State(app): State<App>, Client(client): Client, asked: Asked<ListParams>) -> Answer<JobList> {
    let query = list_query(client, &readable(asked)?)?;
    let page = app.jobs.list(&query).await?;
    let mut items = Vec::with_capacity(page.items.len());
    for job in &page.items {
        items.push(polled(&app, job).await?);
    }
    Ok(Json(JobList {
        jobs: items.clone(),
        items,
        total: page.total,
        limit: query.limit,
        offset: query.offset,
        has_more: page.next_cursor.is_some(),
        next_cursor: page.next_cursor.map(|cursor| cursor.to_string()),
    }))
}

fn list_query(client: ClientId, params: &ListParams) -> Result<ListQuery, ApiError> {
    let limit = up_to(100, params.limit.as_deref(), "limit", 20)?;
    let offset = query_value(params.offset.as_deref(), "offset")?.unwrap_or(0);
    if offset > MAX_OFFSET {
        return Err(ApiError::field("offset", "offset must be at most 10000: use cursor beyond it"));
    }
    let cursor = query_value(params.cursor.as_deref(), "cursor")?;
    if cursor.is_some() && offset > 0 {
        return Err(ApiError::field("offset", "offset and cursor cannot be used together"));
    }
    let statuses = match query_value(params.status.as_deref(), "status")? {
        None => Vec::new(),
        // Drafts were pending to clients before they had a name of their own.
        Some(JobStatus::Pending) => vec![JobStatus::Created, JobStatus::Pending],
        Some(status) => vec![status],
    };
    Ok(ListQuery { client, statuses, limit, offset, cursor })
}

/// The client's own job. Another's is as unknown as one that does not exist.
pub(super) async fn own(app: &App, client: &ClientId, id: &JobId) -> Result<JobRecord, ApiError> {
    let job = app.jobs.job(id).await?;
    job.filter(|job| job.is_shown_to(client)).ok_or_else(ApiError::job_not_found)
}

/// Whether this service's workers can do what a valid request orders. One that is not valid passes: the use case
/// refuses it in its own words.
pub(super) fn can_do(app: &App, request: &JobRequest) -> Result<(), ApiError> {
    if request.auto_start == Some(false) {
        // A draft is judged when it is started.
        return Ok(());
    }
    let Ok(order) = request::validate(request, &app.policy) else { return Ok(()) };
    (app.models)(order.spec.model)
        .map_err(|message| ApiError::field("model", message).with_reason("model_unavailable"))?;
    (app.supported)(&order.spec).map_err(|message| ApiError::invalid(message).with_reason("unsupported_options"))
}

async fn answer(app: &App, job: &JobRecord, message: &str) -> Answer<JobReply> {
    Ok(Json(JobReply { success: true, message: message.to_owned(), job: shown(app, job).await? }))
}

fn replayed(reply: Json<JobReply>) -> Response {
    let mut response = reply.into_response();
    let name = HeaderName::from_static("idempotency-replayed");
    response.headers_mut().insert(name, HeaderValue::from_static("true"));
    response
}

/// The job as its client sees it, with a link that was made just now.
async fn shown(app: &App, job: &JobRecord) -> Result<Job, ApiError> {
    let now = app.clock.now();
    let link = match output_link(app, job).await? {
        Output::Link(url) => Some(url),
        Output::NotYet | Output::Gone => None,
    };
    Ok(view::job(job, link, &app.policy, now))
}

/// As [`shown`], with the job's place in the queue: for whoever waits.
pub(super) async fn polled(app: &App, job: &JobRecord) -> Result<Job, ApiError> {
    let mut shown = shown(app, job).await?;
    if shown.status == JobStatus::Pending {
        shown.queue_position = app.line.position(&job.id).await;
    }
    Ok(shown)
}

/// Where a job's output is.
pub(super) enum Output {
    /// The job has none.
    NotYet,
    /// Its time is over.
    Gone,
    /// Here.
    Link(rotoless_core::ports::PresignedUrl),
}

/// A link to the output, saved by browsers under the job's id.
pub(super) async fn output_link(app: &App, job: &JobRecord) -> Result<Output, ApiError> {
    let (JobStatus::Completed, Some(output)) = (job.state.status(), &job.output) else { return Ok(Output::NotYet) };
    let made = job.completed_at.unwrap_or(job.updated_at);
    if made.saturating_add(app.policy.output_retention).is_ok_and(|end| end <= app.clock.now()) {
        return Ok(Output::Gone);
    }
    let name = format!("{}.{}", job.id, job.spec.output_format.extension());
    let life = link_life(app);
    Ok(Output::Link(app.objects.presign_get(&output.key, life, Some(&name)).await?))
}

/// How long links live.
pub(super) fn link_life(app: &App) -> Duration {
    app.policy.link_life.unsigned_abs()
}

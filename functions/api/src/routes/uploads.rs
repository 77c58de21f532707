//! Uploads: through the service as a form, or straight to the object store by a presigned link.
//!
//! Invariants: the type of a file is what its bytes say; no name from outside becomes part of an object key;
//! uploads are never redirected.

mod form;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use rotoless_contract::api::{PresignReply, PresignRequest};
use rotoless_contract::worker::MAX_IMAGE_BYTES;
use rotoless_contract::{ClientId, UploadId};
use rotoless_core::header::FileType;
use rotoless_core::ports::PutTerms;
use rotoless_core::source::{upload_key, upload_url};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use super::jobs::link_life;
use crate::App;
use crate::auth::{Client, Given, single};
use crate::envelope::ApiError;
use crate::extract::JsonBytes;
use crate::file_type::announced;
use crate::openapi::{UploadAnswer, UploadForm};
use crate::own_url::OwnUrl;

const PATH: &str = "/v1/uploads";
/// Where files are sent.
pub(crate) const PATHS: [&str; 2] = [PATH, super::legacy::UPLOAD];

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(upload))
}

/// Upload a file
///
/// As a form, through the service; or as JSON, which gives a link to send the file to. Videos (MP4, QuickTime, WebM,
/// Matroska, AVI) to work on, pictures (PNG, JPEG, WebP) for backgrounds. The type is what the bytes say.
#[utoipa::path(
    post, path = PATH, operation_id = "createUpload", tag = "Uploads",
    request_body(content(
        (UploadForm = "multipart/form-data"),
        (PresignRequest = "application/json",
            example = json!({"filename": "clip.mp4", "content_type": "video/mp4", "size": 1_048_576})),
    )),
    responses((status = 200, description = "Of a form: the upload; of JSON: where to send it", body = UploadAnswer)),
)]
pub(super) async fn upload(
    State(app): State<App>,
    Client(client): Client,
    own: OwnUrl,
    request: Request,
) -> Result<Response, ApiError> {
    let is_form = match single(request.headers(), header::CONTENT_TYPE.as_str()) {
        Given::Twice | Given::Unreadable => return Err(ApiError::invalid("Content-Type is not readable")),
        Given::No => false,
        Given::Once(content_type) => {
            let essence = content_type.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("multipart/form-data")
        }
    };
    if is_form {
        return Ok(form::receive(&app, &client, &own, request).await?.into_response());
    }
    let body = JsonBytes::from_request(request, &app).await?;
    Ok(presign(&app, &client, &own, &body.parse()?).await?.into_response())
}

async fn presign(app: &App, client: &ClientId, own: &OwnUrl, request: &PresignRequest) -> Answer<PresignReply> {
    let Some(file_type) = announced(&request.content_type, &request.filename) else {
        return Err(invalid_file_type().with_param("content_type"));
    };
    if request.size == 0 {
        return Err(ApiError::field("size", "size must be greater than 0"));
    }
    if request.size > greatest(app, file_type) {
        return Err(too_large().with_param("size"));
    }
    let upload = UploadId::from_random(app.entropy.id_bits());
    let life = link_life(app);
    let terms = PutTerms {
        content_type: Some(file_type.content_type().to_owned()),
        size_bytes: Some(request.size),
        only_if_absent: false,
    };
    let expires_at = app.clock.now().saturating_add(app.policy.link_life).map_err(|_| ApiError::internal())?;
    let put = app.objects.presign_put(&upload_key(client, &upload), life, &terms).await?;
    Ok(Json(PresignReply {
        success: true,
        video_url: upload_url(&own.0, &upload),
        video_id: upload,
        upload_url: put.url.0,
        method: "PUT".to_owned(),
        headers: put.headers.into_iter().collect(),
        expires_at,
    }))
}

/// The greatest file of a type, in bytes.
fn greatest(app: &App, file_type: FileType) -> u64 {
    if file_type.is_image() { MAX_IMAGE_BYTES.min(app.policy.limits.max_bytes) } else { app.policy.limits.max_bytes }
}

fn invalid_file_type() -> ApiError {
    ApiError::invalid("Invalid file type").with_reason("invalid_file_type")
}

fn too_large() -> ApiError {
    ApiError::invalid("File too large").with_reason("file_too_large")
}

//! The OpenAPI document: made from the routes that are mounted and from the wire types, finished here.
//!
//! Owns: what is the same for every operation (refusals, headers, security), bodies that are no one type, the webhooks.
//! Does not own: operations (above their handlers) and schemas (beside their types). Invariant: a route cannot be
//! mounted without being in the document, because `routes!` does both; what the document says beyond that is checked by
//! the tests of this package for every answer they ever see.

mod finish;
pub(crate) mod refusals;
mod webhooks;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use rotoless_contract::api::{JobRequest, PresignReply, UploadReply};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, RefOr, ServerBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{App, mounted};

pub(crate) const PATH: &str = "/openapi.json";
/// It changes with the program and no sooner.
pub(crate) const CACHE: &str = "public, max-age=300";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(serve))
}

/// Read this document
#[utoipa::path(
    get, path = PATH, operation_id = "getOpenApi", tag = "Public",
    responses((status = 200, description = "OpenAPI 3.1", body = Document)),
)]
async fn serve() -> Response {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(text()));
    ([(header::CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
}

/// The document as it is served, and as `docs/openapi.json` has it.
#[must_use]
pub fn text() -> String {
    serde_json::to_string_pretty(&document()).map(|text| text + "\n").unwrap_or_default()
}

/// The document, the operator's routes included.
fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Rotoless")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Removes the background of videos. Every answer is JSON and carries `X-Request-Id`; every answer of 400 and above is the error envelope."));
    let frame = OpenApiBuilder::new().info(info.build()).servers(Some([ServerBuilder::new().url("/").build()])).build();
    let mut document = frame.merge_from(mounted(true, true).into_openapi());
    webhooks::add(&mut document);
    finish::finish(&mut document);
    document
}

/// A document of this form.
enum Document {}

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        let version = ObjectBuilder::new().schema_type(Type::String);
        Schema::from(ObjectBuilder::new().property("openapi", version).required("openapi")).into()
    }
}

impl ToSchema for Document {}

/// A job's request that names a video.
pub(crate) enum CreateJobRequest {}

impl PartialSchema for CreateJobRequest {
    fn schema() -> RefOr<Schema> {
        let url = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        let named = ObjectBuilder::new().property("video_url", url).required("video_url");
        Schema::from(AllOfBuilder::new().item(Ref::from_schema_name("JobRequest")).item(named)).into()
    }
}

impl ToSchema for CreateJobRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("JobRequest".to_owned(), JobRequest::schema()));
        JobRequest::schemas(schemas);
    }
}

/// A file as a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the form is read as a stream")]
pub(crate) struct UploadForm {
    /// The file, with its name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Of a form: the upload; of JSON: where to send it.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "each of the two is answered as itself")]
pub(crate) enum UploadAnswer {
    /// Of a form.
    Stored(UploadReply),
    /// Of JSON.
    Presigned(PresignReply),
}

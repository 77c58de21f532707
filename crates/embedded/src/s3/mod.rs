//! S3 of one machine: one bucket, as a router to be merged into the public one.
//!
//! Owns: what gets through to the bucket, CORS, and the lifecycle rules. Does not own: the socket (it is the public
//! one), signatures, presigned URLs and XML (`s3s`).
//! Why not `s3s-fs` for the files: at 0.14 it makes an object visible before it has checked its checksum or stored
//! its headers, lets two conditional writes of one key both succeed, and makes keys into paths (`..` reaches other
//! objects' metadata). Here a row in SQLite makes an object visible, whole, and keys are only ever text.
//! Invariants: nobody without a signature reads or writes a byte; bodies stream in constant memory, both ways.

mod blobs;
mod bucket;
mod checksums;
mod index;
mod multipart;

use crate::disk::OnDisk;
use crate::sigv4::Credential;
use crate::template::{BucketSpec, CorsRule};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use blobs::Blobs;
use bucket::Bucket;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use index::{Index, IndexError};
use s3s::auth::SimpleAuth;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use secrecy::ExposeSecret;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer, ExposeHeaders};

/// Ten thousand parts in XML, the largest document a caller may send, take less.
const MAX_XML_BYTES: usize = 4 * 1024 * 1024;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// The bucket's host.
#[derive(Clone)]
pub(crate) struct S3Host {
    bucket: Bucket,
    service: S3Service,
    spec: Arc<BucketSpec>,
}

/// What a lifecycle sweep deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) objects: u64,
    pub(crate) uploads: u64,
}

impl S3Host {
    /// Opens the bucket's files under `dir`. Blocks on the disk.
    pub(crate) fn open(dir: &Path, spec: BucketSpec, credential: &Credential) -> Result<Self, S3OpenError> {
        let blobs = Blobs::open(&dir.join("blobs"))?;
        let index = Index::open(&dir.join("index.sqlite"))?;
        blobs.remove_orphans(&index.blobs()?)?;
        let bucket = Bucket { name: spec.name.clone(), index: OnDisk::new(index), blobs };

        let mut config = S3Config::default();
        config.xml_max_body_size = MAX_XML_BYTES;
        // Forms never get this far; a form's file would be read into memory.
        config.post_object_max_file_size = 0;
        let mut builder = S3ServiceBuilder::new(bucket.clone());
        builder.set_auth(SimpleAuth::from_single(credential.access_key.clone(), credential.secret_key.expose_secret()));
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        Ok(Self { bucket, service: builder.build(), spec: Arc::new(spec) })
    }

    /// Answers under `/{bucket}` and nowhere else.
    pub(crate) fn router(&self) -> Router {
        let service = self.service.clone();
        let handler = move |request: Request| answer(service.clone(), request);
        let path = format!("/{}", self.spec.name);
        let router = Router::new()
            .route(&path, axum::routing::any(handler.clone()))
            .route(&format!("{path}/"), axum::routing::any(handler.clone()))
            .route(&format!("{path}/{{*key}}"), axum::routing::any(handler));
        self.spec.cors.iter().fold(router, |router, rule| router.layer(cors(rule)))
    }

    /// Applies the template's lifecycle rules as of `now`, in milliseconds since 1970.
    pub(crate) async fn expire(&self, now: i64) -> Result<Expired, IndexError> {
        let mut expired = Expired::default();
        for rule in self.spec.expirations.clone() {
            let before = now - i64::from(rule.days) * DAY_MS;
            let blobs = self.bucket.index.run(move |index| index.expire_objects(&rule.prefix, before)).await?;
            expired.objects += blobs.len() as u64;
            self.bucket.blobs.remove(blobs).await;
        }
        if let Some(days) = self.spec.abort_multipart_days {
            let before = now - i64::from(days) * DAY_MS;
            let uploads = self.bucket.index.run(|index| index.uploads("")).await?;
            for upload in uploads.into_iter().filter(|upload| upload.created_ms < before) {
                let aborted = self.bucket.index.run(move |index| index.abort(&upload.id)).await;
                match aborted {
                    Ok(blobs) => self.bucket.blobs.remove(blobs).await,
                    // Completed or aborted meanwhile.
                    Err(IndexError::NoSuchUpload) => continue,
                    Err(other) => return Err(other),
                }
                expired.uploads += 1;
            }
        }
        Ok(expired)
    }
}

/// Why the bucket's files could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum S3OpenError {
    #[error(transparent)]
    Files(#[from] std::io::Error),
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Index(#[from] IndexError),
}

async fn answer(service: S3Service, request: Request) -> Response {
    if let Some(status) = refusal(&request) {
        return status.into_response();
    }
    match service.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::error!(error = ?error, "the embedded S3 failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Requests `s3s` would take on that the service has no use for: uploads by HTML form, which it reads into memory
/// before it looks who sends them, and the signatures of before 2014.
fn refusal(request: &Request) -> Option<StatusCode> {
    let text = |name: HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let form = text(header::CONTENT_TYPE).trim_start().to_ascii_lowercase().starts_with("multipart/form-data");
    if request.method() == Method::POST && form {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut query = request.uri().query().unwrap_or_default().split('&');
    let old = text(header::AUTHORIZATION).starts_with("AWS ") || query.any(|pair| pair.starts_with("Signature="));
    old.then_some(StatusCode::FORBIDDEN)
}

fn cors(rule: &CorsRule) -> CorsLayer {
    let any = |list: &[String]| list.iter().any(|entry| entry == "*");
    let names = |list: &[String]| list.iter().filter_map(|name| name.parse::<HeaderName>().ok()).collect::<Vec<_>>();
    let origins = rule.allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let methods = rule.allowed_methods.iter().filter_map(|method| method.parse::<Method>().ok());
    let layer = CorsLayer::new()
        .allow_origin(if any(&rule.allowed_origins) { AllowOrigin::any() } else { AllowOrigin::list(origins) })
        .allow_methods(AllowMethods::list(methods))
        .allow_headers(if any(&rule.allowed_headers) {
            AllowHeaders::any()
        } else {
            AllowHeaders::list(names(&rule.allowed_headers))
        })
        .expose_headers(ExposeHeaders::list(names(&rule.exposed_headers)));
    match rule.max_age {
        Some(seconds) => layer.max_age(Duration::from_secs(seconds.into())),
        None => layer,
    }
}

#[cfg(test)]
mod tests;

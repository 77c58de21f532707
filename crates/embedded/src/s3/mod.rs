//! S3 of one machine, as a router to be merged into the public one.

use crate::sigv4::Credential;
use crate::template::BucketSpec;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use secrecy::ExposeSecret;
use std::path::Path;

/// The bucket's host.
#[derive(Clone)]
pub(crate) struct S3Host {
    service: S3Service,
    bucket: String,
}

impl S3Host {
    pub(crate) fn open(root: &Path, spec: &BucketSpec, credential: &Credential) -> Result<Self, std::io::Error> {
        std::fs::create_dir_all(root.join(&spec.name))?;
        let files = s3s_fs::FileSystem::new(root).map_err(|error| std::io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(credential.access_key.clone(), credential.secret_key.expose_secret()));
        Ok(Self { service: builder.build(), bucket: spec.name.clone() })
    }

    pub(crate) fn router(&self) -> Router {
        let service = self.service.clone();
        let handler = move |request: Request| answer(service.clone(), request);
        Router::new()
            .route(&format!("/{}", self.bucket), axum::routing::any(handler.clone()))
            .route(&format!("/{}/{{*key}}", self.bucket), axum::routing::any(handler))
    }
}

async fn answer(service: S3Service, request: Request) -> Response {
    match service.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::error!(error = ?error, "the embedded S3 failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

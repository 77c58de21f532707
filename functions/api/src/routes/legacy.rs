//! The routes of older clients: the same handlers under their old names.

use axum::Router;
use axum::routing::{get, post};

use super::{jobs, uploads};
use crate::App;

/// Where older clients send files.
pub(crate) const UPLOAD: &str = "/api/upload";

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(UPLOAD, post(uploads::upload))
        .route("/api/process", post(jobs::create))
        .route("/api/status/{id}", get(jobs::read))
}

//! The public routes, one axum router: a Lambda function mounts it, and `rotoless up` mounts the same one.
//!
//! Owns: authentication of clients and of the operator, bounds on what is read, the mapping of use cases to HTTP,
//! the error envelope. Does not own: rules (`rotoless-core`), adapters (`rotoless-aws`), workers' routes
//! (`rotoless-callback`).
//!
//! Invariants: every answer is JSON with a request id, and from 400 on the public error envelope; a client sees
//! his own jobs alone, and another's exactly as one that does not exist.

mod auth;
pub mod config;
mod cors;
mod envelope;
mod exchange;
mod extract;
mod file_type;
mod intake;
mod line;
pub mod on_aws;
pub mod openapi;
mod own_url;
mod request_id;
mod routes;
mod state;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use envelope::ApiError;
pub use state::{ApiState, Dependencies, HealthProbe, Host, LegacyApi, ModelCheck, Ports, SpecCheck, Streams};

/// What handlers share.
type App = Arc<ApiState>;

/// Every answer is given within this time; clients wait for 30 s.
const ANSWER: Duration = Duration::from_secs(25);
/// An upload has its own bounds; this one is a net under them.
const UPLOAD: Duration = Duration::from_secs(16 * 60);

/// The public routes. Without an admin token `/v1/admin/*` is as unknown as any other path.
pub fn router(state: ApiState) -> Router {
    let app: App = Arc::new(state);
    Router::from(mounted(app.admin_token.is_some(), app.legacy != LegacyApi::Off))
        .fallback(async || ApiError::unknown_route())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        // Bodies are bounded where they are read, each kind by its own measure.
        .layer(DefaultBodyLimit::disable())
        .layer(Extension(routes::public::Recent::new(&app)))
        .layer(from_fn(in_time))
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(from_fn_with_state(app.clone(), exchange::account))
        .layer(from_fn(cors::open))
        .layer(from_fn(unread::discard))
        .layer(from_fn_with_state(app.clone(), request_id::attach))
        .with_state(app)
}

/// The routes with what the document says of them.
fn mounted(with_admin: bool, with_legacy: bool) -> OpenApiRouter<App> {
    let mut routes = OpenApiRouter::default()
        .merge(routes::uploads::routes())
        .merge(routes::jobs::routes())
        .merge(routes::trail::routes())
        .merge(routes::deliveries::routes())
        .merge(routes::estimate::routes())
        .merge(routes::credits::routes())
        .merge(routes::usage::routes())
        .merge(routes::public::routes())
        .merge(openapi::routes());
    if with_legacy {
        routes = routes.merge(routes::legacy::routes());
    }
    if with_admin {
        routes = routes.merge(routes::admin::routes()).merge(routes::signing::routes());
    }
    routes
}

async fn in_time(request: Request, next: Next) -> Response {
    let time = if routes::uploads::PATHS.contains(&request.uri().path()) { UPLOAD } else { ANSWER };
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::timeout().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    /// R8
    #[tokio::test(start_paused = true)]
    async fn a_route_that_hangs_is_a_504_before_clients_give_up() {
        let hanging = Router::new().route("/v1/jobs", get(std::future::pending::<()>)).layer(from_fn(in_time));
        let began = tokio::time::Instant::now();
        let response = hanging.oneshot(Request::get("/v1/jobs").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 504);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}

//! The service's own URL, for answers that name a place in it.
//!
//! Owns: whose word it is. Where the operator gave one, it is that; where not, the name that the client used: on AWS the
//! gateway's domain, which is not known when the function is deployed (the gateway refers to the function), and of which
//! there may be two. The gateway answers to names of its own only, so that no client chooses what it says.

use axum::extract::FromRequestParts;
use axum::http::{header, request::Parts};
use lambda_http::request::RequestContext;

use crate::App;
use crate::auth::{Given, single};
use crate::envelope::ApiError;

/// Without a slash at the end.
pub(crate) struct OwnUrl(pub(crate) String);

impl FromRequestParts<App> for OwnUrl {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match &app.public_base {
            Some(given) => Ok(Self(given.clone())),
            None => Ok(Self(format!("https://{}", host(parts).ok_or_else(no_host)?))),
        }
    }
}

fn host(parts: &Parts) -> Option<&str> {
    let gateway = match parts.extensions.get() {
        Some(RequestContext::ApiGatewayV2(context)) => context.domain_name.as_deref(),
        _ => None,
    };
    gateway.or(match single(&parts.headers, header::HOST.as_str()) {
        Given::Once(host) => Some(host),
        Given::No | Given::Twice | Given::Unreadable => None,
    })
}

fn no_host() -> ApiError {
    ApiError::invalid("The request does not name a host")
}

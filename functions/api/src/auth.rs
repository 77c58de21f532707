//! Who calls: a client by his API key, or the operator by the admin token. Neither opens the other's routes.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use rotoless_contract::{ClientId, ErrorCode};
use rotoless_core::api_key;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::App;
use crate::envelope::ApiError;

/// The client whose key came with the request.
pub(crate) struct Client(pub(crate) ClientId);

impl FromRequestParts<App> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let missing = || ApiError::new(ErrorCode::MissingApiKey, "Missing API key: send it as X-Api-Key");
        let invalid = || ApiError::new(ErrorCode::InvalidApiKey, "Invalid API key");
        let key = match single(&parts.headers, "x-api-key") {
            Given::No => return Err(missing()),
            Given::Twice | Given::Unreadable => return Err(invalid()),
            Given::Once(key) => key,
        };
        let (fingerprint, hash) = api_key::presented(key).ok_or_else(invalid)?;
        let stored = app.keys.key(&fingerprint).await?;
        let stored = stored.filter(|stored| api_key::opens(stored, &hash)).ok_or_else(invalid)?;
        tracing::debug!(client.id = %stored.client_id, key.fingerprint = %fingerprint, "authenticated");
        Ok(Self(stored.client_id))
    }
}

/// The operator. Exists only where a token is configured.
pub(crate) struct Operator;

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Some(token) = &app.admin_token else { return Err(ApiError::unknown_route()) };
        let presented = match single(&parts.headers, "x-admin-token") {
            Given::Once(presented) => presented,
            Given::No | Given::Twice | Given::Unreadable => "",
        };
        // Digests have one length, so that the comparison tells nothing about the token's.
        let digest = |text: &str| Sha256::digest(text.as_bytes());
        let same = digest(presented).ct_eq(&digest(token.expose_secret()));
        if bool::from(same) && !presented.is_empty() {
            Ok(Self)
        } else {
            Err(ApiError::new(ErrorCode::InvalidAdminToken, "Invalid admin token"))
        }
    }
}

/// How often a header was sent, and what it says.
pub(crate) enum Given<'a> {
    /// Absent or empty.
    No,
    /// Once.
    Once(&'a str),
    /// More than once: whoever stands between may have seen the other one.
    Twice,
    /// Not visible ASCII.
    Unreadable,
}

/// Reads a header that must be there at most once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Given<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Given::No,
        (Some(_), Some(_)) => Given::Twice,
        (Some(value), None) => match value.to_str() {
            Ok("") => Given::No,
            Ok(text) => Given::Once(text),
            Err(_) => Given::Unreadable,
        },
    }
}

//! Who calls: a client by his API key, or the operator by the admin token. Neither opens the other's routes.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use rotoless_contract::{ClientId, ErrorCode};
use rotoless_core::api_key;
use rotoless_core::ports::Entry;
use rotoless_core::rate::Bucket;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::App;
use crate::envelope::ApiError;
use crate::exchange::{self, Exchange};
use crate::state::LegacyApi;

/// Who callers without a key are. The operator grants him credits, or does not.
const OPEN_CLIENT: &str = "open";

/// The client whose key came with the request, after one token was taken from the key's bucket.
pub(crate) struct Client(pub(crate) ClientId);

impl FromRequestParts<App> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let exchange = parts.extensions.get::<Exchange>();
        let bucket = exchange::bucket(&parts.method);
        let entry = match single(&parts.headers, "x-api-key") {
            Given::Once(key) => enter(app, key, bucket).await?,
            Given::No if is_open(app, parts) => enter_open(app, bucket).await?,
            Given::No => {
                return Err(ApiError::new(ErrorCode::MissingApiKey, "Missing API key: send it as X-Api-Key"));
            }
            Given::Twice | Given::Unreadable => Entry::Unknown,
        };
        let (client, meter) = match entry {
            Entry::Unknown => return Err(ApiError::new(ErrorCode::InvalidApiKey, "Invalid API key")),
            Entry::Limited(meter) => (None, meter),
            Entry::Admitted { client, meter } => (Some(client), meter),
        };
        if let Some(exchange) = exchange {
            exchange.measure(meter);
        }
        let Some(client) = client else { return Err(ApiError::rate_limited(&meter)) };
        if let Some(exchange) = exchange {
            exchange.admit(&client);
        }
        tracing::debug!(client.id = %client, "authenticated");
        Ok(Self(client))
    }
}

async fn enter(app: &App, key: &str, bucket: Bucket) -> Result<Entry, ApiError> {
    // What cannot be a key is worth no look-up.
    let Some((fingerprint, hash)) = api_key::presented(key) else { return Ok(Entry::Unknown) };
    let rate = app.policy.rates.of(bucket);
    Ok(app.keys.enter(&fingerprint, &hash, bucket, rate, app.clock.now()).await?)
}

/// Callers without a key share a client and a bucket.
async fn enter_open(app: &App, bucket: Bucket) -> Result<Entry, ApiError> {
    let client: ClientId = OPEN_CLIENT.parse().map_err(|_| ApiError::internal())?;
    let taken = app.keys.enter_open(bucket, app.policy.rates.of(bucket), app.clock.now()).await?;
    Ok(match taken {
        Ok(meter) => Entry::Admitted { client, meter },
        Err(meter) => Entry::Limited(meter),
    })
}

/// The legacy routes, where the operator opened them to callers without a key.
fn is_open(app: &App, parts: &Parts) -> bool {
    app.legacy == LegacyApi::Open && parts.uri.path().starts_with("/api/")
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

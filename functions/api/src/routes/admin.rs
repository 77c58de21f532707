//! The operator's routes: keys and credits. Mounted only where an admin token is configured.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::SignedDuration;
use rotoless_contract::api::{
    ConfigLimits, ConfigModel, ConfigReply, CreateKeyReply, CreateKeyRequest, GrantReply, GrantRequest, KeyInfo,
    KeyList, KeyRef, KeySwitched,
};
use rotoless_contract::signature::webhook_secret;
use rotoless_contract::worker::MAX_IMAGE_BYTES;
use rotoless_contract::{ClientId, Credits, ErrorCode, MilliCredits, Model, OutputFormat};
use rotoless_core::api_key;
use rotoless_core::policy::cost;
use rotoless_core::ports::CommitError;
use rotoless_core::record::KeyRecord;
use secrecy::ExposeSecret;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::public::prices;
use super::{Answer, credits};
use crate::App;
use crate::auth::Operator;
use crate::envelope::ApiError;
use crate::extract::{JSON_BODY, JsonBytes};
use crate::own_url::OwnUrl;

/// Greatest grant: enough for anybody, and far from the edge of what a balance can hold.
const MAX_GRANT: MilliCredits = MilliCredits::whole(1_000_000_000);
/// Greatest note in characters.
const MAX_NOTE: usize = 500;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(create, list))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(grant))
        .routes(routes!(config))
}

/// Create a key
///
/// Shown this once. The first key of a client makes the client.
#[utoipa::path(
    post, path = "/v1/admin/keys", operation_id = "createKey", tag = "Admin",
    request_body(content = CreateKeyRequest, example = json!({"client_id": "acme", "note": "laptop", "credits": 500})),
    responses((status = 200, description = "The key", body = CreateKeyReply)),
)]
async fn create(State(app): State<App>, _: Operator, body: JsonBytes) -> Answer<CreateKeyReply> {
    let request: CreateKeyRequest = body.parse()?;
    check_note(request.note.as_deref())?;
    let grant = request.credits.map_or(MilliCredits::ZERO, |credits| credits.0);
    check_amount(grant)?;
    let key = api_key::generate(app.entropy.bits());
    let record = api_key::record(&key, request.client_id, request.note, app.clock.now());
    app.keys.add(&record).await?;
    if grant > MilliCredits::ZERO {
        let granted = give(&app, &record.client_id, &format!("key-{}", record.key_fingerprint), grant, None).await;
        if let Err(error) = granted {
            // Nobody has seen the key: it must not open anything.
            let _ = app.keys.set_enabled(&record.key_fingerprint, false).await;
            return Err(error);
        }
    }
    tracing::info!(client.id = %record.client_id, key.fingerprint = %record.key_fingerprint, "key created");
    let signing = app.signings.signing(&record.client_id).await?;
    let webhook_secret = webhook_secret(&app.webhook_master, &record.client_id, signing.current);
    Ok(Json(CreateKeyReply {
        success: true,
        api_key: key.expose_secret().to_owned(),
        webhook_secret: webhook_secret.expose_secret().to_owned(),
        key: shown(record),
    }))
}

/// List keys
#[utoipa::path(
    get, path = "/v1/admin/keys", operation_id = "listKeys", tag = "Admin",
    responses((status = 200, description = "Keys without their secrets", body = KeyList)),
)]
async fn list(State(app): State<App>, _: Operator) -> Answer<KeyList> {
    let keys = app.keys.list().await?;
    Ok(Json(KeyList { items: keys.into_iter().map(shown).collect() }))
}

/// Disable a key
#[utoipa::path(
    post, path = "/v1/admin/keys/disable", operation_id = "disableKey", tag = "Admin",
    request_body(content = KeyRef, example = json!({"key_fingerprint": "3f0c1d9ae2b84c56a7d1f00912ab34cd"})),
    responses((status = 200, description = "The key as it is now", body = KeySwitched)),
)]
async fn disable(State(app): State<App>, _: Operator, body: JsonBytes) -> Answer<KeySwitched> {
    switch(&app, body.parse()?, false).await
}

/// Enable a key
#[utoipa::path(
    post, path = "/v1/admin/keys/enable", operation_id = "enableKey", tag = "Admin",
    request_body(content = KeyRef, example = json!({"key_fingerprint": "3f0c1d9ae2b84c56a7d1f00912ab34cd"})),
    responses((status = 200, description = "The key as it is now", body = KeySwitched)),
)]
async fn enable(State(app): State<App>, _: Operator, body: JsonBytes) -> Answer<KeySwitched> {
    switch(&app, body.parse()?, true).await
}

async fn switch(app: &App, KeyRef { key_fingerprint }: KeyRef, enabled: bool) -> Answer<KeySwitched> {
    // The store takes no empty or overlong name; and what is no fingerprint names no key.
    let is_fingerprint = key_fingerprint.len() == 32 && key_fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_fingerprint || !app.keys.set_enabled(&key_fingerprint, enabled).await? {
        return Err(ApiError::new(ErrorCode::NotFound, "Key not found"));
    }
    tracing::info!(key.fingerprint = %key_fingerprint, enabled, "key switched");
    Ok(Json(KeySwitched { success: true, key_fingerprint, enabled }))
}

/// Grant credits to a client
///
/// Once for each `grant_id`, however often it is sent.
#[utoipa::path(
    post, path = "/v1/admin/credits", operation_id = "grantCredits", tag = "Admin",
    request_body(content = GrantRequest, example = json!({"client_id": "acme", "credits": 100, "grant_id": "order-7"})),
    responses((status = 200, description = "The balance", body = GrantReply)),
)]
async fn grant(State(app): State<App>, _: Operator, body: JsonBytes) -> Answer<GrantReply> {
    let request: GrantRequest = body.parse()?;
    check_note(request.note.as_deref())?;
    let Credits(amount) = request.credits;
    if amount == MilliCredits::ZERO {
        return Err(ApiError::field("credits", "credits must be greater than 0"));
    }
    check_amount(amount)?;
    let grant_id = match request.grant_id {
        Some(id) if is_grant_id(&id) => id,
        Some(_) => return Err(ApiError::field("grant_id", "grant_id must be 1 to 128 of A-Z a-z 0-9 _ -")),
        None => format!("grant_{}", hex::encode(app.entropy.id_bits())),
    };
    give(&app, &request.client_id, &grant_id, amount, request.note.as_deref()).await?;
    let balance = credits::shown(app.accounts.balance(&request.client_id).await?);
    Ok(Json(GrantReply { success: true, client_id: request.client_id, grant_id, balance }))
}

/// Read the configuration
///
/// Limits, models, prices, what the service runs on. No secret.
#[utoipa::path(
    get, path = "/v1/admin/config", operation_id = "getConfig", tag = "Admin",
    responses((status = 200, description = "The configuration", body = ConfigReply)),
)]
async fn config(State(app): State<App>, _: Operator, OwnUrl(own): OwnUrl) -> Json<ConfigReply> {
    let seconds = |span: SignedDuration| span.as_secs().unsigned_abs();
    let policy = &app.policy;
    let model = |model: &Model| ConfigModel {
        name: *model,
        available: (app.models)(*model).is_ok(),
        credits_per_minute: Credits(cost(policy.pricing.per_second(*model), 60)),
    };
    Json(ConfigReply {
        limits: ConfigLimits {
            max_bytes: policy.limits.max_bytes,
            max_multipart_bytes: app.max_multipart_bytes.min(policy.limits.max_bytes),
            max_image_bytes: MAX_IMAGE_BYTES.min(policy.limits.max_bytes),
            max_json_bytes: JSON_BODY.bytes,
            max_side: policy.limits.max_side,
            max_duration_seconds: policy.limits.max_duration_ms / 1000,
            max_fps: policy.limits.max_fps,
            reads_per_minute: policy.rates.reads.tokens(),
            creates_per_minute: policy.rates.creates.tokens(),
            upload_retention_seconds: seconds(policy.upload_retention),
            output_retention_seconds: seconds(policy.output_retention),
            max_job_age_seconds: seconds(policy.max_job_age),
            idempotency_seconds: seconds(policy.idempotency_life),
        },
        models: Model::ALL.iter().map(model).collect(),
        output_formats: OutputFormat::ALL.to_vec(),
        pricing: prices(&app),
        backends: app.backends.clone(),
        versions: BTreeMap::from([
            ("service".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("pricing".to_owned(), policy.pricing.version.clone()),
        ]),
        public_base_url: own,
        legacy_api: app.legacy.to_string(),
    })
}

/// Adds credits once, however often it is asked for under one id.
async fn give(
    app: &App,
    client: &ClientId,
    grant_id: &str,
    amount: MilliCredits,
    note: Option<&str>,
) -> Result<(), ApiError> {
    match app.accounts.grant(client, grant_id, amount, note, app.clock.now()).await {
        Ok(()) => {
            tracing::info!(client.id = %client, grant.id = %grant_id, amount_milli = amount.0, "credits granted");
            Ok(())
        }
        Err(CommitError::AlreadyInLedger) => Ok(()),
        Err(CommitError::Store(err)) => Err(err.into()),
        // A grant judges no job, promises nothing and takes no credits.
        Err(
            CommitError::Stale
            | CommitError::KeyTaken
            | CommitError::InsufficientCredits
            | CommitError::TooManyOpen
            | CommitError::UploadGone,
        ) => Err(ApiError::unavailable()),
    }
}

fn is_grant_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn check_amount(amount: MilliCredits) -> Result<(), ApiError> {
    if amount > MAX_GRANT {
        return Err(ApiError::field("credits", "credits must be at most 1000000000"));
    }
    Ok(())
}

fn check_note(note: Option<&str>) -> Result<(), ApiError> {
    if note.is_some_and(|note| note.chars().count() > MAX_NOTE) {
        return Err(ApiError::field("note", "note is longer than 500 characters"));
    }
    Ok(())
}

fn shown(key: KeyRecord) -> KeyInfo {
    KeyInfo {
        key_fingerprint: key.key_fingerprint,
        client_id: key.client_id,
        note: key.note,
        enabled: key.enabled,
        created_at: key.created_at,
        last_used_at: key.last_used_at,
        calls: key.calls,
    }
}

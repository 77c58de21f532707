//! The operator rotates a client's webhook secret: staged, handed over, promoted.

use axum::Json;
use axum::extract::{Query, State};
use rotoless_contract::api::{ClientRef, WebhookSecrets};
use rotoless_contract::signature::webhook_secret;
use rotoless_contract::{ClientId, ErrorCode};
use rotoless_core::ports::CommitError;
use rotoless_core::signing::{NothingStaged, Signing};
use secrecy::ExposeSecret as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use crate::App;
use crate::auth::Operator;
use crate::envelope::ApiError;
use crate::extract::{Asked, JsonBytes};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(read))
        .routes(routes!(stage))
        .routes(routes!(promote))
        .routes(routes!(discard))
}

/// Show a client's webhook secrets
#[utoipa::path(
    get, path = "/v1/admin/webhook-secrets", operation_id = "getWebhookSecrets", tag = "Admin",
    params(("client_id" = ClientId, Query, description = "Whose")),
    responses((status = 200, description = "The secrets in use", body = WebhookSecrets)),
)]
async fn read(State(app): State<App>, _: Operator, query: Asked<ClientRef>) -> Answer<WebhookSecrets> {
    let Query(ClientRef { client_id }) =
        query.map_err(|_| ApiError::field("client_id", "client_id is required and must be a client's id"))?;
    let signing = app.signings.signing(&client_id).await?;
    Ok(Json(shown(&app, client_id, &signing)))
}

/// Stage a new webhook secret
///
/// From now on it signs beside the current one in `webhook-signature`. Hand it to the client, who should accept both,
/// then promote it. Staging again gives the same secret.
#[utoipa::path(
    post, path = "/v1/admin/webhook-secrets/stage", operation_id = "stageWebhookSecret", tag = "Admin",
    request_body(content = ClientRef, example = json!({"client_id": "acme"})),
    responses((status = 200, description = "The secrets in use", body = WebhookSecrets)),
)]
async fn stage(State(app): State<App>, _: Operator, body: JsonBytes) -> Answer<WebhookSecrets> {
    change(&app, &body, |signing| Ok(signing.stage())).await
}

/// Promote the staged webhook secret
///
/// It signs `X-Webhook-Signature` from now on; the one before signs `X-Webhook-Signature-Previous` for 24 hours.
#[utoipa::path(
    post, path = "/v1/admin/webhook-secrets/promote", operation_id = "promoteWebhookSecret", tag = "Admin",
    request_body(content = ClientRef, example = json!({"client_id": "acme"})),
    responses((status = 200, description = "The secrets in use", body = WebhookSecrets)),
)]
async fn promote(State(app): State<App>, _: Operator, body: JsonBytes) -> Answer<WebhookSecrets> {
    let now = app.clock.now();
    change(&app, &body, |signing| signing.promote(now)).await
}

/// Discard the staged webhook secret
#[utoipa::path(
    post, path = "/v1/admin/webhook-secrets/discard", operation_id = "discardWebhookSecret", tag = "Admin",
    request_body(content = ClientRef, example = json!({"client_id": "acme"})),
    responses((status = 200, description = "The secrets in use", body = WebhookSecrets)),
)]
async fn discard(State(app): State<App>, _: Operator, body: JsonBytes) -> Answer<WebhookSecrets> {
    change(&app, &body, Signing::discard).await
}

async fn change(
    app: &App,
    body: &JsonBytes,
    change: impl Fn(&Signing) -> Result<Signing, NothingStaged>,
) -> Answer<WebhookSecrets> {
    let ClientRef { client_id } = body.parse()?;
    let before = app.signings.signing(&client_id).await?;
    let after = change(&before)
        .map_err(|_| ApiError::new(ErrorCode::Conflict, "No webhook secret is staged").with_reason("nothing_staged"))?;
    if after != before {
        match app.signings.commit_signing(&client_id, &after).await {
            Ok(()) => tracing::info!(client.id = %client_id, generation = after.current, "webhook secrets changed"),
            Err(CommitError::Store(err)) => return Err(err.into()),
            // Another operator at the same moment.
            Err(
                CommitError::Stale
                | CommitError::InsufficientCredits
                | CommitError::AlreadyInLedger
                | CommitError::KeyTaken
                | CommitError::TooManyOpen
                | CommitError::UploadGone,
            ) => return Err(ApiError::unavailable()),
        }
    }
    Ok(Json(shown(app, client_id, &after)))
}

fn shown(app: &App, client_id: ClientId, signing: &Signing) -> WebhookSecrets {
    let secret = |generation| webhook_secret(&app.webhook_master, &client_id, generation).expose_secret().to_owned();
    let previous = signing.previous_at(app.clock.now());
    WebhookSecrets {
        success: true,
        current: secret(signing.current),
        staged: signing.staged.map(secret),
        previous_until: previous.and_then(|_| signing.previous.map(|(_, until)| until)),
        client_id,
    }
}

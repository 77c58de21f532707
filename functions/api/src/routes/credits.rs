//! A client's own balance.

use axum::Json;
use axum::extract::State;
use rotoless_contract::Credits;
use rotoless_contract::api::CreditsReply;
use rotoless_core::ledger::Balance;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use crate::App;
use crate::auth::Client;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(balance))
}

/// Read the balance
#[utoipa::path(
    get, path = "/v1/credits", operation_id = "getCredits", tag = "Account",
    responses((status = 200, description = "The client's credits", body = CreditsReply)),
)]
async fn balance(State(app): State<App>, Client(client): Client) -> Answer<CreditsReply> {
    Ok(Json(shown(app.accounts.balance(&client).await?)))
}

/// A balance in credits.
pub(super) fn shown(balance: Balance) -> CreditsReply {
    CreditsReply { available: Credits(balance.available), held: Credits(balance.held), used: Credits(balance.used) }
}

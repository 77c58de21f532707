//! A client's own balance.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use rotoless_contract::Credits;
use rotoless_contract::api::CreditsReply;
use rotoless_core::ledger::Balance;

use super::Answer;
use crate::App;
use crate::auth::Client;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/v1/credits", get(balance))
}

async fn balance(State(app): State<App>, Client(client): Client) -> Answer<CreditsReply> {
    Ok(Json(shown(app.accounts.balance(&client).await?)))
}

/// A balance in credits.
pub(super) fn shown(balance: Balance) -> CreditsReply {
    CreditsReply { available: Credits(balance.available), held: Credits(balance.held), used: Credits(balance.used) }
}

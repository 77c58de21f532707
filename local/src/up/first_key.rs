//! The first API key: made once a data directory, with credits, for whoever started it.

use anyhow::Result;
use rotoless_contract::{ClientId, MilliCredits};
use rotoless_core::api_key;
use rotoless_core::ports::{Accounts as _, CommitError, Keys as _};

use super::assembly::Assembly;
use super::secrets::Secrets;

/// The first client.
pub(crate) const CLIENT: &str = "local";
/// What it begins with.
const CREDITS: MilliCredits = MilliCredits::whole(1000);

/// Adds the key and the credits unless they are there. Safe to repeat, also after a kill between the two.
pub(crate) async fn ensure(assembly: &Assembly, secrets: &Secrets) -> Result<()> {
    let client: ClientId = CLIENT.parse()?;
    let now = assembly.clock().now();
    let key = api_key::record(&secrets.api_key, client.clone(), Some("first key".to_owned()), now);
    let store = assembly.store();
    if store.key(&key.key_fingerprint).await?.is_none() {
        store.add(&key).await?;
    }
    match store.grant(&client, "first-start", CREDITS, Some("first start"), now).await {
        Ok(()) | Err(CommitError::AlreadyInLedger) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

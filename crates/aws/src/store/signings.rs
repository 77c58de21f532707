//! The port of webhook secrets' generations: one item a client, beside the balance.

use async_trait::async_trait;
use rotoless_contract::ClientId;
use rotoless_core::ports::{CommitError, Signings, StoreError};
use rotoless_core::signing::Signing;

use super::codec::{doc, item, n, read_doc, s};
use super::transaction::{Condition, Role, Transaction};
use super::{Item, Store};

fn key(client: &ClientId) -> Item {
    item([("client_id", s(client.as_str())), ("entry", s("signing"))])
}

#[async_trait]
impl Signings for Store {
    async fn signing(&self, client: &ClientId) -> Result<Signing, StoreError> {
        let item = self.get(&self.names.accounts, &key(client)).await?;
        item.map_or(Ok(Signing::default()), |item| read_doc(&item, "signing"))
    }

    async fn commit_signing(&self, client: &ClientId, signing: &Signing) -> Result<(), CommitError> {
        let mut transaction = Transaction::begin();
        let mut row = key(client);
        row.insert("version".to_owned(), n(signing.version));
        row.insert("commit_id".to_owned(), s(&transaction.commit_id));
        row.insert("doc".to_owned(), doc(signing)?);
        let condition = Condition::of_version(signing.version, "entry");
        transaction.put(Role::Judged, &self.names.accounts, key(client), row, &condition)?;
        transaction.apply(self).await
    }
}

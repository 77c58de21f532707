//! The port of promises.

use async_trait::async_trait;
use rotoless_core::ports::{Promises, StoreError};
use rotoless_core::record::IdempotencyRecord;

use super::Store;
use super::codec::{promise_key, read_doc};

#[async_trait]
impl Promises for Store {
    async fn promise(&self, scope: &str) -> Result<Option<IdempotencyRecord>, StoreError> {
        let item = self.get(&self.names.idempotency, &promise_key(scope)).await?;
        item.map(|item| read_doc(&item, "promise")).transpose()
    }
}

//! The port of what the sweep remembers of the wake service: one item beside the rate limits.

use async_trait::async_trait;
use jiff::Timestamp;
use rotoless_core::ports::{StoreError, WakeMemory};
use rotoless_core::wake::Memory;

use super::codec::{corrupt, item, n, number, s};
use super::{Item, Store};
use crate::error::{Effect, classify};

const WHAT: &str = "memory of the wake service";

fn key() -> Item {
    item([("bucket", s("wake-memory"))])
}

fn read(item: &Item, name: &'static str) -> Result<Option<Timestamp>, StoreError> {
    if !item.contains_key(name) {
        return Ok(None);
    }
    Timestamp::from_millisecond(number(item, WHAT, name)?).map(Some).map_err(|e| corrupt(WHAT, e))
}

#[async_trait]
impl WakeMemory for Store {
    async fn recall(&self) -> Result<Memory, StoreError> {
        let Some(item) = self.get(&self.names.limits, &key()).await? else { return Ok(Memory::default()) };
        Ok(Memory {
            active_at: read(&item, "active_ms")?,
            stuck_since: read(&item, "stuck_ms")?,
            idling_since: read(&item, "idling_ms")?,
            barred_since: read(&item, "barred_ms")?,
        })
    }

    async fn remember(&self, memory: &Memory) -> Result<(), StoreError> {
        let Memory { active_at, stuck_since, idling_since, barred_since } = memory;
        let times = [
            ("active_ms", active_at),
            ("stuck_ms", stuck_since),
            ("idling_ms", idling_since),
            ("barred_ms", barred_since),
        ];
        let mut row = key();
        for (name, time) in times {
            if let Some(time) = time {
                row.insert(name.to_owned(), n(time.as_millisecond()));
            }
        }
        // One try: the next look remembers as well.
        let put = self.client.put_item().table_name(&self.names.limits).set_item(Some(row));
        put.send().await.map(drop).map_err(|e| classify(e, Effect::Change).error)
    }
}

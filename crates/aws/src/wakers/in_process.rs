//! The waker of workers that poll: the one beside the service on one machine, a function that the queue feeds, a host
//! that runs day and night.

use async_trait::async_trait;
use rotoless_core::ports::{StoreError, Waker};
use rotoless_core::wake::Outstanding;

/// Does nothing, rightly: such a worker polls the queue without end, so that a message wakes it by itself (a long poll
/// returns as the message comes in). There is no worker to bring into being, to count or to forbid.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcessWaker;

#[async_trait]
impl Waker for InProcessWaker {
    async fn wake(&self, _n: u32) -> Result<(), StoreError> {
        Ok(())
    }

    async fn outstanding(&self) -> Result<Outstanding, StoreError> {
        Ok(Outstanding::default())
    }

    async fn purge(&self) -> Result<u32, StoreError> {
        Ok(0)
    }

    async fn stop(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

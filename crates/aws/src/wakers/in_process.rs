//! The waker of one machine, where the worker runs beside the service for as long as it does.

use async_trait::async_trait;
use rotoless_core::ports::{StoreError, Waker};

/// Does nothing, rightly: the worker that `rotoless up` starts polls the queue without end, so that a message
/// wakes it by itself (a long poll returns as the message comes in). There is no worker to bring into being.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcessWaker;

#[async_trait]
impl Waker for InProcessWaker {
    async fn wake(&self, _n: u32) -> Result<(), StoreError> {
        Ok(())
    }
}

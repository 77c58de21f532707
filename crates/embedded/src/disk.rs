//! Work on a database file, off the async threads: every commit waits for the disk.

use std::sync::{Arc, Mutex, PoisonError};

/// A store whose calls block. Clones share it; calls run one at a time.
pub(crate) struct OnDisk<T>(Arc<Mutex<T>>);

/// The thread a call ran on ended before the call did.
#[derive(Debug, thiserror::Error)]
#[error("a worker thread ended")]
pub(crate) struct Aborted;

impl<T> Clone for OnDisk<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> OnDisk<T> {
    pub(crate) fn new(store: T) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    pub(crate) async fn run<R, E>(&self, work: impl FnOnce(&mut T) -> Result<R, E> + Send + 'static) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<Aborted> + Send + 'static,
    {
        let store = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            // A panic inside a transaction rolled it back: the store is whole, the poison says nothing more.
            work(&mut store.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .map_err(|_| Aborted)?
    }
}

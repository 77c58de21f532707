//! RunPod's stop channel: one long poll after the other, as long as the worker lives.
//!
//! Owns: the pace of the polls. Does not own: what follows from a stop (`session`). Invariant: a poll is never given up
//! while RunPod may still answer it, not even when no job is in progress: the word that it carries would be lost.

use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use super::client::{CallError, Client};
use crate::detail::shown;

/// A channel that answers at once, or not at all, is asked again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// The same after a 429.
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// Names of jobs that nobody has read yet; of more at once only the last count.
const UNREAD: usize = 64;

/// The channel; it ends when this is dropped.
pub(super) struct Stops {
    named: broadcast::Sender<String>,
    /// The last one goes on; those before it wait for the answer to their last poll.
    polls: JoinSet<()>,
    newest: watch::Sender<u64>,
}

impl Stops {
    /// Begins to poll. Needs a Tokio runtime.
    pub(super) fn listen(client: Client) -> Self {
        let mut stops =
            Self { named: broadcast::Sender::new(UNREAD), polls: JoinSet::new(), newest: watch::Sender::new(0) };
        stops.renew(client);
        stops
    }

    /// Goes on over new connections. The poll of before may be answered all the same.
    pub(super) fn renew(&mut self, client: Client) {
        self.newest.send_modify(|newest| *newest += 1);
        let number = *self.newest.borrow();
        let (named, newest) = (self.named.clone(), self.newest.subscribe());
        self.polls.spawn(async move {
            while *newest.borrow() == number {
                let pause = poll(&client, &named).await;
                tokio::time::sleep(pause).await;
            }
        });
        // Those that have ended take no room.
        while self.polls.try_join_next().is_some() {}
    }

    /// Resolves when RunPod wants this job stopped, from now on.
    pub(super) fn of(&self, job: &str) -> impl Future<Output = ()> + use<> {
        let (mut named, job) = (self.named.subscribe(), job.to_owned());
        async move {
            loop {
                match named.recv().await {
                    Ok(stopped) if stopped == job => return,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        }
    }
}

/// One poll, and how long to wait before the next.
async fn poll(client: &Client, named: &broadcast::Sender<String>) -> Duration {
    match client.stops().await {
        Ok(jobs) if jobs.is_empty() => PAUSE,
        Ok(jobs) => {
            // An error says that no job is in progress: then there is nothing to stop.
            jobs.into_iter().for_each(|job| drop(named.send(job)));
            Duration::ZERO
        }
        Err(CallError::Status(429)) => LONG_PAUSE,
        Err(error) => {
            tracing::debug!(error = shown(&error), "no word from RunPod's stop channel");
            PAUSE
        }
    }
}

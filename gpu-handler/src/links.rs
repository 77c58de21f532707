//! The links of an attempt: those of its claim, until a heartbeat brings fresher ones.
//!
//! Owns: which links are in use, and when fresher ones are asked for: when the store refused one, or when half of what
//! they last has passed, by the monotonic clock. Does not own: the heartbeat (`pulse`), what a refusal means
//! (`transfer`). Invariant: links change, the objects that they lead to do not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rotoless_contract::worker::{ClaimReply, Download, FreshLinks, Upload};
use tokio::sync::watch;

use crate::live::Live;

/// Wishes for one fresher link. More than one, because the answer to the first may be another's: that to a copy of
/// the heartbeat, which brings no links.
const WISHES: u32 = 2;

/// What an attempt reads and writes.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) input: Download,
    pub(crate) background: Option<Download>,
    pub(crate) kept_matte: Option<Download>,
    pub(crate) keep_matte: Option<Upload>,
    pub(crate) output: Upload,
    pub(crate) manifest: Upload,
}

struct Held {
    set: Set,
    /// Sets so far.
    generation: u64,
    /// When half of their time is over; none where nobody knows, or where there are no others.
    half: Option<Instant>,
}

/// Shared by an attempt and its heartbeat.
pub(crate) struct Links {
    held: Mutex<Held>,
    /// The newest wish for fresher links.
    wished: watch::Sender<u64>,
    /// The newest wish that had an answer, with links or without.
    answered: watch::Sender<u64>,
}

impl Links {
    /// Those of a claim that was sent at `claimed`.
    pub(crate) fn new(claim: &ClaimReply, claimed: Instant) -> Self {
        let ClaimReply { input, background, kept_matte, keep_matte, output, manifest, .. } = claim.clone();
        let kept_matte = kept_matte.map(|matte| matte.download);
        let half = claim.links_last_seconds.map(|seconds| half(claimed, seconds));
        let set = Set { input, background, kept_matte, keep_matte, output, manifest };
        let held = Held { set, generation: 0, half };
        Self { held: Mutex::new(held), wished: watch::Sender::new(0), answered: watch::Sender::new(0) }
    }

    /// The wish that the next heartbeat carries, if there is one.
    pub(crate) fn wish(&self, now: Instant) -> Option<u64> {
        let stale = self.held().half.is_some_and(|half| now >= half);
        let (wished, answered) = (*self.wished.borrow(), *self.answered.borrow());
        match (wished > answered, stale) {
            (true, _) => Some(wished),
            (false, true) => Some(self.wish_anew()),
            (false, false) => None,
        }
    }

    /// Resolves when there is a wish after this one.
    pub(crate) async fn wished_after(&self, last: u64) {
        let mut wished = self.wished.subscribe();
        // The sender lives in `self`, so that the channel cannot close meanwhile.
        let _ = wished.wait_for(|wish| *wish > last).await;
    }

    /// The heartbeat that was sent at `sent` with this wish was answered.
    pub(crate) fn answer(&self, wish: u64, links: Option<FreshLinks>, sent: Instant) {
        let mut held = self.held();
        match links {
            Some(fresh) if fresh.output.key == held.set.output.key && fresh.manifest.key == held.set.manifest.key => {
                let old = held.set.clone();
                held.set = Set {
                    input: fresh.input.unwrap_or(old.input),
                    background: fresh.background.or(old.background),
                    kept_matte: fresh.kept_matte.or(old.kept_matte),
                    keep_matte: fresh.keep_matte.or(old.keep_matte),
                    output: fresh.output,
                    manifest: fresh.manifest,
                };
                held.generation += 1;
                held.half = Some(half(sent, fresh.last_seconds));
            }
            Some(_) => tracing::error!("fresh links lead elsewhere than the claim's, not used"),
            // A control plane that makes none is not asked for more of them.
            None => held.half = None,
        }
        drop(held);
        self.answered.send_if_modified(|answered| {
            let is_news = wish > *answered;
            *answered = wish.max(*answered);
            is_news
        });
    }

    fn wish_anew(&self) -> u64 {
        let mut wish = 0;
        self.wished.send_modify(|wished| {
            *wished += 1;
            wish = *wished;
        });
        wish
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Whole after each statement: a panic elsewhere cannot leave it half written.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn half(from: Instant, seconds: u32) -> Instant {
    from + Duration::from_secs(seconds.into()) / 2
}

/// One of an attempt's links, and the way to a fresher one.
pub(crate) struct Link<'a, T> {
    links: &'a Links,
    live: &'a Live,
    pick: Box<dyn Fn(&Set) -> T + Send + Sync + 'a>,
}

impl<'a, T> Link<'a, T> {
    pub(crate) fn new(links: &'a Links, live: &'a Live, pick: impl Fn(&Set) -> T + Send + Sync + 'a) -> Self {
        Self { links, live, pick: Box::new(pick) }
    }

    /// As it is now, and which one it is.
    pub(crate) fn now(&self) -> (T, u64) {
        let held = self.links.held();
        ((self.pick)(&held.set), held.generation)
    }

    /// Asks for one that is fresher than that, unless there is one by now, and waits for the answer while the attempt
    /// goes on. Whether there is one.
    pub(crate) async fn is_fresher_than(&self, generation: u64) -> bool {
        for _ in 0..WISHES {
            if self.links.held().generation > generation {
                return true;
            }
            let wish = self.links.wish_anew();
            let mut answered = self.links.answered.subscribe();
            if self.live.unless_stopped(answered.wait_for(|answered| *answered >= wish)).await.is_err() {
                return false;
            }
        }
        self.links.held().generation > generation
    }
}

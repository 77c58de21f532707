//! What is done to which exchange, as data, and how a test knows that it was done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How long a test waits for a rule to be met.
const MET: Duration = Duration::from_secs(90);

/// As often as anybody asks.
pub(crate) const EVER: usize = 1_000_000;

/// What an exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    Receive,
    Extend,
    Delete,
    Claim,
    Heartbeat,
    Probed,
    Segments,
    Report,
    GetSource,
    PutSegment,
    PutMatte,
    PutOutput,
    PutManifest,
    /// A draining worker is there.
    Awake,
    /// A draining worker wants to go.
    Asleep,
    /// A client's `POST /v1/jobs`.
    Create,
    Other,
}

/// When of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The service has not heard of it.
    Before,
    /// The service has answered, and nobody has heard the answer.
    Between,
}

/// What is done to an exchange.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// `kill -9` of the port's victim: its worker; at a client's port, the service.
    Kill(Moment),
    /// It is passed on, and so long after that the victim dies.
    KillAfter(Duration),
    /// The victim is stopped. When the trap is opened, what it had sent arrives, and then it is continued.
    Freeze(Moment),
    /// Until the trap is opened.
    Hold(Moment),
    Delay(Duration),
    /// It has its effect; its answer is lost with the connection.
    LoseAnswer,
    /// Half of its body arrives, then the connection breaks on both sides.
    BreakOff,
    /// Answered with this status, by nobody who has to do with it.
    Status(u16),
    /// A page instead of an answer, with status 200.
    Page,
    /// It has its effect twice; the second answer is the one that is heard.
    Twice,
}

/// Which exchanges a fault is for.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) exchange: Exchange,
    /// All jobs, where none is named.
    pub(crate) job: Option<String>,
    /// All attempts, where none is named.
    pub(crate) attempt: Option<u64>,
    /// To be found in the request's body.
    pub(crate) says: &'static str,
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

impl Fault {
    /// When of the exchange it comes.
    pub(super) const fn moment(self) -> Moment {
        match self {
            Self::Kill(moment) | Self::Freeze(moment) | Self::Hold(moment) => moment,
            Self::KillAfter(_) | Self::Delay(_) | Self::Status(_) | Self::Page => Moment::Before,
            Self::LoseAnswer | Self::BreakOff | Self::Twice => Moment::Between,
        }
    }
}

impl Rule {
    /// Once, at the first such exchange of a job.
    pub(crate) fn once(job: &str, exchange: Exchange, fault: Fault) -> Self {
        Self { exchange, job: Some(job.to_owned()), attempt: None, says: "", times: 1, fault }
    }

    pub(crate) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    pub(crate) fn of_attempt(self, attempt: u64) -> Self {
        Self { attempt: Some(attempt), ..self }
    }
}

/// A rule at work.
#[derive(Clone)]
pub(crate) struct Trap(pub(super) Arc<Set>);

pub(super) struct Set {
    pub(super) rule: Rule,
    /// Exchanges that it was for, so far.
    begun: AtomicUsize,
    /// The ports of those that have come to the fault's moment.
    met: watch::Sender<Vec<usize>>,
    open: watch::Sender<bool>,
}

impl Trap {
    pub(super) fn new(rule: Rule) -> Self {
        let (begun, met, open) = (AtomicUsize::new(0), watch::Sender::default(), watch::Sender::default());
        Self(Arc::new(Set { rule, begun, met, open }))
    }

    /// Waits until the rule was met as often as it may be. Gives at which ports.
    pub(crate) async fn met(&self) -> Vec<usize> {
        let mut met = self.0.met.subscribe();
        let all = tokio::time::timeout(MET, met.wait_for(|met| met.len() >= self.0.rule.times)).await;
        all.unwrap_or_else(|_| panic!("never met: {:?}", self.0.rule)).unwrap().clone()
    }

    pub(crate) fn is_met(&self) -> bool {
        self.0.met.borrow().len() >= self.0.rule.times
    }

    /// Lets go what it holds.
    pub(crate) fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Takes one of the times, if one is left.
    pub(super) fn begin(&self) -> bool {
        let one_more = |begun| (begun < self.0.rule.times).then_some(begun + 1);
        self.0.begun.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    pub(super) fn come(&self, port: usize) {
        self.0.met.send_modify(|met| met.push(port));
    }

    pub(super) async fn opened(&self) {
        self.0.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

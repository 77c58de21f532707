//! How many workers to wake, and what else a look at the wake service calls for: the level-triggered half of the wake
//! protocol.
//!
//! Owns: [`reconcile`], [`decide`] and what they remember between two looks. Does not own: asking and posting
//! (`usecase::Wakes`), what makes a worker exist (the `Waker` port). Pure: the time comes in.
//! Invariants: a visible message that no queued wake stands for is woken for at every look, whatever else is found;
//! work in progress is never credited, because a worker that died while polling would be credited for ever, and nobody
//! would wake for the visible message (`tests/wake_model.rs` finds that in five steps); without a visible message
//! nothing is woken, but for the one wake in two days that keeps an idle endpoint alive.

use jiff::{SignedDuration, Timestamp};

/// Wakes to post now: visible messages that no queued wake stands for, at most `most`.
#[must_use]
pub const fn reconcile(visible_messages: u32, queued_wakes: u32, most: u32) -> u32 {
    let missing = visible_messages.saturating_sub(queued_wakes);
    if missing < most { missing } else { most }
}

/// What the queue of work holds, about: the counts of a real queue lag by up to a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that no worker has received.
    pub visible: u32,
    /// Messages that a worker has received and not deleted.
    pub in_flight: u32,
}

/// What a wake service says of itself. What it does not count is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Wakes that have not become a session yet.
    pub queued: u32,
    /// Sessions, as the service believes. For people: it is never credited.
    pub in_progress: u32,
    /// Workers in a session, paid for.
    pub running: u32,
    /// Workers that wait for one.
    pub idle: u32,
    /// Workers that start.
    pub initializing: u32,
    /// Workers that the service has no machine for.
    pub throttled: u32,
    /// Workers that the service has given up.
    pub unhealthy: u32,
    /// How many workers it allows; `None`: it does not say.
    pub workers_max: Option<u32>,
}

/// What is remembered from one look to the next: since when things are as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// When the service last had requests, to the hour.
    pub active_at: Option<Timestamp>,
    /// Since when more wakes are queued than messages wait, or the queued ones make nobody start.
    pub stuck_since: Option<Timestamp>,
    /// Since when workers run although there is no work.
    pub idling_since: Option<Timestamp>,
    /// Since when messages wait and no worker runs or starts: throttled, forbidden, or nobody answers.
    pub barred_since: Option<Timestamp>,
}

/// When a look at the wake service leads to more than a wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakePolicy {
    /// As many workers as there may be.
    pub workers_max: u32,
    /// Sessions that a worker can serve between two looks: with [`WakePolicy::workers_max`] the most that is posted at
    /// one. Fewer would leave workers idle after an hour of lost wakes, more would be paid for when the counts lag.
    pub sessions_a_look: u32,
    /// More wakes than messages, or wakes that nobody starts for, for so long: the service has lost sight of them, and
    /// they are thrown away.
    pub stuck_after: SignedDuration,
    /// A service without a request for so long gets one: RunPod allows an endpoint no worker any more after 7 days.
    pub keep_alive_after: SignedDuration,
    /// Workers that run without work for so long are an alarm.
    pub idling_after: SignedDuration,
    /// A service that starts no worker for so long is passed over for the second one.
    pub barred_after: SignedDuration,
    /// Forbid all workers where they run without work.
    pub stops_idling: bool,
}

impl WakePolicy {
    /// Wakes in one look at most.
    #[must_use]
    pub const fn wakes_max(&self) -> u32 {
        self.workers_max.saturating_mul(self.sessions_a_look)
    }
}

impl Default for WakePolicy {
    fn default() -> Self {
        Self {
            workers_max: 3,
            sessions_a_look: 10,
            stuck_after: SignedDuration::from_mins(15),
            keep_alive_after: SignedDuration::from_hours(48),
            idling_after: SignedDuration::from_mins(10),
            barred_after: SignedDuration::from_mins(5),
            stops_idling: false,
        }
    }
}

/// What is wrong, for people to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The service did not say what it does.
    Silent,
    /// It allows no worker: RunPod's trap for endpoints that nobody used, or a hand on the switch.
    NoWorkersAllowed,
    /// Messages wait, and it has no machine for them, for long.
    Barred,
    /// More wakes than messages, or wakes that nobody starts for, for long.
    WakesStuck,
    /// Workers run without work, for long.
    Idling,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Silent, Self::NoWorkersAllowed, Self::Barred, Self::WakesStuck, Self::Idling];

    /// For logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::NoWorkersAllowed => "no_workers_allowed",
            Self::Barred => "barred",
            Self::WakesStuck => "wakes_stuck",
            Self::Idling => "idling",
        }
    }
}

/// What to do after a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Throw the queued wakes away first. Safe: a wake carries nothing.
    pub purge: bool,
    /// Wakes to post then.
    pub wakes: u32,
    /// Wake at the second service as well, because the first one starts nobody.
    pub to_second: bool,
    /// Forbid all workers.
    pub stop: bool,
    /// What people should know.
    pub findings: Vec<Finding>,
}

/// How exactly it is remembered when a service last had requests: a row is not written at every look.
const ACTIVE_TO_THE: SignedDuration = SignedDuration::from_hours(1);

/// Decides from what is, not from what happened; `outstanding` is `None` when the service did not answer.
#[must_use]
pub fn decide(
    now: Timestamp,
    backlog: Backlog,
    outstanding: Option<&Outstanding>,
    memory: &Memory,
    policy: &WakePolicy,
) -> (Memory, Decision) {
    let mut next = *memory;
    let mut decision = Decision::default();
    let is_over = |since: Option<Timestamp>, limit| since.is_some_and(|since| now.duration_since(since) >= limit);
    let seen = outstanding.copied().unwrap_or_default();

    let is_closed = seen.workers_max == Some(0);
    let starts_nobody = seen.running + seen.initializing == 0;
    keep(&mut next.barred_since, backlog.visible > 0 && (starts_nobody || is_closed), now);
    // As many wakes as messages, workers allowed and none throttled, and nobody starts: those wakes reach nobody.
    let is_lost_sight_of = backlog.visible > 0 && seen.queued > 0 && starts_nobody && seen.throttled == 0 && !is_closed;
    keep(&mut next.stuck_since, outstanding.is_some() && (seen.queued > backlog.visible || is_lost_sight_of), now);
    keep(&mut next.idling_since, seen.running > 0 && backlog == Backlog::default(), now);

    // A service that does not say what is queued gets one wake a look: enough that work begins when it is back, too
    // few to pile up while only its counts are gone.
    decision.wakes = match outstanding {
        Some(seen) => reconcile(backlog.visible, seen.queued, policy.wakes_max()),
        None => backlog.visible.min(1),
    };
    if is_over(next.stuck_since, policy.stuck_after) {
        decision.findings.push(Finding::WakesStuck);
        decision.purge = true;
        // They replace what is thrown away, and are fewer.
        decision.wakes = backlog.visible;
        // The next purge is that much later: a service may take its time to forget.
        next.stuck_since = Some(now);
    }
    if is_over(next.barred_since, policy.barred_after) {
        decision.findings.push(Finding::Barred);
        decision.to_second = true;
    }
    if outstanding.is_none() {
        decision.findings.push(Finding::Silent);
    }
    if is_closed {
        decision.findings.push(Finding::NoWorkersAllowed);
    }
    if is_over(next.idling_since, policy.idling_after) {
        decision.findings.push(Finding::Idling);
        decision.stop = policy.stops_idling && !is_closed;
    }
    // Not by what the service counts as in progress: a phantom there would let it fall asleep for ever.
    let is_active = decision.wakes > 0 || seen.running > 0 || backlog.in_flight > 0;
    if !is_active && !is_closed && is_over(next.active_at, policy.keep_alive_after) {
        decision.wakes = 1;
    }
    let is_news = next.active_at.is_none_or(|at| now.duration_since(at) >= ACTIVE_TO_THE);
    if next.active_at.is_none() || is_news && (is_active || decision.wakes > 0) {
        next.active_at = Some(now);
    }
    (next, decision)
}

/// Since when it is so; nothing when it is not.
fn keep(since: &mut Option<Timestamp>, is_so: bool, now: Timestamp) {
    *since = if is_so { since.or(Some(now)) } else { None };
}

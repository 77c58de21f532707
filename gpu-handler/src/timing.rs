//! Every duration of a session in one place, so that tests can shorten them and operators can look them up.

use std::time::Duration;

/// Durations and budgets of a session. What the control plane decides (lease, deadline) is not here.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// Long poll of one receive. SQS allows at most 20 s.
    pub(crate) receive_wait: Duration,
    /// How long a message stays invisible after it was received or extended.
    pub(crate) visibility: Duration,
    /// Greatest time between two heartbeats; a lease that needs them sooner has them sooner.
    pub(crate) heartbeat: Duration,
    /// One call to the control plane or to SQS, long polls excepted.
    pub(crate) call: Duration,
    /// First wait before a call is repeated.
    pub(crate) retry_first: Duration,
    /// Greatest wait before a call is repeated.
    pub(crate) retry_cap: Duration,
    /// How often timers are looked at.
    pub(crate) tick: Duration,
    /// Matting without a new frame for this long is a hang.
    pub(crate) stalled: Duration,
    /// The engine looks at its stop flag once a frame; after this long it is taken for dead.
    pub(crate) engine_grace: Duration,
    /// On SIGTERM an attempt goes on when its remaining frames take at most this long.
    pub(crate) finish_within: Duration,
    /// After SIGTERM no attempt goes on for longer than this, whatever its pace promised.
    pub(crate) finish_cap: Duration,
    /// Budget of the report that an attempt was abandoned: the host's kill is near.
    pub(crate) abandon_report: Duration,
    /// When a job went back to pending: the message becomes visible this soon.
    pub(crate) prompt_retry: Duration,
    /// Window over which a transfer's least rate is judged.
    pub(crate) rate_window: Duration,
    /// Least bytes a second of a transfer.
    pub(crate) least_rate: u64,
    /// Tries of one transfer.
    pub(crate) transfer_tries: u32,
    /// An empty session lasts at least this long, also when the queue does not wait for a message.
    pub(crate) idle_floor: Duration,
    /// Greatest wait between two sessions that failed.
    pub(crate) session_retry_cap: Duration,
    /// RunPod answers a take within this, or not at all.
    pub(crate) take_cap: Duration,
    /// What is on its way when a take is given up has this long to arrive.
    pub(crate) take_grace: Duration,
    /// Two takes of which the first brings nothing begin at least this far apart.
    pub(crate) empty_take_floor: Duration,
    /// Rest after RunPod said that there are too many takes.
    pub(crate) too_many_takes: Duration,
    /// Tries of telling RunPod about a session.
    pub(crate) done_tries: u32,
    /// First wait between them.
    pub(crate) done_retry_first: Duration,
    /// Greatest wait between them.
    pub(crate) done_retry_cap: Duration,
    /// All of them end within this.
    pub(crate) done_within: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            receive_wait: Duration::from_secs(20),
            visibility: Duration::from_secs(120),
            heartbeat: Duration::from_secs(40),
            call: Duration::from_secs(10),
            retry_first: Duration::from_millis(250),
            retry_cap: Duration::from_secs(10),
            tick: Duration::from_secs(1),
            stalled: Duration::from_secs(120),
            engine_grace: Duration::from_secs(30),
            finish_within: Duration::from_secs(20),
            finish_cap: Duration::from_secs(30),
            abandon_report: Duration::from_secs(5),
            prompt_retry: Duration::from_secs(2),
            rate_window: Duration::from_secs(30),
            least_rate: 16 * 1024,
            transfer_tries: 4,
            idle_floor: Duration::from_secs(1),
            session_retry_cap: Duration::from_secs(30),
            take_cap: Duration::from_secs(90),
            take_grace: Duration::from_secs(2),
            empty_take_floor: Duration::from_millis(500),
            too_many_takes: Duration::from_secs(5),
            done_tries: 5,
            done_retry_first: Duration::from_secs(1),
            done_retry_cap: Duration::from_secs(10),
            done_within: Duration::from_secs(60),
        }
    }
}

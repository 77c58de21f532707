//! How many workers to wake: the level-triggered half of the wake protocol.
//!
//! Work in progress is deliberately not credited: a worker that died while polling would be credited for ever,
//! and nobody would wake for the visible message (`tests/wake_model.rs` finds that in five steps).

/// Wakes to post now: visible messages that no queued wake stands for, at most `workers_max` a tick.
#[must_use]
pub const fn reconcile(visible_messages: u32, queued_wakes: u32, workers_max: u32) -> u32 {
    let missing = visible_messages.saturating_sub(queued_wakes);
    if missing < workers_max { missing } else { workers_max }
}

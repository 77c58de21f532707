//! The eventcount: how workers that drain the queue go to sleep without leaving a message behind.
//!
//! ```text
//! producer                              worker
//! send the message                      awake: I am there; s0 = seq          <──┐
//! ring: seq += 1                        drain until the queue is empty          │
//! nobody awake, nobody coming? start    asleep, if seq = s0: gone; otherwise ───┘
//! ```
//! Owns: the count and what may be done to it; each function here is one write of the store's, and the store's writes are
//! tested against these functions. Does not own: the store, clocks, what starts a worker (`usecase::DrainWaker`).
//!
//! Why several workers strand no message. Let `m` be sent and then announced by a ring that starts nobody.
//! 1. Somebody was awake at that ring. Whichever worker that was: its s0 is from before the ring, so it may not go, and
//!    its next look at the queue comes after `m` was sent; or from after the ring, and then so is its look. Either way it
//!    does not go before it has looked at a queue that had `m` in it. The argument needs no second worker and asks nothing
//!    of one: each is bound by its own s0. (A flag that all share would be taken down by the first to go, and the next producer
//!    would start one worker too many.)
//! 2. Or somebody was coming: its reservation stood. A reservation ends with the next worker that says it is awake, so
//!    none has since it was made, and the worker it was made for has yet to: it reads its s0 after the ring, and looks.
//! 3. Or a started worker was seen that has not said so yet: the same.
//!
//! What breaks these is a death: of the worker before it has looked, of the producer between its reservation and its
//! start. Then the entry ends by itself, and the sweep, which rings for what is visible, starts another one.
//! Invariants: `seq` only grows; a renewal never brings back a worker that went; times are the control plane's alone.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rotoless_contract::WorkerId;

/// A worker counts as awake for so long after it last said so. It renews at a third of it.
pub const AWAKE: SignedDuration = SignedDuration::from_secs(120);

/// Whoever starts a worker keeps others from doing the same for so long: until the home shows what was started. Less
/// than the time between two looks of the sweep, so that a start that nothing came of holds up none of them.
pub const COMING: SignedDuration = SignedDuration::from_secs(30);

/// Entries of workers that died are kept for so long; only a host that froze comes back after its time.
pub const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

/// The count, and who is awake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Eventcount {
    /// Messages announced so far.
    pub seq: u64,
    /// How often a worker said that it is there, renewals left out.
    pub risen: u64,
    /// Workers, and until when each counts as awake.
    pub awake: BTreeMap<WorkerId, Timestamp>,
    /// Somebody starts workers, and nobody else needs to until then.
    pub coming: Option<Timestamp>,
}

impl Eventcount {
    /// A message that is in the queue is announced.
    pub fn ring(&mut self) {
        self.seq += 1;
    }

    /// A worker is there. Whoever was coming may be this one: the next producer starts its own.
    pub fn rise(&mut self, worker: &WorkerId, until: Timestamp) {
        self.risen += 1;
        self.awake.insert(worker.clone(), until);
        self.coming = None;
    }

    /// A worker is there still. `false`: it is not counted any more, and stays so.
    pub fn renew(&mut self, worker: &WorkerId, until: Timestamp) -> bool {
        match self.awake.get_mut(worker) {
            Some(entry) => {
                *entry = until;
                true
            }
            None => false,
        }
    }

    /// A worker goes, if nothing was announced since it read `seq`; with `None` in any case.
    pub fn sleep(&mut self, worker: &WorkerId, seq: Option<u64>) -> bool {
        let may = seq.is_none_or(|seq| seq == self.seq);
        if may {
            self.awake.remove(worker);
        }
        may
    }

    /// A producer wants to be the one who starts workers. `false`: somebody else is; or a worker rose since the producer rang
    /// and read `risen`, and that one finds the message.
    pub fn reserve(&mut self, risen: u64, now: Timestamp, until: Timestamp) -> bool {
        let may = self.risen == risen && !self.is_somebody_coming(now);
        if may {
            self.coming = Some(until);
        }
        may
    }

    /// Nothing came of the start for which the reservation until then was made.
    pub fn cancel(&mut self, until: Timestamp) {
        self.coming.take_if(|coming| *coming == until);
    }

    /// Forgets a worker, unless it said meanwhile that it is there.
    pub fn forget(&mut self, worker: &WorkerId, until: Timestamp) {
        if self.awake.get(worker) == Some(&until) {
            self.awake.remove(worker);
        }
    }

    /// How many are awake.
    #[must_use]
    pub fn awake(&self, now: Timestamp) -> u32 {
        let count = self.awake.values().filter(|until| **until > now).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether somebody starts workers at this moment.
    #[must_use]
    pub fn is_somebody_coming(&self, now: Timestamp) -> bool {
        self.coming.is_some_and(|until| until > now)
    }

    /// Those who died long ago.
    pub fn forgotten(&self, now: Timestamp) -> impl Iterator<Item = (&WorkerId, Timestamp)> {
        let is_old = move |until: Timestamp| now.duration_since(until) > FORGOTTEN;
        self.awake.iter().map(|(worker, until)| (worker, *until)).filter(move |(_, until)| is_old(*until))
    }
}

/// Who rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ringer {
    /// Whoever sent a message: one who is awake or on the way is enough.
    Submit,
    /// The sweep, for messages that it found waiting although it has passed a minute: whoever is awake is busy.
    Look,
}

/// How many workers to start when `asked` messages wait, `awake` workers are there, `starting` were started and have not
/// come to life, and there may be `most`. Workers that the home believes to run are not credited: one that is awake says so
/// itself, and one that does not may be dead.
#[must_use]
pub fn missing(ringer: Ringer, asked: u32, awake: u32, starting: u32, most: u32) -> u32 {
    let there = awake.saturating_add(starting);
    let wanted = match ringer {
        Ringer::Submit if there > 0 => 0,
        Ringer::Submit | Ringer::Look => asked,
    };
    wanted.min(most.saturating_sub(there))
}

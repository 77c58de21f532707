//! The world of the eventcount's model: producers, workers, what they can do, and what of it is worth telling apart.

use jiff::Timestamp;
use rotoless_contract::WorkerId;
use rotoless_core::eventcount::{Eventcount, Ringer};

use super::SLOTS;

/// A producer, or the sweep as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Producer {
    Rings { looks: bool, asked: u32 },
    AsksTheHome { looks: bool, asked: u32, awake: u32, risen: u64 },
    Reserves { looks: bool, start: u32, risen: u64 },
    Starts { looks: bool, start: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Worker {
    Off,
    Begins,
    Drains { seq: u64 },
    Works { seq: u64 },
    FoundNothing { seq: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) to_commit: usize,
    pub(super) to_send: usize,
    /// Committed, and the producer died before the send.
    pub(super) unsent: usize,
    pub(super) producers: Vec<Producer>,
    pub(super) visible: usize,
    /// In flight at a worker that is dead.
    pub(super) orphaned: usize,
    /// Tasks on their way.
    pub(super) starting: u32,
    pub(super) workers: [Worker; SLOTS],
    pub(super) count: Eventcount,
    pub(super) done: usize,
    pub(super) faults_left: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Commit,
    Send,
    Produce(usize),
    Begin(usize),
    Rise(usize),
    Renew(usize),
    Receive(usize),
    FindNothing(usize),
    Finish(usize),
    Sleep(usize),
    EntryEnds(usize),
    ReservationEnds,
    VisibilityLapses,
    Resend,
    Look,
    // Faults.
    DieBeforeSend,
    ProducerDies(usize),
    AnnouncedTwice(usize),
    StartRefused(usize),
    StartDoubled(usize),
    StartLost,
    Kill(usize),
    AskToEnd(usize),
    RenewalsFail(usize),
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

/// An entry that stands, and one whose time is over.
pub(super) fn later() -> Timestamp {
    Timestamp::from_second(1_000_100).unwrap()
}

pub(super) fn before() -> Timestamp {
    Timestamp::from_second(999_999).unwrap()
}

pub(super) fn id(slot: usize) -> WorkerId {
    WorkerId::from_random([u8::try_from(slot).unwrap(); 16])
}

pub(super) const fn ringer(looks: bool) -> Ringer {
    if looks { Ringer::Look } else { Ringer::Submit }
}

impl Step {
    pub(super) const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::DieBeforeSend
                | Self::ProducerDies(_)
                | Self::AnnouncedTwice(_)
                | Self::StartRefused(_)
                | Self::StartDoubled(_)
                | Self::StartLost
                | Self::Kill(_)
                | Self::AskToEnd(_)
                | Self::RenewalsFail(_)
        )
    }
}

/// In the order of a fair scheduler that lets time pass only when nothing else can happen.
pub(super) fn fair(world: &World) -> Vec<Step> {
    let slots = || 0..SLOTS;
    let mut steps: Vec<Step> = (0..world.producers.len()).map(Step::Produce).collect();
    steps.extend([Step::Commit, Step::Send]);
    for each in [Step::Renew, Step::Finish, Step::Rise, Step::Receive, Step::FindNothing, Step::Sleep, Step::Begin] {
        steps.extend(slots().map(each));
    }
    steps.extend(slots().map(Step::EntryEnds));
    steps.extend([Step::ReservationEnds, Step::VisibilityLapses, Step::Resend, Step::Look]);
    steps
}

pub(super) fn faults(world: &World) -> Vec<Step> {
    let mut steps = vec![Step::DieBeforeSend, Step::StartLost];
    for each in [Step::ProducerDies, Step::AnnouncedTwice, Step::StartRefused, Step::StartDoubled] {
        steps.extend((0..world.producers.len()).map(each));
    }
    for each in [Step::Kill, Step::AskToEnd, Step::RenewalsFail] {
        steps.extend((0..SLOTS).map(each));
    }
    steps
}

impl World {
    pub(super) fn entry(&self, slot: usize) -> Option<Timestamp> {
        self.count.awake.get(&id(slot)).copied()
    }

    pub(super) fn looks_now(&self) -> bool {
        self.producers.iter().any(|producer| match producer {
            Producer::Rings { looks, .. }
            | Producer::AsksTheHome { looks, .. }
            | Producer::Reserves { looks, .. }
            | Producer::Starts { looks, .. } => *looks,
        })
    }

    /// Only whether what somebody read is the latest matters, so the numbers are kept small; producers and workers have
    /// no names that matter, so they stand in order.
    pub(super) fn settled(mut self) -> Self {
        let (latest, last_risen) = (self.count.seq, self.count.risen);
        (self.count.seq, self.count.risen) = (1, 1);
        for producer in &mut self.producers {
            match producer {
                Producer::Rings { .. } | Producer::Starts { .. } => {}
                Producer::AsksTheHome { risen, .. } | Producer::Reserves { risen, .. } => {
                    *risen = u64::from(*risen == last_risen);
                }
            }
        }
        for slot in 0..SLOTS {
            match &mut self.workers[slot] {
                Worker::Off | Worker::Begins => {}
                Worker::Drains { seq } | Worker::Works { seq } | Worker::FoundNothing { seq } => {
                    *seq = u64::from(*seq == latest);
                }
            }
            if self.workers[slot] == Worker::Off && self.entry(slot) == Some(before()) {
                self.count.forget(&id(slot), before());
            }
        }
        let mut workers: Vec<_> = (0..SLOTS).map(|slot| (self.workers[slot], self.entry(slot))).collect();
        workers.sort_unstable();
        self.count.awake.clear();
        for (slot, (worker, entry)) in workers.into_iter().enumerate() {
            self.workers[slot] = worker;
            self.count.awake.extend(entry.map(|until| (id(slot), until)));
        }
        self.count.coming.take_if(|until| *until == before());
        self.producers.sort_unstable();
        self
    }
}

//! The eventcount, every interleaving: workers that drain the queue, several at once, strand no message and end. The
//! functions under test are the shipped ones ([`Eventcount`], [`missing`], [`reconcile`]); around them is a model of
//! producers, the queue, a home that starts tasks, and workers.
//!
//! Faults: a producer dies anywhere between its commit and its start, a start is refused, lost or doubled, a message is
//! announced twice, a worker is killed wherever it is or asked to end in the middle of a job, a worker's renewals fail
//! so that it counts as asleep while it works. The broken variants show that the search can fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use jiff::Timestamp;
use rotoless_contract::WorkerId;
use rotoless_core::eventcount::{Eventcount, Ringer, missing};
use rotoless_core::wake::reconcile;

use explore::{Model, explore};

mod explore;

/// Workers that there may be at once, the dead whose entries stand included.
const SLOTS: usize = 3;

/// How a worker goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    /// The shipped way: unless something was announced since it read the count.
    IfNothingWasAnnounced,
    /// A flag `awake` that is taken down after the last look.
    InAnyCase,
}

#[derive(Debug, Clone, Copy)]
struct Protocol {
    jobs: usize,
    faults: usize,
    workers_max: u32,
    goes: Goes,
    /// The next worker that says it is awake ends the reservation.
    rise_ends_reservation: bool,
    /// The sweep looks, resends and rings.
    sweeps: bool,
    /// A started process says that it is awake in the moment in which it begins.
    rises_at_once: bool,
}

/// A producer, or the sweep as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Producer {
    Rings { looks: bool, asked: u32 },
    AsksTheHome { looks: bool, asked: u32, awake: u32, risen: u64 },
    Reserves { looks: bool, start: u32, risen: u64 },
    Starts { looks: bool, start: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Worker {
    Off,
    Begins,
    Drains { seq: u64 },
    Works { seq: u64 },
    FoundNothing { seq: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    to_commit: usize,
    to_send: usize,
    /// Committed, and the producer died before the send.
    unsent: usize,
    producers: Vec<Producer>,
    visible: usize,
    /// In flight at a worker that is dead.
    orphaned: usize,
    /// Tasks on their way.
    starting: u32,
    workers: [Worker; SLOTS],
    count: Eventcount,
    done: usize,
    faults_left: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
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

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

/// An entry that stands, and one whose time is over.
fn later() -> Timestamp {
    Timestamp::from_second(1_000_100).unwrap()
}

fn before() -> Timestamp {
    Timestamp::from_second(999_999).unwrap()
}

fn id(slot: usize) -> WorkerId {
    WorkerId::from_random([u8::try_from(slot).unwrap(); 16])
}

const fn ringer(looks: bool) -> Ringer {
    if looks { Ringer::Look } else { Ringer::Submit }
}

impl Step {
    const fn is_fault(self) -> bool {
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
fn fair(world: &World) -> Vec<Step> {
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

fn faults(world: &World) -> Vec<Step> {
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
    fn entry(&self, slot: usize) -> Option<Timestamp> {
        self.count.awake.get(&id(slot)).copied()
    }

    fn looks_now(&self) -> bool {
        self.producers.iter().any(|producer| match producer {
            Producer::Rings { looks, .. }
            | Producer::AsksTheHome { looks, .. }
            | Producer::Reserves { looks, .. }
            | Producer::Starts { looks, .. } => *looks,
        })
    }

    /// Only whether what somebody read is the latest matters, so the numbers are kept small; producers and workers have
    /// no names that matter, so they stand in order.
    fn settled(mut self) -> Self {
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

impl Protocol {
    fn to_start(&self, world: &World) -> u32 {
        let visible = u32::try_from(world.visible).unwrap();
        reconcile(visible, world.starting, self.workers_max)
    }

    fn may(&self, world: &World, step: Step) -> bool {
        let worker = |slot: usize| world.workers[slot];
        let is_alive = |slot: usize| worker(slot) != Worker::Off;
        let starts = |at: usize| matches!(world.producers[at], Producer::Starts { .. });
        match step {
            Step::Commit => world.to_commit > 0,
            Step::Send | Step::DieBeforeSend => world.to_send > 0,
            Step::Produce(_) | Step::ProducerDies(_) => true,
            Step::AnnouncedTwice(at) => matches!(world.producers[at], Producer::Rings { .. }),
            Step::StartRefused(at) | Step::StartDoubled(at) => starts(at),
            Step::StartLost => world.starting > 0,
            // Every process has a name of its own: that of a dead one is not used while its entry stands.
            Step::Begin(slot) => world.starting > 0 && !is_alive(slot) && world.entry(slot).is_none(),
            Step::Rise(slot) => worker(slot) == Worker::Begins,
            Step::Renew(slot) => is_alive(slot) && world.entry(slot) == Some(before()),
            Step::Receive(slot) => matches!(worker(slot), Worker::Drains { .. }) && world.visible > 0,
            // A long poll does not come back empty while a message is visible.
            Step::FindNothing(slot) => matches!(worker(slot), Worker::Drains { .. }) && world.visible == 0,
            Step::Finish(slot) | Step::AskToEnd(slot) => matches!(worker(slot), Worker::Works { .. }),
            Step::Sleep(slot) => matches!(worker(slot), Worker::FoundNothing { .. }),
            Step::EntryEnds(slot) => !is_alive(slot) && world.entry(slot).is_some(),
            Step::RenewalsFail(slot) => is_alive(slot) && world.entry(slot) == Some(later()),
            // A wake takes less time, from ring to start, than a reservation stands.
            Step::ReservationEnds => {
                let rings = |producer: &Producer| matches!(producer, Producer::Rings { .. });
                world.count.coming.is_some() && world.producers.iter().all(rings)
            }
            Step::VisibilityLapses => world.orphaned > 0,
            Step::Resend => self.sweeps && world.unsent > 0,
            Step::Look => self.sweeps && !world.looks_now() && self.to_start(world) > 0,
            Step::Kill(slot) => is_alive(slot),
        }
    }

    fn produce(&self, world: &mut World, at: usize) {
        let next = match world.producers[at] {
            Producer::Rings { looks, asked } => {
                world.count.ring();
                let awake = world.count.awake(now());
                let none = world.count.is_somebody_coming(now())
                    || missing(ringer(looks), asked, awake, 0, self.workers_max) == 0;
                (!none).then_some(Producer::AsksTheHome { looks, asked, awake, risen: world.count.risen })
            }
            Producer::AsksTheHome { looks, asked, awake, risen } => {
                let start = missing(ringer(looks), asked, awake, world.starting, self.workers_max);
                (start > 0).then_some(Producer::Reserves { looks, start, risen })
            }
            Producer::Reserves { looks, start, risen } => {
                world.count.reserve(risen, now(), later()).then_some(Producer::Starts { looks, start })
            }
            Producer::Starts { start, .. } => {
                world.starting += start;
                None
            }
        };
        match next {
            Some(next) => world.producers[at] = next,
            None => drop(world.producers.remove(at)),
        }
    }

    fn rise(&self, world: &mut World, slot: usize) {
        let coming = world.count.coming;
        world.count.rise(&id(slot), later());
        if !self.rise_ends_reservation {
            world.count.coming = coming;
        }
        world.workers[slot] = Worker::Drains { seq: world.count.seq };
    }

    fn sleep(&self, world: &mut World, slot: usize, seq: u64) {
        let seq = (self.goes == Goes::IfNothingWasAnnounced).then_some(seq);
        if world.count.sleep(&id(slot), seq) {
            world.workers[slot] = Worker::Off;
        } else {
            self.rise(world, slot);
        }
    }

    fn go(&self, world: &mut World, step: Step) {
        match step {
            Step::Commit => (world.to_commit, world.to_send) = (world.to_commit - 1, world.to_send + 1),
            Step::Send => {
                (world.to_send, world.visible) = (world.to_send - 1, world.visible + 1);
                world.producers.push(Producer::Rings { looks: false, asked: 1 });
            }
            Step::Produce(at) => self.produce(world, at),
            Step::Begin(slot) => {
                world.starting -= 1;
                world.workers[slot] = Worker::Begins;
                if self.rises_at_once {
                    self.rise(world, slot);
                }
            }
            Step::Rise(slot) => self.rise(world, slot),
            Step::Renew(slot) => drop(world.count.renew(&id(slot), later())),
            Step::Receive(_) | Step::FindNothing(_) | Step::Finish(_) | Step::Sleep(_) => self.drain(world, step),
            Step::EntryEnds(slot) | Step::RenewalsFail(slot) => drop(world.count.renew(&id(slot), before())),
            Step::ReservationEnds => world.count.coming = Some(before()),
            Step::VisibilityLapses => (world.orphaned, world.visible) = (world.orphaned - 1, world.visible + 1),
            Step::Resend => {
                (world.unsent, world.visible) = (world.unsent - 1, world.visible + 1);
                world.producers.push(Producer::Rings { looks: false, asked: 1 });
            }
            Step::Look => world.producers.push(Producer::Rings { looks: true, asked: self.to_start(world) }),
            Step::DieBeforeSend => (world.to_send, world.unsent) = (world.to_send - 1, world.unsent + 1),
            Step::ProducerDies(at) => drop(world.producers.remove(at)),
            Step::AnnouncedTwice(_) => world.count.ring(),
            Step::StartRefused(at) => {
                world.producers.remove(at);
                world.count.cancel(later());
            }
            Step::StartDoubled(at) => {
                let Producer::Starts { start, .. } = world.producers.remove(at) else { unreachable!() };
                world.starting += 2 * start;
            }
            Step::StartLost => world.starting -= 1,
            Step::Kill(slot) => {
                world.orphaned += usize::from(matches!(world.workers[slot], Worker::Works { .. }));
                world.workers[slot] = Worker::Off;
            }
            Step::AskToEnd(slot) => {
                world.visible += 1;
                world.count.sleep(&id(slot), None);
                world.workers[slot] = Worker::Off;
            }
        }
    }

    fn drain(&self, world: &mut World, step: Step) {
        match step {
            Step::Receive(slot) => {
                let Worker::Drains { seq } = world.workers[slot] else { unreachable!() };
                world.visible -= 1;
                world.workers[slot] = Worker::Works { seq };
            }
            Step::FindNothing(slot) => {
                let Worker::Drains { seq } = world.workers[slot] else { unreachable!() };
                world.workers[slot] = Worker::FoundNothing { seq };
            }
            Step::Finish(slot) => {
                let Worker::Works { seq } = world.workers[slot] else { unreachable!() };
                world.done += 1;
                world.workers[slot] = Worker::Drains { seq };
            }
            Step::Sleep(slot) => {
                let Worker::FoundNothing { seq } = world.workers[slot] else { unreachable!() };
                self.sleep(world, slot, seq);
            }
            _ => unreachable!(),
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        World {
            to_commit: self.jobs,
            to_send: 0,
            unsent: 0,
            producers: Vec::new(),
            visible: 0,
            orphaned: 0,
            starting: 0,
            workers: [Worker::Off; SLOTS],
            count: Eventcount::default(),
            done: 0,
            faults_left: self.faults,
        }
        .settled()
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let faults = if world.faults_left > 0 { faults(world) } else { Vec::new() };
        fair(world).into_iter().chain(faults).filter(|step| self.may(world, *step)).collect()
    }

    fn after(&self, world: &World, step: Step) -> World {
        let mut next = world.clone();
        next.faults_left -= usize::from(step.is_fault());
        self.go(&mut next, step);
        next.settled()
    }

    fn breach(&self, world: &World) -> Option<&'static str> {
        let working = world.workers.iter().filter(|worker| matches!(worker, Worker::Works { .. })).count();
        let alive = world.workers.iter().filter(|worker| **worker != Worker::Off).count();
        let coming = world.to_commit + world.to_send + world.unsent;
        if coming + world.visible + world.orphaned + working + world.done != self.jobs {
            return Some("a job was lost or doubled");
        }
        let there = u32::try_from(alive).unwrap() + world.starting;
        if self.rises_at_once && self.faults == 0 && there > self.workers_max {
            return Some("more workers than there may be");
        }
        (world.starting > self.workers_max * 4).then_some("starts pile up")
    }

    fn go_on(&self, world: &World) -> Option<Step> {
        fair(world).into_iter().find(|step| self.may(world, *step))
    }

    fn bad_rest(&self, _: &World, rest: &World) -> Option<&'static str> {
        if rest.starting > 0 || rest.workers.iter().any(|worker| *worker != Worker::Off) {
            return Some("a worker is left running");
        }
        (rest.done < self.jobs).then_some("a job is never done")
    }
}

const SHIPPED: Protocol = Protocol {
    jobs: 2,
    faults: 1,
    workers_max: 1,
    goes: Goes::IfNothingWasAnnounced,
    rise_ends_reservation: true,
    sweeps: true,
    rises_at_once: false,
};

fn holds(protocol: Protocol) {
    let searched = explore(&protocol).unwrap_or_else(|found| panic!("{protocol:?}: {found:?}"));
    eprintln!("{protocol:?}: {searched:?}");
    assert!(searched.states > 300, "{protocol:?} was hardly searched: {searched:?}");
}

/// G-17, TW-14
#[test]
fn no_message_is_stranded_by_one_draining_worker_or_by_several() {
    for protocol in [Protocol { jobs: 1, faults: 3, ..SHIPPED }, SHIPPED, Protocol { workers_max: 2, ..SHIPPED }] {
        holds(protocol);
    }
}

/// G-17: the sweep is for faults. Without one nobody waits for it.
#[test]
fn without_a_fault_every_message_is_found_by_whoever_is_awake_or_coming() {
    for workers_max in [1, 2] {
        holds(Protocol { jobs: 3, faults: 0, workers_max, sweeps: false, ..SHIPPED });
    }
}

/// Between the begin of a process and its first word it is on nobody's list. Where there is no such time there are never two.
#[test]
fn producers_that_come_at_once_start_one_worker() {
    holds(Protocol { jobs: 3, faults: 0, rises_at_once: true, ..SHIPPED });
}

/// The check can fail: *found nothing · send · see somebody awake · sleep*.
#[test]
fn one_awake_flag_drain_then_sleep_loses_a_wake_up() {
    let protocol = Protocol { faults: 0, sweeps: false, goes: Goes::InAnyCase, ..SHIPPED };
    let found = explore(&protocol).unwrap_err();
    assert_eq!(found.what, "a job is never done", "{found:?}");
    assert!(format!("{found:?}").contains("FindNothing"), "{found:?}");
}

/// The check can fail: whoever comes has come and gone, and its reservation says that it is coming still.
#[test]
fn a_reservation_that_outlives_its_worker_loses_a_wake_up() {
    let protocol = Protocol { faults: 0, sweeps: false, rise_ends_reservation: false, ..SHIPPED };
    let found = explore(&protocol).unwrap_err();
    assert_eq!(found.what, "a job is never done", "{found:?}");
}

/// The check can fail: a worker that died counts as awake, and nobody looks again.
#[test]
fn without_the_sweep_the_first_death_strands_a_job() {
    let found = explore(&Protocol { faults: 1, sweeps: false, ..SHIPPED }).unwrap_err();
    assert_eq!(found.what, "a job is never done", "{found:?}");
}

/// The variants differ in what they say they do, or the tests above show nothing.
#[test]
fn every_kind_of_step_happens() {
    let mut kinds = BTreeSet::new();
    let (mut known, mut todo) = (std::collections::HashSet::new(), vec![]);
    let protocol = Protocol { jobs: 1, faults: 1, ..SHIPPED };
    todo.push(protocol.start());
    while let Some(world) = todo.pop() {
        if !known.insert(world.clone()) {
            continue;
        }
        for step in protocol.steps(&world) {
            let text = format!("{step:?}");
            kinds.insert(text.split('(').next().unwrap().to_owned());
            todo.push(protocol.after(&world, step));
        }
    }
    assert_eq!(kinds.len(), 24, "{kinds:?}");
}

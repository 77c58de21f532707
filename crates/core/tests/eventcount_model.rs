//! The eventcount, every interleaving: workers that drain the queue, several at once, strand no message and end. The
//! functions under test are the shipped ones ([`Eventcount`], [`missing`], [`reconcile`]); around them is a model of
//! producers, the queue, a home that starts tasks, and workers.
//!
//! Faults: a producer dies anywhere between its commit and its start, a start is refused, lost or doubled, a message is
//! announced twice, a worker is killed wherever it is or asked to end in the middle of a job, a worker's renewals fail
//! so that it counts as asleep while it works. The broken variants show that the search can fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use rotoless_core::eventcount::{Eventcount, missing};
use rotoless_core::wake::reconcile;

use explore::{Model, explore};
use world::{Producer, Step, Worker, World, before, fair, faults, id, later, now, ringer};

mod explore;
#[path = "eventcount_model/world.rs"]
mod world;

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

impl Protocol {
    fn missing_tasks(self, world: &World) -> u32 {
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
            Step::Look => self.sweeps && !world.looks_now() && self.missing_tasks(world) > 0,
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
            Step::Look => world.producers.push(Producer::Rings { looks: true, asked: self.missing_tasks(world) }),
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

    #[expect(clippy::wildcard_enum_match_arm, reason = "it is given steps of workers only")]
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

//! Random interleavings of everything that can happen to several jobs of two clients, over one ledger in memory
//! that keeps the store's conditions: a job's version, the balance, unique row ids. The invariants of money and of
//! the life cycle hold after every one of 10^5 steps. The minimal failing sequence is printed; keep it as a test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::Config;
use rotoless_contract::worker::FailureReason;
use rotoless_contract::{Attempt, JobId, MilliCredits, Run};
use rotoless_core::ledger::{Cause, Hold, Movement};
use rotoless_core::lifecycle::{Command, JobState, MAX_ATTEMPTS, Phase, Refused, apply};

use store::{Job, Judged, Store, Unapplied};

#[path = "interleavings/store.rs"]
mod store;

const CLIENTS: usize = 2;
const JOBS: usize = 5;
const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// What happens next. Attempts are named relative to the job's last one, so that stale and future ones are common.
#[derive(Debug, Clone, Copy)]
enum Act {
    Grant {
        client: usize,
        grant: u8,
        amount: u64,
    },
    Create {
        job: usize,
    },
    Start {
        job: usize,
        cost: u64,
    },
    Claim {
        job: usize,
        runs_ago: u32,
    },
    Heartbeat {
        job: usize,
        ago: i64,
        progress: u8,
    },
    Adjust {
        job: usize,
        ago: i64,
        cost: u64,
    },
    Complete {
        job: usize,
        ago: i64,
        charge: u64,
    },
    Fail {
        job: usize,
        ago: i64,
        reason: FailureReason,
    },
    Abandon {
        job: usize,
        ago: i64,
    },
    Cancel {
        job: usize,
    },
    Expire {
        job: usize,
    },
    Lapse {
        job: usize,
    },
    Adopt {
        job: usize,
        runs_ago: u32,
        charge: u64,
    },
    TimePasses {
        seconds: i64,
    },
    /// The last commit is sent again: the reply was lost, or the message came twice.
    CommitAgain,
    /// The next handler reads and judges, and is slow to commit.
    HandlerIsSlow,
    /// A handler that judged this job earlier commits only now.
    CommitLate {
        job: usize,
    },
}

/// An act out of three numbers: cheap to make by the hundred thousand, and they shrink well.
fn act((kind, job, n): (u8, usize, u32)) -> Act {
    let pick = |choices: &[u64]| choices[n as usize % choices.len()];
    // Mostly the current attempt and run; sometimes older ones, or one that is yet to come.
    let ago = [0, 0, 0, 0, 0, 1, 2, -1][(n >> 8) as usize % 8];
    let runs_ago = u32::from(n >> 8 & 7 == 7);
    let amount = || pick(&[0, 1, 750, 2250, 10_000, u64::MAX]);
    let reasons = FailureReason::ALL;
    match kind {
        0..3 => {
            Act::Grant { client: job % CLIENTS, grant: n.to_le_bytes()[1] % 40, amount: pick(&[0, 1, 900, 20_000]) }
        }
        3..7 => Act::Create { job },
        7..18 => Act::Start { job, cost: amount().min(50_000) },
        18..36 => Act::Claim { job, runs_ago },
        36..45 => Act::Heartbeat { job, ago, progress: n.to_le_bytes()[0] },
        45..52 => Act::Adjust { job, ago, cost: amount() },
        52..57 => Act::Complete { job, ago, charge: amount() },
        57..64 => Act::Fail { job, ago, reason: reasons[n as usize % reasons.len()] },
        64..68 => Act::Abandon { job, ago },
        68..70 => Act::Cancel { job },
        70..71 => Act::Expire { job },
        71..79 => Act::Lapse { job },
        79..81 => Act::Adopt { job, runs_ago, charge: amount() },
        81..88 => Act::TimePasses { seconds: i64::from(n % 150) },
        88..92 => Act::CommitAgain,
        92..96 => Act::HandlerIsSlow,
        96.. => Act::CommitLate { job },
    }
}

fn acts() -> impl Strategy<Value = Act> {
    (0..100_u8, 0..JOBS, any::<u32>()).prop_map(act)
}

struct World {
    store: Store,
    now: Timestamp,
    last: Option<Judged>,
    late: BTreeMap<usize, Judged>,
    slow: bool,
    grants: [u128; CLIENTS],
}

/// Whose call the command is.
fn attempt_of(command: Command) -> Option<Attempt> {
    match command {
        Command::Heartbeat { attempt, .. }
        | Command::Adjust { attempt, .. }
        | Command::Complete { attempt, .. }
        | Command::Fail { attempt, .. }
        | Command::Abandon { attempt } => Some(attempt),
        Command::Start { .. }
        | Command::Claim { .. }
        | Command::Cancel
        | Command::Lapse { .. }
        | Command::Adopt { .. }
        | Command::Expire => None,
    }
}

fn live_lease(state: &JobState, now: Timestamp) -> Option<Attempt> {
    match state.phase {
        Phase::Processing { attempt, lease_until } if lease_until > now => Some(attempt),
        Phase::Draft | Phase::Pending | Phase::Processing { .. } | Phase::Completed | Phase::Failed { .. } => None,
    }
}

fn cause(job: &Job, next: &JobState, movement: Movement) -> Cause {
    let run = next.run.unwrap_or(Run::FIRST);
    match movement {
        Movement::Hold(_) => Cause::Hold(job.id.clone(), run),
        Movement::Adjust { .. } => {
            Cause::Adjust(job.id.clone(), run, Attempt::new(next.attempts).unwrap_or(Attempt::FIRST))
        }
        Movement::Capture { .. } | Movement::Release(_) => Cause::Settle(job.id.clone(), run),
        Movement::Grant(_) => Cause::Grant { grant_id: "a job never grants".to_owned() },
    }
}

impl World {
    fn new() -> Self {
        let now = Timestamp::UNIX_EPOCH;
        Self { store: Store::default(), now, last: None, late: BTreeMap::new(), slow: false, grants: [0; CLIENTS] }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Grant { client, grant, amount } => {
                let cause = Cause::Grant { grant_id: grant.to_string() };
                if self.store.pay(client, &cause, Movement::Grant(MilliCredits(amount))).is_ok() {
                    self.grants[client] += u128::from(amount);
                }
            }
            Act::Create { job } => {
                let known = self.store.jobs.len();
                if job == known.min(JOBS) && known < JOBS {
                    let id = JobId::from_random([u8::try_from(known).unwrap(); 16]);
                    let (client, state) = (known % CLIENTS, JobState::draft());
                    self.store.jobs.push(Job { id, client, version: 1, state });
                }
            }
            Act::TimePasses { seconds } => self.now += SignedDuration::from_secs(seconds),
            Act::CommitAgain => {
                if let Some(judged) = self.last.clone() {
                    assert_eq!(self.store.commit(&judged), Err(Unapplied::Stale), "a commit was applied twice");
                }
            }
            Act::HandlerIsSlow => self.slow = true,
            Act::CommitLate { job } => {
                if let Some(judged) = self.late.remove(&job) {
                    self.commit(judged);
                }
            }
            Act::Start { job, .. }
            | Act::Claim { job, .. }
            | Act::Heartbeat { job, .. }
            | Act::Adjust { job, .. }
            | Act::Complete { job, .. }
            | Act::Fail { job, .. }
            | Act::Abandon { job, .. }
            | Act::Cancel { job }
            | Act::Expire { job }
            | Act::Lapse { job }
            | Act::Adopt { job, .. } => self.judge(job, act),
        }
    }

    fn judge(&mut self, index: usize, act: Act) {
        let Some(job) = self.store.jobs.get(index) else { return };
        let Some(command) = self.command(job, act) else { return };
        match apply(&job.state, command) {
            Ok(transition) => {
                assert!(attempt_of(command).is_none_or(|attempt| attempt.get() == job.state.attempts), "{command:?}");
                let holder = live_lease(&job.state, self.now);
                let next_holder = live_lease(&transition.next, self.now);
                assert!(holder.is_none() || next_holder.is_none() || holder == next_holder, "two live leases");
                let cause = transition.money.map(|movement| cause(job, &transition.next, movement));
                let judged = Judged { job: index, expected: job.version, cause, transition };
                if std::mem::take(&mut self.slow) {
                    self.late.insert(index, judged);
                } else {
                    self.commit(judged);
                }
            }
            Err(Refused::Terminal) => {
                let ended = matches!(job.state.phase, Phase::Completed | Phase::Failed { .. });
                assert!(ended, "refused as ended, but it is {:?}", job.state.phase);
            }
            Err(
                Refused::Superseded
                | Refused::Leased { .. }
                | Refused::Exhausted
                | Refused::StaleAttempt
                | Refused::AlreadyStarted
                | Refused::NothingToDo,
            ) => {}
        }
    }

    fn command(&self, job: &Job, act: Act) -> Option<Command> {
        let now = self.now;
        let attempt = |ago: i64| Attempt::new(u32::try_from(i64::from(job.state.attempts) - ago).ok()?);
        let run = |ago: u32| Run::new(job.state.run?.get().checked_sub(ago)?);
        Some(match act {
            Act::Start { cost, .. } => Command::Start { cost: MilliCredits(cost) },
            Act::Claim { runs_ago, .. } => Command::Claim { run: run(runs_ago)?, now, lease: LEASE },
            Act::Heartbeat { ago, progress, .. } => {
                Command::Heartbeat { attempt: attempt(ago)?, progress, now, lease: LEASE }
            }
            Act::Adjust { ago, cost, .. } => Command::Adjust { attempt: attempt(ago)?, cost: MilliCredits(cost) },
            Act::Complete { ago, charge, .. } => {
                Command::Complete { attempt: attempt(ago)?, charge: MilliCredits(charge) }
            }
            Act::Fail { ago, reason, .. } => Command::Fail { attempt: attempt(ago)?, reason },
            Act::Abandon { ago, .. } => Command::Abandon { attempt: attempt(ago)? },
            Act::Cancel { .. } => Command::Cancel,
            Act::Expire { .. } => Command::Expire,
            Act::Lapse { .. } => Command::Lapse { now },
            Act::Adopt { runs_ago, charge, .. } => {
                Command::Adopt { run: run(runs_ago)?, charge: MilliCredits(charge), now }
            }
            Act::Grant { .. }
            | Act::Create { .. }
            | Act::TimePasses { .. }
            | Act::CommitAgain
            | Act::HandlerIsSlow
            | Act::CommitLate { .. } => return None,
        })
    }

    fn commit(&mut self, judged: Judged) {
        let before = self.store.jobs[judged.job].state.clone();
        let balances = self.store.balances;
        match self.store.commit(&judged) {
            Ok(()) => {
                follows(&before, &self.store.jobs[judged.job].state);
                self.last = Some(judged);
            }
            Err(Unapplied::Stale | Unapplied::InsufficientCredits) => {
                assert_eq!(self.store.balances, balances, "a refused change moved credits");
            }
            // One attempt measures once. Everything else is refused before the ledger must refuse it.
            Err(Unapplied::AlreadyInLedger) => {
                assert!(matches!(judged.cause, Some(Cause::Adjust(..))), "the ledger alone refused {judged:?}");
            }
        }
    }
}

/// I-6 and G-16: what may never go back.
fn follows(before: &JobState, after: &JobState) {
    assert!(after.attempts >= before.attempts && after.attempts <= before.attempts + 1);
    assert!(after.attempts_in_run <= MAX_ATTEMPTS);
    assert!(after.events >= before.events && after.run >= before.run);
    if after.run == before.run {
        assert!(after.progress >= before.progress, "progress fell within a run");
        assert!(!matches!(before.phase, Phase::Completed | Phase::Failed { .. }), "an ended run changed");
        assert!(after.announced >= before.announced);
    } else {
        assert!(!matches!(before.phase, Phase::Pending | Phase::Processing { .. } | Phase::Completed));
        assert_eq!((after.progress, after.attempts_in_run, after.announced), (0, 0, false));
    }
}

/// I-1..I-3.
fn invariants(world: &World) {
    for client in 0..CLIENTS {
        let balance = world.store.balances[client];
        let rows = &world.store.rows[client];
        let sum = rows
            .values()
            .map(|row| row.delta())
            .fold((0, 0, 0), |sum, delta| (sum.0 + delta.available, sum.1 + delta.held, sum.2 + delta.used));
        let parts = (i128::from(balance.available.0), i128::from(balance.held.0), i128::from(balance.used.0));
        assert_eq!(sum, parts, "the ledger and the balance disagree");
        let granted = i128::try_from(world.grants[client]).unwrap();
        assert_eq!(parts.0 + parts.1 + parts.2, granted, "credits were created or lost");
        let own = || world.store.jobs.iter().filter(|job| job.client == client);
        let held: i128 = own().map(|job| i128::from(job.state.hold.held().0)).sum();
        assert_eq!(held, parts.1, "the open holds and the balance disagree");
        let charged: i128 = own().map(|job| i128::from(job.state.hold.charged().0)).sum();
        assert_eq!(charged, parts.2, "the charges and the balance disagree");
    }
    for job in &world.store.jobs {
        let state = &job.state;
        let settled = |run: Run| world.store.rows[job.client].get(&Cause::Settle(job.id.clone(), run).row_id());
        let captures = (1..=state.run.map_or(0, Run::get))
            .filter_map(Run::new)
            .filter(|run| matches!(settled(*run), Some(Movement::Capture { .. })))
            .count();
        let open = state.run.is_some_and(|run| settled(run).is_none());
        match state.phase {
            Phase::Draft => assert_eq!((state.hold, captures), (Hold::None, 0)),
            Phase::Pending | Phase::Processing { .. } => {
                assert!(matches!(state.hold, Hold::Held(_)) && open && captures == 0, "{state:?}");
            }
            Phase::Completed => {
                assert!(matches!(state.hold, Hold::Captured(_)) && !open && captures == 1, "{state:?}");
            }
            Phase::Failed { .. } => {
                let released = matches!(state.hold, Hold::Released(_)) && !open;
                let never_started = state.hold == Hold::None && state.run.is_none();
                assert!((released || never_started) && captures == 0, "{state:?}");
            }
        }
    }
}

/// How often each phase was seen: a run that reaches nothing proves nothing.
fn reached(world: &World, seen: &mut BTreeMap<&'static str, u64>) {
    for job in &world.store.jobs {
        *seen.entry(job.state.status().as_str()).or_default() += 1;
        let reruns = u64::from(job.state.run.map_or(0, Run::get) > 1);
        *seen.entry("rerun").or_default() += reruns;
    }
}

/// TS-9. G-01, G-02, G-03, G-05, G-10, G-16
#[test]
fn no_interleaving_creates_loses_or_takes_credits_twice() {
    let config = Config { cases: 300, max_shrink_iters: 2000, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let seen = std::cell::RefCell::new(BTreeMap::new());
    let steps = std::cell::Cell::new(0_u64);
    runner
        .run(&prop::collection::vec(acts(), 0..=800), |sequence| {
            let mut world = World::new();
            for act in sequence {
                world.act(act);
                invariants(&world);
                steps.set(steps.get() + 1);
                reached(&world, &mut seen.borrow_mut());
            }
            Ok(())
        })
        .unwrap();
    let seen = seen.into_inner();
    eprintln!("{} steps, {seen:?}", steps.get());
    assert!(steps.get() >= 100_000, "{} steps", steps.get());
    for state in ["created", "pending", "processing", "completed", "failed", "rerun"] {
        assert!(seen.get(state).is_some_and(|times| *times > 1000), "{state} was hardly reached: {seen:?}");
    }
}

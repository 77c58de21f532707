//! Days on which everything goes wrong, by seed: hundreds of them on the virtual clock.
//!
//! Owns: what goes wrong when, and what must have become of it. A seed that fails is in the failure's text; `SEED` runs
//! it alone, `SEEDS` as many as one likes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rotoless_core::wake::WakePolicy;

use super::platform::{HOUR, MINUTE, Millis, Route, SECOND, Scaler, Settings, Trouble, WakeFate};
use super::virtual_time::{Pace, Site};

/// In the suite.
const SEEDS: u64 = 250;
/// For so long things go wrong.
const UPSET: Millis = HOUR;

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        // Small seeds differ in few bits.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % limit
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// An endpoint, its workers and its jobs, all of them possible.
fn surroundings(dice: &mut Dice) -> (Settings, Pace, WakePolicy) {
    let workers_max = u32::try_from(dice.between(1, 6)).unwrap();
    let settings = Settings {
        workers_max,
        scaler: if dice.coin() { Scaler::QueueDelay(dice.between(1, 8) * SECOND) } else { Scaler::RequestCount(1) },
        idle_timeout: dice.between(5, 15) * SECOND,
        flashboot: dice.coin(),
        pull: dice.between(0, 60) * SECOND,
        // Nobody asks, and every second looks at all of them.
        kept: SECOND,
        ..Settings::default()
    };
    let pace = Pace {
        boot: dice.between(2, 30) * SECOND,
        work: dice.between(5, 90) * SECOND,
        lag: if dice.coin() { 0 } else { dice.between(1, 60) * SECOND },
    };
    (settings, pace, WakePolicy { workers_max, ..WakePolicy::default() })
}

/// One thing that happens.
fn upset(site: &Site, dice: &mut Dice, settings: &Settings) {
    // Where requests in progress keep workers running, those of the dead would do so for a day.
    let may_haunt = matches!(settings.scaler, Scaler::QueueDelay(_));
    let which = usize::try_from(dice.below(8)).unwrap();
    match dice.below(16) {
        0..=2 => {
            (0..dice.between(1, 8)).for_each(|_| {
                site.submit();
            });
        }
        3 => {
            site.submit_without_wake();
        }
        4 => {
            site.submit_without_message();
        }
        5 | 6 => {
            let lasts = dice.between(1, 600) * SECOND;
            let fate = dice.one_of(&[
                WakeFate::Lost,
                WakeFate::Doubled,
                WakeFate::Held { lasts, counted: dice.0.is_multiple_of(2) },
            ]);
            let times = usize::try_from(dice.between(1, 5)).unwrap();
            site.platform(|platform, _| platform.faults.wakes.extend(std::iter::repeat_n(fate, times)));
        }
        7 | 8 => {
            let route = dice.one_of(&[Route::Run, Route::Health, Route::Purge, Route::Take, Route::Done]);
            let trouble = dice.one_of(&[
                Trouble::Refuse(429),
                Trouble::Refuse(500),
                Trouble::Deny(500),
                Trouble::Deny(502),
                Trouble::Hang,
            ]);
            let times = u32::try_from(dice.between(1, 12)).unwrap();
            site.platform(|platform, _| platform.faults.trouble(route, trouble, times));
        }
        9 => site.platform(|platform, _| platform.faults.phantoms = may_haunt && !platform.faults.phantoms),
        10 => site.kill_worker(which),
        11 => site.hang_worker(which, Some(2 * MINUTE)),
        12 => site.platform(|platform, _| platform.faults.throttled = !platform.faults.throttled),
        13 => site.platform(|platform, now| {
            let allowed = if platform.workers_max() == 0 { settings.workers_max } else { 0 };
            platform.set_workers_max(now, allowed);
        }),
        14 => drop(site.platform(|platform, now| platform.purge(now))),
        _ => site.turn_sweep(dice.coin()),
    }
}

/// What a day came to: for the account of all of them.
#[derive(Debug, Default)]
struct Day {
    jobs: usize,
    worked: Millis,
    billed: u64,
    empty: usize,
}

async fn day(seed: u64) -> Day {
    let mut dice = Dice::new(seed);
    let (settings, pace, policy) = surroundings(&mut dice);
    let site = Site::new(settings.clone(), pace, policy, false);
    while site.now() < UPSET {
        site.pass(dice.between(1, 90) * SECOND).await;
        upset(&site, &mut dice, &settings);
    }
    // Everything is well again.
    site.turn_sweep(false);
    site.platform(|platform, now| {
        platform.faults.repair();
        platform.set_workers_max(now, settings.workers_max);
    });
    let last = site.submit();
    let jobs = site.jobs();
    let open = jobs.iter().filter(|job| job.done.is_none()).count() as u64;
    // A message of the dead comes back after 2 minutes, a held wake is counted for 10 at most, a hung worker is ended
    // after 2; the next look is a minute away, and a worker may have to come; then all work is done in turns.
    let begins = 10 * MINUTE + 2 * MINUTE + MINUTE + settings.pull + pace.boot + MINUTE + pace.lag;
    let turns = (open / u64::from(settings.workers_max) + 1) * (pace.work + 30 * SECOND + settings.idle_timeout);
    let limit = begins + turns + MINUTE * open / u64::from(settings.workers_max);
    let what = format!("all jobs of SEED={seed} ({settings:?}, {pace:?})");
    site.until(&what, limit, |site| site.jobs().iter().all(|job| job.done.is_some())).await;
    assert!(site.job(last).done.is_some());
    let rest = format!("the rest of SEED={seed}");
    // Wakes that the lagging counts asked for too many: a poll each, in turns.
    site.until(&rest, 30 * MINUTE, Site::is_at_rest).await;
    judge(&site, seed, &settings, pace)
}

fn judge(site: &Site, seed: u64, settings: &Settings, pace: Pace) -> Day {
    let jobs = site.jobs();
    let attempts: u64 = jobs.iter().map(|job| u64::from(job.attempts)).sum();
    site.platform(|platform, now| {
        assert_eq!(platform.verdict(), Vec::<String>::new(), "SEED={seed}");
        let witness = &platform.witness;
        let billed = witness.seconds_billed(now);
        let spans = witness.bill.len() as u64;
        let sessions = witness.time_in_sessions() / SECOND;
        // Beside its sessions a worker boots once a span, and rests after each of them for at most the idle timeout.
        let rests = (witness.sessions.len() as u64 + spans) * (settings.idle_timeout / SECOND + 2);
        let (parted, boots) = (witness.parted / SECOND, spans * (pace.boot / SECOND + 1));
        let most = sessions + parted + boots + rests;
        assert!(billed <= most, "SEED={seed}: {billed} s; {sessions} s in sessions, {parted} s parted, {spans} spans");
        let (_, empty) = witness.handled();
        Day { jobs: jobs.len(), worked: attempts * pace.work, billed, empty }
    })
}

/// TW-14, TW-15, TW-16, G-17: every job is done soon after the end of the troubles, nobody runs afterwards, and what is
/// billed is what was worked and what it takes to come and to go.
#[tokio::test]
async fn after_an_hour_of_everything_every_job_is_done_and_nobody_is_paid_for_nothing() {
    let number = |name: &str| variable(name).and_then(|value| value.parse::<u64>().ok());
    let seeds = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, seeds) => 1..=seeds.unwrap_or(SEEDS),
    };
    let mut all = Day::default();
    let mut worst = (0.0, 0);
    for seed in seeds {
        let day = day(seed).await;
        let price = day.billed as f64 * SECOND as f64 / day.worked.max(1) as f64;
        if price > worst.0 {
            worst = (price, seed);
        }
        all.jobs += day.jobs;
        all.worked += day.worked;
        all.billed += day.billed;
        all.empty += day.empty;
    }
    let worked = all.worked / SECOND;
    eprintln!(
        "{} jobs: {} s billed for {worked} s of work, {} empty polls; the dearest by SEED={} ({:.1})",
        all.jobs, all.billed, all.empty, worst.1, worst.0
    );
    // Of many days together, troubles and all, less than half is spent beside the work.
    assert!(all.jobs < 1000 || all.billed < 2 * worked, "{} s for {worked} s", all.billed);
}

#[expect(clippy::disallowed_methods, reason = "whoever looks for a seed says which")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

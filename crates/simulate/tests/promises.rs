//! What the simulator promises, and what it shows of the service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rotoless_simulate::{
    Arrivals, Control, Faults, Fleet, InvalidScenario, JobLines, Keeping, Lengths, Micros, Report, Scaler, Scenario,
    Session, Starts, Throttle, TraceRow, Work, plot, run,
};

/// Dollars for a second.
const PRICE: f64 = 0.000_19;

/// A day of a small service on RunPod.
fn day(shape: &str, jobs_per_day: f64) -> Scenario {
    Scenario {
        seed: 7,
        horizon: Micros::DAY,
        tail: Micros::DAY + Micros::HOUR,
        arrivals: Arrivals::Drawn { shape: shape.parse().unwrap(), jobs_per_day },
        lengths: "lognormal:20:1".parse().unwrap(),
        work: Work { startup: 2., ratio: 0.5 },
        faults: Faults::default(),
        control: Control::default(),
        fleet: Fleet::runpod(),
        per_second: PRICE,
    }
}

fn with_workers(mut scenario: Scenario, max: u32) -> Scenario {
    scenario.fleet.max = max;
    scenario.control.wakes.workers_max = max;
    scenario
}

fn simulated(scenario: &Scenario) -> Report {
    run(scenario, &mut ()).unwrap()
}

/// Runs it, and looks at what holds of every run.
fn checked(scenario: &Scenario) -> Report {
    let report = simulated(scenario);
    assert_eq!(report.jobs, report.completed + report.failed + report.unserved, "{report:?}");
    let worked = report.gpu_hours * report.shares.working;
    // Each completed video was worked on once at least.
    let least = report.video_hours * scenario.work.ratio;
    assert!(worked >= least * 0.999_999, "{worked} h of work, {least} h of video: {report:?}");
    let used = report.shares.working + report.shares.starting + report.shares.polling;
    assert!(used <= 1.000_001, "more was done than is paid for: {report:?}");
    if scenario.fleet.session == Session::One {
        assert!(report.sessions >= report.attempts + report.empty_polls, "{report:?}");
    }
    assert!((report.cost - report.gpu_hours * 3600. * scenario.per_second).abs() < 1e-9);
    report
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let bytes = |seed| {
        let mut scenario = day("consumer", 2000.);
        scenario.seed = seed;
        scenario.faults = Faults { wake_lost: 0.1, worker_dies: 0.05, message_lost: 0.05, ..Faults::default() };
        let mut jobs = Vec::new();
        let mut lines = JobLines::new(&mut jobs).unwrap();
        let report = run(&scenario, &mut lines).unwrap();
        lines.finish().unwrap();
        let mut rows = Vec::new();
        report.write_rows(&mut rows).unwrap();
        (format!("{report:?}"), rows, jobs)
    };
    assert!(bytes(1) == bytes(1));
    let (one, other) = (bytes(1), bytes(2));
    assert_ne!(one.1, other.1);
    assert_ne!(one.2, other.2);
}

/// Arrivals, lengths and fates do not move when a policy does: what differs between two runs is the policy's doing.
#[test]
fn another_policy_meets_the_same_jobs() {
    let jobs = |max, idle| {
        let mut scenario = with_workers(day("office", 1000.), max);
        scenario.fleet.idle = Micros::seconds(idle);
        let mut seen = Seen::default();
        run(&scenario, &mut seen).unwrap();
        seen.0.sort_by_key(|(job, ..)| *job);
        seen.0
    };
    let (one, other) = (jobs(2, 5), jobs(9, 60));
    assert!(one.len() > 900, "{}", one.len());
    assert_eq!(one, other);
}

#[derive(Default)]
struct Seen(Vec<(u64, f64, f64)>);

impl rotoless_simulate::Observe for Seen {
    fn ended(&mut self, job: &rotoless_simulate::Ended) {
        self.0.push((job.job, job.created, job.video));
    }
}

/// `c` servers, arrivals and work without memory, nothing else: what queueing theory gives a formula for (Erlang C).
#[test]
fn waits_without_memory_are_those_of_erlangs_formula() {
    for (servers, load, days) in [(1u32, 0.7, 400), (3, 0.8, 100), (8, 0.85, 40)] {
        let mean_work = 30.;
        let per_second = load * f64::from(servers) / mean_work;
        let mut scenario = with_workers(day("poisson", per_second * 86_400.), servers);
        scenario.horizon = Micros(Micros::DAY.0 * days);
        scenario.lengths = Lengths::Exponential { mean: mean_work };
        scenario.work = Work { startup: 0., ratio: 1. };
        scenario.control.policy.limits.max_duration_ms = 86_400_000;
        scenario.control = Control { send: Micros::ZERO, post: Micros::ZERO, reconciles: false, ..scenario.control };
        scenario.fleet =
            Fleet { min: servers, starts: "fixed:0".parse().unwrap(), pickup: Micros::ZERO, ..scenario.fleet.clone() };
        let report = checked(&scenario);
        let expected = erlang_c(servers, load * f64::from(servers)) * mean_work / (f64::from(servers) * (1. - load));
        let found = report.wait.mean;
        assert!((found / expected - 1.).abs() < 0.05, "{servers} servers: {found} s, by the formula {expected} s");
        let busy = report.shares.working;
        assert!((busy / load - 1.).abs() < 0.02, "{servers} servers: {busy} of {load}");
    }
}

/// The share of arrivals that wait, of so many servers offered so much work.
fn erlang_c(servers: u32, offered: f64) -> f64 {
    // Erlang B by its recursion, which does not overflow.
    let blocked = (1..=servers).fold(1., |blocked, server| offered * blocked / (f64::from(server) + offered * blocked));
    let servers = f64::from(servers);
    servers * blocked / (servers - offered * (1. - blocked))
}

/// A wake that never was costs two ticks and a start, and no more.
#[test]
fn with_no_wake_from_any_submit_each_job_starts_within_two_ticks_and_a_start() {
    let mut scenario = with_workers(day("poisson", 400.), 50);
    scenario.fleet.starts = "fixed:10".parse().unwrap();
    let woken = checked(&scenario);
    // The scaler's patience, the start, the way to the poll, the first frame.
    let start = 4. + 10. + 1. + 2.;
    assert!(woken.wait.max <= start, "{:?}", woken.wait);

    scenario.faults.wake_omitted = 1.;
    let found = checked(&scenario);
    assert!(found.wait.max <= 120. + start && found.wait.max > 60., "{:?}", found.wait);
    assert_eq!((found.completed, found.wakes, found.failed), (woken.completed, found.wakes_by_look, 0));
}

/// Half of all wakes lost, the looks' as well: it takes longer, and every job is served.
#[test]
fn with_half_of_all_wakes_lost_every_job_is_served() {
    let mut scenario = with_workers(day("poisson", 400.), 50);
    scenario.faults.wake_lost = 0.5;
    let report = checked(&scenario);
    assert_eq!((report.completed, report.unserved), (report.jobs, 0));
    assert!(report.wait.p99 < 600., "{:?}", report.wait);

    scenario.fleet.wakes_in_ten_seconds = 0;
    let deaf = checked(&scenario);
    assert_eq!((deaf.completed, deaf.expired), (0, deaf.jobs), "where no wake is heard the jobs expire");
}

/// The queue's counts are a while old: what was taken meanwhile is woken for once more. It costs polls, never a job.
#[test]
fn counts_that_lag_cost_empty_polls_and_nothing_else() {
    let behind = |lag| {
        let mut scenario = with_workers(day("poisson", 400.), 50);
        scenario.fleet.starts = "fixed:10".parse().unwrap();
        scenario.control.counts_lag = Micros::seconds(lag);
        checked(&scenario)
    };
    let (fresh, stale) = (behind(0), behind(30));
    assert!(fresh.empty_polls * 10 < stale.empty_polls, "{} and {}", fresh.empty_polls, stale.empty_polls);
    assert!(stale.gpu_hours > fresh.gpu_hours && stale.wait.mean <= fresh.wait.mean * 1.01);
    assert_eq!(fresh.completed, stale.completed);
}

#[test]
fn more_idle_time_is_never_cheaper_where_starts_cost_nothing_and_never_slower() {
    let at = |idle| {
        let mut scenario = with_workers(day("poisson", 300.), 50);
        scenario.fleet.starts = "fixed:0".parse().unwrap();
        scenario.fleet.idle = Micros::seconds(idle);
        checked(&scenario)
    };
    let reports: Vec<_> = [0, 5, 30, 120, 600].into_iter().map(at).collect();
    for pair in reports.windows(2) {
        assert!(pair[1].gpu_hours >= pair[0].gpu_hours, "{:?}", pair.iter().map(|r| r.gpu_hours).collect::<Vec<_>>());
        assert!(pair[1].starts <= pair[0].starts);
        assert!(pair[1].wait.mean <= pair[0].wait.mean * 1.001);
    }
    assert!(reports[4].gpu_hours > reports[0].gpu_hours * 2.);
}

#[test]
fn nothing_that_comes_costs_nothing() {
    let mut scenario = day("poisson", 0.);
    scenario.arrivals = Arrivals::Recorded([].into());
    let report = checked(&scenario);
    assert_eq!((report.jobs, report.wakes, report.cost), (0, 0, 0.));
}

/// A week of silence costs the wakes that keep the endpoint alive, and the next job is served.
#[test]
fn silence_costs_the_keep_alive_and_the_endpoint_is_there_afterwards() {
    let job = |days: u64| TraceRow { at: Micros(Micros::DAY.0 * days), video: Some(Micros::seconds(20)) };
    let mut scenario = day("nothing", 0.);
    scenario.arrivals = Arrivals::Recorded([job(0), job(9)].into());
    scenario.horizon = Micros(Micros::DAY.0 * 10);
    scenario.fleet.starts = "fixed:10".parse().unwrap();
    let report = checked(&scenario);
    assert_eq!((report.completed, report.workers_peak), (2, 1));
    // Ten seconds of start, a long poll, five of idle time each; in nine days at most four of them.
    let kept = report.gpu_hours * 3600. - 2. * (10. + 12. + 5. + 2.);
    assert!((0. ..=4. * 40.).contains(&kept), "{kept} s to keep it alive");

    scenario.control.reconciles = false;
    let forgotten = checked(&scenario);
    assert_eq!((forgotten.completed, forgotten.failed), (1, 1), "without it the endpoint allows nobody any more");
}

/// Workers are gone when their idle time is.
#[test]
fn after_a_burst_no_worker_is_left() {
    let mut scenario = with_workers(day("nothing", 0.), 10);
    scenario.arrivals =
        Arrivals::Recorded([TraceRow { at: Micros::seconds(60), video: Some(Micros::seconds(20)) }; 50].into());
    scenario.fleet.starts = "fixed:10".parse().unwrap();
    let report = checked(&scenario);
    assert_eq!((report.completed, report.workers_peak), (50, 10));
    let last_work = report.rows.iter().rfind(|row| row.working > 0).unwrap().seconds;
    let last_worker = report.rows.iter().rfind(|row| row.workers > 0).unwrap().seconds;
    assert!(last_worker <= last_work + 120., "work until {last_work}, workers until {last_worker}");
}

/// Every fault at once, and everything ends: completed, or failed after its attempts.
#[test]
fn whatever_goes_wrong_every_job_ends() {
    for (seed, keeping) in [(1, Keeping::Queued), (2, Keeping::Queued), (3, Keeping::Dropped)] {
        let mut scenario = with_workers(day("consumer", 1500.), 12);
        scenario.seed = seed;
        if keeping == Keeping::Dropped {
            scenario.fleet = Fleet { max: 12, execution_timeout: Micros::DAY, ..Fleet::ecs() };
        }
        scenario.faults = Faults {
            wake_lost: 0.3,
            wake_doubled: 0.2,
            wake_delayed: 0.2,
            delay: Micros::seconds(300),
            wake_refused: 0.2,
            message_lost: 0.1,
            worker_dies: 0.2,
            phantom: 0.5,
            wake_omitted: 0.1,
        };
        let hour = Micros::HOUR.0;
        scenario.fleet.throttles = vec![Throttle { from: Micros(9 * hour), until: Micros(10 * hour), hosts: 14 }];
        let report = checked(&scenario);
        assert_eq!(report.unserved, 0, "{report:?}");
        // Three deaths of one job are eight in a thousand.
        assert!(report.failed > 0 && report.failed < report.jobs / 50, "{report:?}");
        assert!(report.workers_died > report.jobs / 20);
        assert!(report.resent > 0 && report.wakes_by_look > 0);
    }
}

#[test]
fn without_the_tick_lost_wakes_are_lost_jobs() {
    let mut scenario = day("poisson", 20.);
    scenario.faults.wake_lost = 0.5;
    // A day later they have expired.
    let with = checked(&scenario);
    assert_eq!((with.failed, with.unserved), (0, 0));
    scenario.control.reconciles = false;
    let without = checked(&scenario);
    assert!(without.wait.max > with.wait.max * 5., "{} and {} s", without.wait.max, with.wait.max);
}

/// The tempting alternative to one message a wake: other workers poll for nothing while one eats the queue.
#[test]
fn a_session_that_drains_pays_for_empty_polls() {
    let of = |session| {
        let mut scenario = with_workers(day("bursts:20", 2000.), 10);
        scenario.fleet.session = session;
        scenario.fleet.execution_timeout = Micros::DAY;
        checked(&scenario)
    };
    let (one, drain) = (of(Session::One), of(Session::Drain));
    assert_eq!(one.completed, drain.completed);
    assert!(drain.empty_polls > one.empty_polls * 3, "{} and {}", drain.empty_polls, one.empty_polls);
    assert!(drain.gpu_hours > one.gpu_hours * 1.1, "{} and {} h", drain.gpu_hours, one.gpu_hours);
}

#[test]
fn hosts_that_others_use_are_no_room_for_workers() {
    let peak = |hosts| {
        let mut scenario = with_workers(day("nothing", 0.), 6);
        scenario.arrivals = Arrivals::Recorded(
            [TraceRow { at: Micros(Micros::HOUR.0 * 6), video: Some(Micros::seconds(20)) }; 30].into(),
        );
        let (from, until) = (Micros(Micros::HOUR.0 * 5), Micros(Micros::HOUR.0 * 9));
        scenario.fleet.throttles = vec![Throttle { from, until, hosts }];
        let report = checked(&scenario);
        assert_eq!(report.completed, 30);
        report.workers_peak
    };
    // Two more than the six are ready.
    assert_eq!([0, 2, 3, 7].map(peak), [6, 6, 5, 1]);
}

#[test]
fn wakes_beyond_the_services_limit_are_refused_and_found_by_the_tick() {
    let mut scenario = with_workers(day("nothing", 0.), 30);
    scenario.arrivals =
        Arrivals::Recorded([TraceRow { at: Micros::seconds(1), video: Some(Micros::seconds(5)) }; 3000].into());
    let report = checked(&scenario);
    assert_eq!(report.completed, 3000);
    assert_eq!(report.wakes_refused, 2000, "1000 in ten seconds");
    assert!(report.wakes_by_look >= 500, "{report:?}");
}

#[test]
fn a_worker_that_always_runs_is_billed_always() {
    let mut scenario = day("nothing", 0.);
    scenario.fleet.min = 1;
    scenario.fleet.starts = Starts::published();
    let report = checked(&scenario);
    assert!((23.8..=24.).contains(&report.gpu_hours), "{} h", report.gpu_hours);
}

/// By requests as by delay: as many workers as there are wakes, up to what is allowed.
#[test]
fn both_scalers_serve_a_burst_with_all_workers() {
    for scaler in ["delay:4", "count:1", "count:4"] {
        let mut scenario = with_workers(day("bursts:40", 400.), 8);
        scenario.fleet.scaler = scaler.parse().unwrap();
        let report = checked(&scenario);
        assert_eq!((report.completed, report.workers_peak), (report.jobs, 8), "{scaler}");
    }
    assert!("delay:x".parse::<Scaler>().is_err() && "count:0".parse::<Scaler>().is_err());
}

#[test]
fn the_picture_is_small_whatever_the_length_of_the_run_and_says_what_it_shows() {
    let directory = std::env::temp_dir().join(format!("rotoless-picture-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("run.svg");
    for days in [1, 30] {
        let mut scenario = day("consumer", 500.);
        scenario.horizon = Micros(Micros::DAY.0 * days);
        plot(&simulated(&scenario), "a day", &path).unwrap();
        let picture = std::fs::read_to_string(&path).unwrap();
        assert!(picture.len() < 100_000, "{} bytes", picture.len());
        for word in ["a day", "hours", "waiting", "at work", "longest"] {
            assert!(picture.contains(word), "{word}");
        }
    }
    // Of nothing as well, and not where nothing can be written.
    let empty = Report { rows: Vec::new(), ..simulated(&day("nothing", 0.)) };
    plot(&empty, "nothing", &path).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(plot(&empty, "nothing", &path).is_err());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |change: fn(&mut Scenario)| {
        let mut scenario = day("poisson", 10.);
        change(&mut scenario);
        run(&scenario, &mut ()).unwrap_err()
    };
    assert_eq!(refused(|scenario| scenario.horizon = Micros::ZERO), InvalidScenario::Length);
    assert_eq!(refused(|scenario| scenario.horizon = Micros(Micros::DAY.0 * 500)), InvalidScenario::Length);
    assert_eq!(refused(|scenario| scenario.fleet.max = 0), InvalidScenario::Workers);
    assert_eq!(refused(|scenario| scenario.fleet.min = 9), InvalidScenario::Workers);
    assert_eq!(refused(|scenario| scenario.faults.wake_lost = 1.5), InvalidScenario::Probability);
    assert_eq!(refused(|scenario| scenario.faults.phantom = f64::NAN), InvalidScenario::Probability);
    assert_eq!(refused(|scenario| scenario.work.ratio = f64::INFINITY), InvalidScenario::Work);
    assert_eq!(refused(|scenario| scenario.work = Work { startup: 0., ratio: 0. }), InvalidScenario::Work);
    assert_eq!(refused(|scenario| scenario.control.counts_lag = Micros::HOUR), InvalidScenario::Tick);
    assert_eq!(refused(|scenario| scenario.lengths = Lengths::Recorded([].into())), InvalidScenario::NoLengths);
    assert_eq!(
        refused(|scenario| {
            scenario.arrivals = Arrivals::Drawn { shape: "poisson".parse().unwrap(), jobs_per_day: 1e12 };
        }),
        InvalidScenario::Jobs
    );
    for text in ["", "mondays", "bursts:0", "curve:1,2,3", "curve:x"] {
        assert!(text.parse::<rotoless_simulate::Shape>().is_err(), "{text}");
    }
    for text in ["", "fixed", "fixed:-1", "fixed:1:2", "lognormal:20", "lognormal:20:NaN"] {
        assert!(text.parse::<Lengths>().is_err(), "{text}");
    }
    for text in ["", "1:2:3", "0:1:1:1", "1:2:3:4,", "fixed:x"] {
        assert!(text.parse::<Starts>().is_err(), "{text}");
    }
    for text in ["", "2-1:3", "1-2", "1-2:x", "-1-2:3"] {
        assert!(text.parse::<Throttle>().is_err(), "{text}");
    }
}

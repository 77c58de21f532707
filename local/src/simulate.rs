//! `rotoless simulate`: what a load would wait and cost, before it comes.
//!
//! Owns: the combinations of its flags' values, how results are shown. Does not own: the model (`rotoless_simulate`).

pub(crate) mod arguments;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rotoless_core::wake::WakePolicy;
use rotoless_simulate::{
    Arrivals, Control, Faults, Fleet, JobLines, Lengths, Micros, PRICES_SOURCE, Report, Scaler, Scenario, Session,
    Work, plot, read_lengths, read_trace, run,
};
use serde_json::{Map, Value, json};

use self::arguments::{FaultArgs, FleetArgs, Home, OutputArgs, SimulateArgs, Switch};

/// More combinations than anybody reads.
const MAX_RUNS: usize = 200;

/// One run, and what tells it from the others.
struct Case {
    label: Vec<(&'static str, String)>,
    scenario: Scenario,
}

pub(crate) fn simulate(args: &SimulateArgs) -> Result<()> {
    let cases = cases(args)?;
    let OutputArgs { csv, jobs_csv, plot: picture, json } = &args.output;
    if cases.len() > 1 && (csv.is_some() || jobs_csv.is_some() || picture.is_some()) {
        bail!("--csv, --jobs-csv and --plot show one run: give one value of each flag");
    }
    if picture.as_ref().is_some_and(|path| path.extension().is_none_or(|extension| extension != "svg")) {
        bail!("--plot writes SVG: name a file that ends in .svg");
    }
    let mut results = Vec::new();
    for case in &cases {
        let report = one(&case.scenario, jobs_csv.as_deref())?;
        results.push((case, report));
    }
    if let [(case, report)] = &results[..] {
        if let Some(path) = csv {
            let mut out = BufWriter::new(create(path)?);
            report.write_rows(&mut out).and_then(|()| out.flush()).with_context(|| format!("{}", path.display()))?;
        }
        if let Some(path) = picture {
            plot(report, &title(&case.scenario), path).with_context(|| format!("{}", path.display()))?;
        }
    }
    let mut out = io::stdout().lock();
    let shown = if *json {
        show_json(&mut out, &results)
    } else if let [(case, report)] = &results[..] {
        show_one(&mut out, &case.scenario, report)
    } else {
        show_table(&mut out, &results)
    };
    match shown {
        // Whoever reads has seen enough.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => Ok(shown?),
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("{}", path.display()))
}

fn one(scenario: &Scenario, jobs_csv: Option<&Path>) -> Result<Report> {
    let Some(path) = jobs_csv else { return Ok(run(scenario, &mut ())?) };
    let named = || format!("{}", path.display());
    let mut lines = JobLines::new(BufWriter::new(create(path)?)).with_context(named)?;
    let report = run(scenario, &mut lines)?;
    lines.finish().with_context(named)?;
    Ok(report)
}

/// Every combination of the values that flags were given.
fn cases(args: &SimulateArgs) -> Result<Vec<Case>> {
    let base = base(args)?;
    let mut cases = vec![Case { label: Vec::new(), scenario: base }];
    let FleetArgs { idle_timeout, max_workers, min_workers, scaler, session, reconciler, .. } = &args.fleet;
    let FleetArgs { counts_lag, .. } = &args.fleet;
    let jobs_per_day = if args.trace.is_some() { &[][..] } else { &args.jobs_per_day };
    spread(&mut cases, "jobs/day", jobs_per_day, f64::to_string, |scenario, value| {
        if let Arrivals::Drawn { jobs_per_day, .. } = &mut scenario.arrivals {
            *jobs_per_day = *value;
        }
    });
    let video_fps = args.worker.video_fps;
    spread(&mut cases, "fps", &args.worker.worker_fps, f64::to_string, |scenario, fps| {
        scenario.work.ratio = video_fps / fps;
    });
    spread(&mut cases, "idle s", idle_timeout, f64::to_string, |scenario, seconds| {
        scenario.fleet.idle = Micros::from_seconds(*seconds);
    });
    spread(&mut cases, "max", max_workers, u32::to_string, |scenario, workers| {
        scenario.fleet.max = *workers;
        scenario.control.wakes.workers_max = *workers;
    });
    spread(&mut cases, "min", min_workers, u32::to_string, |scenario, workers| scenario.fleet.min = *workers);
    spread(&mut cases, "scaler", scaler, Scaler::to_string, |scenario, scaler| {
        scenario.fleet.scaler = *scaler;
    });
    spread(&mut cases, "session", session, Session::to_string, |scenario, session| {
        scenario.fleet.session = *session;
        if *session == Session::Drain {
            // One message's time would end a drain after the first one.
            scenario.fleet.execution_timeout = Micros::DAY;
        }
    });
    spread(
        &mut cases,
        "reconciler",
        reconciler,
        |switch| format!("{switch:?}"),
        |scenario, switch| {
            scenario.control.reconciles = *switch == Switch::On;
        },
    );
    spread(&mut cases, "lag s", counts_lag, f64::to_string, |scenario, seconds| {
        scenario.control.counts_lag = Micros::from_seconds(*seconds);
    });
    if cases.len() > MAX_RUNS {
        bail!("{} combinations: at most {MAX_RUNS}", cases.len());
    }
    for case in &cases {
        case.scenario.check()?;
    }
    Ok(cases)
}

/// Each case once with every value; without a value it stays as it is.
fn spread<T>(
    cases: &mut Vec<Case>,
    name: &'static str,
    values: &[T],
    text: impl Fn(&T) -> String,
    set: impl Fn(&mut Scenario, &T),
) {
    if values.is_empty() {
        return;
    }
    let mut spread = Vec::new();
    for case in &*cases {
        for value in values {
            let mut scenario = case.scenario.clone();
            set(&mut scenario, value);
            let mut label = case.label.clone();
            if values.len() > 1 {
                label.push((name, text(value).to_lowercase()));
            }
            spread.push(Case { label, scenario });
        }
    }
    *cases = spread;
}

fn base(args: &SimulateArgs) -> Result<Scenario> {
    let (mut arrivals, mut lengths) =
        (Arrivals::Drawn { shape: args.arrivals.clone(), jobs_per_day: 0.0 }, args.videos.clone());
    if let Some(path) = &args.trace {
        arrivals = Arrivals::Recorded(read_trace(path).with_context(|| format!("{}", path.display()))?);
    }
    if let Some(path) = &args.lengths {
        lengths = Lengths::Recorded(read_lengths(path).with_context(|| format!("{}", path.display()))?);
    }
    let FleetArgs { home, gpu, price, extra_workers, starts, throttle, .. } = &args.fleet;
    let (mut fleet, gpu_of_home) = match home {
        Home::Runpod => (Fleet::runpod(), "l4"),
        Home::Ecs => (Fleet::ecs(), "g5.xlarge"),
    };
    if *home == Home::Ecs {
        fleet.execution_timeout = Micros::DAY;
    }
    fleet.extra = extra_workers.unwrap_or(fleet.extra);
    fleet.starts = starts.clone().unwrap_or(fleet.starts);
    fleet.throttles.clone_from(throttle);
    let gpu = match gpu {
        Some(gpu) => *gpu,
        None => gpu_of_home.parse()?,
    };
    let FaultArgs { wake_lost, wake_doubled, wake_delayed, wake_delay, .. } = args.faults;
    let FaultArgs { wake_refused, wake_omitted, message_lost, worker_dies, phantom, .. } = args.faults;
    let delay = Micros::from_seconds(wake_delay);
    let horizon = match &arrivals {
        // A trace has its own length.
        Arrivals::Recorded(rows) => Micros(rows.last().map_or(0, |row| row.at.0 + 1)).max(Micros::MINUTE),
        Arrivals::Drawn { .. } => Micros::from_seconds(args.days * 86_400.0),
    };
    Ok(Scenario {
        seed: args.seed,
        horizon,
        tail: Micros::DAY + Micros::HOUR,
        arrivals,
        lengths,
        work: Work { startup: args.worker.startup, ratio: 0.0 },
        faults: Faults {
            wake_lost,
            wake_doubled,
            wake_delayed,
            delay,
            wake_refused,
            message_lost,
            wake_omitted,
            worker_dies,
            phantom,
        },
        control: Control { wakes: WakePolicy::default(), ..Control::default() },
        fleet,
        per_second: price.unwrap_or(gpu.per_second),
    })
}

fn title(scenario: &Scenario) -> String {
    let Fleet { min, max, idle, .. } = &scenario.fleet;
    format!("{}; {min} to {max} workers, idle time-out {} s", scenario.arrivals, idle.as_seconds())
}

fn show_one(out: &mut dyn Write, scenario: &Scenario, report: &Report) -> io::Result<()> {
    let Report { jobs, completed, failed, expired, unserved, wait, turnaround, shares, .. } = report;
    let per = |dollars: Option<f64>| dollars.map_or_else(|| "-".to_owned(), |dollars| format!("{dollars:.4}"));
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    writeln!(out, "{}; a simulation, seed {}, {} events", title(scenario), report.seed, report.events)?;
    writeln!(
        out,
        "jobs            {jobs}: {completed} completed, {failed} failed ({expired} expired), {unserved} unserved"
    )?;
    for (name, times) in [("wait, s", wait), ("turnaround, s", turnaround)] {
        writeln!(
            out,
            "{name:15} mean {:.1}, p50 {:.1}, p90 {:.1}, p99 {:.1}, longest {:.1}",
            times.mean, times.p50, times.p90, times.p99, times.max
        )?;
    }
    writeln!(
        out,
        "GPU             {:.2} h for {:.2} h of video: work {}, starts {}, polls {}, idle {}",
        report.gpu_hours,
        report.video_hours,
        percent(shares.working),
        percent(shares.starting),
        percent(shares.polling),
        percent(shares.idle)
    )?;
    writeln!(
        out,
        "cost            {:.2} $: {} a job, {} an hour of video ({PRICES_SOURCE})",
        report.cost,
        per(report.cost_per_job),
        per(report.cost_per_video_hour)
    )?;
    writeln!(
        out,
        "workers         {} started, {} died, {} at once at most ({:.2} $ an hour)",
        report.starts, report.workers_died, report.workers_peak, report.cost_per_hour_peak
    )?;
    writeln!(
        out,
        "wakes           {} posted ({} by the reconciler, {} refused), {} sessions, {} without a message",
        report.wakes, report.wakes_by_look, report.wakes_refused, report.sessions, report.empty_polls
    )?;
    writeln!(
        out,
        "messages        {} ({} sent again); {} attempts; a tick repaired {} jobs at most",
        report.messages, report.resent, report.attempts, report.most_repaired
    )
}

fn show_table(out: &mut dyn Write, results: &[(&Case, Report)]) -> io::Result<()> {
    let mut table = Vec::new();
    let names = ["jobs", "p50 s", "p90 s", "p99 s", "longest", "GPU h", "work", "$", "$/1000 jobs", "$/video h"];
    let more = ["peak", "wakes", "empty", "unserved"];
    let Some((first, _)) = results.first() else { return Ok(()) };
    let labels = first.label.iter().map(|(name, _)| (*name).to_owned());
    table.push(labels.chain(names.iter().chain(&more).map(|name| (*name).to_owned())).collect::<Vec<_>>());
    for (case, report) in results {
        let Report { wait, .. } = report;
        let per = |dollars: Option<f64>, times: f64| {
            dollars.map_or_else(|| "-".to_owned(), |dollars| format!("{:.2}", dollars * times))
        };
        let mut row: Vec<String> = case.label.iter().map(|(_, value)| value.clone()).collect();
        row.push(report.jobs.to_string());
        row.extend([wait.p50, wait.p90, wait.p99, wait.max].map(|seconds| format!("{seconds:.1}")));
        row.push(format!("{:.2}", report.gpu_hours));
        row.push(format!("{:.0} %", report.shares.working * 100.0));
        row.push(format!("{:.2}", report.cost));
        row.push(per(report.cost_per_job, 1000.0));
        row.push(per(report.cost_per_video_hour, 1.0));
        row.extend(
            [u64::from(report.workers_peak), report.wakes, report.empty_polls, report.unserved].map(|n| n.to_string()),
        );
        table.push(row);
    }
    let widths: Vec<usize> =
        (0..table[0].len()).map(|column| table.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    for row in table {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}", width = *width));
        writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "))?;
    }
    Ok(())
}

fn show_json(out: &mut dyn Write, results: &[(&Case, Report)]) -> io::Result<()> {
    let mut runs = Vec::new();
    for (case, report) in results {
        let label: Map<String, Value> =
            case.label.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        runs.push(json!({ "case": label, "report": report }));
    }
    serde_json::to_writer_pretty(&mut *out, &runs)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn told(arguments: &[&str]) -> SimulateArgs {
        let arguments = ["rotoless", "simulate"].iter().chain(arguments);
        let command = Cli::try_parse_from(arguments).unwrap().command;
        let Command::Simulate(args) = command else { panic!("{command:?}") };
        *args
    }

    #[test]
    fn values_of_several_flags_are_combined_and_one_of_each_is_one_run() {
        assert_eq!(cases(&told(&[])).unwrap().len(), 1);
        let cases = cases(&told(&["--idle-timeout", "1,5", "--max-workers", "3,8,20"])).unwrap();
        let label = |case: &Case| case.label.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>();
        assert_eq!(cases.len(), 6);
        assert_eq!(label(&cases[5]), ["idle s 5", "max 20"]);
        assert_eq!(cases[5].scenario.fleet.max, 20);
        // The reconciler knows how many workers there may be.
        assert_eq!(cases[5].scenario.control.wakes.workers_max, 20);
    }

    #[test]
    fn a_home_brings_its_own_defaults_and_flags_come_before_them() {
        let of = |arguments: &[&str]| cases(&told(arguments)).unwrap().remove(0).scenario;
        let ecs = of(&["--home", "ecs"]);
        assert_eq!((ecs.fleet.session, ecs.fleet.idle), (Session::Drain, Micros::seconds(900)));
        assert!((ecs.per_second - 1.006 / 3600.).abs() < 1e-12);
        let told = of(&["--home", "ecs", "--session", "one", "--idle-timeout", "7", "--price", "0.5"]);
        assert_eq!((told.fleet.session, told.fleet.idle, told.per_second), (Session::One, Micros::seconds(7), 0.5));
    }

    #[test]
    fn what_cannot_be_simulated_is_an_error_and_no_run() {
        for arguments in [
            &["--max-workers", "0"][..],
            &["--min-workers", "4"],
            &["--days", "0"],
            &["--wake-lost", "2"],
            &["--worker-fps", "0"],
            &["--jobs-per-day=-1"],
            &["--trace", "/nowhere/at/all"],
            &["--lengths", "/nowhere/at/all"],
            &["--max-workers", "3,4", "--plot", "x.svg"],
            &["--plot", "x.png"],
            &["--counts-lag", "60"],
        ] {
            assert!(simulate(&told(arguments)).is_err(), "{arguments:?}");
        }
        for arguments in [["--arrivals", "x"], ["--gpu", "abacus"], ["--starts", "1:2"], ["--throttle", "5"]] {
            let arguments = ["rotoless", "simulate"].iter().chain(&arguments);
            assert!(Cli::try_parse_from(arguments).is_err());
        }
    }
}

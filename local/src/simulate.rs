//! `rotoless simulate`: what a load would wait and cost, before it comes.
//!
//! Owns: its flags, the combinations of their values, how results are shown. Does not own: the model
//! (`rotoless_simulate`).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use rotoless_core::wake::WakePolicy;
use rotoless_simulate::{
    Arrivals, Control, Faults, Fleet, Gpu, JobLines, Lengths, Micros, PRICES_SOURCE, Report, Scaler, Scenario, Session,
    Shape, Starts, Throttle, Work, plot, read_lengths, read_trace, run,
};
use serde_json::{Map, Value, json};

/// More combinations than anybody reads.
const MAX_RUNS: usize = 200;

/// Where the workers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Home {
    /// RunPod's serverless GPUs
    Runpod,
    /// ECS on EC2 instances from zero: slow to start, slow to stop, a task drains the queue
    Ecs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Days in which jobs come
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    days: f64,
    /// Jobs a day in the mean; several values with commas are compared
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1000.0])]
    jobs_per_day: Vec<f64>,
    /// When they come: poisson, office, consumer, nothing, bursts:SIZE, or curve: and 24 hourly weights
    #[arg(long, value_name = "SHAPE", default_value = "consumer")]
    arrivals: Shape,
    /// Recorded arrivals instead: lines of `seconds` or `seconds,video_seconds`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jobs_per_day", "arrivals"])]
    trace: Option<PathBuf>,
    /// Lengths of videos: fixed:SECONDS, exponential:MEAN or lognormal:MEDIAN:SIGMA
    #[arg(long, value_name = "LENGTHS", default_value = "lognormal:20:1")]
    videos: Lengths,
    /// Recorded lengths instead, one a line, in seconds
    #[arg(long, value_name = "FILE", conflicts_with = "videos")]
    lengths: Option<PathBuf>,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    faults: FaultArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct WorkerArgs {
    /// Frames a second of one worker, the whole job. Measured on two processor cores: light 10, human 7 at 720p;
    /// nothing was measured on a GPU, and the default is a guess: put what `rotoless bench` says
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [60.0])]
    worker_fps: Vec<f64>,
    /// Frames a second of the videos
    #[arg(long, value_name = "N", default_value_t = 25.0)]
    video_fps: f64,
    /// Seconds from a claim to the first frame
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    startup: f64,
}

#[derive(Debug, Args)]
struct FleetArgs {
    /// Where the workers are; what follows has its defaults from here
    #[arg(long, value_name = "HOME", default_value = "runpod")]
    home: Home,
    /// Price of a second by GPU; see docs/SCALE.md [default: l4, at ecs g5.xlarge]
    #[arg(long, value_name = "NAME")]
    gpu: Option<Gpu>,
    /// Dollars for a second of a worker instead
    #[arg(long, value_name = "DOLLARS", conflicts_with = "gpu")]
    price: Option<f64>,
    /// Seconds without a session after which a worker stops [default: 5, at ecs 900]
    #[arg(long, value_name = "SECONDS", value_delimiter = ',')]
    idle_timeout: Vec<f64>,
    /// Workers at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [3])]
    max_workers: Vec<u32>,
    /// Workers that never stop
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [0])]
    min_workers: Vec<u32>,
    /// Hosts that RunPod keeps ready beyond the greatest number of workers [default: 2, at ecs 0]
    #[arg(long, value_name = "N")]
    extra_workers: Option<u32>,
    /// When another worker is started: delay:SECONDS or count:N [default: delay:4, at ecs delay:0]
    #[arg(long, value_name = "SCALER", value_delimiter = ',')]
    scaler: Vec<Scaler>,
    /// How long workers take to start: published, whisper, mineru, ecs, fixed:SECONDS, or a mixture of
    /// SHARE:FREE:BILLED:SIGMA with commas [default: published, at ecs ecs]
    #[arg(long, value_name = "STARTS")]
    starts: Option<Starts>,
    /// What a session serves: one message, or drain until a poll finds none [default: one, at ecs drain]
    #[arg(long, value_name = "SESSION", value_delimiter = ',')]
    session: Vec<Session>,
    /// Whether the sweep wakes for messages that no wake stands for
    #[arg(long, value_name = "SWITCH", value_delimiter = ',', default_values = ["on"])]
    reconciler: Vec<Switch>,
    /// Hosts that others use for a while: FROM-TO:HOSTS, in hours from the beginning; may be repeated
    #[arg(long, value_name = "WINDOW")]
    throttle: Vec<Throttle>,
}

/// Probabilities from 0 to 1.
#[derive(Debug, Args)]
struct FaultArgs {
    /// Share of wakes that vanish
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    wake_lost: f64,
    /// Share of wakes that count twice
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    wake_doubled: f64,
    /// Share of wakes that come late
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    wake_delayed: f64,
    /// How late they come
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    wake_delay: f64,
    /// Share of wakes that are refused
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    wake_refused: f64,
    /// Share of jobs whose producer dies before the message is sent
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    message_lost: f64,
    /// Share of jobs whose producer dies between message and wake
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    wake_omitted: f64,
    /// Share of attempts in which the worker dies
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    worker_dies: f64,
    /// Share of dead workers whose session goes on counting as in progress
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    phantom: f64,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// Write the course of the run there, a line a minute
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a line for each job that ended there
    #[arg(long, value_name = "FILE")]
    jobs_csv: Option<PathBuf>,
    /// Draw the course of the run there, as SVG
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

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
    spread(
        &mut cases,
        "scaler",
        scaler,
        |scaler| format!("{scaler:?}"),
        |scenario, scaler| {
            scenario.fleet.scaler = *scaler;
        },
    );
    spread(
        &mut cases,
        "session",
        session,
        |session| format!("{session:?}"),
        |scenario, session| {
            scenario.fleet.session = *session;
            if *session == Session::Drain {
                // One message's time would end a drain after the first one.
                scenario.fleet.execution_timeout = Micros::DAY;
            }
        },
    );
    spread(
        &mut cases,
        "reconciler",
        reconciler,
        |switch| format!("{switch:?}"),
        |scenario, switch| {
            scenario.control.reconciles = *switch == Switch::On;
        },
    );
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

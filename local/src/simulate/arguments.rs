//! What `rotoless simulate` is told. Names are fixed: other tools use them.

use std::path::PathBuf;

use clap::Args;
use rotoless_simulate::{Gpu, Lengths, Scaler, Session, Shape, Starts, Throttle};

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
    pub(super) seed: u64,
    /// Days in which jobs come
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub(super) days: f64,
    /// Jobs a day in the mean; several values with commas are compared
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1000.0])]
    pub(super) jobs_per_day: Vec<f64>,
    /// When they come: poisson, office, consumer, nothing, bursts:SIZE, or curve: and 24 hourly weights
    #[arg(long, value_name = "SHAPE", default_value = "consumer")]
    pub(super) arrivals: Shape,
    /// Recorded arrivals instead: lines of `seconds` or `seconds,video_seconds`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["jobs_per_day", "arrivals"])]
    pub(super) trace: Option<PathBuf>,
    /// Lengths of videos: fixed:SECONDS, exponential:MEAN or lognormal:MEDIAN:SIGMA
    #[arg(long, value_name = "LENGTHS", default_value = "lognormal:20:1")]
    pub(super) videos: Lengths,
    /// Recorded lengths instead, one a line, in seconds
    #[arg(long, value_name = "FILE", conflicts_with = "videos")]
    pub(super) lengths: Option<PathBuf>,
    #[command(flatten)]
    pub(super) worker: WorkerArgs,
    #[command(flatten)]
    pub(super) fleet: FleetArgs,
    #[command(flatten)]
    pub(super) faults: FaultArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Frames a second of one worker, the whole job. Measured on two processor cores: light 10, human 7 at 720p;
    /// nothing was measured on a GPU, and the default is a guess: put what `rotoless bench` says
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [60.0])]
    pub(super) worker_fps: Vec<f64>,
    /// Frames a second of the videos
    #[arg(long, value_name = "N", default_value_t = 25.0)]
    pub(super) video_fps: f64,
    /// Seconds from a claim to the first frame
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(super) startup: f64,
}

#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    /// Where the workers are; what follows has its defaults from here
    #[arg(long, value_name = "HOME", default_value = "runpod")]
    pub(super) home: Home,
    /// Price of a second by GPU; see docs/SCALE.md [default: l4, at ecs g5.xlarge]
    #[arg(long, value_name = "NAME")]
    pub(super) gpu: Option<Gpu>,
    /// Dollars for a second of a worker instead
    #[arg(long, value_name = "DOLLARS", conflicts_with = "gpu")]
    pub(super) price: Option<f64>,
    /// Seconds without a session after which a worker stops [default: 5, at ecs 900]
    #[arg(long, value_name = "SECONDS", value_delimiter = ',')]
    pub(super) idle_timeout: Vec<f64>,
    /// Workers at once
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [3])]
    pub(super) max_workers: Vec<u32>,
    /// Workers that never stop
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [0])]
    pub(super) min_workers: Vec<u32>,
    /// Hosts that RunPod keeps ready beyond the greatest number of workers [default: 2, at ecs 0]
    #[arg(long, value_name = "N")]
    pub(super) extra_workers: Option<u32>,
    /// When another worker is started: delay:SECONDS or count:N [default: delay:4, at ecs delay:0]
    #[arg(long, value_name = "SCALER", value_delimiter = ',')]
    pub(super) scaler: Vec<Scaler>,
    /// How long workers take to start: published, whisper, mineru, ecs, fixed:SECONDS, or a mixture of
    /// SHARE:FREE:BILLED:SIGMA with commas [default: published, at ecs ecs]
    #[arg(long, value_name = "STARTS")]
    pub(super) starts: Option<Starts>,
    /// What a session serves: one message, or drain until a poll finds none [default: one, at ecs drain]
    #[arg(long, value_name = "SESSION", value_delimiter = ',')]
    pub(super) session: Vec<Session>,
    /// Whether the sweep wakes for messages that no wake stands for
    #[arg(long, value_name = "SWITCH", value_delimiter = ',', default_values = ["on"])]
    pub(super) reconciler: Vec<Switch>,
    /// Age of the queue's counts when the reconciler reads them, in seconds below 60
    #[arg(long, value_name = "SECONDS", value_delimiter = ',', default_values_t = [15.0])]
    pub(super) counts_lag: Vec<f64>,
    /// Hosts that others use for a while: FROM-TO:HOSTS, in hours from the beginning; may be repeated
    #[arg(long, value_name = "WINDOW")]
    pub(super) throttle: Vec<Throttle>,
}

/// Probabilities from 0 to 1.
#[derive(Debug, Args)]
pub(super) struct FaultArgs {
    /// Share of wakes that vanish
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) wake_lost: f64,
    /// Share of wakes that count twice
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) wake_doubled: f64,
    /// Share of wakes that come late
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) wake_delayed: f64,
    /// How late they come
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0)]
    pub(super) wake_delay: f64,
    /// Share of wakes that are refused
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) wake_refused: f64,
    /// Share of jobs whose producer dies before the message is sent
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) message_lost: f64,
    /// Share of jobs whose producer dies between message and wake
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) wake_omitted: f64,
    /// Share of attempts in which the worker dies
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) worker_dies: f64,
    /// Share of dead workers whose session goes on counting as in progress
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(super) phantom: f64,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Write the course of the run there, a line a minute
    #[arg(long, value_name = "FILE")]
    pub(super) csv: Option<PathBuf>,
    /// Write a line for each job that ended there
    #[arg(long, value_name = "FILE")]
    pub(super) jobs_csv: Option<PathBuf>,
    /// Draw the course of the run there, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(super) plot: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    pub(super) json: bool,
}

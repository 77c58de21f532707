//! The command line. Names are fixed: other tools use them.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use rotoless_api::LegacyApi;
use rotoless_aws::wakers::Home;
use rotoless_contract::spec::Fit;
use rotoless_contract::{Credits, JobId, Model, OutputFormat};
use rotoless_core::policy::Policy;
use rotoless_core::rate::Rates;
use rotoless_matting::{Compute, Device, MAX_BATCH, Techniques, UnknownTechnique};

use crate::operate::arguments::OperateCommand;
use crate::runpod::arguments::RunPodCommand;
use crate::simulate::arguments::SimulateArgs;

/// Video background removal: the whole service on one machine, and its tools.
#[derive(Debug, Parser)]
#[command(name = "rotoless", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole service on this machine
    Up(UpArgs),
    /// Remove the background of one file, without a service
    Remove(RemoveArgs),
    /// API keys of a running service (needs its admin token)
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Credits of a client of a running service
    #[command(subcommand)]
    Credits(CreditsCommand),
    /// Jobs of a running service
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Model weights
    #[command(subcommand)]
    Models(ModelsCommand),
    /// An operator's work on a deployment's tables and bucket
    #[command(subcommand)]
    Operate(OperateCommand),
    /// The endpoint on RunPod whose workers a deployment wakes
    #[command(subcommand, name = "runpod")]
    RunPod(RunPodCommand),
    /// Say what this machine lacks, and how to get it; with --remote, what a deployment lacks
    Doctor(DoctorArgs),
    /// Measure the pipeline beside its floor or, with --api, the service
    Bench(BenchArgs),
    /// What a load would wait and cost on GPUs that scale from zero: docs/SCALE.md
    Simulate(Box<SimulateArgs>),
    /// A further worker for `rotoless up`, configured by its environment: see worker.env in the data directory
    GpuHandler(GpuHandlerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GpuHandlerArgs {
    /// Serve one session, as the job of RunPod in this file would start it: {"input":{…}}; the answer goes to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) test_input: Option<PathBuf>,
    /// Serve nothing: say by the exit code whether the worker of this WORK_DIR gave a sign of life within a minute
    #[arg(long, conflicts_with = "test_input")]
    pub(crate) healthy: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsDir {
    /// Where weights and ONNX Runtime are [default: ./models if there is one, else the user's data directory]
    #[arg(long, value_name = "DIR", env = "ROTOLESS_MODELS")]
    pub(crate) models: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ComputeArgs {
    /// What the models run on: cpu, cuda, cuda:N, tensorrt, tensorrt:N; without it nothing else is tried
    #[arg(long, value_name = "DEVICE", env = "ROTOLESS_DEVICE", default_value = "cpu")]
    pub(crate) device: Device,
    /// Frames that a still model takes at once; 0 for what suits the device
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=MAX_BATCH as i64))]
    pub(crate) batch: u8,
    /// Let a GPU calculate with fewer bits
    #[arg(long)]
    pub(crate) reduced_precision: bool,
}

impl From<ComputeArgs> for Compute {
    fn from(args: ComputeArgs) -> Self {
        let ComputeArgs { device, batch, reduced_precision } = args;
        Self { device, batch: batch.into(), reduced_precision }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// Where the service keeps everything
    #[arg(long, value_name = "D", env = "ROTOLESS_DATA_DIR", default_value = "rotoless-data")]
    pub(crate) data_dir: PathBuf,
}

/// Workers elsewhere that start when work comes.
#[derive(Debug, Args)]
pub(crate) struct WakeArgs {
    /// Wake workers there, besides those that poll: none, runpod or ecs; RUNPOD_… and ECS_… of the environment say how
    #[arg(long, value_name = "HOME", env = "WAKER", default_value_t = Home::None)]
    pub(crate) waker: Home,
    /// Workers at once there
    #[arg(long, value_name = "N", env = "WORKERS_MAX", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) workers_max: u32,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// Public port; 0 lets the system choose
    #[arg(long, value_name = "P", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) bind: IpAddr,
    /// URL under which clients reach the service [default: http://ADDRESS:P]
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<url::Url>,
    /// Turns the admin routes on
    #[arg(long, value_name = "T", env = "ROTOLESS_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
    #[command(flatten)]
    pub(crate) models: ModelsDir,
    /// Who may use the legacy routes /api/upload, /api/process, /api/status: off, keyed or open
    #[arg(long, value_name = "WHO", env = "LEGACY_API", default_value_t = LegacyApi::Keyed)]
    pub(crate) legacy_api: LegacyApi,
    /// Requests of kind GET a minute and API key
    #[arg(long, value_name = "N", default_value_t = Rates::default().reads.tokens(), value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) reads_per_minute: u32,
    /// All other requests a minute and API key
    #[arg(long, value_name = "N", default_value_t = Rates::default().creates.tokens(), value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) creates_per_minute: u32,
    /// Jobs of one client that wait or are at work at once
    #[arg(long, value_name = "N", default_value_t = Policy::default().max_open_jobs, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_open_jobs: u32,
    /// Length of the segments that a worker keeps of a long video while it works on it, in seconds; 0: it keeps none
    #[arg(long, value_name = "N", default_value_t = Policy::default().segment_seconds)]
    pub(crate) segment_seconds: u32,
    /// Price list as JSON [default: the published one]
    #[arg(long, value_name = "FILE")]
    pub(crate) pricing: Option<PathBuf>,
    /// Start no worker: jobs stay pending until one connects by worker.env of the data directory
    #[arg(long)]
    pub(crate) no_worker: bool,
    #[command(flatten)]
    pub(crate) wakes: WakeArgs,
    /// Silence after which a worker counts as dead and its job goes to the next one, in seconds
    // On one machine short, because a restart must not wait two minutes for its own ghost. The least is SQS's patience
    // as the worker takes it.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(6..=43_200))]
    pub(crate) lease_seconds: u32,
    /// Processor threads of the model; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Let webhooks, and URLs of videos and backgrounds, reach this HOST:PORT although it is not public; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) allow_egress_dangerous: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The video
    pub(crate) input: PathBuf,
    /// Where the result goes; given several times, the model runs once
    #[arg(short, long = "output", value_name = "OUTPUT", required = true)]
    pub(crate) outputs: Vec<PathBuf>,
    /// original, light, pro or human
    #[arg(long, value_name = "M", default_value = "human")]
    pub(crate) model: Model,
    /// Keep the matte in this file, for other outputs later
    #[arg(long, value_name = "FILE")]
    pub(crate) keep_matte: Option<PathBuf>,
    /// Take the matte from this file, kept of the same video; no model is run
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keep_matte", "prompt"])]
    pub(crate) matte: Option<PathBuf>,
    /// Keep what is finished of a long video here: the same command goes on with it after an interruption
    #[arg(long, value_name = "DIR", conflicts_with = "matte")]
    pub(crate) segments: Option<PathBuf>,
    /// Length of a segment in seconds
    #[arg(long, value_name = "N", default_value_t = 10, requires = "segments", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) segment_seconds: u32,
    /// Others work on the same segments: take what they have finished, and leave them there at the end
    #[arg(long, requires = "segments")]
    pub(crate) share: bool,
    /// Only help another one that shares: make segments and no output. The other arguments must be the same
    #[arg(long, requires = "segments", conflicts_with = "share")]
    pub(crate) assist: bool,
    /// webm, mov, mp4, gif, webp or png_sequence [default: by the output's name]
    #[arg(long, value_name = "F")]
    pub(crate) format: Option<OutputFormat>,
    /// transparent, green, white, black, blue, blur, #RRGGBB, or a picture or video of yours
    #[arg(long, value_name = "B")]
    pub(crate) background: Option<String>,
    /// How that picture or video is fitted: cover, contain or stretch
    #[arg(long, value_name = "FIT", value_parser = fit)]
    pub(crate) fit: Option<Fit>,
    /// Subjects in words, for `pro`
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) techniques: TechniqueArgs,
    /// Processor threads of the model; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) models: ModelsDir,
}

/// What is left out of what the engine adds to a model.
#[derive(Debug, Args)]
pub(crate) struct TechniqueArgs {
    /// Leave these out: region, steady, edges, colour
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
}

impl TechniqueArgs {
    /// What is left.
    pub(crate) fn left(&self) -> Result<Techniques, UnknownTechnique> {
        Techniques::without(self.without.iter().map(String::as_str))
    }
}

/// Where the running service is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct Remote {
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// The service's URL [default: the one running on the data directory]
    #[arg(long, value_name = "URL", env = "ROTOLESS_URL")]
    pub(crate) url: Option<url::Url>,
    /// API key [default: the data directory's first key]
    #[arg(long, value_name = "KEY", env = "ROTOLESS_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Admin token of the service
    #[arg(long, value_name = "T", env = "ROTOLESS_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key; it is shown once
    Create {
        /// Whose key
        client_id: rotoless_contract::ClientId,
        /// For your memory
        #[arg(long)]
        note: Option<String>,
        /// Credits to grant with it
        #[arg(long, value_name = "N", value_parser = credits)]
        credits: Option<Credits>,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the keys
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Shut a key
    Disable {
        /// As listed
        key_fingerprint: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Open a key again
    Enable {
        /// As listed
        key_fingerprint: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CreditsCommand {
    /// Grant credits to a client
    Grant {
        /// To whom
        client_id: rotoless_contract::ClientId,
        /// How many
        #[arg(value_parser = credits)]
        credits: Credits,
        /// Makes the grant happen once, however often the command runs
        #[arg(long)]
        grant_id: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show the balance of the API key's client
    Show {
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List the newest jobs
    List {
        /// At most this many
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a job as JSON
    Show {
        id: JobId,
        #[command(flatten)]
        remote: Remote,
    },
    /// Wait until a job has ended; fails if the job did
    Wait {
        id: JobId,
        #[command(flatten)]
        remote: Remote,
    },
    /// Cancel a job
    Cancel {
        id: JobId,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the models of the registry and which are installed
    List {
        #[command(flatten)]
        models: ModelsDir,
    },
    /// Fetch ONNX Runtime and models by pinned version and hash [default: the default set]
    Fetch {
        /// Names or roles; `gpu` is ONNX Runtime for NVIDIA's GPUs
        names: Vec<String>,
        #[command(flatten)]
        models: ModelsDir,
        /// Say nothing when nothing is missing
        #[arg(long)]
        quiet: bool,
    },
    /// Check the hashes of what is installed
    Verify {
        #[command(flatten)]
        models: ModelsDir,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Examine the service at this URL instead of this machine
    #[arg(long, value_name = "URL", value_parser = web_url)]
    pub(crate) remote: Option<url::Url>,
    /// With --remote: look at credits and uploads with this key
    #[arg(long, value_name = "KEY", env = "ROTOLESS_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// With --remote: look at the configuration with this token
    #[arg(long, value_name = "T", env = "ROTOLESS_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    #[command(flatten)]
    pub(crate) models: ModelsDir,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) what: Option<BenchWhat>,
    #[command(flatten)]
    pub(crate) pipeline: PipelineBenchArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchWhat {
    /// Compare mattes with the truth, the model alone beside all that is added to it
    Quality(QualityBenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct QualityBenchArgs {
    /// Holds NAME.mp4 and, beside each, its true alpha as NAME.alpha.mkv (gray)
    #[arg(long, value_name = "DIR")]
    pub(crate) clips: PathBuf,
    /// The models
    #[arg(long = "models", value_name = "NAMES", value_delimiter = ',', default_values_t = [Model::Light, Model::Original, Model::Human])]
    pub(crate) roles: Vec<Model>,
    /// Numbers of the frames that are measured, from 0 [default: all]
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub(crate) frames: Option<Range<usize>>,
    #[command(flatten)]
    pub(crate) techniques: TechniqueArgs,
    /// Write contact sheets there
    #[arg(long, value_name = "DIR")]
    pub(crate) sheets: Option<PathBuf>,
    /// Keep the models' mattes there, and take them from there the next time
    #[arg(long, value_name = "DIR")]
    pub(crate) mattes: Option<PathBuf>,
    /// Write the figures there as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Processor threads of the model; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Where weights and ONNX Runtime are [default: ./models if there is one, else the user's data directory]
    #[arg(long = "models-dir", value_name = "DIR", env = "ROTOLESS_MODELS")]
    pub(crate) models_dir: Option<PathBuf>,
}

fn range(text: &str) -> Result<Range<usize>, String> {
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.filter(|range| !range.is_empty()).ok_or_else(|| "two numbers, as in 25..50".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct PipelineBenchArgs {
    /// The clip
    // Optional for the sake of the subcommands alone.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) clip: Option<PathBuf>,
    /// The model
    #[arg(long, value_name = "M", default_value = "human")]
    pub(crate) model: Model,
    /// Write the figures there as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Processor threads of the model; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Measure every installed model alone, too; on a GPU that is done anyway
    #[arg(long, conflicts_with = "api")]
    pub(crate) each_model: bool,
    /// Measure all of the pipeline: its floor at 720p, its own cost at 1080p, a plain Python loop, `light`, memory
    #[arg(long, conflicts_with = "api")]
    pub(crate) all: bool,
    /// Further clips for `light` with --all: NAME.mp4 and, for what is true, NAME.alpha.mkv
    #[arg(long, value_name = "DIR", requires = "all")]
    pub(crate) clips: Option<PathBuf>,
    /// A Python that has bench/requirements.txt, with --all; without it there is no peer
    #[arg(long, value_name = "PYTHON", requires = "all")]
    pub(crate) peer: Option<PathBuf>,
    /// Ends when the first frame is out (what --all starts to measure that)
    #[arg(long, hide = true, conflicts_with = "all")]
    pub(crate) first_frame: bool,
    /// Measure the service instead: its calls of AWS, its own cost beside theirs, one core under load
    #[arg(long)]
    pub(crate) api: bool,
    /// How long each kind of request is sent, with --api
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    #[command(flatten)]
    pub(crate) models: ModelsDir,
}

fn credits(text: &str) -> Result<Credits, String> {
    serde_json::from_str(text).map_err(|_| "a number of credits with at most three decimals".to_owned())
}

fn fit(text: &str) -> Result<Fit, String> {
    serde_json::from_value(text.into()).map_err(|_| "one of cover, contain, stretch".to_owned())
}

fn web_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let is_plain = |url: &url::Url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    url.filter(is_plain).ok_or_else(|| "a URL like https://HOST, without a query".to_owned())
}

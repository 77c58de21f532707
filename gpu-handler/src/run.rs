//! The worker's life: check that it is fit, then serve sessions until it is asked to end.
//!
//! Owns: opening the engine, the fitness checks, the loop and its backoff. Does not own: a session (`session`).
//! Invariant: no message is received before every check has passed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_sqs::config::SharedCredentialsProvider;
use rotoless_contract::Model;
use rotoless_egress::{Egress, Limits, Policy};
use rotoless_matting::{Device, Engine, EngineConfig, EngineError, Techniques, Tools, ToolsError};
use secrecy::ExposeSecret;

use crate::ailment::Ailment;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::Config;
use crate::connect::Connect;
use crate::detail::shown;
use crate::drain::Drainer;
use crate::engine::RealEngine;
use crate::fitness::{self, Unfit};
use crate::life;
use crate::net;
use crate::process::{ParentError, Shutdown, WorkDir, WorkDirError, die_with_parent};
use crate::queue::{self, QueueSettings};
use crate::runpod;
use crate::session::{SessionEnd, SessionError, Worker};
use crate::sessions::{Sessions, Start};
use crate::timing::Timing;
use crate::transfer::Transfer;

/// Why the worker cannot work, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// See [`ParentError`].
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// See [`WorkDirError`].
    #[error(transparent)]
    WorkDir(#[from] WorkDirError),
    /// ffmpeg or ffprobe cannot be used.
    #[error("the media tools cannot be used")]
    Tools(#[from] ToolsError),
    /// This ffmpeg lacks codecs.
    #[error("ffmpeg lacks: {}", .0.join(", "))]
    MissingCodecs(Vec<&'static str>),
    /// The engine cannot be opened.
    #[error("the media engine cannot be opened")]
    Engine(#[from] EngineError),
    /// No model's weights are installed.
    #[error("no model is installed")]
    NoModel,
    /// The host lacks room.
    #[error("this host is not fit")]
    Unfit(#[from] Unfit),
    /// Threads or signal handlers cannot be had.
    #[error("the operating system refused")]
    System(#[from] io::Error),
    /// No HTTP client can be made: no TLS roots, most likely.
    #[error("no HTTP client can be made")]
    Http(#[from] reqwest::Error),
    /// This process must be replaced.
    #[error("this worker must be replaced")]
    Ailing(#[from] Ailment),
    /// The one session that there was to be could not do its work.
    #[error("the session failed")]
    Session(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Serves jobs until SIGTERM or SIGINT, or as long as its sessions last. After [`RunError::Ailing`] the process should exit at once.
///
/// Installs signal handlers and the TLS provider of the process; needs a Tokio runtime with time and I/O.
///
/// # Errors
/// The worker is not fit, or its engine hangs.
pub async fn run(config: Config) -> Result<(), RunError> {
    if let Some(parent) = config.die_with_parent {
        die_with_parent(parent)?;
    }
    net::install_tls();
    let (ask, shutdown) = Shutdown::channel();
    ask.on_signals()?;
    tracing::debug!(?config, "worker starts");
    let _signs = life::begin(&config.work_dir);
    let (device, sessions) = (config.compute.device, config.sessions.clone());
    let drainer = match &sessions.start {
        Start::Drain(drain) => Some(Box::pin(Drainer::rise(&config, drain)).await?),
        Start::Poll | Start::Once | Start::RunPod(_) => None,
    };
    let worker = match Box::pin(prepare(config, shutdown)).await {
        Ok(worker) => worker,
        Err(error) => {
            if let Some(drainer) = drainer {
                drainer.leave().await;
            }
            if let Start::RunPod(platform) = &sessions.start {
                runpod::say_unhealthy(platform, &error).await;
            }
            return Err(error);
        }
    };
    if let Start::RunPod(_) = &sessions.start {
        worker.control.look_at_the_clock().await;
    }
    let (id, starts) = (worker.worker_id.clone(), sessions.start.as_str());
    tracing::info!(worker.id = id, provider = worker.provider, %device, sessions = starts, "worker is ready");
    let outcome = match (&sessions.start, drainer) {
        (_, Some(drainer)) => Box::pin(drainer.serve(&worker)).await,
        (Start::Poll | Start::Drain(_), None) => Box::pin(serve(&worker)).await,
        (Start::Once, None) => Box::pin(once(&worker)).await,
        (Start::RunPod(platform), None) => Box::pin(runpod::serve(worker, platform, sessions.recycle)).await,
    };
    tracing::info!(worker.id = id, "worker ends");
    outcome
}

/// Serves one session: at most one message.
pub(crate) async fn once(worker: &Worker) -> Result<(), RunError> {
    match worker.session().await {
        Ok(end) => {
            tracing::info!(handled = matches!(end, SessionEnd::Handled { .. }), "session ended");
            Ok(())
        }
        Err(SessionError::Ailing(ailment)) => Err(ailment.into()),
        Err(error @ (SessionError::Queue(_) | SessionError::Claim(_))) => Err(RunError::Session(Box::new(error))),
    }
}

pub(crate) async fn prepare(config: Config, shutdown: Shutdown) -> Result<Worker, RunError> {
    let timing = Timing { visibility: config.visibility, heartbeat: config.heartbeat, ..Timing::default() };
    let work_dir = WorkDir::open(&config.work_dir)?;
    let engine = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || open_engine(&config)).await.map_err(io::Error::other)??
    };
    let provider = engine.provider().to_owned();
    let connect = Connect {
        control_url: config.control_url.clone(),
        queue: QueueSettings {
            url: config.queue_url.clone(),
            region: config.region.clone(),
            endpoint: config.sqs_endpoint.clone(),
            credentials: credentials(&config).await,
        },
        clock: Clock::default(),
    };
    let policy = Policy { allow_http: false, allow_addresses_dangerous: config.allow_egress_dangerous.clone() };
    let egress = Egress::new(policy, Limits::default()).map_err(io::Error::other)?;
    Ok(Worker {
        control: connect.control(&timing)?,
        queue: connect.queue(&timing),
        transfer: Transfer::new(net::client()?, egress, config.plain_http(), timing.clone()),
        connect,
        engine: Arc::new(RealEngine(Arc::new(engine))),
        provider,
        worker_id: config.worker_id,
        fleet_key: config.fleet_key,
        work_dir,
        timing,
        shutdown,
        dismissed: Shutdown::channel().1,
        turn: None,
    })
}

/// Opens the engine and looks at all that a job needs, so that a bad host fails here and not in a job.
fn open_engine(config: &Config) -> Result<Engine, RunError> {
    let starts = &config.sessions.start;
    if let Start::RunPod(_) = starts {
        fitness::check(config.sessions.least, &config.work_dir)?;
    }
    let tools = Tools::find(config.ffmpeg_path.as_deref().map(AsRef::as_ref))?;
    let missing = tools.missing_codecs()?;
    if !missing.is_empty() {
        return Err(RunError::MissingCodecs(missing));
    }
    let (models_dir, threads, compute) = (config.models_dir.clone(), config.threads, config.compute);
    if let Device::TensorRt(_) = compute.device {
        tracing::info!("TensorRT builds each model before it first runs it, unless that was done before: minutes each");
    }
    // A GPU is tried here, so that a worker whose GPU is gone never takes a job.
    let techniques = Techniques::ALL;
    let engine = Engine::open(EngineConfig { models_dir, tools, threads, compute, techniques })?;
    let mut installed = 0;
    for model in Model::ALL {
        match engine.check_model(*model) {
            Ok(()) => installed += 1,
            Err(error) => {
                tracing::info!(model = model.as_str(), error = shown(&error), "model is not there");
            }
        }
    }
    if installed == 0 {
        return Err(RunError::NoModel);
    }
    for model in warm_models(&config.sessions, &engine) {
        let began = Instant::now();
        engine.warm_up(model)?;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(model = model.as_str(), duration_ms, "model is warm");
    }
    Ok(engine)
}

/// Where a wake waits for this very process the model that most jobs ask for is loaded beforehand: one, because one
/// stays loaded. Elsewhere the first job loads what it needs.
fn warm_models(sessions: &Sessions, engine: &Engine) -> Vec<Model> {
    match (&sessions.warm_models, &sessions.start) {
        (Some(models), _) => models.clone(),
        (None, Start::RunPod(_)) => {
            let usual = [Model::Human, Model::Light];
            usual.into_iter().find(|model| engine.check_model(*model).is_ok()).into_iter().collect()
        }
        (None, Start::Poll | Start::Once | Start::Drain(_)) => Vec::new(),
    }
}

impl RunError {
    /// Name of the check that failed, for RunPod.
    pub(crate) const fn check(&self) -> &'static str {
        match self {
            Self::Parent(_) | Self::System(_) => "system",
            Self::WorkDir(_) => "work_dir",
            Self::Tools(_) | Self::MissingCodecs(_) => "ffmpeg",
            Self::Engine(EngineError::Device { .. }) => "gpu",
            Self::Engine(_) => "engine",
            Self::NoModel => "models",
            Self::Unfit(unfit) => unfit.check(),
            Self::Http(_) => "tls",
            Self::Ailing(_) | Self::Session(_) => "session",
        }
    }
}

async fn credentials(config: &Config) -> Option<SharedCredentialsProvider> {
    let Some(given) = &config.credentials else {
        let loader = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new(config.region.clone()))
            .http_client(queue::http_client());
        return loader.load().await.credentials_provider();
    };
    let session = given.session_token.as_ref().map(|token| token.expose_secret().to_owned());
    let secret = given.secret_access_key.expose_secret();
    let credentials = Credentials::new(&given.access_key_id, secret, session, None, "configuration");
    Some(SharedCredentialsProvider::new(credentials))
}

/// Serves sessions until asked to end.
pub(crate) async fn serve(worker: &Worker) -> Result<(), RunError> {
    let fresh = || Backoff::new(Duration::from_secs(1), worker.timing.session_retry_cap);
    let mut backoff = fresh();
    while worker.shutdown.since().is_none() {
        let began = Instant::now();
        let pause = match worker.session().await {
            Ok(end) => {
                backoff = fresh();
                if end == SessionEnd::Idle {
                    worker.timing.idle_floor.saturating_sub(began.elapsed())
                } else {
                    Duration::ZERO
                }
            }
            // What lies in the way of one file may not be in that of the next.
            Err(SessionError::Ailing(ailment @ Ailment::DiskFull)) => {
                tracing::warn!(error = shown(&ailment), "session failed");
                backoff.wait(None)
            }
            Err(SessionError::Ailing(ailment)) => return Err(ailment.into()),
            Err(error @ (SessionError::Queue(_) | SessionError::Claim(_))) => {
                tracing::warn!(error = shown(&error), "session failed");
                backoff.wait(None)
            }
        };
        tokio::select! {
            () = worker.shutdown.requested() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    Ok(())
}

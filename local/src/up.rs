//! `rotoless up`: the whole service in this process, its worker in a child.
//!
//! ```text
//! public port ── /internal/* ── callback      loopback ports ── embedded DynamoDB and SQS
//!             ── /{bucket}/* ── embedded S3    tasks ── deliver, sweep, retention
//!             ── everything else ── api        child ── rotoless gpu-handler
//! ```
//! Owns: wiring, start and drain. Does not own: any rule. The same adapters as on AWS, by endpoint URL.
//! Drain order: the worker first, while its reports can still be heard; then the port; then the store.

pub(crate) mod assembly;
pub(crate) mod first_key;
mod loops;
pub(crate) mod secrets;
pub(crate) mod serve;
mod worker;
mod worker_env;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rotoless_aws::system::SystemEntropy;
use rotoless_embedded::{Embedded, EmbeddedConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::assembly::{Assembly, Plan};
use self::secrets::Secrets;
use self::worker::WorkerCommand;
use crate::cli::UpArgs;
use crate::models::models_dir;
use crate::service_file::ServiceFile;

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: UpArgs) -> Result<()> {
    let data_dir = prepare(&args.data_dir.data_dir)?;
    let secrets = Secrets::open(&data_dir, &SystemEntropy)?;
    let listener = TcpListener::bind(SocketAddr::new(args.bind, args.port))
        .await
        .with_context(|| format!("cannot listen on {}:{}", args.bind, args.port))?;
    let port = listener.local_addr()?.port();
    let public_url = public_url(&args, port);
    let embedded = Embedded::start(EmbeddedConfig {
        data_dir: data_dir.clone(),
        access_key: secrets.access_key.clone(),
        secret_key: secrets.secret_key.clone(),
        chaos: None,
        visibility_seconds: Some(args.lease_seconds),
    })
    .await?;
    let models = models_dir(&args.models);
    let admin_token = args.admin_token.clone().filter(|token| !token.is_empty()).map(SecretString::from);
    let stop = Stop::new();
    let assembly = Assembly::new(Plan {
        embedded: &embedded,
        secrets: &secrets,
        public_url: &public_url,
        admin_token,
        models: &models,
        args: &args,
        closing: stop.port.clone(),
        meter: None,
    })
    .await?;
    first_key::ensure(&assembly, &secrets).await?;

    let server = tokio::spawn(serve::serve(listener, assembly.router(embedded.s3()), stop.port.clone()));
    let loops = loops::spawn(&assembly, embedded, stop.port.clone());
    let environment = worker_environment(&assembly, &secrets, &models, port, &args)?;
    worker_env::write(&data_dir, &further_worker(&environment, &data_dir)?)?;
    let worker = (!args.no_worker)
        .then(|| worker_command(environment, &data_dir))
        .transpose()?
        .map(|command| tokio::spawn(worker::supervise(command, stop.worker.clone())));
    ServiceFile { url: public_url.clone() }.write(&data_dir)?;
    announce(&public_url, &secrets, assembly.admin_is_on(), &models)?;

    interrupted().await?;
    tracing::info!("draining; interrupt again to stop at once");
    let drain = async {
        stop.worker.cancel();
        if let Some(worker) = worker {
            let _ = worker.await;
        }
        stop.port.cancel();
        let _ = server.await;
        if let Ok(embedded) = loops.await {
            embedded.shutdown().await;
        }
    };
    tokio::select! {
        () = drain => {}
        second = interrupted() => second?,
    }
    ServiceFile::remove(&data_dir);
    worker_env::remove(&data_dir);
    Ok(())
}

/// What ends when: the worker before the port it reports to.
struct Stop {
    worker: CancellationToken,
    port: CancellationToken,
}

impl Stop {
    fn new() -> Self {
        Self { worker: CancellationToken::new(), port: CancellationToken::new() }
    }
}

fn prepare(data_dir: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let unusable = || format!("cannot use {} as data directory", data_dir.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).with_context(unusable)?;
    data_dir.canonicalize().with_context(unusable)
}

fn public_url(args: &UpArgs, port: u16) -> String {
    if let Some(url) = &args.public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let host = match args.bind {
        // Links need a name that can be connected to.
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!("http://{host}:{port}")
}

/// What every worker of this service needs to know.
fn worker_environment(
    assembly: &Assembly,
    secrets: &Secrets,
    models: &Path,
    port: u16,
    args: &UpArgs,
) -> Result<Vec<(String, String)>> {
    // The worker calls the port it was born from, whatever name clients use for it.
    let control_host = if args.bind.is_unspecified() { "127.0.0.1".to_owned() } else { url_host(args.bind) };
    let environment = [
        ("QUEUE_URL", assembly.queue_url().to_owned()),
        ("CONTROL_URL", format!("http://{control_host}:{port}")),
        ("FLEET_KEY", secrets.fleet_key.expose_secret().to_owned()),
        ("AWS_ENDPOINT_URL_SQS", assembly.sqs_url().to_owned()),
        ("AWS_REGION", rotoless_embedded::REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", secrets.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", secrets.secret_key.expose_secret().to_owned()),
        // This machine keeps it running, whatever else its environment looks like.
        ("SESSIONS", "poll".to_owned()),
        ("MODELS_DIR", text(models)?),
        ("THREADS", args.threads.to_string()),
        ("DEVICE", args.compute.device.to_string()),
        ("BATCH", args.compute.batch.to_string()),
        ("REDUCED_PRECISION", args.compute.reduced_precision.to_string()),
        ("VISIBILITY_SECONDS", args.lease_seconds.to_string()),
        // Here a heartbeat costs nothing, and somebody watches the progress.
        ("HEARTBEAT_SECONDS", "1".to_owned()),
        ("ALLOW_HTTP_LOOPBACK", "true".to_owned()),
        ("ALLOW_EGRESS_DANGEROUS", args.allow_egress_dangerous.join(",")),
    ];
    Ok(environment.map(owned).to_vec())
}

/// Our own worker, which gets nothing of this process's environment but what it needs.
fn worker_command(mut environment: Vec<(String, String)>, data_dir: &Path) -> Result<WorkerCommand> {
    let own = [
        ("WORK_DIR", text(&data_dir.join("work"))?),
        ("WORKER_ID", "local".to_owned()),
        ("DIE_WITH_PARENT", std::process::id().to_string()),
        ("PATH", crate::environment("PATH").unwrap_or_default()),
        // Where the system's loader finds a GPU's libraries, if it was told.
        ("LD_LIBRARY_PATH", crate::environment("LD_LIBRARY_PATH").unwrap_or_default()),
        ("RUST_LOG", crate::environment("RUST_LOG").unwrap_or_default()),
    ];
    environment.extend(own.map(owned));
    Ok(WorkerCommand { program: std::env::current_exe().context("cannot find this program")?, environment })
}

/// The environment of a worker that somebody else starts: apart from our own one's directory.
fn further_worker(environment: &[(String, String)], data_dir: &Path) -> Result<Vec<(String, String)>> {
    let work_dir = owned(("WORK_DIR", text(&data_dir.join("work-2"))?));
    Ok(environment.iter().cloned().chain([work_dir]).collect())
}

fn owned((name, value): (&str, String)) -> (String, String) {
    (name.to_owned(), value)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("paths must be UTF-8")
}

fn url_host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// What a newcomer needs next, on standard output.
fn announce(url: &str, secrets: &Secrets, admin: bool, models: &Path) -> Result<()> {
    let key = secrets.api_key.expose_secret();
    let admin = if admin { "on (X-Admin-Token)" } else { "off (start with --admin-token T)" };
    let models = models.display();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\
Rotoless is up.
  url      {url}
  api key  {key}
  admin    {admin}
  models   {models}

Try it:
  curl -H 'X-Api-Key: {key}' -F file=@video.mp4 {url}/v1/uploads
  curl -H 'X-Api-Key: {key}' -H 'Content-Type: application/json' {url}/v1/jobs \\
       -d '{{\"video_url\":\"<video_url of the answer>\",\"model\":\"human\",\"bg_type\":\"transparent\"}}'
  rotoless jobs wait <id of the answer>
"
    )?;
    out.flush()?;
    Ok(())
}

async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("cannot wait for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

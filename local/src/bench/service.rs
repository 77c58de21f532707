//! The service of `rotoless up` in this process, with a meter on its calls of AWS. Without deliver, sweep and worker:
//! what is counted is what requests cost.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use rotoless_aws::system::SystemEntropy;
use rotoless_aws::{CallMeter, Store};
use rotoless_contract::media::OutputInfo;
use rotoless_contract::{JobId, MilliCredits};
use rotoless_core::lifecycle::Phase;
use rotoless_core::ports::{Accounts as _, Change, Jobs as _};
use rotoless_core::record::StoredOutput;
use rotoless_embedded::{Embedded, EmbeddedConfig};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::cli::{Cli, Command, UpArgs};
use crate::up::assembly::{Assembly, Plan};
use crate::up::secrets::Secrets;
use crate::up::{first_key, serve};

/// Enough for whatever a measurement creates.
pub(super) const CREDITS: u64 = 900_000_000;

/// The arguments of `rotoless` for a service to be measured: nothing limits it but the machine.
pub(super) fn arguments(data_dir: &Path, models: &Path) -> Result<Vec<String>> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("paths must be UTF-8");
    let fixed =
        ["up", "--no-worker", "--port", "0", "--reads-per-minute", "60000000", "--creates-per-minute", "60000000"];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
    arguments.extend(["--data-dir".to_owned(), text(data_dir)?, "--models".to_owned(), text(models)?]);
    Ok(arguments)
}

pub(super) struct Service {
    pub(super) client: Client,
    pub(super) meter: CallMeter,
    assembly: Assembly,
    embedded: Embedded,
    server: JoinHandle<Result<()>>,
    stop: CancellationToken,
    _data_dir: tempfile::TempDir,
}

impl Service {
    pub(super) async fn start(models: &Path) -> Result<Self> {
        let data_dir = tempfile::tempdir()?;
        let args = up_args(data_dir.path(), models)?;
        let secrets = Secrets::open(data_dir.path(), &SystemEntropy)?;
        let listener = TcpListener::bind((args.bind, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let embedded = Embedded::start(EmbeddedConfig {
            data_dir: data_dir.path().to_owned(),
            access_key: secrets.access_key.clone(),
            secret_key: secrets.secret_key.clone(),
            chaos: None,
            visibility_seconds: None,
        })
        .await?;
        let (meter, stop) = (CallMeter::default(), CancellationToken::new());
        let assembly = Assembly::new(Plan {
            embedded: &embedded,
            secrets: &secrets,
            public_url: &url,
            admin_token: None,
            models,
            args: &args,
            closing: stop.clone(),
            meter: Some(&meter),
        })
        .await?;
        first_key::ensure(&assembly, &secrets).await?;
        let client = first_key::CLIENT.parse()?;
        let credits = MilliCredits::whole(CREDITS);
        assembly.store().grant(&client, "bench", credits, None, assembly.clock().now()).await?;
        let server = tokio::spawn(serve::serve(listener, assembly.router(embedded.s3()), stop.clone()));
        let client = Client::new(&url, secrets.api_key.expose_secret())?;
        Ok(Self { client, meter, assembly, embedded, server, stop, _data_dir: data_dir })
    }

    /// Makes a job look as if a worker had completed it; only for reading it, as its credits stay held.
    pub(super) async fn complete(&self, id: &str) -> Result<()> {
        let (store, id): (&Store, JobId) = (self.assembly.store(), id.parse()?);
        let mut job = store.job(&id).await?.context("the job is gone")?;
        let now = self.assembly.clock().now();
        job.version += 1;
        job.state.phase = Phase::Completed;
        job.state.progress = 100;
        job.completed_at = Some(now);
        job.updated_at = now;
        job.due_at = None;
        let info = OutputInfo {
            format: job.spec.output_format,
            size_bytes: 500_000,
            sha256: "0".repeat(64),
            width: 640,
            height: 360,
            fps: 25.0,
            frames: 75,
            duration_ms: 3000,
            has_alpha: true,
            has_audio: true,
        };
        job.output = Some(StoredOutput { key: format!("jobs/{id}/output.webm"), info });
        Ok(store.commit(Change::of(job)).await?)
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        let _ = self.server.await;
        self.embedded.shutdown().await;
    }
}

fn up_args(data_dir: &Path, models: &Path) -> Result<UpArgs> {
    let arguments = std::iter::once("rotoless".to_owned()).chain(arguments(data_dir, models)?);
    match Cli::try_parse_from(arguments)?.command {
        Command::Up(args) => Ok(args),
        Command::Remove(_)
        | Command::Keys(_)
        | Command::Credits(_)
        | Command::Jobs(_)
        | Command::Models(_)
        | Command::Operate(_)
        | Command::RunPod(_)
        | Command::Doctor(_)
        | Command::Bench(_)
        | Command::Simulate(_)
        | Command::GpuHandler(_) => anyhow::bail!("`up` was not understood"),
    }
}

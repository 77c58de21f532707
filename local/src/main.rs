//! `rotoless`: everything on one machine, and the command line.

mod bench;
mod cli;
mod client;
mod doctor;
mod models;
mod operate;
mod remove;
mod runpod;
mod service_file;
mod simulate;
mod up;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use cli::{Cli, Command};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider of cryptography for every TLS client; a second call would be refused, and means no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .parse_lossy(environment("RUST_LOG").unwrap_or_default());
    // The worker has no environment but its own: it must see for itself that its log goes to a file.
    let colours = std::io::stderr().is_terminal() && environment("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => block_on(up::run(args)),
        Command::Remove(args) => remove::run(&args),
        Command::Keys(command) => block_on(client::keys(command)),
        Command::Credits(command) => block_on(client::credits(command)),
        Command::Jobs(command) => block_on(client::jobs(command)),
        Command::Models(command) => models::run(command),
        Command::Operate(command) => block_on(operate::run(command)),
        Command::RunPod(command) => block_on(runpod::run(command)),
        Command::Doctor(args) => match &args.remote {
            Some(url) => block_on(doctor::remote(&args, url)),
            None => doctor::run(&args),
        },
        Command::Bench(args) => bench::run(&args),
        Command::GpuHandler(args) if args.healthy => {
            Ok(rotoless_gpu_handler::check_health(&rotoless_gpu_handler::Config::work_dir_from_env())?)
        }
        Command::GpuHandler(args) => match &args.test_input {
            None => block_on(async { Ok(rotoless_gpu_handler::run(rotoless_gpu_handler::Config::from_env()?).await?) }),
            Some(file) => block_on(test_session(file)),
        },
        Command::Simulate(args) => simulate::simulate(&args),
    }
}

/// One session of a worker, with what RunPod would be told on standard output.
async fn test_session(file: &Path) -> Result<()> {
    use std::io::Write;
    let input = rotoless_gpu_handler::TestInput::read(file)?;
    let config = rotoless_gpu_handler::Config::from_env_for_one_session()?;
    let answer = rotoless_gpu_handler::test_session(config, input).await?;
    writeln!(std::io::stdout(), "{}", answer.json)?;
    anyhow::ensure!(!answer.is_error, "this worker must not serve jobs");
    Ok(())
}

fn block_on(future: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

/// A variable of the environment, as text.
#[expect(clippy::disallowed_methods, reason = "the one place of this program that reads it")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

//! The worker as a program of its own: configuration from the environment, logs as JSON lines.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use rotoless_gpu_handler::{Config, TestInput, check_health, run, test_session};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// What the command line asks for.
enum Asked {
    Serve,
    /// One session for the input in this file.
    Test(PathBuf),
    /// Whether the worker that runs beside this program is well.
    Healthy,
    Help,
}

const USAGE: &str = "usage: gpu-handler [--test-input FILE | --healthy]\n\n\
    Without arguments: serves jobs, as the environment says (docs/OPERATIONS.md).\n\
    --test-input FILE: serves one session as the job of RunPod in FILE would, {\"input\":{…}}, and prints the answer.\n\
    --healthy: ends with 0 if the worker of this WORK_DIR gave a sign of life within a minute, else with 1.\n";

impl Asked {
    fn of(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let asked = match arguments.next() {
            None => return Some(Self::Serve),
            Some(flag) if flag == "--test-input" => Self::Test(arguments.next()?.into()),
            Some(flag) if flag == "--healthy" => Self::Healthy,
            Some(flag) if flag == "--help" || flag == "-h" => Self::Help,
            Some(flag) => Self::Test(flag.to_str()?.strip_prefix("--test-input=")?.into()),
        };
        arguments.next().is_none().then_some(asked)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(asked) = Asked::of(std::env::args_os().skip(1)) else {
        let _ = io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    };
    // Where standard output is the answer, nothing else goes there.
    let log: BoxMakeWriter = match asked {
        Asked::Serve => BoxMakeWriter::new(io::stdout),
        Asked::Test(_) | Asked::Healthy | Asked::Help => BoxMakeWriter::new(io::stderr),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(log).init();
    let outcome = match asked {
        Asked::Serve => serve().await,
        Asked::Test(file) => test(file).await,
        Asked::Healthy => check_health(&Config::work_dir_from_env()).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Asked::Help => io::stdout().write_all(USAGE.as_bytes()).map(|()| ExitCode::SUCCESS).map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "worker ends");
        // Not by returning: an engine that hangs would keep the process.
        std::process::exit(1)
    })
}

async fn serve() -> anyhow::Result<ExitCode> {
    run(Config::from_env()?).await?;
    Ok(ExitCode::SUCCESS)
}

async fn test(file: PathBuf) -> anyhow::Result<ExitCode> {
    let input = TestInput::read(&file)?;
    let answer = test_session(Config::from_env_for_one_session()?, input).await?;
    writeln!(io::stdout(), "{}", answer.json)?;
    if answer.is_error {
        std::process::exit(1);
    }
    Ok(ExitCode::SUCCESS)
}

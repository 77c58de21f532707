//! The command line of `rotoless runpod`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rotoless_aws::runpod::{API_URL, BaseUrl, EndpointId, Management, REST_URL};

#[derive(Debug, Subcommand)]
pub(crate) enum RunPodCommand {
    /// Make the endpoint and its template, or change what differs
    Apply(ApplyArgs),
    /// Workers, queue and settings; fails when they are not as wanted or no worker is allowed
    Status(StatusArgs),
}

/// Which account and which endpoint.
#[derive(Debug, Args)]
pub(crate) struct Account {
    /// What is wanted
    #[arg(long, value_name = "FILE", default_value = "infra/runpod-endpoint.json")]
    pub(crate) file: PathBuf,
    /// The endpoint [default: the one with the file's name]
    #[arg(long, value_name = "ID", env = "RUNPOD_ENDPOINT_ID", value_parser = endpoint_id)]
    pub(crate) endpoint_id: Option<EndpointId>,
    /// Key of the account
    #[arg(long, value_name = "KEY", env = "RUNPOD_API_KEY", hide_env_values = true)]
    pub(crate) api_key: String,
    /// API of endpoints
    #[arg(long, value_name = "URL", env = "RUNPOD_API_URL", default_value = API_URL)]
    pub(crate) api_url: BaseUrl,
    /// Management API
    #[arg(long, value_name = "URL", env = "RUNPOD_REST_URL", default_value = REST_URL)]
    pub(crate) rest_url: BaseUrl,
    /// Say it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Account {
    pub(crate) fn management(&self) -> Management {
        Management::new(self.rest_url.clone(), self.api_key.as_str().into())
    }
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) account: Account,
    /// Image of the worker, with its version [default: the file's]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// The worker's environment, NAME=VALUE a line; `-`: standard input. Without it what the template has is kept
    // From a file and not from this process's environment: that may hold an operator's own credentials of AWS.
    #[arg(long, value_name = "FILE")]
    pub(crate) worker_env: Option<PathBuf>,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) account: Account,
    /// Image of the worker [default: whichever is there, if the file names none]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

fn endpoint_id(text: &str) -> Result<EndpointId, String> {
    EndpointId::parse(text).ok_or_else(|| "letters, digits, - and _".to_owned())
}

//! The command line of an operator's work on the tables themselves.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rotoless_contract::{ClientId, JobId};

/// Which deployment. On AWS with the credentials and the region that the AWS command line would use.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Deployment {
    /// Name of the CloudFormation stack
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// Data directory of a `rotoless up` that does not run
    #[arg(long, value_name = "D")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperateCommand {
    /// Compare balances, ledgers, jobs and outputs, after a table was restored; fails when they differ
    Reconcile {
        #[command(flatten)]
        deployment: Deployment,
        /// Only this client
        #[arg(long, value_name = "ID")]
        client: Option<ClientId>,
        /// Write what is missing where that is no matter of opinion
        #[arg(long)]
        repair: bool,
    },
    /// Grant a client what a job was charged; once for each run of it, however often the command runs
    Refund {
        job: JobId,
        /// Why, for the ledger
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        #[command(flatten)]
        deployment: Deployment,
    },
    /// Disable a client's keys, delete its jobs with their media, and its usage; balance and ledger stay
    ForgetClient {
        client: ClientId,
        /// There is no way back
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        deployment: Deployment,
    },
}

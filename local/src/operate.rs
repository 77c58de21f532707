//! `rotoless operate`: an operator's work on the tables and the bucket themselves, with rights that no function has.
//!
//! Owns: the order of the steps and what is told. Does not own: what agrees and what makes it agree
//! (`rotoless_core::books`).

pub(crate) mod arguments;
mod deployment;

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rotoless_aws::system::{SystemClock, SystemEntropy};
use rotoless_contract::{ClientId, JobId};
use rotoless_core::ledger::Hold;
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Accounts as _, Books as _, Clock as _, CommitError, Jobs as _, Keys};
use rotoless_core::usecase::{Delete, DeleteError, Reconcile, Repaired};

use self::arguments::OperateCommand;
use self::deployment::Reached;

pub(crate) async fn run(command: OperateCommand) -> Result<()> {
    let (OperateCommand::Reconcile { deployment, .. }
    | OperateCommand::Refund { deployment, .. }
    | OperateCommand::ForgetClient { deployment, .. }) = &command;
    if let OperateCommand::ForgetClient { yes: false, client, .. } = &command {
        bail!("this deletes all jobs of {client} and their media, and there is no way back: say --yes");
    }
    let reached = Reached::open(deployment).await?;
    let done = match command {
        OperateCommand::Reconcile { client, repair, .. } => reconcile(&reached, client, repair).await,
        OperateCommand::Refund { job, note, .. } => refund(&reached, &job, note.as_deref()).await,
        OperateCommand::ForgetClient { client, .. } => forget(&reached, &client).await,
    };
    reached.close().await;
    done
}

fn reconciler(reached: &Reached) -> Reconcile {
    Reconcile {
        books: reached.store.clone(),
        accounts: reached.store.clone(),
        jobs: reached.store.clone(),
        deliveries: reached.store.clone(),
        objects: reached.objects.clone(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        policy: Arc::new(Policy::default()),
    }
}

/// Rounds of looking and repairing: what one makes agree may show the next what else does not.
const ROUNDS: usize = 3;

async fn reconcile(reached: &Reached, client: Option<ClientId>, repair: bool) -> Result<()> {
    let reconciler = reconciler(reached);
    let clients = match client {
        Some(client) => vec![client],
        None => reached.store.clients().await?,
    };
    let (mut repaired, mut open) = (0, 0);
    for client in &clients {
        for round in 1..=ROUNDS {
            let findings = reconciler.audit(client).await.with_context(|| format!("cannot audit {client}"))?;
            let mut changed = false;
            for finding in &findings {
                let outcome = if repair { reconciler.repair(client, finding).await? } else { Repaired::LeftOpen };
                let is_last = round == ROUNDS;
                let word = match outcome {
                    Repaired::Done => "repaired",
                    Repaired::Changed => "changed meanwhile",
                    Repaired::LeftOpen => "open",
                };
                // What is open is told once, when nothing more changes.
                if outcome == Repaired::Done || is_last {
                    say(format_args!("{client}: {finding}: {word}"))?;
                }
                repaired += u32::from(outcome == Repaired::Done);
                changed |= outcome != Repaired::LeftOpen;
            }
            if !changed || round == ROUNDS {
                if round < ROUNDS {
                    findings.iter().try_for_each(|finding| say(format_args!("{client}: {finding}: open")))?;
                }
                open += findings.len();
                break;
            }
        }
    }
    say(format_args!("{} clients, {repaired} repaired, {open} open", clients.len()))?;
    if open > 0 {
        bail!("{open} differences are open: see \"Restore a table\" in docs/OPERATIONS.md");
    }
    Ok(())
}

async fn refund(reached: &Reached, id: &JobId, note: Option<&str>) -> Result<()> {
    let job = reached.store.job(id).await?.with_context(|| format!("there is no {id}"))?;
    let (Hold::Captured(charged), Some(run)) = (job.state.hold, job.state.run) else {
        bail!("{id} was not charged: its status is {}", job.state.status());
    };
    let grant_id = format!("refund-{id}-{run}");
    match reached.store.grant(&job.client, &grant_id, charged, note, SystemClock.now()).await {
        Ok(()) => say(format_args!("{}: {} milli-credits granted for {id}", job.client, charged.0)),
        Err(CommitError::AlreadyInLedger) => say(format_args!("{}: {id} was refunded before", job.client)),
        Err(err) => Err(err).context("not refunded"),
    }
}

async fn forget(reached: &Reached, client: &ClientId) -> Result<()> {
    let store = &reached.store;
    let mut keys = 0;
    for key in rotoless_core::ports::Keys::list(&**store).await?.iter().filter(|key| key.client_id == *client) {
        keys += u32::from(store.set_enabled(&key.key_fingerprint, false).await?);
    }
    let delete = Delete {
        jobs: store.clone(),
        objects: reached.objects.clone(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        policy: Arc::new(Policy::default()),
    };
    let mut jobs = 0;
    for job in reconciler(reached).jobs_of(client).await? {
        match delete.delete(client, &job.id).await {
            Ok(()) => jobs += 1,
            // The index lags behind: it was deleted before.
            Err(DeleteError::UnknownJob) => {}
            Err(err @ (DeleteError::Store(_) | DeleteError::Contention)) => {
                return Err(err).with_context(|| format!("{} could not be deleted: run this again", job.id));
            }
        }
    }
    store.forget_usage(client).await?;
    say(format_args!("{client}: {keys} keys disabled, {jobs} jobs deleted, usage removed; balance and ledger stay"))
}

fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

//! `rotoless runpod status`: what runs, what waits, what it costs, and whether the endpoint is still as wanted.

use std::io::Write;

use anyhow::{Context, Result, bail};
use rotoless_aws::runpod::{Endpoint, Health};
use serde_json::{Value, json};

use super::arguments::StatusArgs;
use super::differences::Difference;
use super::found::{Found, told};
use super::plan::{Plan, Source};
use super::prices::an_hour;
use super::wanted::Wanted;

/// Everything that is told.
struct Status {
    endpoint: Endpoint,
    health: Health,
    workers_max: Option<u64>,
    /// Dollars an hour of one worker.
    price: Option<f64>,
    differences: Vec<Difference>,
}

pub(crate) async fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<()> {
    let account = &args.account;
    let wanted = Wanted::read(&account.file, args.image.as_deref())?;
    let found = Found::look(&account.management(), &wanted, account.endpoint_id.as_ref()).await?;
    let (Some(id), Some(fields)) = (found.endpoint_id(), &found.endpoint) else {
        bail!("this account has no endpoint {}: `rotoless runpod apply` makes it", wanted.endpoint.name);
    };
    let plan = Plan::new(&wanted, Source::Looked, &found)?;
    let endpoint = Endpoint::new(account.api_url.clone(), id, account.api_key.as_str().into());
    let health = endpoint.health().await.map_err(told).context("the endpoint does not say how it is")?;
    let gpus = fields.get("gpuTypeIds").and_then(Value::as_array);
    let status = Status {
        endpoint,
        health,
        workers_max: fields.get("workersMax").and_then(Value::as_u64),
        price: an_hour(gpus.into_iter().flatten().filter_map(Value::as_str)),
        differences: plan.differences,
    };
    if account.json {
        status.write_json(out)?
    } else {
        status.write(&account.file.display().to_string(), out)?
    }
    match (status.workers_max, status.differences.len()) {
        (Some(0), _) => {
            bail!("no worker is allowed: nobody works until `rotoless runpod apply` or a person raises workersMax")
        }
        (_, 0) => Ok(()),
        (_, count) => bail!("{count} settings differ from {}", account.file.display()),
    }
}

impl Status {
    /// Dollars an hour now, and with as many workers as there may be.
    fn bill(&self) -> Option<(f64, f64)> {
        let price = self.price?;
        let most = self.workers_max.map_or(0.0, |max| max as f64);
        Some((price * f64::from(self.health.workers.running), price * most))
    }

    fn write(&self, file: &str, out: &mut dyn Write) -> Result<()> {
        let Health { jobs, workers } = self.health;
        let most = self.workers_max.map_or_else(|| "?".to_owned(), |most| most.to_string());
        writeln!(out, "endpoint  {}", self.endpoint.id())?;
        writeln!(
            out,
            "wakes     {} wait, {} were taken; {} done, {} failed and {} retried lately",
            jobs.in_queue, jobs.in_progress, jobs.completed, jobs.failed, jobs.retried
        )?;
        writeln!(
            out,
            "workers   {} running of {most}; {} idle, {} starting, {} throttled, {} unhealthy",
            workers.running, workers.idle, workers.initializing, workers.throttled, workers.unhealthy
        )?;
        match self.bill() {
            Some((now, most)) => {
                writeln!(out, "bill      about {now:.2} $ an hour now, {most:.2} $ with all workers; disks apart")?
            }
            None => writeln!(out, "bill      no price is known of one of its GPUs")?,
        }
        if self.differences.is_empty() {
            writeln!(out, "settings  as {file} wants them (FlashBoot cannot be seen)")?;
        } else {
            writeln!(out, "settings")?;
            for difference in &self.differences {
                writeln!(out, "  {difference}")?;
            }
        }
        Ok(())
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        let Health { jobs, workers } = self.health;
        let status = json!({
            "endpoint_id": self.endpoint.id().as_str(),
            "wakes": {
                "queued": jobs.in_queue, "in_progress": jobs.in_progress, "completed": jobs.completed,
                "failed": jobs.failed, "retried": jobs.retried,
            },
            "workers": {
                "running": workers.running, "idle": workers.idle, "ready": workers.ready,
                "initializing": workers.initializing, "throttled": workers.throttled,
                "unhealthy": workers.unhealthy, "max": self.workers_max,
            },
            "dollars_an_hour": self.bill().map(|(now, most)| json!({ "now": now, "most": most })),
            "differences": self.differences,
        });
        Ok(writeln!(out, "{status:#}")?)
    }
}

//! `rotoless runpod apply`: makes what is wanted so, once.

use std::io::Write;

use anyhow::{Context, Result, bail};
use rotoless_aws::runpod::{EndpointId, Management, Resource};
use serde_json::json;

use super::arguments::ApplyArgs;
use super::differences::Difference;
use super::found::{Found, text, told};
use super::plan::{Plan, Source};
use super::wanted::Wanted;
use super::worker_env::WorkerEnv;

pub(crate) async fn run(args: &ApplyArgs, out: &mut dyn Write) -> Result<()> {
    let account = &args.account;
    let wanted = Wanted::read(&account.file, args.image.as_deref())?;
    let given = args.worker_env.as_deref().map(WorkerEnv::read).transpose()?;
    let source = given.as_ref().map_or(Source::Kept, Source::Given);
    let management = account.management();
    let found = Found::look(&management, &wanted, account.endpoint_id.as_ref()).await?;
    let plan = Plan::new(&wanted, source, &found)?;
    if !account.json {
        show(&plan.differences, &found, out)?;
        warn(&wanted, given.as_ref(), out)?;
    }
    let is_changed = !args.dry_run && !plan.differences.is_empty();
    let endpoint_id = if is_changed {
        let id = carry_out(&management, &plan, &found).await?;
        confirm(&management, &wanted, source, &id).await?;
        Some(id)
    } else {
        found.endpoint_id()
    };
    if account.json {
        let done = json!({
            "changed": is_changed,
            "dry_run": args.dry_run,
            "differences": plan.differences,
            "endpoint_id": endpoint_id.as_ref().map(EndpointId::as_str),
        });
        return Ok(writeln!(out, "{done:#}")?);
    }
    match endpoint_id {
        _ if args.dry_run => writeln!(out, "Nothing was changed.")?,
        Some(id) => next(&wanted, &id, out)?,
        None => bail!("RunPod gave the endpoint no id"),
    }
    Ok(())
}

fn show(differences: &[Difference], found: &Found, out: &mut dyn Write) -> Result<()> {
    for (of, is_there) in [("template", found.template.is_some()), ("endpoint", found.endpoint.is_some())] {
        let count = differences.iter().filter(|difference| difference.of == of).count();
        match (is_there, count) {
            (false, _) => writeln!(out, "{of}: to be made")?,
            (true, 0) => writeln!(out, "{of}: as wanted")?,
            (true, _) => writeln!(out, "{of}: to be changed")?,
        }
        for Difference { field, is, wanted, .. } in differences.iter().filter(|difference| difference.of == of) {
            match is_there {
                true => writeln!(out, "  {field}: {is} -> {wanted}")?,
                false => writeln!(out, "  {field}: {wanted}")?,
            }
        }
    }
    Ok(())
}

fn warn(wanted: &Wanted, given: Option<&WorkerEnv>, out: &mut dyn Write) -> Result<()> {
    if wanted.endpoint.workers_min > 0 {
        writeln!(out, "note: {} workers are paid for day and night", wanted.endpoint.workers_min)?;
    }
    let plain = given.map(WorkerEnv::in_plain).unwrap_or_default();
    if !plain.is_empty() {
        let names = plain.join(", ");
        writeln!(
            out,
            "note: whoever can read the account's templates can read {names}; a secret of RunPod named in its stead \
             ({{{{ RUNPOD_SECRET_… }}}}) cannot be read"
        )?;
    }
    Ok(())
}

async fn carry_out(management: &Management, plan: &Plan, found: &Found) -> Result<EndpointId> {
    let template_id = match found.template_id() {
        None => {
            let made = management.create(Resource::Template, plan.new_template()).await;
            let made = made.map_err(told).context("the template was not made")?;
            text(&made, "id").context("RunPod gave the template no id")?.to_owned()
        }
        Some(id) => {
            if let Some(change) = plan.change_template() {
                let changed = management.update(Resource::Template, id, &change).await;
                changed.map_err(told).context("the template was not changed")?;
            }
            id.to_owned()
        }
    };
    let Some(id) = found.endpoint_id() else {
        let made = management.create(Resource::Endpoint, &plan.new_endpoint(&template_id)).await;
        let made = made.map_err(told).context("the endpoint was not made; the template is there")?;
        return text(&made, "id").and_then(EndpointId::parse).context("RunPod gave the endpoint no id");
    };
    if let Some(change) = plan.change_endpoint(&template_id) {
        let changed = management.update(Resource::Endpoint, id.as_str(), &change).await;
        changed.map_err(told).context("the endpoint was not changed")?;
    }
    Ok(id)
}

/// Looks again: what was asked for must be there, no worker that is paid for day and night above all.
async fn confirm(management: &Management, wanted: &Wanted, source: Source<'_>, id: &EndpointId) -> Result<()> {
    let found = Found::look(management, wanted, Some(id)).await?;
    let workers_min = found.endpoint.as_ref().and_then(|endpoint| endpoint.get("workersMin")).and_then(|n| n.as_f64());
    if workers_min != Some(f64::from(wanted.endpoint.workers_min)) {
        bail!("endpoint {id} does not say that its workersMin is {}: look at it now", wanted.endpoint.workers_min);
    }
    let left = Plan::new(wanted, source, &found)?.differences;
    if left.is_empty() {
        return Ok(());
    }
    let left: Vec<_> = left.iter().map(ToString::to_string).collect();
    bail!(
        "endpoint {id} is there, but RunPod did not take over all of it: {}. A template's category and kind and an \
         endpoint's network volume cannot be changed from here: change them in RunPod's console, or delete the object \
         and apply again",
        left.join("; ")
    )
}

fn next(wanted: &Wanted, id: &EndpointId, out: &mut dyn Write) -> Result<()> {
    let endpoint = &wanted.endpoint;
    writeln!(
        out,
        "\
Endpoint {id} is as wanted: {min} to {max} workers, none paid for {idle} s after the last job.

Let the service wake them (docs/OPERATIONS.md, \"Workers on RunPod\"):
  aws secretsmanager create-secret --name rotoless-runpod --secret-string file://runpod-keys.json
  sam deploy --parameter-overrides WorkerHome=runpod RunPodEndpoint={id} RunPodSecret=rotoless-runpod WorkersMax={max}
and look at them:
  rotoless runpod status",
        min = endpoint.workers_min,
        max = endpoint.workers_max,
        idle = endpoint.idle_timeout,
    )?;
    Ok(())
}

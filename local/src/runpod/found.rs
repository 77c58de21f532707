//! What RunPod has of what is wanted: by name, because a first `apply` has nothing else.

use anyhow::{Error, Result, anyhow, bail};
use rotoless_aws::runpod::{EndpointId, Fields, Management, Resource, RunPodError};
use serde_json::Value;

use super::differences::same_name;
use super::wanted::Wanted;

/// The objects, as RunPod tells them.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) template: Option<Fields>,
    pub(crate) endpoint: Option<Fields>,
}

impl Found {
    /// Looks for the template by its name, for the endpoint by its id or else by its name.
    pub(crate) async fn look(management: &Management, wanted: &Wanted, id: Option<&EndpointId>) -> Result<Self> {
        let (templates, endpoint) = tokio::join!(management.list(Resource::Template), async {
            match id {
                Some(id) => Ok(Some(management.endpoint(id).await.map_err(|error| unknown(id, error))?)),
                None => {
                    one("endpoint", &wanted.endpoint.name, management.list(Resource::Endpoint).await.map_err(told)?)
                }
            }
        });
        let template = one("template", &wanted.template.name, templates.map_err(told)?)?;
        let endpoint = endpoint?;
        Ok(Self { template, endpoint })
    }

    pub(crate) fn template_id(&self) -> Option<&str> {
        text(self.template.as_ref()?, "id")
    }

    pub(crate) fn endpoint_id(&self) -> Option<EndpointId> {
        EndpointId::parse(text(self.endpoint.as_ref()?, "id")?)
    }
}

/// The one of this name; names of endpoints may be taken several times, and we must not guess.
fn one(what: &str, name: &str, all: Vec<Fields>) -> Result<Option<Fields>> {
    let wanted = Value::from(name);
    let mut named: Vec<_> =
        all.into_iter().filter(|one| one.get("name").is_some_and(|is| same_name(&wanted, is))).collect();
    if named.len() > 1 {
        let ids: Vec<_> = named.iter().filter_map(|one| text(one, "id")).collect();
        bail!("several of the account's {what}s are called {name}: {}; name one with --endpoint-id", ids.join(", "));
    }
    Ok(named.pop())
}

pub(crate) fn text<'a>(of: &'a Fields, field: &str) -> Option<&'a str> {
    of.get(field)?.as_str()
}

fn unknown(id: &EndpointId, error: RunPodError) -> Error {
    if error.status() == Some(404) { anyhow!("this account has no endpoint {id}") } else { told(error) }
}

/// With what RunPod said, which is for people.
pub(crate) fn told(error: RunPodError) -> Error {
    match &error {
        RunPodError::Refused { status: 401 | 403, .. } => anyhow!(error)
            .context("the key (RUNPOD_API_KEY) may not do this: it must read and write endpoints and templates"),
        RunPodError::Refused { status, said } if !said.is_empty() => {
            anyhow!("RunPod answered with status {status}: {said}")
        }
        RunPodError::Refused { .. }
        | RunPodError::NotSent(_)
        | RunPodError::TimedOut(_)
        | RunPodError::BrokenOff(_)
        | RunPodError::TooLarge(_)
        | RunPodError::Unreadable { .. }
        | RunPodError::NotAsked(_) => anyhow!(error),
    }
}

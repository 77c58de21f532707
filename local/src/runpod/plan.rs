//! What is to be done so that RunPod has what is wanted: pure.
//!
//! Invariants: nothing to do is an empty plan; a change sends only what differs, but for FlashBoot, which answers do not
//! show and which therefore goes along with every change; a network volume is never taken off by us.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rotoless_aws::runpod::Fields;
use serde_json::{Value, json};

use super::differences::{Difference, all, between, of_environment};
use super::found::{Found, text};
use super::wanted::Wanted;
use super::worker_env::WorkerEnv;

/// Fields that can be given to a new template and never be changed: `TemplateUpdateInput` lacks them.
const FOR_GOOD: [&str; 2] = ["category", "isServerless"];

/// What is wanted beside what is there.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The whole template as it should be, its environment included.
    template: Fields,
    /// The whole endpoint as it should be, but for the template's id.
    endpoint: Fields,
    /// What is not so.
    pub(crate) differences: Vec<Difference>,
}

/// Where the worker's environment comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// It was given, whole.
    Given(&'a WorkerEnv),
    /// As the template has it, with what the file sets; what it lacks is an error.
    Kept,
    /// As above; what it lacks is a difference.
    Looked,
}

impl Plan {
    pub(crate) fn new(wanted: &Wanted, source: Source<'_>, found: &Found) -> Result<Self> {
        let mut template = wanted.template_fields()?;
        if !wanted.names_an_image() {
            keep_image(&mut template, source, found)?;
        }
        let endpoint = wanted.endpoint_fields()?;
        let mut differences = match &found.template {
            None => all("template", &template),
            Some(is) => between("template", &template, is),
        };
        let there = found.template.as_ref().and_then(|is| is.get("env")).and_then(Value::as_object);
        let environment = environment(wanted, source, there, &mut differences)?;
        differences.extend(of_environment(&environment, there));
        template.insert("env".to_owned(), json!(environment));
        match &found.endpoint {
            None => differences.extend(all("endpoint", &endpoint)),
            Some(is) => {
                differences.extend(between("endpoint", &endpoint, is));
                differences.extend(volume(is));
                differences.extend(other_template(found, is));
            }
        }
        Ok(Self { template, endpoint, differences })
    }

    /// What a new template is made of.
    pub(crate) fn new_template(&self) -> &Fields {
        &self.template
    }

    /// What a new endpoint is made of.
    pub(crate) fn new_endpoint(&self, template_id: &str) -> Fields {
        let mut fields = self.endpoint.clone();
        fields.insert("templateId".to_owned(), template_id.into());
        fields
    }

    /// What is to be changed of a template that is there; `None`: nothing that can be.
    pub(crate) fn change_template(&self) -> Option<Fields> {
        let mut change = Fields::new();
        for difference in self.differences.iter().filter(|d| d.of == "template") {
            let field = if difference.field.starts_with("env.") { "env" } else { difference.field.as_str() };
            if let Some(wanted) = self.template.get(field).filter(|_| !FOR_GOOD.contains(&field)) {
                change.insert(field.to_owned(), wanted.clone());
            }
        }
        (!change.is_empty()).then_some(change)
    }

    /// What is to be changed of an endpoint that is there; `None`: nothing that can be.
    pub(crate) fn change_endpoint(&self, template_id: &str) -> Option<Fields> {
        let mut change = Fields::new();
        for difference in self.differences.iter().filter(|d| d.of == "endpoint") {
            if difference.field == "templateId" {
                change.insert("templateId".to_owned(), template_id.into());
            } else if let Some(wanted) = self.endpoint.get(&difference.field) {
                change.insert(difference.field.clone(), wanted.clone());
            }
        }
        if change.is_empty() {
            return None;
        }
        if let Some(flashboot) = self.endpoint.get("flashboot") {
            change.insert("flashboot".to_owned(), flashboot.clone());
        }
        Some(change)
    }
}

/// The file names nobody's image: the template's own stays.
fn keep_image(template: &mut Fields, source: Source<'_>, found: &Found) -> Result<()> {
    match (found.template.as_ref().and_then(|is| text(is, "imageName")), source) {
        (Some(image), _) => {
            template.insert("imageName".to_owned(), image.into());
        }
        (None, Source::Looked) => {}
        (None, Source::Given(_) | Source::Kept) => {
            bail!(
                "say which image the workers run: --image ghcr.io/…/rotoless-worker:VERSION, in lower case and with a version"
            )
        }
    }
    Ok(())
}

fn environment(
    wanted: &Wanted,
    source: Source<'_>,
    there: Option<&Fields>,
    differences: &mut Vec<Difference>,
) -> Result<BTreeMap<String, String>> {
    if let Source::Given(given) = source {
        return given.complete(&wanted.environment);
    }
    let there =
        there.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let mut kept: BTreeMap<_, _> = there.collect();
    kept.extend(wanted.environment.set.clone());
    let lacks = |name: &&String| kept.get(*name).is_none_or(String::is_empty);
    let missing: Vec<&str> = wanted.environment.required.iter().filter(lacks).map(String::as_str).collect();
    match source {
        Source::Looked => differences.extend(missing.into_iter().map(|name| Difference {
            of: "template",
            field: format!("env.{name}"),
            is: "absent".into(),
            wanted: "given".into(),
        })),
        Source::Kept if !missing.is_empty() => {
            bail!("give the worker's environment with --worker-env: the template lacks {}", missing.join(", "))
        }
        Source::Kept | Source::Given(_) => {}
    }
    Ok(kept)
}

/// An endpoint with a network volume gives all its work to one worker.
fn volume(is: &Fields) -> Option<Difference> {
    let given = ["networkVolumeId", "networkVolumeIds"].into_iter().find_map(|field| {
        let value = is.get(field)?;
        let is_empty = match value {
            Value::String(id) => id.is_empty(),
            Value::Array(ids) => ids.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
        };
        (!is_empty).then_some((field, value))
    });
    given.map(|(field, value)| Difference {
        of: "endpoint",
        field: field.to_owned(),
        is: value.clone(),
        wanted: Value::Null,
    })
}

fn other_template(found: &Found, is: &Fields) -> Option<Difference> {
    let (is, wanted) = (text(is, "templateId").unwrap_or_default(), found.template_id());
    (wanted != Some(is)).then(|| Difference {
        of: "endpoint",
        field: "templateId".to_owned(),
        is: is.into(),
        wanted: wanted.map_or_else(|| "that of the new template".into(), Value::from),
    })
}

//! The management API: endpoints and templates of `https://rest.runpod.io/v1`.
//!
//! Source: `api-reference/openapi.json` of runpod/docs. What it says and what we rely on:
//! - `EndpointCreateInput` and `EndpointUpdateInput` have `flashboot`, the answer (`Endpoint`) does not: it cannot be seen.
//! - `GET /templates` leaves out templates that an endpoint uses, unless `includeEndpointBoundTemplates=true`.
//! - Names of templates are unique, names of endpoints are not. RunPod once ended the names of endpoints with FlashBoot
//!   in ` -fb` (runpodctl #261).
//! - A `PATCH` of anything but names, counts of workers, scaler, timeouts and FlashBoot is a rolling release.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::endpoint::EndpointId;
use super::error::RunPodError;
use super::exchange::{BaseUrl, Door, Question};

const CALL: Duration = Duration::from_secs(15);
/// For the one fact that the sweep asks for, in passing.
const GLANCE: Duration = Duration::from_secs(5);

/// All endpoints of an account, with their templates' environment and readme.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// What the management API keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// How a worker's container is made.
    Template,
    /// A queue with workers of one template.
    Endpoint,
}

impl Resource {
    const fn path(self) -> &'static str {
        match self {
            Self::Template => "templates",
            Self::Endpoint => "endpoints",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Template => "a template",
            Self::Endpoint => "an endpoint",
        }
    }
}

/// An object as RunPod keeps it, with all fields that it told.
pub type Fields = Map<String, Value>;

/// The management API with a key that may read, and write where something is changed.
#[derive(Debug, Clone)]
pub struct Management {
    pub(super) door: Door,
}

impl Management {
    /// The API at `base`, without `/v1`. Nothing is sent yet.
    #[must_use]
    pub fn new(base: BaseUrl, key: SecretString) -> Self {
        Self { door: Door::new(base, key) }
    }

    /// All of the account's.
    ///
    /// # Errors
    /// [`RunPodError`].
    pub async fn list(&self, resource: Resource) -> Result<Vec<Fields>, RunPodError> {
        let query: &[_] = match resource {
            Resource::Template => &[("includeEndpointBoundTemplates", "true")],
            Resource::Endpoint => &[],
        };
        let answer = self.ask("GET", &["v1", resource.path()], query, None, CALL, "a list").await?;
        let Value::Array(items) = answer else { return Err(unreadable("a list")) };
        items.into_iter().map(|item| object(item, resource)).collect()
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`RunPodError`]; status 404 where there is none.
    pub async fn endpoint(&self, id: &EndpointId) -> Result<Fields, RunPodError> {
        let path = ["v1", Resource::Endpoint.path(), id.as_str()];
        object(self.ask("GET", &path, &[], None, CALL, "an endpoint").await?, Resource::Endpoint)
    }

    /// The most workers that an endpoint may have. At most 5 s.
    ///
    /// # Errors
    /// [`RunPodError`].
    pub async fn workers_max(&self, id: &EndpointId) -> Result<u32, RunPodError> {
        const WHAT: &str = "an endpoint with a number of workers";
        let path = ["v1", Resource::Endpoint.path(), id.as_str()];
        let answer = self.ask("GET", &path, &[], None, GLANCE, WHAT).await?;
        answer["workersMax"].as_u64().and_then(|max| max.try_into().ok()).ok_or_else(|| unreadable(WHAT))
    }

    /// Makes one, and says what was made.
    ///
    /// # Errors
    /// [`RunPodError`]; where the answer was lost it may have been made.
    pub async fn create(&self, resource: Resource, fields: &Fields) -> Result<Fields, RunPodError> {
        let body = Value::Object(fields.clone());
        let path = ["v1", resource.path()];
        object(self.ask("POST", &path, &[], Some(&body), CALL, resource.what()).await?, resource)
    }

    /// Changes some fields of one, and says what became of it.
    ///
    /// # Errors
    /// [`RunPodError`]; where the answer was lost it may have been changed.
    pub async fn update(&self, resource: Resource, id: &str, fields: &Fields) -> Result<Fields, RunPodError> {
        let body = Value::Object(fields.clone());
        let path = ["v1", resource.path(), id];
        object(self.ask("PATCH", &path, &[], Some(&body), CALL, resource.what()).await?, resource)
    }

    /// Lets an endpoint have no workers: those at work finish, none is started until a person says otherwise.
    ///
    /// # Errors
    /// [`RunPodError`].
    pub async fn stop(&self, id: &EndpointId) -> Result<(), RunPodError> {
        let body = json!({ "workersMin": 0, "workersMax": 0 });
        let path = ["v1", Resource::Endpoint.path(), id.as_str()];
        let answer = self.ask("PATCH", &path, &[], Some(&body), GLANCE, "an endpoint").await?;
        match answer["workersMax"].as_u64() {
            Some(0) => Ok(()),
            Some(_) | None => Err(unreadable("a stopped endpoint")),
        }
    }

    async fn ask(
        &self,
        method: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        within: Duration,
        what: &'static str,
    ) -> Result<Value, RunPodError> {
        self.door.ask(&Question { method, path, query, body, within, at_most: MAX_ANSWER, what }).await
    }
}

const fn unreadable(what: &'static str) -> RunPodError {
    RunPodError::Unreadable { what, source: None }
}

/// An object with an id that can stand in a path.
fn object(answer: Value, resource: Resource) -> Result<Fields, RunPodError> {
    let Value::Object(fields) = answer else { return Err(unreadable(resource.what())) };
    let has_id = fields.get("id").and_then(Value::as_str).and_then(EndpointId::parse).is_some();
    if has_id { Ok(fields) } else { Err(unreadable(resource.what())) }
}

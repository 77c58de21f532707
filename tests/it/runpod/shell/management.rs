//! The management routes: endpoints and templates as `rest.runpod.io/v1` keeps them.
//!
//! Of endpoints one is alive, the others are what was asked for and nothing else.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::platform::{Millis, Platform, Route, SECOND, Scaler, Trouble};
use super::{Answer, ENDPOINT, Endpoint};

/// What was made, beside the endpoint that is alive.
#[derive(Debug, Default)]
pub(super) struct Management {
    /// By `endpoints` or `templates`, and id.
    made: BTreeMap<(String, String), Value>,
    /// Fields of the living endpoint that mean nothing to it.
    rest: Map<String, Value>,
    count: u32,
}

impl Endpoint {
    pub(super) async fn manage(&self, method: &str, path: &[&str], body: &Value) -> Answer {
        if let Some(Trouble::Refuse(status) | Trouble::Deny(status)) = self.trouble(Route::Management).await {
            return Answer::Json(status, json!({"error": "trouble"}));
        }
        match (method, path) {
            ("GET", [kind @ ("endpoints" | "templates")]) => Answer::Json(200, self.list(kind)),
            ("POST", [kind @ ("endpoints" | "templates")]) => Answer::Json(201, self.make(kind, body)),
            ("GET", [kind @ ("endpoints" | "templates"), id]) => Answer::of(self.read(kind, id).ok_or(404)),
            ("PATCH", [kind @ ("endpoints" | "templates"), id]) => Answer::of(self.change(kind, id, body)),
            _ => Answer::Json(404, json!({"error": "not found"})),
        }
    }

    fn list(&self, kind: &str) -> Value {
        let mut all: Vec<Value> = if kind == "endpoints" { vec![self.alive()] } else { Vec::new() };
        let management = self.0.management.lock().unwrap();
        all.extend(management.made.iter().filter(|((of, _), _)| of == kind).map(|(_, made)| made.clone()));
        Value::Array(all)
    }

    fn make(&self, kind: &str, body: &Value) -> Value {
        let mut management = self.0.management.lock().unwrap();
        management.count += 1;
        let id = format!("made{}", management.count);
        let mut made = body.clone();
        made["id"] = json!(id);
        management.made.insert((kind.to_owned(), id), made.clone());
        made
    }

    fn read(&self, kind: &str, id: &str) -> Option<Value> {
        if (kind, id) == ("endpoints", ENDPOINT) {
            return Some(self.alive());
        }
        self.0.management.lock().unwrap().made.get(&(kind.to_owned(), id.to_owned())).cloned()
    }

    fn change(&self, kind: &str, id: &str, body: &Value) -> Result<Value, u16> {
        let fields = body.as_object().ok_or(400_u16)?;
        if (kind, id) == ("endpoints", ENDPOINT) {
            self.with(|platform, now| set(platform, now, fields))?;
            self.0.management.lock().unwrap().rest.extend(fields.clone());
            return Ok(self.alive());
        }
        let mut management = self.0.management.lock().unwrap();
        let made = management.made.get_mut(&(kind.to_owned(), id.to_owned())).ok_or(404_u16)?;
        fields.iter().for_each(|(name, value)| made[name] = value.clone());
        Ok(made.clone())
    }

    /// The living endpoint as it is, traps and all. FlashBoot can be set and not be seen.
    fn alive(&self) -> Value {
        let mut shown = Value::Object(self.0.management.lock().unwrap().rest.clone());
        self.with(|platform, _| {
            let settings = &platform.settings;
            let (scaler, value) = match settings.scaler {
                Scaler::QueueDelay(delay) => ("QUEUE_DELAY", delay / SECOND),
                Scaler::RequestCount(count) => ("REQUEST_COUNT", count.into()),
            };
            shown["id"] = json!(ENDPOINT);
            shown["workersMin"] = json!(settings.workers_min);
            shown["workersMax"] = json!(platform.workers_max());
            shown["idleTimeout"] = json!(settings.idle_timeout / SECOND);
            shown["executionTimeoutMs"] = json!(settings.execution_timeout);
            (shown["scalerType"], shown["scalerValue"]) = (json!(scaler), json!(value));
        });
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("flashboot");
        }
        shown
    }
}

fn set(platform: &mut Platform, now: Millis, fields: &Map<String, Value>) -> Result<(), u16> {
    let number = |name: &str| fields.get(name).map(|value| value.as_u64().ok_or(400_u16)).transpose();
    let count = |name: &str| Ok::<_, u16>(number(name)?.map(|value| u32::try_from(value).unwrap_or(u32::MAX)));
    if let Some(min) = count("workersMin")? {
        platform.settings.workers_min = min;
    }
    if let Some(max) = count("workersMax")? {
        platform.set_workers_max(now, max);
    }
    if let Some(idle) = number("idleTimeout")? {
        if !(1..=3600).contains(&idle) {
            return Err(400);
        }
        platform.settings.idle_timeout = idle * SECOND;
    }
    if let Some(timeout) = number("executionTimeoutMs")? {
        platform.settings.execution_timeout = timeout;
    }
    if let Some(flashboot) = fields.get("flashboot") {
        platform.settings.flashboot = flashboot.as_bool().ok_or(400_u16)?;
    }
    if let Some(value) = number("scalerValue")? {
        let type_ = fields.get("scalerType").and_then(Value::as_str);
        platform.settings.scaler = match (type_, platform.settings.scaler) {
            (Some("QUEUE_DELAY"), _) | (None, Scaler::QueueDelay(_)) => Scaler::QueueDelay(value * SECOND),
            (Some("REQUEST_COUNT"), _) | (None, Scaler::RequestCount(_)) => {
                Scaler::RequestCount(u32::try_from(value.max(1)).unwrap_or(u32::MAX))
            }
            (Some(_), _) => return Err(400),
        };
    }
    Ok(())
}

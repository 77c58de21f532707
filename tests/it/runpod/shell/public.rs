//! What callers may ask.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::platform::{Route, Trouble};
use super::{Answer, Endpoint, Query};

/// How often a waiting call looks.
pub(super) const LOOK: Duration = Duration::from_millis(20);

impl Endpoint {
    pub(super) async fn caller(&self, method: &str, path: &[&str], query: &Query, body: &Value) -> Answer {
        let route = match (method, path) {
            ("POST", ["run" | "runsync"]) => Some(Route::Run),
            ("GET", ["health"]) => Some(Route::Health),
            ("POST", ["purge-queue"]) => Some(Route::Purge),
            _ => None,
        };
        let trouble = match route {
            Some(route) => self.trouble(route).await,
            None => None,
        };
        if let Some(Trouble::Refuse(status)) = trouble {
            return Answer::Json(status, json!({"error": "trouble"}));
        }
        let answer = self.called(method, path, query, body).await;
        match trouble {
            Some(Trouble::Deny(status)) => Answer::Json(status, json!({"error": "trouble"})),
            Some(Trouble::Refuse(_) | Trouble::Hang) | None => answer,
        }
    }

    async fn called(&self, method: &str, path: &[&str], query: &Query, body: &Value) -> Answer {
        match (method, path) {
            ("POST", ["run"]) => Answer::of(self.with(|platform, now| platform.run(now, body))),
            ("POST", ["runsync"]) => self.run_and_wait(query, body).await,
            ("GET" | "POST", ["status" | "stream", id]) => Answer::of(self.with(|platform, _| platform.status(id))),
            ("GET", ["health"]) => Answer::of(Ok(self.with(|platform, now| platform.health(now)))),
            ("POST", ["cancel", id]) => Answer::of(self.with(|platform, now| platform.cancel(now, id))),
            ("POST", ["retry", id]) => Answer::of(self.with(|platform, now| platform.retry(now, id))),
            ("POST", ["purge-queue"]) => Answer::of(self.with(|platform, now| platform.purge(now))),
            _ => Answer::Json(404, json!({"error": "not found"})),
        }
    }

    async fn run_and_wait(&self, query: &Query, body: &Value) -> Answer {
        let wait = query.get("wait").and_then(|wait| wait.parse().ok()).unwrap_or(90_000_u64);
        let deadline = Instant::now() + Duration::from_millis(wait.clamp(1000, 300_000));
        let made = self.with(|platform, now| platform.run(now, body));
        let id = match &made {
            Ok(made) => made["id"].as_str().unwrap().to_owned(),
            Err(_) => return Answer::of(made),
        };
        loop {
            let shown = self.with(|platform, _| platform.status(&id));
            let open =
                shown.as_ref().is_ok_and(|shown| shown["status"] == "IN_QUEUE" || shown["status"] == "IN_PROGRESS");
            if !open || Instant::now() >= deadline {
                return Answer::of(shown);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

//! Protection from being scaled in, asked of the agent of ECS on this machine while there is a message in our hands.
//!
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html>
//! Only tasks of a service can be protected, and only they need it: a task that was started by itself is ended by nobody's
//! scaling, and its machine is kept by the capacity provider's managed termination protection. Its agent then answers
//! `TASK_NOT_VALID`, which is no failure.
//! Invariants: plain HTTP leads to a loopback or link-local address only; that nobody protects us is logged and stops
//! nothing; protection ends by itself [`MINUTES`] after the last request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::detail::shown;
use crate::net;

/// How long one request protects. An attempt may last for longer: it is asked again after half of it.
const MINUTES: u64 = 60;

/// One call of the agent.
const CALL: Duration = Duration::from_secs(4);

/// The agent's answers have a few hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Why nobody protects us.
#[derive(Debug, thiserror::Error)]
enum Unprotected {
    #[error("the call did not go through")]
    Transport(#[source] reqwest::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("the answer is too large or cannot be read")]
    Malformed,
    #[error("refused with status {status} ({reason})")]
    Refused { status: u16, reason: String },
}

/// The agent's answer, as far as it says why not.
#[derive(Deserialize)]
struct Answer {
    failure: Option<Failure>,
    error: Option<ErrorAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorAnswer {
    code: Option<String>,
}

/// The agent.
#[derive(Debug, Clone)]
pub(super) struct Protection {
    http: Client,
    url: Url,
    /// This task belongs to no service: it cannot be protected, and need not be.
    is_pointless: Arc<AtomicBool>,
}

/// Asks for protection again and again until it is ended.
pub(super) struct Protected {
    protection: Protection,
    renewals: JoinHandle<()>,
}

/// The address of the agent, where it is one of this machine's.
pub(super) fn agent_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.query().is_none())?;
    let is_ours = match url.host_str()?.trim_matches(['[', ']']).parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    };
    is_ours.then_some(url)
}

impl Protection {
    pub(super) fn new(agent: Url) -> Result<Self, reqwest::Error> {
        let mut url = agent;
        let path = format!("{}/task-protection/v1/state", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self { http: net::client()?, url, is_pointless: Arc::default() })
    }

    /// Protected from here on.
    pub(super) async fn begin(&self) -> Protected {
        self.ask(true).await;
        let again = self.clone();
        let renewals = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(MINUTES * 60 / 2)).await;
                again.ask(true).await;
            }
        });
        Protected { protection: self.clone(), renewals }
    }

    async fn ask(&self, on: bool) {
        if self.is_pointless.load(Ordering::Relaxed) {
            return;
        }
        let asked = tokio::time::timeout(CALL, self.put(on)).await.unwrap_or(Err(Unprotected::Timeout));
        match asked {
            Ok(()) => tracing::debug!(protection.on = on, "scale-in protection"),
            Err(Unprotected::Refused { reason, .. }) if reason == "TASK_NOT_VALID" => {
                tracing::info!("this task belongs to no service: nobody scales it in");
                self.is_pointless.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(error = shown(&error), protection.on = on, "scale-in protection was not changed");
            }
        }
    }

    async fn put(&self, on: bool) -> Result<(), Unprotected> {
        let body = if on {
            json!({ "ProtectionEnabled": true, "ExpiresInMinutes": MINUTES })
        } else {
            json!({ "ProtectionEnabled": false })
        };
        let transport = |error: reqwest::Error| Unprotected::Transport(error.without_url());
        let mut response = self.http.put(self.url.clone()).json(&body).send().await.map_err(transport)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Unprotected::Malformed);
            }
            bytes.extend_from_slice(&chunk);
        }
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
        let said = answer.and_then(|Answer { failure, error }| {
            failure.and_then(|failure| failure.reason).or_else(|| error.and_then(|error| error.code))
        });
        match said {
            None if status.is_success() => Ok(()),
            said => Err(Unprotected::Refused { status: status.as_u16(), reason: said.unwrap_or_default() }),
        }
    }
}

impl Protected {
    /// Protected no more.
    pub(super) async fn end(self) {
        self.renewals.abort();
        self.protection.ask(false).await;
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        self.renewals.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_on_this_machine_or_it_is_none() {
        for good in ["http://169.254.170.2/api/1b2c", "http://127.0.0.1:9/x", "http://[fe80::1]/", "http://[::1]:1/api"]
        {
            assert!(agent_url(good).is_some(), "{good}");
        }
        for bad in [
            "https://169.254.170.2/",
            "http://10.0.0.1/api",
            "http://example.com/",
            "http://169.254.170.2.example.com/",
            "http://169.254.170.2/?x=1",
            "nonsense",
        ] {
            assert!(agent_url(bad).is_none(), "{bad}");
        }
    }
}

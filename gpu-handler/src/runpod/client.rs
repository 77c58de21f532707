//! The calls of RunPod: take, done, stop. One client, bounded in time and bytes.
//!
//! Owns: what is sent, what an answer means. Does not own: when a call comes (`session`), pings (`heartbeat`).
//! Invariants: no address and no key in an error or a log line; an answer that cannot be understood is no job.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client as Http, RequestBuilder, Response, StatusCode, Url};
use rotoless_contract::queue::Wake;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;

use super::env::RunPod;
use crate::net;

/// Job inputs are somebody else's, and RunPod passes on up to 20 MB of them. One that could not be read would be lost.
const MAX_JOB_BYTES: usize = 32 << 20;

/// Lists of jobs to be stopped.
const MAX_STOP_BYTES: usize = 64 << 10;

/// RunPod holds a stop channel's poll for at most 90 s.
const STOP_POLL: Duration = Duration::from_secs(95);

/// A job of RunPod's: for us a wake, whatever its input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) id: String,
    /// When it was posted, Unix seconds, if its input says so.
    pub(super) posted_at: Option<i64>,
}

/// What came of a take.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    Jobs(Vec<Job>),
    Nothing,
    /// 429.
    TooMany,
}

/// Why a call had no success.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the call did not go through")]
    Transport(#[source] reqwest::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the answer is not what was asked for")]
    Malformed,
    #[error("an address cannot be made")]
    Address,
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}

/// RunPod as this worker sees it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Http,
    platform: RunPod,
}

impl Client {
    pub(super) fn new(platform: RunPod) -> Result<Self, reqwest::Error> {
        Ok(Self { http: net::client()?, platform })
    }

    /// A client of new connections: after the process slept, the old ones lead nowhere.
    pub(super) fn renewed(&self) -> Result<Self, reqwest::Error> {
        Self::new(self.platform.clone())
    }

    /// Waits for a job, as long as RunPod lets it. The caller bounds the wait.
    pub(super) async fn take(&self, is_busy: bool) -> Result<Taken, CallError> {
        let response = self.get(self.platform.take(is_busy))?.send().await?;
        match response.status() {
            // 400 is what a worker gets that FlashBoot put to sleep or woke up.
            StatusCode::NO_CONTENT | StatusCode::BAD_REQUEST => Ok(Taken::Nothing),
            StatusCode::TOO_MANY_REQUESTS => Ok(Taken::TooMany),
            status if status.is_success() => {
                if !is_json(&response) {
                    return Ok(Taken::Nothing);
                }
                jobs(&bounded(response, MAX_JOB_BYTES).await?)
            }
            status => Err(CallError::Status(status.as_u16())),
        }
    }

    /// Says what came of a job: one try.
    pub(super) async fn done(&self, job: &str, body: String) -> Result<(), CallError> {
        let url = self.platform.done(job).ok_or(CallError::Address)?;
        // The type is wrong and wanted.
        let mut request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("charset", "utf-8")
            .body(body);
        if let Ok(id) = HeaderValue::from_str(job) {
            request = request.header("X-Request-ID", id);
        }
        let response = self.authorised(request).send().await?;
        let status = response.status();
        if status.as_u16() < 400 { Ok(()) } else { Err(CallError::Status(status.as_u16())) }
    }

    /// Jobs to be stopped; none when RunPod's poll ended without any. Never answers where there is no such channel.
    pub(super) async fn stops(&self) -> Result<Vec<String>, CallError> {
        let Some(url) = self.platform.stop() else { return std::future::pending().await };
        let poll = async {
            let response = self.get(Some(url))?.send().await?;
            match response.status() {
                status if !status.is_success() => Err(CallError::Status(status.as_u16())),
                status if status == StatusCode::NO_CONTENT || !is_json(&response) => Ok(Vec::new()),
                _ => stops(&bounded(response, MAX_STOP_BYTES).await?),
            }
        };
        tokio::time::timeout(STOP_POLL, poll).await.unwrap_or(Err(CallError::Timeout))
    }

    /// Tells RunPod that this worker is not fit for work, for as long as `patience` lasts.
    pub(super) async fn unhealthy(&self, check: &str, reason: &str, patience: Duration) {
        let Some(url) = self.platform.unhealthy(check, reason) else { return };
        let Ok(request) = self.get(Some(url)) else { return };
        // Nothing depends on it: the process ends either way.
        let _ = tokio::time::timeout(patience, request.send()).await;
    }

    /// A sign of life. An error is one that another try may not meet.
    pub(super) async fn ping(&self, jobs: &[String]) -> Result<(), CallError> {
        let status = self.get(self.platform.ping(jobs))?.send().await?.status().as_u16();
        if matches!(status, 429 | 500 | 502 | 503 | 504) { Err(CallError::Status(status)) } else { Ok(()) }
    }

    /// An address was checked when the environment was read; one that cannot be made fails the call.
    fn get(&self, url: Option<Url>) -> Result<RequestBuilder, CallError> {
        let request = self.http.get(url.ok_or(CallError::Address)?);
        Ok(self.authorised(request.header(CONTENT_TYPE, "application/json")))
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        let key = self.platform.key.as_ref().map(|key| HeaderValue::from_str(key.expose_secret()));
        match key {
            Some(Ok(mut key)) => {
                key.set_sensitive(true);
                request.header(AUTHORIZATION, key)
            }
            Some(Err(_)) | None => request,
        }
    }
}

fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(|value| value.split(';').next()).is_some_and(|value| value.trim() == "application/json")
}

/// The answer to a take: a job, or a list of them.
fn jobs(bytes: &[u8]) -> Result<Taken, CallError> {
    #[derive(Deserialize)]
    struct Given {
        id: String,
        #[serde(default)]
        input: Value,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Answer {
        One(Given),
        Several(Vec<Given>),
    }
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return Ok(Taken::Nothing) };
    let given = match serde_json::from_value(value) {
        Ok(Answer::One(job)) => vec![job],
        Ok(Answer::Several(jobs)) => jobs,
        Err(_) => return Err(CallError::Malformed),
    };
    let jobs: Vec<Job> = given
        .into_iter()
        .filter(|given| !given.id.is_empty())
        .map(|Given { id, input }| Job { id, posted_at: posted_at(input) })
        .collect();
    Ok(if jobs.is_empty() { Taken::Nothing } else { Taken::Jobs(jobs) })
}

/// Anything may be in an input; only a wake says when it was posted.
fn posted_at(input: Value) -> Option<i64> {
    serde_json::from_value::<Wake>(input).ok()?.at
}

fn stops(bytes: &[u8]) -> Result<Vec<String>, CallError> {
    #[derive(Deserialize)]
    struct Stops {
        #[serde(rename = "jobsToStop", default)]
        jobs: Vec<Value>,
    }
    let Stops { jobs } = serde_json::from_slice(bytes).map_err(|_| CallError::Malformed)?;
    Ok(jobs.into_iter().filter_map(|job| if let Value::String(id) = job { Some(id) } else { None }).collect())
}

async fn bounded(mut response: Response, most: usize) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > most {
            return Err(CallError::TooLarge(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

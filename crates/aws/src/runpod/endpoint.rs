//! The public API of one endpoint: `https://api.runpod.ai/v2/{endpoint}`.
//!
//! Sources: `serverless/endpoints/operation-reference.mdx` (routes, shapes), `send-requests.mdx` (policy, rate limits) of
//! runpod/docs; `/health` of live endpoints says more than the two counts of workers documented there (runpod/flash,
//! `WorkersHealth`: idle, initializing, ready, running, throttled, unhealthy).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rotoless_contract::queue::Wake;
use rotoless_core::policy::Policy;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::error::RunPodError;
use super::exchange::{BaseUrl, Door, Question};
use super::management::Management;

/// A wake is a hint: whoever posts it has better things to do than to wait.
const RUN: Duration = Duration::from_secs(2);
const HEALTH: Duration = Duration::from_secs(5);

/// Answers have hundreds of bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// How long a session waits for a message before it is certain that there is none.
const RECEIVE: Duration = Duration::from_secs(20);
/// What a session needs behind its attempt: the report, the deletion of the message, RunPod's own books.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// How long a wake may wait for a worker before RunPod forgets it.
const IN_QUEUE: Duration = Duration::from_hours(24);

/// An endpoint's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointId(String);

impl EndpointId {
    /// 1 to 64 letters, digits, `-` and `_`; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ((1..=64).contains(&text.len()) && text.chars().all(is_plain)).then(|| Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long RunPod lets a wake live. Always said: its defaults kill long videos and their worker after ten minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPolicy {
    /// From take to done; behind it RunPod stops the worker. 5 s to 7 d.
    pub execution_timeout: Duration,
    /// From submission; behind it RunPod deletes the job, even a running one. 10 s to 7 d.
    pub ttl: Duration,
}

impl RunPolicy {
    /// For sessions of one message: a poll of the queue, the longest attempt of this policy, and a minute.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let attempt = policy.attempt_deadline(policy.limits.max_duration_ms);
        let execution_timeout = RECEIVE + attempt.unsigned_abs() + AFTERWARDS;
        Self { execution_timeout, ttl: IN_QUEUE + execution_timeout }
    }
}

/// What `/health` says. What is missing is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Requests.
    pub jobs: JobCounts,
    /// Workers.
    pub workers: WorkerCounts,
}

/// Requests by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobCounts {
    /// Wait for a worker.
    pub in_queue: u32,
    /// Taken by a worker, dead or alive.
    pub in_progress: u32,
    /// Ended well, lately.
    pub completed: u32,
    /// Failed, lately.
    pub failed: u32,
    /// Were taken again.
    pub retried: u32,
}

/// Workers by state. Those `running` are billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerCounts {
    /// Billed: at work, or waiting out the idle timeout.
    pub running: u32,
    /// Stopped, with the image at hand.
    pub idle: u32,
    /// Ready to take a request.
    pub ready: u32,
    /// Fetching the image, or starting.
    pub initializing: u32,
    /// No GPU to be had.
    pub throttled: u32,
    /// Failed to start, or said so.
    pub unhealthy: u32,
}

impl Health {
    /// Reads an answer leniently: counts may be absent, null, floats or text; what is unknown is ignored.
    fn read(answer: &Value) -> Option<Self> {
        answer.as_object()?;
        let count = |group: &str, name: &str| count(&answer[group][name]);
        Some(Self {
            jobs: JobCounts {
                in_queue: count("jobs", "inQueue"),
                in_progress: count("jobs", "inProgress"),
                completed: count("jobs", "completed"),
                failed: count("jobs", "failed"),
                retried: count("jobs", "retried"),
            },
            workers: WorkerCounts {
                running: count("workers", "running"),
                idle: count("workers", "idle"),
                ready: count("workers", "ready"),
                initializing: count("workers", "initializing"),
                throttled: count("workers", "throttled"),
                unhealthy: count("workers", "unhealthy"),
            },
        })
    }
}

fn count(value: &Value) -> u32 {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).unwrap_or(0.0);
    // Saturates: what is negative or no number is 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    {
        number as u32
    }
}

/// One endpoint, as a caller with a key sees it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    door: Door,
    id: EndpointId,
}

impl Endpoint {
    /// The endpoint `id` of the API at `base`. Nothing is sent yet.
    #[must_use]
    pub fn new(base: BaseUrl, id: EndpointId, key: SecretString) -> Self {
        Self { door: Door::new(base, key), id }
    }

    /// The management API with the same or another key, over the same connector.
    #[must_use]
    pub fn management(&self, base: BaseUrl, key: SecretString) -> Management {
        Management { door: self.door.beside(base, key) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &EndpointId {
        &self.id
    }

    /// Posts one wake: a request without content, but for when it was posted. At most 2 s.
    ///
    /// # Errors
    /// [`RunPodError`]; a wake whose answer was lost may have been taken all the same.
    pub async fn run(&self, now: Timestamp, policy: RunPolicy) -> Result<(), RunPodError> {
        let body = json!({
            "input": Wake { v: WAKE_VERSION, at: Some(now.as_second()) },
            "policy": {
                "executionTimeout": milliseconds(policy.execution_timeout),
                "ttl": milliseconds(policy.ttl),
            },
        });
        let answer = self.ask("POST", "run", Some(&body), RUN, "an accepted request").await?;
        // A page of somebody in between is no promise to start anything.
        match answer["id"].as_str() {
            Some(id) if !id.is_empty() => Ok(()),
            _ => Err(RunPodError::Unreadable { what: "an accepted request", source: None }),
        }
    }

    /// Counts of requests and workers. At most 5 s.
    ///
    /// # Errors
    /// [`RunPodError`].
    pub async fn health(&self) -> Result<Health, RunPodError> {
        const WHAT: &str = "a report of health";
        let answer = self.ask("GET", "health", None, HEALTH, WHAT).await?;
        Health::read(&answer).ok_or(RunPodError::Unreadable { what: WHAT, source: None })
    }

    /// Removes all requests that wait, and says how many; those taken stay. At most 5 s; RunPod allows two in 10 s.
    ///
    /// # Errors
    /// [`RunPodError`].
    pub async fn purge(&self) -> Result<u32, RunPodError> {
        let answer = self.ask("POST", "purge-queue", None, HEALTH, "a purged queue").await?;
        Ok(count(&answer["removed"]))
    }

    async fn ask(
        &self,
        method: &'static str,
        route: &str,
        body: Option<&Value>,
        within: Duration,
        what: &'static str,
    ) -> Result<Value, RunPodError> {
        let path = ["v2", self.id.as_str(), route];
        self.door.ask(&Question { method, path: &path, query: &[], body, within, at_most: MAX_ANSWER, what }).await
    }
}

/// The version of [`Wake`] that is written.
const WAKE_VERSION: u32 = 1;

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_the_longest_video_ends_before_runpod_ends_it() {
        let policy = RunPolicy::of(&Policy::default());
        // 20 s + 2 h + 60 s, and a day more.
        assert_eq!(milliseconds(policy.execution_timeout), 7_280_000);
        assert_eq!(milliseconds(policy.ttl), 93_680_000);
        let week = Duration::from_hours(7 * 24);
        assert!(policy.ttl <= week && policy.execution_timeout < policy.ttl);
    }

    #[test]
    fn health_is_read_from_whatever_was_ever_seen_of_it() {
        let read = |text: &str| Health::read(&serde_json::from_str(text).unwrap());
        let documented = r#"{"jobs":{"completed":1,"failed":5,"inProgress":0,"inQueue":2,"retried":0},
            "workers":{"idle":0,"running":0}}"#;
        let jobs = JobCounts { completed: 1, failed: 5, in_queue: 2, ..JobCounts::default() };
        assert_eq!(read(documented), Some(Health { jobs, workers: WorkerCounts::default() }));

        let live = r#"{"jobs":{"inProgress":1,"inQueue":0},"workers":{"idle":2,"initializing":1,"ready":3,"running":1,
            "throttled":4,"unhealthy":5},"requestId":"x"}"#;
        let workers = WorkerCounts { running: 1, idle: 2, ready: 3, initializing: 1, throttled: 4, unhealthy: 5 };
        let jobs = JobCounts { in_progress: 1, ..JobCounts::default() };
        assert_eq!(read(live), Some(Health { jobs, workers }));

        let odd =
            r#"{"jobs":{"inQueue":2.0,"inProgress":null,"completed":-3,"failed":"7","retried":1e300},"workers":null}"#;
        let jobs = JobCounts { in_queue: 2, failed: 7, retried: u32::MAX, ..JobCounts::default() };
        assert_eq!(read(odd), Some(Health { jobs, workers: WorkerCounts::default() }));

        assert_eq!(read("{}"), Some(Health::default()));
        assert_eq!(read(r#"{"jobs":[],"workers":"none"}"#), Some(Health::default()));
        for none in ["[]", "null", "3", r#""ok""#] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn an_id_is_one_segment_of_a_path() {
        assert_eq!(EndpointId::parse("jpnw0v75y3qoql").unwrap().as_str(), "jpnw0v75y3qoql");
        for text in ["", "a/b", "..", "a?b", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(EndpointId::parse(text), None, "{text}");
        }
    }
}

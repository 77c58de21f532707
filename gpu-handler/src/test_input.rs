//! One session by hand: what a job of RunPod would start, with its answer on standard output.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rotoless_contract::queue::Wake;
use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::net;
use crate::process::Shutdown;
use crate::run::{RunError, prepare};
use crate::runpod::{Answer, receive_wait};
use crate::session::SessionError;

/// Nobody writes a larger one by hand.
const MAX_BYTES: u64 = 1 << 20;

/// The file of a test's input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TestInputError {
    /// It cannot be read.
    #[error("the test's input cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is larger than a MiB.
    #[error("the test's input is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is not of the form `{"input": …}`.
    #[error("the test's input is not a JSON object with the key `input`")]
    Malformed,
}

/// What a job's input says that concerns a session.
#[derive(Debug, Clone, Copy)]
pub struct TestInput {
    posted_at: Option<i64>,
}

/// What RunPod would be told.
#[derive(Debug)]
pub struct TestAnswer {
    /// JSON: `{"output":{…}}` or `{"error":…}`.
    pub json: String,
    /// Whether it is an error: of this worker, not of a video.
    pub is_error: bool,
}

impl TestInput {
    /// Reads `{"input": …}`. The input may be anything, as a job's may.
    ///
    /// # Errors
    /// See [`TestInputError`].
    pub fn read(file: &Path) -> Result<Self, TestInputError> {
        #[derive(Deserialize)]
        struct Job {
            input: Value,
        }
        let mut bytes = Vec::new();
        let file = File::open(file).map_err(TestInputError::Unreadable)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(TestInputError::Unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(TestInputError::TooLarge);
        }
        let Job { input } = serde_json::from_slice(&bytes).map_err(|_| TestInputError::Malformed)?;
        Ok(Self { posted_at: serde_json::from_value::<Wake>(input).ok().and_then(|wake| wake.at) })
    }
}

/// Serves one session.
///
/// Installs signal handlers and the TLS provider of the process; needs a Tokio runtime with time and I/O.
///
/// # Errors
/// The worker is not fit.
pub async fn test_session(config: Config, input: TestInput) -> Result<TestAnswer, RunError> {
    net::install_tls();
    let (ask, shutdown) = Shutdown::channel();
    ask.on_signals()?;
    let worker = Box::pin(prepare(config, shutdown)).await?;
    let wait = receive_wait(input.posted_at, worker.connect.clock.unix_seconds(), worker.timing.receive_wait);
    let answer = match Box::pin(worker.session_of(wait)).await {
        Ok(end) => Answer::of(Some(end), None),
        Err(SessionError::Ailing(ailment)) => Answer::of(None, Some(ailment)),
        Err(error @ (SessionError::Queue(_) | SessionError::Claim(_))) => {
            return Err(RunError::Session(Box::new(error)));
        }
    };
    let json = serde_json::to_string(&answer).map_err(io::Error::other)?;
    Ok(TestAnswer { json, is_error: answer.error.is_some() })
}

//! Calls to the control plane: signed, bounded, typed.
//!
//! Owns: signing (with the server's time when ours is refused), caps on time and bytes of an answer, what a
//! status means. Does not own: which call comes when (`session`, `attempt`, `pulse`).
//! Invariant: an error says whether the same call may be repeated; nobody reads its text to find out.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use rotoless_contract::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_call};
use rotoless_contract::worker::{MAX_WORKER_BODY_BYTES, Refusal};
use rotoless_contract::{ErrorBody, ErrorCode, ErrorEnvelope};
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::detail::shown;
use crate::timing::Timing;

/// Why a call had no success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// 409: the state of the job does not allow it.
    #[error("refused: {refusal}")]
    Refused { refusal: Refusal, retry_after: Option<Duration> },
    /// 402: the balance does not cover the measured length; the job has failed.
    #[error("the balance does not cover the source")]
    InsufficientCredits,
    /// Any other answer that a repetition would not change.
    #[error("rejected with status {status}")]
    Rejected { status: u16, code: Option<ErrorCode> },
    /// No answer, or one that asks for patience. The call may have had its effect.
    #[error("the control plane is unavailable")]
    Unavailable {
        #[source]
        outage: Outage,
        retry_after: Option<Duration>,
    },
}

impl CallError {
    fn unavailable(outage: Outage) -> Self {
        Self::Unavailable { outage, retry_after: None }
    }
}

/// What stood between us and an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Outage {
    #[error("the call did not go through")]
    Transport(#[source] reqwest::Error),
    #[error("no answer in time")]
    Timeout,
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is larger than {MAX_WORKER_BODY_BYTES} bytes")]
    TooLarge,
    #[error("the answer cannot be read")]
    Malformed(#[source] serde_json::Error),
}

/// The control plane as one thread of this worker sees it.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    http: Client,
    base: Url,
    clock: Clock,
    call: Duration,
    retry_first: Duration,
    retry_cap: Duration,
}

impl Control {
    /// `base` is an origin: scheme, host, port.
    pub(crate) fn new(http: Client, base: Url, clock: Clock, timing: &Timing) -> Self {
        let Timing { call, retry_first, retry_cap, .. } = *timing;
        Self { http, base, clock, call, retry_first, retry_cap }
    }

    /// Learns how wrong this host's clock is from whatever the control plane answers. A worker that hears nothing works
    /// all the same: the first refused signature tells it.
    pub(crate) async fn look_at_the_clock(&self) {
        let asked = tokio::time::timeout(self.call, self.http.get(self.base.clone()).send());
        match asked.await {
            Ok(Ok(response)) => {
                self.learn_time(&response);
            }
            Ok(Err(error)) => {
                tracing::warn!(error = shown(&error.without_url()), "the control plane does not answer yet");
            }
            Err(_) => tracing::warn!("the control plane does not answer yet"),
        }
    }

    /// One call, repeated once with the server's time when our clock was at fault.
    pub(crate) async fn call<B: Serialize + Sync, R: DeserializeOwned>(
        &self,
        secret: &SecretString,
        path: &str,
        body: &B,
    ) -> Result<R, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::unavailable(Outage::Malformed(error)))?;
        match tokio::time::timeout(self.call, self.exchange(secret, path, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::unavailable(Outage::Timeout)),
        }
    }

    /// Repeats a call that did not go through until `deadline`, which is asked anew each time: a heartbeat may
    /// move it.
    pub(crate) async fn call_until<B: Serialize + Sync, R: DeserializeOwned>(
        &self,
        secret: &SecretString,
        path: &str,
        body: &B,
        deadline: impl Fn() -> Instant + Send,
    ) -> Result<R, CallError> {
        let mut backoff = Backoff::new(self.retry_first, self.retry_cap);
        loop {
            let error = match self.call(secret, path, body).await {
                Err(error @ CallError::Unavailable { .. }) => error,
                outcome => return outcome,
            };
            let CallError::Unavailable { retry_after, .. } = &error else { return Err(error) };
            let wait = backoff.wait(*retry_after);
            if Instant::now() + wait >= deadline() {
                return Err(error);
            }
            tracing::debug!(error = shown(&error), "control plane unavailable, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn exchange<R: DeserializeOwned>(
        &self,
        secret: &SecretString,
        path: &str,
        body: Vec<u8>,
    ) -> Result<R, CallError> {
        let mut response = self.send(secret, path, body.clone()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.learn_time(&response) {
            response = self.send(secret, path, body).await?;
        }
        answer(response).await
    }

    async fn send(&self, secret: &SecretString, path: &str, body: Vec<u8>) -> Result<Response, CallError> {
        let mut url = self.base.clone();
        url.set_path(path);
        let timestamp = self.clock.unix_seconds();
        let signature = sign_call(secret, "POST", path, timestamp, &body);
        let request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(TIMESTAMP_HEADER, timestamp)
            .header(SIGNATURE_HEADER, signature)
            .body(body);
        request.send().await.map_err(|error| CallError::unavailable(Outage::Transport(error.without_url())))
    }

    fn learn_time(&self, response: &Response) -> bool {
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        date.is_some_and(|date| self.clock.learn(date))
    }
}

async fn answer<R: DeserializeOwned>(response: Response) -> Result<R, CallError> {
    let status = response.status();
    let header_wait = retry_after_header(&response);
    let bytes = bounded(response).await.map_err(CallError::unavailable)?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|error| CallError::unavailable(Outage::Malformed(error)));
    }
    let envelope = serde_json::from_slice::<ErrorEnvelope>(&bytes).ok().map(|envelope| envelope.error);
    Err(refused(status, envelope, header_wait))
}

fn refused(status: StatusCode, body: Option<ErrorBody>, header_wait: Option<Duration>) -> CallError {
    let body_wait = body.as_ref().and_then(|body| body.retry_after_seconds).map(|s| Duration::from_secs(s.into()));
    let retry_after = body_wait.or(header_wait);
    let reason = body.as_ref().and_then(|body| body.reason.as_deref());
    match status {
        StatusCode::CONFLICT if let Some(refusal) = reason.and_then(|reason| reason.parse().ok()) => {
            CallError::Refused { refusal, retry_after }
        }
        StatusCode::PAYMENT_REQUIRED => CallError::InsufficientCredits,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            CallError::Unavailable { outage: Outage::Status(status.as_u16()), retry_after }
        }
        _ if status.is_client_error() => {
            CallError::Rejected { status: status.as_u16(), code: body.map(|body| body.code) }
        }
        // 5xx, and what no control plane answers (1xx, 3xx): something else stands in between.
        _ => CallError::Unavailable { outage: Outage::Status(status.as_u16()), retry_after },
    }
}

fn retry_after_header(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, Outage> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Outage::Transport(error.without_url()))? {
        if bytes.len() + chunk.len() > MAX_WORKER_BODY_BYTES {
            return Err(Outage::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(code: ErrorCode, reason: Option<&str>) -> Option<ErrorBody> {
        Some(ErrorBody {
            code,
            message: String::new(),
            request_id: String::new(),
            reason: reason.map(str::to_owned),
            param: None,
            retryable: None,
            retry_after_seconds: Some(7),
        })
    }

    #[test]
    fn only_what_may_change_by_itself_is_worth_another_try() {
        for status in [408, 429, 500, 502, 503, 504, 302] {
            let error = refused(StatusCode::from_u16(status).unwrap(), None, None);
            assert!(matches!(error, CallError::Unavailable { .. }), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 413] {
            let error = refused(StatusCode::from_u16(status).unwrap(), None, None);
            assert!(matches!(error, CallError::Rejected { .. }), "{status}");
        }
    }

    #[test]
    fn a_conflict_is_a_refusal_only_with_a_reason_that_we_know() {
        for refusal in Refusal::ALL {
            let error = refused(StatusCode::CONFLICT, body(ErrorCode::Conflict, Some(refusal.as_str())), None);
            let CallError::Refused { refusal: found, retry_after } = error else { panic!("{error:?}") };
            assert_eq!((found, retry_after), (*refusal, Some(Duration::from_secs(7))));
        }
        for reason in [None, Some("of_another_version")] {
            let error = refused(StatusCode::CONFLICT, body(ErrorCode::Conflict, reason), None);
            assert!(matches!(error, CallError::Rejected { status: 409, .. }));
        }
    }
}

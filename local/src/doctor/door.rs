//! Requests to a service that may be anything: bounded in time and bytes, told apart by what went wrong.
//!
//! Invariant: no error that leaves this module contains a URL, because a presigned one is a secret.

use std::io;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rotoless_contract::{ErrorCode, ErrorEnvelope};
use serde::de::DeserializeOwned;

/// A connection that takes longer is none.
const CONNECT: Duration = Duration::from_secs(5);
/// A whole exchange. The service itself answers within 25 s or says that it could not; a healthy one needs a second.
const EXCHANGE: Duration = Duration::from_secs(12);
/// Answers are small; a larger one is not ours.
const MAX_ANSWER: usize = 1 << 20;
/// Of what a stranger said, so much is shown.
const MAX_SHOWN: usize = 200;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("no answer within {} s", EXCHANGE.as_secs())]
    Timeout,
    #[error("no connection: {0}")]
    NoConnection(String),
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    #[error("the answer is larger than 1 MB")]
    TooLarge,
    #[error("not HTTP as it should be: {0}")]
    NotHttp(String),
}

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

pub(super) struct Door {
    http: reqwest::Client,
    base: String,
}

impl Door {
    pub(super) fn new(base: &url::Url) -> anyhow::Result<Self> {
        // A redirect would take the key somewhere else; the service has none.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(EXCHANGE)
            .build()?;
        Ok(Self { http, base: base.as_str().trim_end_matches('/').to_owned() })
    }

    /// A request for a path of the service.
    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// A request for a link that the service gave.
    pub(super) fn elsewhere(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }
}

pub(super) async fn ask(request: reqwest::RequestBuilder) -> Result<Answer, NoAnswer> {
    let mut response = request.send().await.map_err(|err| told_apart(&err.without_url()))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|err| told_apart(&err.without_url()))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(NoAnswer::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}

fn told_apart(err: &reqwest::Error) -> NoAnswer {
    let mut source = std::error::Error::source(err);
    let mut innermost = err.to_string();
    while let Some(cause) = source {
        let tls = cause.downcast_ref::<rustls::Error>();
        if let Some(tls) = tls.or_else(|| cause.downcast_ref::<io::Error>().and_then(tls_within)) {
            return NoAnswer::Tls(tls.clone());
        }
        innermost = cause.to_string();
        source = cause.source();
    }
    if err.is_timeout() {
        NoAnswer::Timeout
    } else if err.is_connect() {
        NoAnswer::NoConnection(shown(&innermost))
    } else {
        NoAnswer::NotHttp(shown(&innermost))
    }
}

/// An `io::Error` does not show the error it wraps as its source.
fn tls_within(err: &io::Error) -> Option<&rustls::Error> {
    let inner = err.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| inner.downcast_ref::<io::Error>().and_then(tls_within))
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body of a success.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        if !self.status.is_success() {
            return Err(self.described());
        }
        serde_json::from_slice(&self.body).map_err(|_| "a success whose body is not as documented".to_owned())
    }

    /// Whether this is a refusal in our envelope, with this code.
    pub(super) fn refuses(&self, code: ErrorCode) -> Result<(), String> {
        let Ok(ErrorEnvelope { error }) = serde_json::from_slice(&self.body) else { return Err(self.described()) };
        if error.code != code || self.status.as_u16() != code.status() {
            return Err(self.described());
        }
        match self.header("x-request-id") {
            Some(id) if id == error.request_id => Ok(()),
            Some(_) | None => Err("an error whose request id is not in X-Request-Id".to_owned()),
        }
    }

    /// In a few words for the operator.
    pub(super) fn described(&self) -> String {
        let status = self.status;
        if let Ok(ErrorEnvelope { error }) = serde_json::from_slice(&self.body) {
            return format!("{status}: {} (request {})", shown(&error.message), shown(&error.request_id));
        }
        let kind = self.header("content-type").unwrap_or("no content type");
        match serde_json::from_slice::<serde_json::Value>(&self.body) {
            Ok(body) if body.get("message").is_some() => {
                format!(
                    "{status}, answered by the gateway and not by Rotoless: {}",
                    shown(&body["message"].to_string())
                )
            }
            Ok(_) | Err(_) => {
                format!("{status}, {} bytes of {}, not an answer of Rotoless", self.body.len(), shown(kind))
            }
        }
    }
}

/// A stranger's words on one line of bounded length.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

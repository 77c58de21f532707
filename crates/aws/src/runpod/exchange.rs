//! One exchange with RunPod: a request with a key, an answer in JSON, both within bounds.
//!
//! Owns: the connection, the bounds, the rule which URLs may be opened. Does not own: what is asked.
//! The connector is that of the SDK's clients, so that the functions carry one HTTP stack and not two.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::{Host, Url};

use super::error::RunPodError;
use crate::error::never_sent;

/// The whole of name look-up, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(5);

/// A frozen Lambda environment finds its connections closed by the other side.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// What is kept of a refusal, in bytes.
const MAX_SAID: usize = 1024;

/// Where an API of RunPod is: an https URL, or a plain http one on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// A text is no URL that a key may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an https URL without a query (plain http leads to this machine only)")]
pub struct InvalidBaseUrl;

impl std::str::FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBaseUrl> {
        let url = Url::parse(text).map_err(|_| InvalidBaseUrl)?;
        let is_plain = url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && url.has_host();
        let is_allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if is_plain && is_allowed { Ok(Self(url)) } else { Err(InvalidBaseUrl) }
    }
}

/// The origin alone: what is behind it may be somebody's secret.
impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl BaseUrl {
    /// The URL itself.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The URL of a path below it. Segments are escaped, so that none can lead elsewhere.
    fn below(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.0.clone();
        // Only URLs without a host have no segments, and those are refused above.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) method: &'static str,
    /// Segments below the base URL.
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a Value>,
    /// For the whole exchange.
    pub(super) within: Duration,
    /// The most bytes of an answer.
    pub(super) at_most: usize,
    /// What an answer is, in words.
    pub(super) what: &'static str,
}

/// A way to one API with one key.
#[derive(Clone)]
pub(super) struct Door {
    connector: SharedHttpConnector,
    base: BaseUrl,
    key: SecretString,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn new(base: BaseUrl, key: SecretString) -> Self {
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build();
        Self { connector: SharedHttpConnector::new(connector), base, key }
    }

    /// A way to another API, or with another key, over the same connector: each of its own would load the roots of TLS.
    pub(super) fn beside(&self, base: BaseUrl, key: SecretString) -> Self {
        Self { connector: self.connector.clone(), base, key }
    }

    /// Asks once; the answer is JSON.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Value, RunPodError> {
        match tokio::time::timeout(question.within, self.exchange(question)).await {
            Ok(answer) => answer,
            Err(_) => Err(RunPodError::TimedOut(question.within)),
        }
    }

    async fn exchange(&self, question: &Question<'_>) -> Result<Value, RunPodError> {
        let request = self.request(question)?;
        let answer = self.connector.call(request).await.map_err(failed)?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            return Err(RunPodError::Refused { status, said: self.said(answer, question).await });
        }
        let body = read(answer, question.at_most).await?;
        if body.is_truncated {
            return Err(RunPodError::TooLarge(question.at_most));
        }
        serde_json::from_slice(&body.bytes)
            .map_err(|source| RunPodError::Unreadable { what: question.what, source: Some(source) })
    }

    fn request(&self, question: &Question<'_>) -> Result<HttpRequest, RunPodError> {
        let body = question.body.map(Value::to_string);
        let mut request = HttpRequest::new(body.map_or_else(SdkBody::empty, SdkBody::from));
        let url = self.base.below(question.path, question.query);
        request.set_uri(url.as_str()).map_err(|_| RunPodError::NotAsked("its URL is none for HTTP"))?;
        request.set_method(question.method).map_err(|_| RunPodError::NotAsked("there is no such method"))?;
        let bearer = format!("Bearer {}", self.key.expose_secret());
        let headers = request.headers_mut();
        headers
            .try_insert("authorization", bearer)
            .map_err(|_| RunPodError::NotAsked("the key has characters that none has"))?;
        headers.insert("accept", "application/json");
        headers.insert("user-agent", concat!("rotoless/", env!("CARGO_PKG_VERSION")));
        if question.body.is_some() {
            headers.insert("content-type", "application/json");
        }
        Ok(request)
    }

    /// The beginning of a refusal in one line, without what was sent in confidence: RunPod may repeat the request.
    async fn said(&self, answer: HttpResponse, question: &Question<'_>) -> String {
        // More than is shown, lest a secret is cut in the middle and not recognised.
        let Ok(body) = read(answer, 16 * MAX_SAID).await else { return String::new() };
        let mut text = String::from_utf8_lossy(&body.bytes).into_owned();
        let mut secrets = vec![self.key.expose_secret().to_owned()];
        if let Some(body) = question.body {
            values_of_env(body, &mut secrets);
        }
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        // Shorter values are numbers and words; without them nobody could read what was said.
        for secret in secrets.iter().filter(|secret| secret.len() >= 6) {
            let quoted = Value::from(secret.as_str()).to_string();
            text = text.replace(quoted.trim_matches('"'), "***").replace(secret.as_str(), "***");
        }
        text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
    }
}

/// The values of every object named `env`.
fn values_of_env(body: &Value, found: &mut Vec<String>) {
    let Value::Object(fields) = body else { return };
    for (name, value) in fields {
        if name == "env" {
            let values = value.as_object().into_iter().flat_map(serde_json::Map::values);
            found.extend(values.filter_map(Value::as_str).map(str::to_owned));
        }
        values_of_env(value, found);
    }
}

struct Read {
    bytes: Vec<u8>,
    is_truncated: bool,
}

async fn read(answer: HttpResponse, at_most: usize) -> Result<Read, RunPodError> {
    let mut stream = ByteStream::new(answer.into_body());
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|broken| RunPodError::BrokenOff(Box::new(broken)))?;
        if bytes.len() + chunk.len() > at_most {
            bytes.extend_from_slice(&chunk[..at_most - bytes.len()]);
            return Ok(Read { bytes, is_truncated: true });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Read { bytes, is_truncated: false })
}

fn failed(error: ConnectorError) -> RunPodError {
    if error.is_timeout() {
        RunPodError::TimedOut(CONNECT)
    } else if never_sent(&error) {
        RunPodError::NotSent(Box::new(error))
    } else {
        RunPodError::BrokenOff(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Result<BaseUrl, InvalidBaseUrl> {
        text.parse()
    }

    #[test]
    fn a_key_is_sent_by_https_or_stays_on_this_machine() {
        for text in ["https://api.runpod.ai", "https://rest.runpod.io/", "http://127.0.0.1:9", "http://[::1]:9/fake"] {
            assert!(base(text).is_ok(), "{text}");
        }
        for text in [
            "http://api.runpod.ai",
            "http://10.0.0.1",
            "http://127.0.0.1.example.com",
            "https://user:word@api.runpod.ai",
            "https://api.runpod.ai/?key=1",
            "https://api.runpod.ai/#a",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "api.runpod.ai",
            "",
        ] {
            assert_eq!(base(text), Err(InvalidBaseUrl), "{text}");
        }
    }

    #[test]
    fn no_segment_leads_elsewhere_than_below_the_base() {
        let base = base("https://rest.runpod.io/").unwrap();
        assert_eq!(base.below(&["v1", "endpoints"], &[]).as_str(), "https://rest.runpod.io/v1/endpoints");
        let url = base.below(&["v1", "../../x?y#z"], &[("a", "b&c")]);
        assert_eq!(url.as_str(), "https://rest.runpod.io/v1/..%2F..%2Fx%3Fy%23z?a=b%26c");
    }
}

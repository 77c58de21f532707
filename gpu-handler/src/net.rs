//! HTTP as this worker does it: no redirects, no proxy, TLS except to this very machine when allowed.
//!
//! Owns: the client and the rule which URLs may be opened. Does not own: retries.
//! Invariant: a URL never reaches a log, because presigned ones are secrets: errors are stripped of theirs.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Client, Url};

/// The URL may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("the address cannot be parsed")]
    Malformed,
    #[error("the address is not https")]
    NotHttps,
}

/// Whether plain HTTP to loopback is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    Refused,
    LoopbackOnly,
}

impl PlainHttp {
    /// Parses and judges a URL that is about to be opened.
    pub(crate) fn admit(self, text: &str) -> Result<Url, UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
        match (url.scheme(), self) {
            ("https", _) => Ok(url),
            ("http", Self::LoopbackOnly) if is_loopback(&url) => Ok(url),
            _ => Err(UrlError::NotHttps),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client for the control plane and for presigned URLs. Whole-call caps are the callers'.
///
/// # Errors
/// When the TLS roots of the system cannot be loaded.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(Duration::from_secs(5))
        // A long poll whose other end is gone should not take its whole time to find out.
        .tcp_keepalive(Duration::from_secs(10))
        .tcp_keepalive_interval(Duration::from_secs(5))
        .tcp_keepalive_retries(3)
        // Connections that sat idle through a freeze of this process are dead more often than not.
        .pool_idle_timeout(Duration::from_secs(15))
        .user_agent(concat!("rotoless-gpu-handler/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Makes ring the process's TLS implementation. Repeated calls change nothing.
pub(crate) fn install_tls() {
    // An error says that one is installed already, by the program that we are a part of.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_opened_only_to_loopback_and_only_when_allowed() {
        for url in ["http://127.0.0.1:9000/b/k?X-Amz-Signature=1", "http://[::1]:1/", "http://localhost/"] {
            assert!(PlainHttp::LoopbackOnly.admit(url).is_ok(), "{url}");
            assert_eq!(PlainHttp::Refused.admit(url), Err(UrlError::NotHttps), "{url}");
        }
        for url in ["http://10.0.0.1/", "http://127.0.0.1.example.com/", "http://localhost.example.com/", "file:///x"] {
            assert_eq!(PlainHttp::LoopbackOnly.admit(url), Err(UrlError::NotHttps), "{url}");
        }
        assert!(PlainHttp::Refused.admit("https://bucket.s3.amazonaws.com/k?sig").is_ok());
        assert_eq!(PlainHttp::Refused.admit("not a url"), Err(UrlError::Malformed));
    }
}

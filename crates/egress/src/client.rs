//! The exchange: resolve, judge, dial what was judged, send, read a bounded reply, hang up.
//!
//! Each exchange has its own connector, so that the resolver inside it knows the target it judges for, and no
//! connection outlives its exchange.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::policy::{Policy, Refused, Target};

const USER_AGENT: &str = concat!("rotoless/", env!("CARGO_PKG_VERSION"));
/// A name with more addresses than this is judged whole, but only so many are dialled.
const MAX_ADDRESSES: usize = 8;
/// A longer `Retry-After` says nothing.
const MAX_RETRY_AFTER_BYTES: usize = 64;

/// Caps of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To resolve the name, connect and shake hands.
    pub connect: Duration,
    /// From the look-up to the end of the reply's body.
    pub exchange: Duration,
    /// Bytes of the reply's body that are read. They are discarded.
    pub reply_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), exchange: Duration::from_secs(10), reply_bytes: 64 * 1024 }
    }
}

/// Looks names up.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of a host.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's own look-up.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// What the other side answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its `Retry-After` as sent; none when longer than 64 bytes.
    pub retry_after: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The URL may not be opened.
    #[error("URL refused: {0}")]
    Refused(#[from] Refused),
    /// The name leads to an address that may not be dialled.
    #[error("resolved address refused: {0}")]
    Resolved(#[source] Refused),
    /// A header that cannot be sent.
    #[error("header is not valid")]
    Header,
    /// The name was not found.
    #[error("name not resolved")]
    Name(#[source] Box<dyn StdError + Send + Sync>),
    /// Not over in time.
    #[error("timed out")]
    Timeout,
    /// Nobody listens there.
    #[error("connection refused")]
    ConnectionRefused,
    /// The connection could not be made for another reason.
    #[error("connection failed")]
    Connect(#[source] reqwest::Error),
    /// The handshake failed.
    #[error("TLS: {0}")]
    Tls(TlsFault),
    /// The connection broke, or what came back is not HTTP.
    #[error("no valid reply")]
    Reply(#[source] reqwest::Error),
    /// The client itself could not be made: a fault of ours.
    #[error("client could not be made")]
    Setup(#[source] Box<dyn StdError + Send + Sync>),
}

/// What was wrong with the other side's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Out of date, or not yet valid.
    #[error("certificate expired")]
    Expired,
    /// For another name.
    #[error("certificate is for another name")]
    WrongName,
    /// Of nobody we know.
    #[error("certificate is not trusted")]
    Untrusted,
    /// Anything else: protocol versions, alerts, garbage.
    #[error("handshake failed")]
    Handshake,
}

impl EgressError {
    /// A few words for the owner of the URL. Names no address of ours.
    #[must_use]
    pub const fn in_words(&self) -> &'static str {
        match self {
            Self::Refused(Refused::Address(_) | Refused::Name) | Self::Resolved(_) => "address not allowed",
            Self::Refused(Refused::Port) => "port not allowed",
            Self::Refused(Refused::Scheme) => "scheme not allowed",
            Self::Refused(Refused::Malformed | Refused::TooLong | Refused::Credentials | Refused::Fragment) => {
                "URL not allowed"
            }
            Self::Name(_) => "host name not found",
            Self::Timeout => "timeout",
            Self::ConnectionRefused => "connection refused",
            Self::Connect(_) => "connection failed",
            Self::Tls(TlsFault::Expired) => "TLS error: certificate expired",
            Self::Tls(TlsFault::WrongName) => "TLS error: certificate is for another name",
            Self::Tls(TlsFault::Untrusted) => "TLS error: certificate is not trusted",
            Self::Tls(TlsFault::Handshake) => "TLS error: handshake failed",
            Self::Reply(_) => "no valid reply",
            Self::Header | Self::Setup(_) => "could not be sent",
        }
    }
}

/// Opens URLs of users, within a [`Policy`].
#[derive(Clone)]
pub struct Egress {
    policy: Arc<Policy>,
    limits: Limits,
    resolver: Arc<dyn Resolve>,
    tls: ClientConfig,
}

impl Egress {
    /// With the system's names and trusted certificates.
    ///
    /// # Errors
    /// [`EgressError::Setup`] when the system has no certificates to trust.
    pub fn new(policy: Policy, limits: Limits) -> Result<Self, EgressError> {
        let setup = |err: rustls::Error| EgressError::Setup(err.into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(setup)?;
        let tls = tls.with_platform_verifier().map_err(setup)?.with_no_client_auth();
        Ok(Self::with(policy, limits, Arc::new(SystemResolver), tls))
    }

    /// With names and certificates of the caller's choice.
    #[must_use]
    pub fn with(policy: Policy, limits: Limits, resolver: Arc<dyn Resolve>, tls: ClientConfig) -> Self {
        Self { policy: Arc::new(policy), limits, resolver, tls }
    }

    /// Parses and judges a URL as [`Egress::post`] will.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, url: &str) -> Result<Target, Refused> {
        self.policy.check(url)
    }

    /// One POST. The reply's body is read, up to the cap, and discarded; one that does not end in time is a
    /// timeout, whatever its status said.
    ///
    /// # Errors
    /// [`EgressError`]; statuses are answers, not errors.
    pub async fn post(&self, url: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer, EgressError> {
        let target = self.policy.check(url)?;
        let headers = header_map(headers)?;
        let exchange = self.exchange(target, headers, body);
        tokio::time::timeout(self.limits.exchange, exchange).await.map_err(|_| EgressError::Timeout)?
    }

    async fn exchange(&self, target: Target, headers: HeaderMap, body: Bytes) -> Result<Answer, EgressError> {
        let url = target.url().clone();
        let client = self.client(target)?;
        let mut response = client.post(url).headers(headers).body(body).send().await.map_err(classify)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).filter(|value| value.len() <= MAX_RETRY_AFTER_BYTES);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut read = 0;
        while read < self.limits.reply_bytes {
            match response.chunk().await.map_err(classify)? {
                Some(chunk) => read += chunk.len(),
                None => break,
            }
        }
        Ok(Answer { status, retry_after })
    }

    /// How long a whole exchange may take.
    pub(crate) const fn patience(&self) -> Duration {
        self.limits.exchange
    }

    /// A client for one exchange with one target.
    pub(crate) fn client(&self, target: Target) -> Result<reqwest::Client, EgressError> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Judging { policy: self.policy.clone(), target, resolver: self.resolver.clone() })
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(self.limits.connect)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|err| EgressError::Setup(err.into()))
    }
}

/// The resolver inside the connector: what it lets through is what is dialled.
struct Judging {
    policy: Arc<Policy>,
    target: Target,
    resolver: Arc<dyn Resolve>,
}

impl reqwest::dns::Resolve for Judging {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, target, resolver) = (self.policy.clone(), self.target.clone(), self.resolver.clone());
        Box::pin(async move {
            // The connector asks for the host of the URL that was judged, and for nothing else.
            if name.as_str() != target.host() {
                return Err(NotDialled::OtherHost.into());
            }
            let addresses = resolver.resolve(target.host()).await.map_err(NotDialled::NotFound)?;
            policy.check_resolved(&target, &addresses).map_err(NotDialled::Refused)?;
            let dialled = addresses.into_iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(dialled.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum NotDialled {
    #[error("name not found")]
    NotFound(#[source] io::Error),
    #[error(transparent)]
    Refused(Refused),
    #[error("not the host that was judged")]
    OtherHost,
}

fn header_map(headers: &[(&str, &str)]) -> Result<HeaderMap, EgressError> {
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| EgressError::Header)?;
        Ok((name, HeaderValue::from_str(value).map_err(|_| EgressError::Header)?))
    };
    headers.iter().map(pair).collect()
}

/// Finds the typed cause in the chain of a failed exchange.
pub(crate) fn classify(err: reqwest::Error) -> EgressError {
    let err = err.without_url();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&err);
    while let Some(at) = cause {
        match at.downcast_ref::<NotDialled>() {
            Some(NotDialled::Refused(why)) => return EgressError::Resolved(*why),
            Some(NotDialled::NotFound(_) | NotDialled::OtherHost) => return EgressError::Name(err.into()),
            None => {}
        }
        if let Some(found) = at.downcast_ref::<io::Error>().and_then(io_fault) {
            return found;
        }
        if let Some(tls) = at.downcast_ref::<rustls::Error>() {
            return EgressError::Tls(tls_fault(tls));
        }
        cause = at.source();
    }
    if err.is_timeout() {
        EgressError::Timeout
    } else if err.is_connect() {
        EgressError::Connect(err)
    } else {
        EgressError::Reply(err)
    }
}

/// An `io::Error` does not show the error it wraps as its source.
fn io_fault(err: &io::Error) -> Option<EgressError> {
    if err.kind() == io::ErrorKind::ConnectionRefused {
        return Some(EgressError::ConnectionRefused);
    }
    let inner = err.get_ref()?;
    match inner.downcast_ref::<rustls::Error>() {
        Some(tls) => Some(EgressError::Tls(tls_fault(tls))),
        None => inner.downcast_ref::<io::Error>().and_then(io_fault),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum of another crate: all the rest is one word to us")]
fn tls_fault(err: &rustls::Error) -> TlsFault {
    use rustls::CertificateError as Cert;
    match err {
        rustls::Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => TlsFault::Expired,
        rustls::Error::InvalidCertificate(Cert::NotValidYet | Cert::NotValidYetContext { .. }) => TlsFault::Expired,
        rustls::Error::InvalidCertificate(Cert::NotValidForName | Cert::NotValidForNameContext { .. }) => {
            TlsFault::WrongName
        }
        rustls::Error::InvalidCertificate(_) => TlsFault::Untrusted,
        _ => TlsFault::Handshake,
    }
}

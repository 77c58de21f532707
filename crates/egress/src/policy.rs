//! Which URLs may be opened. A text is parsed once, by one parser, and what comes out is what is dialled.
//!
//! Owns: schemes, ports, names, and the operator's explicit exceptions. Addresses are judged by [`crate::judge`],
//! literal ones here, resolved ones in the connector.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use crate::address::{Forbidden, judge};
use crate::exception::Exception;

/// Greatest length of a URL in bytes.
const MAX_URL_BYTES: usize = 2048;
const PORTS: [u16; 2] = [443, 80];
/// Top-level names that never mean a public host.
const LOCAL_SUFFIXES: [&str; 6] = ["localhost", "local", "internal", "localdomain", "home.arpa", "lan"];

/// Why a URL is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a URL, or one written to be read in two ways: spaces, controls, `\`, characters beyond ASCII.
    #[error("not a URL")]
    Malformed,
    /// Longer than 2048 bytes.
    #[error("longer than 2048 bytes")]
    TooLong,
    /// Not https (nor http where that is allowed).
    #[error("the scheme is not allowed")]
    Scheme,
    /// Carries a user name or password.
    #[error("carries credentials")]
    Credentials,
    /// Carries a fragment, which is never sent.
    #[error("carries a fragment")]
    Fragment,
    /// Neither 443 nor 80.
    #[error("the port is not allowed")]
    Port,
    /// A name of the local network, or not a full name.
    #[error("the host name is not public")]
    Name,
    /// A literal address that is not public.
    #[error("the address is not public")]
    Address(#[from] Forbidden),
}

/// What may be opened beyond the public internet.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Whether plain http is allowed everywhere; it always is to exceptions.
    pub allow_http: bool,
    /// Exceptions to the address and port rules: for a receiver on the developer's own machine. Whoever may create
    /// jobs can make the service speak to these.
    pub allow_addresses_dangerous: Vec<Exception>,
}

/// A URL that may be opened. `Debug` hides everything but the host: paths and queries of clients carry secrets.
#[derive(Clone)]
pub struct Target {
    url: Url,
    port: u16,
    named_exception: bool,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("host", &self.host()).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Target {
    /// The URL as parsed.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The host as parsed: a name in lower case, or an address in its normal form.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The port that will be dialled.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// By what exception, if any, a target is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excepted {
    No,
    Address,
    Name,
}

impl Policy {
    /// Parses and judges a URL: everything that can be known without a look-up.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, text: &str) -> Result<Target, Refused> {
        if text.len() > MAX_URL_BYTES {
            return Err(Refused::TooLong);
        }
        // Parsers differ on these; a URL has none of them.
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return Err(Refused::Malformed);
        }
        let url = Url::parse(text).map_err(|_| Refused::Malformed)?;
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(Refused::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        if url.fragment().is_some() {
            return Err(Refused::Fragment);
        }
        let port = url.port_or_known_default().ok_or(Refused::Port)?;
        let excepted = self.check_host(url.host().ok_or(Refused::Malformed)?, port)?;
        if plain && !self.allow_http && excepted == Excepted::No {
            return Err(Refused::Scheme);
        }
        Ok(Target { url, port, named_exception: excepted == Excepted::Name })
    }

    fn check_host(&self, host: Host<&str>, port: u16) -> Result<Excepted, Refused> {
        let ip = match host {
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
            Host::Domain(name) => return self.check_name(name, port),
        };
        self.check_dial(ip, port)?;
        Ok(if self.is_exception(ip, port) { Excepted::Address } else { Excepted::No })
    }

    fn check_name(&self, name: &str, port: u16) -> Result<Excepted, Refused> {
        if self.allow_addresses_dangerous.iter().any(|exception| exception.permits_name(name, port)) {
            return Ok(Excepted::Name);
        }
        public_name(name)?;
        if PORTS.contains(&port) {
            return Ok(Excepted::No);
        }
        // On another port the name can lead to excepted addresses only: judged when it is resolved.
        let possible = self.allow_addresses_dangerous.iter().any(|exception| exception.permits_port(port));
        if possible { Ok(Excepted::Address) } else { Err(Refused::Port) }
    }

    fn is_exception(&self, ip: IpAddr, port: u16) -> bool {
        self.allow_addresses_dangerous.iter().any(|exception| exception.permits_address(ip, port))
    }

    /// Judges one address and port: an exception, or public and a port of the web.
    fn check_dial(&self, ip: IpAddr, port: u16) -> Result<(), Refused> {
        if self.is_exception(ip, port) {
            return Ok(());
        }
        judge(ip)?;
        if PORTS.contains(&port) { Ok(()) } else { Err(Refused::Port) }
    }

    /// Judges the addresses that a target's host resolved to. One that may not be dialled spoils all: a name that
    /// mixes public and private addresses is an attack or a mistake.
    ///
    /// # Errors
    /// [`Refused`] with the reason of the first that is refused.
    pub fn check_resolved(&self, target: &Target, addresses: &[IpAddr]) -> Result<(), Refused> {
        if target.named_exception {
            return Ok(());
        }
        addresses.iter().try_for_each(|ip| self.check_dial(*ip, target.port))
    }
}

/// A name of at least two labels, none of them empty, under no local suffix. A final dot would dodge comparisons
/// of names here and at the receiver.
fn public_name(name: &str) -> Result<(), Refused> {
    let labels = name.split('.').collect::<Vec<_>>();
    let local = LOCAL_SUFFIXES
        .iter()
        .any(|suffix| name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if labels.len() < 2 || labels.iter().any(|label| label.is_empty()) || local { Err(Refused::Name) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Target, Refused> {
        Policy { allow_http: true, ..Policy::default() }.check(text)
    }

    /// G-27, TF-1, TF-4.
    #[test]
    fn a_forbidden_address_is_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0177.0.0.1",
            "0x7f.1",
            "127.1",
            "0x7f000001",
            "017700000001",
            "127.0.1",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "127.0.0%2e1",
            "0",
            "[::1]",
            "[::ffff:7f00:1]",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:ffff:7f00:0001]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[fd00:ec2::254]",
            "169.254.169.254",
            "0xA9FEA9FE",
            "2852039166",
            "169.254.43518",
            "169.254.170.2",
            "10.0.0.1",
            "100.64.0.1",
            "[::]",
        ] {
            for scheme in ["http", "https"] {
                let refused = check(&format!("{scheme}://{host}/x")).unwrap_err();
                assert!(matches!(refused, Refused::Address(_)), "{host}: {refused:?}");
            }
        }
    }

    #[test]
    fn a_url_that_can_be_read_in_two_ways_is_refused() {
        for (text, why) in [
            ("https://1.1.1.1@127.0.0.1/", Refused::Credentials),
            ("https://user:pass@example.com/", Refused::Credentials),
            ("https://:pass@example.com/", Refused::Credentials),
            ("https://127.0.0.1#@example.com/", Refused::Fragment),
            ("https://example.com/#", Refused::Fragment),
            ("https://example.com\\@127.0.0.1/", Refused::Malformed),
            ("https://exam\r\nple.com/", Refused::Malformed),
            ("https://example.com/\tx", Refused::Malformed),
            (" https://example.com/", Refused::Malformed),
            ("https://１２７.0.0.1/", Refused::Malformed),
            ("https://127。0。0。1/", Refused::Malformed),
            ("https://bücher.example/", Refused::Malformed),
            ("https://[fe80::1%25eth0]/", Refused::Malformed),
            ("https://[fe80::1%eth0]/", Refused::Malformed),
            ("https:///", Refused::Malformed),
            ("", Refused::Malformed),
            ("/relative", Refused::Malformed),
            ("https://example.com./", Refused::Name),
            ("https://a..example.com/", Refused::Name),
            ("https://.example.com/", Refused::Name),
        ] {
            assert_eq!(check(text).unwrap_err(), why, "{text}");
        }
        assert_eq!(check(&format!("https://example.com/{}", "x".repeat(2048))).unwrap_err(), Refused::TooLong);
    }

    #[test]
    fn only_https_on_the_two_web_ports_is_opened_unless_http_is_switched_on() {
        for text in
            ["file:///etc/passwd", "gopher://example.com/", "data:text/plain,x", "ftp://example.com/", "ws://a.b/"]
        {
            assert_eq!(check(text).unwrap_err(), Refused::Scheme, "{text}");
        }
        for port in [22, 25, 6379, 8080, 9001] {
            assert_eq!(check(&format!("https://example.com:{port}/")).unwrap_err(), Refused::Port);
            assert_eq!(check(&format!("https://1.1.1.1:{port}/")).unwrap_err(), Refused::Port);
        }
        assert_eq!(Policy::default().check("http://example.com/").unwrap_err(), Refused::Scheme);
        let target = check("HTTPS://Example.COM:443/hook?x=1").unwrap();
        assert_eq!(
            (target.url().as_str(), target.host(), target.port()),
            ("https://example.com/hook?x=1", "example.com", 443)
        );
        assert_eq!(check("http://example.com").unwrap().port(), 80);
    }

    #[test]
    fn names_of_the_local_network_are_refused() {
        for host in [
            "localhost",
            "LOCALHOST",
            "app.localhost",
            "printer.local",
            "metadata.google.internal",
            "db.internal",
            "intranet",
            "router.lan",
            "x.home.arpa",
            "internal",
        ] {
            assert_eq!(check(&format!("https://{host}/")).unwrap_err(), Refused::Name, "{host}");
        }
        for host in ["example.com", "local.example.com", "mylocal.dev", "notinternal.io"] {
            assert!(check(&format!("https://{host}/")).is_ok(), "{host}");
        }
    }

    #[test]
    fn one_forbidden_address_among_public_ones_spoils_the_name() {
        let policy = Policy::default();
        let target = policy.check("https://example.com/").unwrap();
        let ips = |texts: &[&str]| texts.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(policy.check_resolved(&target, &ips(&["1.1.1.1", "2606:4700::1"])), Ok(()));
        assert_eq!(policy.check_resolved(&target, &ips(&["1.1.1.1", "10.0.0.1"])), Err(Forbidden::Private.into()));
        assert_eq!(policy.check_resolved(&target, &ips(&["::ffff:127.0.0.1"])), Err(Forbidden::ThisHost.into()));
    }

    #[test]
    fn an_exception_opens_what_it_names_and_nothing_beside_it() {
        let with = |text: &str| Policy { allow_http: false, allow_addresses_dangerous: vec![text.parse().unwrap()] };
        let opens = |exception: &str, url: &str| with(exception).check(url).is_ok();
        assert!(opens("127.0.0.1:9000", "http://127.0.0.1:9000/hook"));
        assert!(opens("127.0.0.1:9000", "http://[::ffff:127.0.0.1]:9000/hook"));
        assert!(!opens("127.0.0.1:9000", "http://127.0.0.1:9001/"));
        assert!(!opens("127.0.0.1:9000", "http://127.0.0.2:9000/"));
        assert!(!opens("127.0.0.1:9000", "http://localhost:9000/"));
        assert!(!opens("127.0.0.1:9000", "http://example.com:9001/"));
        assert!(opens("10.0.0.0/8", "http://10.255.0.1:1234/"));
        assert!(!opens("10.0.0.0/8", "http://11.0.0.1:1234/"));
        assert!(opens("[::1]:80", "http://[::1]/"));
        assert!(opens("localhost:9000", "http://localhost:9000/"));
        assert!(!opens("localhost:9000", "http://localhost/"));
        assert!(!opens("localhost", "http://127.0.0.1/"));
        assert!(!opens("127.0.0.1:80", "http://example.com/"), "plain http to the excepted address alone");
        // A name on the excepted port may be looked up, but must lead to the excepted address.
        let policy = with("127.0.0.1:9000");
        let target = policy.check("http://example.com:9000/").unwrap();
        let leads_to = |ip: &str| policy.check_resolved(&target, &[ip.parse().unwrap()]);
        assert_eq!(leads_to("127.0.0.1"), Ok(()));
        assert_eq!(leads_to("127.0.0.2"), Err(Forbidden::ThisHost.into()));
        assert_eq!(leads_to("1.1.1.1"), Err(Refused::Port));
        for bad in ["", "10.0.0.0/33", "::/129", "host:port", "host:70000", "a b", "http://x"] {
            assert!(bad.parse::<Exception>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_shows_neither_path_nor_query_in_a_log() {
        let shown = format!("{:?}", check("https://example.com/secret?token=abc").unwrap());
        assert!(shown.contains("example.com") && !shown.contains("secret") && !shown.contains("abc"), "{shown}");
    }
}

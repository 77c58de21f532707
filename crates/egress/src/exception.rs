//! The operator's explicit exceptions to the rules: how they are written and what they permit.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// One exception: `127.0.0.1:9000`, `[::1]:9000`, `10.0.0.0/8`, `receiver.local:9000`. Without a port, all ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exception {
    /// Every address of a network.
    Net {
        /// Any address of it; a mapped IPv4 address counts as IPv4.
        net: IpAddr,
        /// Its prefix in bits.
        bits: u32,
        /// Only this port.
        port: Option<u16>,
    },
    /// A host name, wherever it resolves to.
    Name {
        /// In lower case.
        name: String,
        /// Only this port.
        port: Option<u16>,
    },
}

/// The text names no exception.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address, network or host name: {0}")]
pub struct InvalidException(String);

impl FromStr for Exception {
    type Err = InvalidException;

    fn from_str(text: &str) -> Result<Self, InvalidException> {
        let invalid = || InvalidException(text.to_owned());
        let whole = |net: IpAddr, port| {
            let net = net.to_canonical();
            Self::Net { net, bits: if net.is_ipv4() { 32 } else { 128 }, port }
        };
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(whole(ip, None));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(whole(address.ip(), Some(address.port())));
        }
        if let Some((net, bits)) = text.split_once('/') {
            let net: IpAddr = net.parse().map_err(|_| invalid())?;
            let bits: u32 = bits.parse().map_err(|_| invalid())?;
            let most = if net.is_ipv4() { 32 } else { 128 };
            return if bits <= most { Ok(Self::Net { net, bits, port: None }) } else { Err(invalid()) };
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let well_formed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        if name.is_empty() || !name.bytes().all(well_formed) {
            return Err(invalid());
        }
        Ok(Self::Name { name: name.to_ascii_lowercase(), port })
    }
}

impl Exception {
    pub(crate) fn permits_address(&self, ip: IpAddr, port: u16) -> bool {
        match self {
            Self::Net { net, bits, port: only } => {
                only.is_none_or(|only| only == port) && within(ip.to_canonical(), *net, *bits)
            }
            Self::Name { .. } => false,
        }
    }

    pub(crate) fn permits_port(&self, port: u16) -> bool {
        match self {
            Self::Net { port: only, .. } => only.is_none_or(|only| only == port),
            Self::Name { .. } => false,
        }
    }

    pub(crate) fn permits_name(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Name { name, port: only } => only.is_none_or(|only| only == port) && name == host,
            Self::Net { .. } => false,
        }
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u32) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => (ip.to_bits() ^ net.to_bits()).leading_zeros() >= bits,
        (IpAddr::V6(ip), IpAddr::V6(net)) => (ip.to_bits() ^ net.to_bits()).leading_zeros() >= bits,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

//! Which addresses may be dialled: the public internet and nothing else.
//!
//! Owns: the table. IPv4 is allowed unless listed; IPv6 is refused unless it lies in the one block that is handed
//! out to the public (2000::/3) and is not listed. Invariant: an IPv4 address is judged alike in all its spellings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// This host, or no address at all: loopback, unspecified.
    #[error("an address of this host")]
    ThisHost,
    /// A private, shared or site-local network.
    #[error("a private address")]
    Private,
    /// The local link: instance metadata, container credentials.
    #[error("a link-local address")]
    LinkLocal,
    /// Multicast and broadcast.
    #[error("a multicast or broadcast address")]
    Multicast,
    /// An IPv4 address wrapped into IPv6 by a translator or a tunnel, or such a relay itself.
    #[error("an address of a translator or tunnel")]
    Transition,
    /// For documentation, benchmarks and protocols, or not assigned.
    #[error("a reserved address")]
    Reserved,
}

const V4: &[(Ipv4Addr, u32, Forbidden)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, Forbidden::ThisHost),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Forbidden::Private),
    // Carrier-grade NAT; the internal network of RunPod.
    (Ipv4Addr::new(100, 64, 0, 0), 10, Forbidden::Private),
    // The Lambda runtime API is 127.0.0.1:9001.
    (Ipv4Addr::new(127, 0, 0, 0), 8, Forbidden::ThisHost),
    // 169.254.169.254 is the instance metadata service, 169.254.170.2 gives out container credentials.
    (Ipv4Addr::new(169, 254, 0, 0), 16, Forbidden::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Forbidden::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Forbidden::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Forbidden::Reserved),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Forbidden::Transition),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Forbidden::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Forbidden::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Forbidden::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Forbidden::Reserved),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Forbidden::Multicast),
    (Ipv4Addr::new(255, 255, 255, 255), 32, Forbidden::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Forbidden::Reserved),
];

const V6: &[(Ipv6Addr, u32, Forbidden)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, Forbidden::ThisHost),
    (Ipv6Addr::LOCALHOST, 128, Forbidden::ThisHost),
    // NAT64, both prefixes.
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, Forbidden::Transition),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Forbidden::Transition),
    // Teredo, then the rest of the IETF's protocol assignments.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, Forbidden::Transition),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Forbidden::Reserved),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Forbidden::Reserved),
    // 6to4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Forbidden::Transition),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Forbidden::Reserved),
    // fd00:ec2::254 is the instance metadata service.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Forbidden::Private),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Forbidden::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Forbidden::Private),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Forbidden::Multicast),
];

/// Whether an address may be dialled.
///
/// # Errors
/// [`Forbidden`] for everything that is not a public unicast address.
pub fn judge(ip: IpAddr) -> Result<(), Forbidden> {
    match ip {
        IpAddr::V4(ip) => judge_v4(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(|| judge_v6(ip), judge_v4),
    }
}

fn judge_v4(ip: Ipv4Addr) -> Result<(), Forbidden> {
    let same = |net: Ipv4Addr, bits: u32| (ip.to_bits() ^ net.to_bits()).leading_zeros() >= bits;
    match V4.iter().find(|(net, bits, _)| same(*net, *bits)) {
        Some((_, _, why)) => Err(*why),
        None => Ok(()),
    }
}

fn judge_v6(ip: Ipv6Addr) -> Result<(), Forbidden> {
    let same = |net: Ipv6Addr, bits: u32| (ip.to_bits() ^ net.to_bits()).leading_zeros() >= bits;
    match V6.iter().find(|(net, bits, _)| same(*net, *bits)) {
        Some((_, _, why)) => Err(*why),
        None if same(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3) => Ok(()),
        None => Err(Forbidden::Reserved),
    }
}

#[cfg(test)]
mod tests {
    use ipnet::{IpNet, Ipv4Net};
    use proptest::prelude::*;

    use super::*;

    /// guarantees.md §7, written down a second time.
    const REFUSED_V4: [&str; 15] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ];
    const REFUSED_V6: [&str; 16] = [
        "::/128",
        "::1/128",
        "::ffff:127.0.0.1/128",
        "::ffff:169.254.169.254/128",
        "::127.0.0.1/128",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/32",
        "2001:db8::/32",
        "2002::/16",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ];

    /// G-27.
    #[test]
    fn the_table_of_refused_addresses_is_refused_to_its_edges() {
        for net in REFUSED_V4.iter().chain(&REFUSED_V6) {
            let net: IpNet = net.parse().unwrap();
            assert!(judge(net.network()).is_err(), "{net}: first");
            assert!(judge(net.broadcast()).is_err(), "{net}: last");
        }
        for ip in ["127.0.0.1", "169.254.169.254", "169.254.170.2", "255.255.255.255", "fd00:ec2::254"] {
            assert!(judge(ip.parse().unwrap()).is_err(), "{ip}");
        }
    }

    #[test]
    fn public_addresses_are_allowed_up_to_the_edges_of_the_table() {
        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00::1",
            "2003::1",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(judge(ip.parse().unwrap()), Ok(()), "{ip}");
        }
    }

    #[test]
    fn every_ipv4_network_is_judged_as_the_written_table_says() {
        let nets: Vec<Ipv4Net> = REFUSED_V4.iter().map(|net| net.parse().unwrap()).collect();
        let agree = |bits: u32| {
            let ip = Ipv4Addr::from_bits(bits);
            assert_eq!(judge(ip.into()).is_err(), nets.iter().any(|net| net.contains(&ip)), "{ip}");
        };
        for net in 0..=0xffff_u32 {
            agree(net << 16);
            agree(net << 16 | 0xffff);
        }
        // Where the table is finer than /16, every /24.
        for first in [192_u32, 198, 203] {
            for net in 0..=0xffff_u32 {
                agree(first << 24 | net << 8);
                agree(first << 24 | net << 8 | 0xff);
            }
        }
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_when_mapped_into_ipv6(bits in any::<u32>()) {
            let ip = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(judge(ip.into()), judge(ip.to_ipv6_mapped().into()));
        }

        #[test]
        fn an_ipv4_address_hidden_in_a_translator_or_tunnel_is_refused(bits in any::<u32>()) {
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            for ip in [
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, a, b),
                Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !a, !b),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
            ] {
                prop_assert!(judge(ip.into()).is_err(), "{}", ip);
            }
        }
    }
}

//! Every address that is refused, in every spelling that some parser takes for it: as a literal, and as the answer of
//! a look-up.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

/// First, last and the well-known of each network of guarantees §7.
const FORBIDDEN_V4: [[u8; 4]; 34] = [
    [0, 0, 0, 0],
    [0, 255, 255, 255],
    [10, 0, 0, 1],
    [10, 255, 255, 255],
    [100, 64, 0, 0],
    [100, 127, 255, 255],
    [127, 0, 0, 1],
    [127, 255, 255, 254],
    [169, 254, 0, 0],
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [169, 254, 255, 255],
    [172, 16, 0, 1],
    [172, 31, 255, 255],
    [192, 0, 0, 0],
    [192, 0, 0, 170],
    [192, 0, 2, 1],
    [192, 88, 99, 0],
    [192, 88, 99, 255],
    [192, 168, 0, 1],
    [192, 168, 255, 255],
    [198, 18, 0, 0],
    [198, 19, 255, 255],
    [198, 51, 100, 1],
    [198, 51, 100, 255],
    [203, 0, 113, 1],
    [203, 0, 113, 255],
    [224, 0, 0, 1],
    [239, 255, 255, 255],
    [240, 0, 0, 1],
    [247, 1, 2, 3],
    [255, 0, 0, 0],
    [255, 255, 255, 254],
    [255, 255, 255, 255],
];

const FORBIDDEN_V6: [&str; 22] = [
    "::",
    "::1",
    "::7f00:1",
    "64:ff9b::1.1.1.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::1",
    "2001:0:a9fe:a9fe::",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:101:101::",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ffff::1",
];

/// How parsers of all kinds let an IPv4 address be written.
fn spellings(ip: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let all = ip.to_bits();
    let low16 = u16::from_be_bytes([c, d]);
    let low24 = all & 0xff_ffff;
    let (h, l) = (all >> 16, all & 0xffff);
    let mut hosts = vec![
        ip.to_string(),
        format!("{all}"),
        format!("0x{all:x}"),
        format!("0X{all:X}"),
        format!("0{all:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0000{a:o}.0{b:o}.0{c:o}.000{d:o}"),
        format!("{a}.{b:#x}.0{c:o}.{d}"),
        format!("{a}.{b}.{low16}"),
        format!("{a:#x}.{low24}"),
        format!("{a}.{low24:#x}"),
        format!("{ip}."),
        ip.to_string().bytes().map(|b| format!("%{b:02x}")).collect(),
        ip.to_string().replace('.', "%2e"),
        ip.to_string().replace('.', "%2E"),
    ];
    let v6 = [
        format!("::ffff:{ip}"),
        format!("::ffff:{h:x}:{l:x}"),
        format!("0:0:0:0:0:ffff:{h:x}:{l:x}"),
        format!("0000:0000:0000:0000:0000:FFFF:{h:04X}:{l:04X}"),
        format!("::{ip}"),
        format!("::ffff:0:{ip}"),
        format!("64:ff9b::{ip}"),
        format!("64:ff9b:1::{ip}"),
        format!("2002:{h:x}:{l:x}::"),
        format!("2001:0:{h:x}:{l:x}::1"),
        format!("2001:0:101:101:0:0:{:x}:{:x}", h ^ 0xffff, l ^ 0xffff),
        format!("fe80::5efe:{ip}"),
    ];
    hosts.extend(v6.map(|text| format!("[{text}]")));
    hosts
}

/// G-27, TF-1, TF-4.
#[test]
fn every_forbidden_ipv4_address_is_refused_in_every_spelling() {
    let policy = Policy { allow_http: true, ..Policy::default() };
    for octets in FORBIDDEN_V4 {
        for host in spellings(Ipv4Addr::from(octets)) {
            for url in [
                format!("https://{host}/"),
                format!("http://{host}/latest/meta-data/"),
                format!("https://{host}:443/x?y=z"),
                format!("HTTPS://{host}"),
            ] {
                assert!(policy.check(&url).is_err(), "{url}");
            }
        }
        // Parsers that are lax about the scheme's slashes, and hosts hidden before or behind another one.
        let ip = Ipv4Addr::from(octets);
        for url in [
            format!("https:{ip}/"),
            format!("https:/{ip}/"),
            format!("https:////{ip}/"),
            format!("https:\\\\{ip}\\"),
            format!("https://{ip}\\@example.com/"),
            format!("https://example.com\\@{ip}/"),
            format!("https://example.com@{ip}/"),
            format!("https://example.com:443@{ip}/"),
            format!("https://{ip}#@example.com/"),
            format!("https://{ip}%23@example.com/"),
            format!("https://{ip}?@example.com/"),
            format!("https://{ip}:80:443/"),
            format!("https://\t{ip}/"),
            format!("ht\ntps://{ip}/"),
            format!("https://{ip}\u{0}.example.com/"),
            format!("https://{ip}%00.example.com/"),
            format!("https://{ip}%20/"),
            format!(" https://{ip}/"),
            format!("//{ip}/"),
            format!("{ip}"),
            format!("jar:https://{ip}/!x"),
            format!("view-source:https://{ip}/"),
        ] {
            assert!(policy.check(&url).is_err(), "{url:?}");
        }
    }
    for text in FORBIDDEN_V6 {
        for host in [
            format!("[{text}]"),
            format!("[{}]", text.to_uppercase()),
            format!("[{text}%25eth0]"),
            format!("[{text}%1]"),
        ] {
            assert!(policy.check(&format!("https://{host}/")).is_err(), "{host}");
        }
    }
}

/// G-27, TF-4: characters that some software folds to digits, letters and dots.
#[test]
fn a_host_of_characters_that_fold_to_others_is_refused() {
    let policy = Policy::default();
    for host in [
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "127．0．0．1",
        "127｡0｡0｡1",
        "ⓛocalhost",
        "ℓocalhost",
        "loc\u{ad}alhost",
        "loc\u{200b}alhost",
        "localhoﬆ",
        "ｌｏｃａｌｈｏｓｔ",
        "метадата.google.internal",
        "bücher.example",
        "xn--localhost",
        "xn--127-x",
        "xn--",
        "xn--a.local",
        "%6c%6f%63%61%6c%68%6f%73%74",
        "%ef%bc%91%ef%bc%92%ef%bc%97.0.0.1",
        "127.0.0.%EF%BC%91",
        "local%68ost",
        "localhost%2e",
        "localhost.",
        "LOCALHOST.",
        "metadata.google.internal.",
        "metadata%2egoogle%2einternal",
        "1.2.3.4.5.6.local",
        "example.com.",
        "example..com",
        "exam_ple",
        "*",
        "0x",
        "0x.0x.0x.0x",
        "1.2.3.256",
        "256.256.256.256",
        "1.2.3.4.5",
        "0.0.0.0x100",
        "4294967296",
        "08.8.8.8",
        "",
        ".",
        "..",
        "-",
        "[",
        "[]",
        "[::1",
        "[::1]x",
        "[v1.fe80::a]",
        "::1",
        "127.0.0.1:",
    ] {
        let url = format!("https://{host}/");
        assert!(policy.check(&url).is_err(), "{url:?}");
    }
    // An international name is written in its ASCII form, and then it is one like any other.
    assert!(policy.check("https://xn--bcher-kva.example.com/").is_ok());
}

/// G-27, TF-1, TD-4: the same addresses as a name's only answer, mapped, and hidden among public ones. One judgement
/// serves webhooks and fetches.
#[tokio::test]
async fn every_forbidden_address_is_refused_as_the_answer_of_a_look_up() {
    let v4 = FORBIDDEN_V4.map(Ipv4Addr::from);
    let mut forbidden: Vec<IpAddr> = v4.iter().copied().map(IpAddr::V4).collect();
    forbidden.extend(v4.iter().map(|ip| IpAddr::V6(ip.to_ipv6_mapped())));
    forbidden.extend(FORBIDDEN_V6.map(|text| IpAddr::V6(text.parse::<Ipv6Addr>().unwrap())));
    for ip in forbidden {
        let text = ip.to_string();
        for answer in [vec![text.as_str()], vec!["1.1.1.1", &text], vec![&text, "2606:4700::1111"]] {
            let egress = egress(&[], names(&[&answer]), RootCertStore::empty());
            let err = post(&egress, "https://hook.example.com/").await.unwrap_err();
            assert!(matches!(err, EgressError::Resolved(Refused::Address(_))), "{answer:?}: {err:?}");
            assert_eq!(err.in_words(), "address not allowed", "and no word of which");
            let fetched = egress.fetch("https://cdn.example.com/v.mp4", &caps(10), &mut Vec::new()).await;
            assert!(matches!(fetched, Err(FetchError::Egress(EgressError::Resolved(_)))), "{answer:?}: {fetched:?}");
        }
    }
}

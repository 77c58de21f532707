//! API keys: made once, shown once, stored as a hash.
//!
//! Form: `rtl_`, 256 random bits in hex, and 8 hex digits of checksum. Prefix and checksum let scanners find
//! leaked keys, and let us refuse a guess without a look-up.

use jiff::Timestamp;
use rotoless_contract::ClientId;
use rotoless_contract::signature::sha256_hex;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::record::KeyRecord;

const PREFIX: &str = "rtl_";

/// A new key from 256 random bits.
#[must_use]
pub fn generate(bits: [u8; 32]) -> SecretString {
    let random = hex::encode(bits);
    let checksum = checksum(&random);
    SecretString::from(format!("{PREFIX}{random}{checksum}"))
}

fn checksum(random: &str) -> String {
    sha256_hex(random.as_bytes())[..8].to_owned()
}

/// What is stored of a key.
#[must_use]
pub fn record(key: &SecretString, client_id: ClientId, note: Option<String>, now: Timestamp) -> KeyRecord {
    let key_hash = sha256_hex(key.expose_secret().as_bytes());
    KeyRecord {
        key_fingerprint: fingerprint(&key_hash),
        key_hash,
        client_id,
        note,
        enabled: true,
        created_at: now,
        last_used_at: None,
        calls: 0,
    }
}

/// The fingerprint of a presented key, or `None` where the text cannot be a key: no look-up is owed to it.
#[must_use]
pub fn presented(key: &str) -> Option<(String, String)> {
    let rest = key.strip_prefix(PREFIX)?;
    if rest.len() != 72 || !rest.bytes().all(|b| b.is_ascii_hexdigit()) || checksum(&rest[..64]) != rest[64..] {
        return None;
    }
    let hash = sha256_hex(key.as_bytes());
    Some((fingerprint(&hash), hash))
}

fn fingerprint(hash: &str) -> String {
    hash[..32].to_owned()
}

/// Whether the stored key is the presented one (constant time) and enabled.
#[must_use]
pub fn opens(stored: &KeyRecord, presented_hash: &str) -> bool {
    bool::from(stored.key_hash.as_bytes().ct_eq(presented_hash.as_bytes())) && stored.enabled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_opens() {
        let key = generate([7; 32]);
        let stored = record(&key, "acme".parse().unwrap(), None, Timestamp::UNIX_EPOCH);
        let (fingerprint, hash) = presented(key.expose_secret()).unwrap();
        assert_eq!(fingerprint, stored.key_fingerprint);
        assert!(opens(&stored, &hash));
        assert!(!opens(&KeyRecord { enabled: false, ..stored.clone() }, &hash));
        let text = key.expose_secret();
        for bad in ["", "rtl_", &text[..75], &text.to_uppercase(), &format!("{text}0"), &text.replace("07", "08")] {
            assert!(presented(bad).is_none(), "{bad}");
        }
    }
}

//! Configuration of the function, from the environment that the template gives it.

use rotoless_core::policy::Policy;
use secrecy::SecretString;

use crate::Secrets;

/// Environment names this function reads beside those of `rotoless-aws`.
pub const KEYS: &[(&str, &str)] = &[
    ("FLEET_KEYS", "keys that sign claims, separated by commas; the first is the current one"),
    ("REPORT_MASTERS", "masters of attempts' secrets, separated by commas; the first is the current one"),
    ("SEGMENT_SECONDS", "length of the segments that a worker keeps of a long video, in seconds; 0 keeps none"),
];

/// What this function decides by, as far as the environment says.
///
/// # Errors
/// The name of what cannot be read.
pub fn policy(lookup: impl Fn(&str) -> Option<String>) -> Result<Policy, &'static str> {
    let text = lookup("SEGMENT_SECONDS").filter(|text| !text.trim().is_empty());
    let segment_seconds = match text.map(|text| text.trim().parse()) {
        None => Policy::default().segment_seconds,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => return Err("SEGMENT_SECONDS"),
    };
    Ok(Policy { segment_seconds, ..Policy::default() })
}

/// Reads the workers' secrets.
///
/// # Errors
/// The names of all that are missing or empty.
pub fn secrets(lookup: impl Fn(&str) -> Option<String>) -> Result<Secrets, Vec<&'static str>> {
    let list = |name: &'static str| {
        let text = lookup(name).unwrap_or_default();
        let values: Vec<SecretString> =
            text.split(',').map(str::trim).filter(|value| !value.is_empty()).map(SecretString::from).collect();
        if values.is_empty() { Err(name) } else { Ok(values) }
    };
    match (list("FLEET_KEYS"), list("REPORT_MASTERS")) {
        (Ok(fleet), Ok(masters)) => Ok(Secrets { fleet, masters }),
        (fleet, masters) => Err([fleet.err(), masters.err()].into_iter().flatten().collect()),
    }
}

//! Configuration of the function, from the environment that the template gives it.

use secrecy::SecretString;

/// Environment names this function reads beside those of `rotoless-aws`.
pub const KEYS: &[(&str, &str)] = &[
    ("WEBHOOK_MASTER", "what clients' signing secrets are derived from"),
    ("ALLOW_EGRESS_DANGEROUS", "HOST:PORT, separated by commas: not public, and reached all the same; none by default"),
];

/// What the function needs to know.
#[derive(Debug)]
pub struct Config {
    /// What clients' signing secrets are derived from.
    pub webhook_master: SecretString,
    /// Exceptions to the address policy.
    pub allow_egress_dangerous: Vec<String>,
}

impl Config {
    /// Reads it.
    ///
    /// # Errors
    /// The name of what is missing or empty.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, &'static str> {
        let master = lookup("WEBHOOK_MASTER").filter(|text| !text.is_empty()).ok_or("WEBHOOK_MASTER")?;
        let exceptions = lookup("ALLOW_EGRESS_DANGEROUS").unwrap_or_default();
        let exceptions = exceptions.split(',').map(str::trim).filter(|text| !text.is_empty());
        Ok(Self {
            webhook_master: SecretString::from(master),
            allow_egress_dangerous: exceptions.map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_master_nothing_is_signed_and_so_nothing_starts() {
        assert_eq!(Config::from_lookup(|_| None).unwrap_err(), "WEBHOOK_MASTER");
        assert!(Config::from_lookup(|_| Some(String::new())).is_err());
    }

    #[test]
    fn exceptions_are_a_list_and_empty_by_default() {
        let with = |list: &'static str| {
            let lookup = move |key: &str| match key {
                "WEBHOOK_MASTER" => Some("m".to_owned()),
                "ALLOW_EGRESS_DANGEROUS" => Some(list.to_owned()),
                other => panic!("{other} is not in KEYS"),
            };
            Config::from_lookup(lookup).unwrap().allow_egress_dangerous
        };
        assert_eq!(with(""), Vec::<String>::new());
        assert_eq!(with("127.0.0.1:9000, hooks.local"), ["127.0.0.1:9000", "hooks.local"]);
    }
}

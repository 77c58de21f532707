//! Prices: what a second of output costs, by model; and what credits cost, where the operator sells them.

use rotoless_contract::api::CreditPackage;
use rotoless_contract::{Credits, MilliCredits, Model};
use serde::Deserialize;

/// A price list. Jobs keep the version and the rate they were started under.
#[derive(Debug, Clone, PartialEq)]
pub struct Pricing {
    /// Names the list.
    pub version: String,
    original: MilliCredits,
    light: MilliCredits,
    pro: MilliCredits,
    human: MilliCredits,
    /// Money for a second of `original`, in cents; 0 where credits are not sold.
    pub price_per_second_cents: f64,
    /// Credits that can be bought together.
    pub packages: Vec<CreditPackage>,
}

/// A price list as the operator writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    version: String,
    credits_per_minute: PerMinute,
    #[serde(default)]
    price_per_second_cents: f64,
    #[serde(default)]
    packages: Vec<CreditPackage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PerMinute {
    original: Credits,
    light: Credits,
    pro: Credits,
    human: Credits,
}

/// Why a price list is not one.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPricing {
    /// Not JSON of its form.
    #[error("the price list is not readable: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A price that is no whole number of milli-credits a second.
    #[error("credits_per_minute of `{0}` must be a multiple of 0.06: 1 milli-credit a second")]
    Fraction(Model),
    /// The version must name it on every job.
    #[error("version must be 1 to 64 characters")]
    Version,
    /// Money is not negative.
    #[error("price_per_second_cents must be 0 or more")]
    Money,
}

impl Default for Pricing {
    /// The published list: http-contract.md §4.
    fn default() -> Self {
        Self {
            version: "2026-11-01".to_owned(),
            original: MilliCredits(1000),
            light: MilliCredits(750),
            pro: MilliCredits(3000),
            human: MilliCredits(750),
            price_per_second_cents: 0.0,
            packages: Vec::new(),
        }
    }
}

impl Pricing {
    /// Reads a list: `{"version", "credits_per_minute": {"original", "light", "pro", "human"},
    /// "price_per_second_cents"?, "packages": [{"credits", "price_cents"}]?}`.
    ///
    /// # Errors
    /// [`InvalidPricing`]
    pub fn from_json(json: &str) -> Result<Self, InvalidPricing> {
        let listed: Listed = serde_json::from_str(json)?;
        if listed.version.is_empty() || listed.version.chars().count() > 64 {
            return Err(InvalidPricing::Version);
        }
        if !(listed.price_per_second_cents.is_finite() && listed.price_per_second_cents >= 0.0) {
            return Err(InvalidPricing::Money);
        }
        let per_second = |model, Credits(MilliCredits(minute)): Credits| match minute % 60 {
            0 => Ok(MilliCredits(minute / 60)),
            _ => Err(InvalidPricing::Fraction(model)),
        };
        let minute = listed.credits_per_minute;
        Ok(Self {
            version: listed.version,
            original: per_second(Model::Original, minute.original)?,
            light: per_second(Model::Light, minute.light)?,
            pro: per_second(Model::Pro, minute.pro)?,
            human: per_second(Model::Human, minute.human)?,
            price_per_second_cents: listed.price_per_second_cents,
            packages: listed.packages,
        })
    }

    /// Milli-credits for one second of output.
    #[must_use]
    pub const fn per_second(&self, model: Model) -> MilliCredits {
        match model {
            Model::Original => self.original,
            Model::Light => self.light,
            Model::Pro => self.pro,
            Model::Human => self.human,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_list_is_read_exactly_or_refused() {
        let list = |original: &str| {
            format!(
                r#"{{"version":"v2","credits_per_minute":{{"original":{original},"light":0,"pro":180,"human":45}},
                    "price_per_second_cents":1.5,"packages":[{{"credits":1000,"price_cents":999}}]}}"#
            )
        };
        let pricing = Pricing::from_json(&list("60.06")).unwrap();
        assert_eq!(pricing.per_second(Model::Original), MilliCredits(1001));
        assert_eq!(pricing.per_second(Model::Light), MilliCredits::ZERO);
        assert_eq!(pricing.packages.len(), 1);
        assert!(matches!(Pricing::from_json(&list("60.01")), Err(InvalidPricing::Fraction(Model::Original))));
        assert!(matches!(Pricing::from_json("{}"), Err(InvalidPricing::Unreadable(_))));
        assert!(matches!(Pricing::from_json(&list("60").replace("v2", "")), Err(InvalidPricing::Version)));
    }
}

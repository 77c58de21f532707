//! Amounts of credits: integers of milli-credits inside, decimals in public bodies.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An amount in thousandths of a credit. Never negative; on the wire of workers and in the store an integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliCredits(pub u64);

impl MilliCredits {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// This many whole credits.
    #[must_use]
    pub const fn whole(credits: u64) -> Self {
        Self(credits.saturating_mul(1000))
    }

    /// The difference, or `None` where it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// The sum, or `None` beyond 2^64 milli-credits.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl Add for MilliCredits {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MilliCredits {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for MilliCredits {
    /// Credits with three decimals at most: `2.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{rest:03}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

/// An amount as the public API shows it: a JSON number of credits with at most three decimals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credits(pub MilliCredits);

impl From<MilliCredits> for Credits {
    fn from(amount: MilliCredits) -> Self {
        Self(amount)
    }
}

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let milli = self.0.0;
        if milli.is_multiple_of(1000) {
            serializer.serialize_u64(milli / 1000)
        } else {
            // Exact to three decimals below 2^53 milli-credits; f64 prints the shortest form.
            serializer.serialize_f64(milli as f64 / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let credits = f64::deserialize(deserializer)?;
        let milli = (credits * 1000.0).round();
        // 2^53: above it an f64 no longer holds every integer.
        if !(0.0..=9_007_199_254_740_992.0).contains(&milli) {
            return Err(D::Error::custom("credits must be between 0 and 9007199254740"));
        }
        // What arithmetic with decimals leaves behind is forgiven, and no more.
        if (credits - milli / 1000.0).abs() > 4.0 * f64::EPSILON * credits {
            return Err(D::Error::custom("credits have at most three decimals"));
        }
        Ok(Self(MilliCredits(milli as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_on_the_wire_are_exact_to_the_milli_credit() {
        for (milli, wire) in [(0, "0"), (2250, "2.25"), (1000, "1"), (1, "0.001"), (112_500, "112.5")] {
            assert_eq!(serde_json::to_string(&Credits(MilliCredits(milli))).unwrap(), wire);
            assert_eq!(serde_json::from_str::<Credits>(wire).unwrap(), Credits(MilliCredits(milli)));
            assert_eq!(MilliCredits(milli).to_string(), wire);
        }
        assert_eq!(serde_json::from_str::<Credits>("0.30000000000000004").unwrap(), Credits(MilliCredits(300)));
        for bad in ["-1", "0.0001", "2.5e-42", "1.0000001", "456006150.38194317", "1e300", "\"5\"", "null"] {
            assert!(serde_json::from_str::<Credits>(bad).is_err(), "{bad}");
        }
    }
}

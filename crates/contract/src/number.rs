//! Whole numbers as JSON has them: `5` and `5.0` are the same number there, and some languages write the latter.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Greatest magnitude up to which every integer is an f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number, however it is written.
pub(crate) fn whole<'de, T: TryFrom<i128>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Whole(PhantomData))
}

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Whole<T> {
    fn of<E: Error>(&self, value: i128, seen: Unexpected<'_>) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(seen, &"a whole number within its bounds"))
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        self.of(i128::from(value), Unexpected::Signed(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        self.of(i128::from(value), Unexpected::Unsigned(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        if value.fract() != 0.0 || value.abs() > EXACT {
            return Err(E::invalid_value(Unexpected::Float(value), &self));
        }
        self.of(value as i128, Unexpected::Float(value))
    }
}

#[cfg(test)]
mod tests {
    use crate::api::{Canvas, PixelOffset, PresignRequest};

    #[test]
    fn a_whole_number_may_be_written_with_a_point_and_a_broken_one_is_refused() {
        let canvas = serde_json::from_str::<Canvas>(r#"{"width": 1112.0, "height": 6.4e2}"#).unwrap();
        assert_eq!((canvas.width, canvas.height), (1112, 640));
        let offset = serde_json::from_str::<PixelOffset>(r#"{"x": -3.0}"#).unwrap();
        assert_eq!((offset.x, offset.y), (-3, 0));
        for bad in ["1.5", "-1", "1e300", "4294967296", "18446744073709551615", "NaN", "\"5\"", "null", "true", "[5]"] {
            let json = format!("{{\"width\": {bad}, \"height\": 16}}");
            assert!(serde_json::from_str::<Canvas>(&json).is_err(), "{bad}");
        }
        let size = r#"{"filename": "a.mp4", "content_type": "video/mp4", "size": 500000000.0}"#;
        assert_eq!(serde_json::from_str::<PresignRequest>(size).unwrap().size, 500_000_000);
    }
}

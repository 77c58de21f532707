//! The weights manifest: slices of the shards, their types and quantisation.

use std::collections::HashMap;

use serde::Deserialize;

use super::ConvertError;
use crate::onnx_writer::{Data, Tensor};

/// Weights stored one after another in the concatenation of some shards.
#[derive(Deserialize)]
pub(super) struct WeightGroup {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: DataType,
    quantization: Option<Quantization>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum DataType {
    Float32,
    Int32,
    Bool,
}

#[derive(Deserialize)]
#[serde(tag = "dtype", rename_all = "lowercase")]
enum Quantization {
    /// value = stored · scale + min
    Uint8 {
        scale: f64,
        min: f64,
    },
    /// value = stored · scale + min
    Uint16 {
        scale: f64,
        min: f64,
    },
    Float16,
}

pub(super) fn decode(groups: &[WeightGroup], shards: &[&[u8]]) -> Result<HashMap<String, Tensor>, ConvertError> {
    let expected: usize = groups.iter().map(|group| group.paths.len()).sum();
    if expected != shards.len() {
        return Err(ConvertError::Weights(format!("the manifest has {expected} shards, not {}", shards.len())));
    }
    let mut constants = HashMap::new();
    let mut shards = shards.iter();
    for group in groups {
        let bytes: Vec<u8> = shards.by_ref().take(group.paths.len()).flat_map(|shard| shard.iter().copied()).collect();
        let mut rest = bytes.as_slice();
        for weight in &group.weights {
            let (tensor, after) = weight.decode(rest)?;
            constants.insert(weight.name.clone(), tensor);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(ConvertError::Weights(format!("{} bytes are left over", rest.len())));
        }
    }
    Ok(constants)
}

impl Weight {
    fn decode<'a>(&self, bytes: &'a [u8]) -> Result<(Tensor, &'a [u8]), ConvertError> {
        let problem = |what: &str| ConvertError::Weights(format!("{}: {what}", self.name));
        let count = self.shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
        let count = count.ok_or_else(|| problem("the shape is too large"))?;
        let take = |size: usize| {
            let length = count.checked_mul(size).filter(|length| *length <= bytes.len());
            length.map(|length| bytes.split_at(length)).ok_or_else(|| problem("the shards end before it"))
        };
        let affine = |stored: f64, scale: f64, min: f64| (stored * scale + min) as f32;
        let floats = self.dtype == DataType::Float32;
        let (data, rest) = match &self.quantization {
            Some(_) if !floats => return Err(problem("only floats can be quantised")),
            Some(Quantization::Uint8 { scale, min }) => {
                let (stored, rest) = take(1)?;
                (Data::F32(stored.iter().map(|value| affine(f64::from(*value), *scale, *min)).collect()), rest)
            }
            Some(Quantization::Uint16 { scale, min }) => {
                let (stored, rest) = take(2)?;
                let values = chunks(stored).map(|value| affine(f64::from(u16::from_le_bytes(value)), *scale, *min));
                (Data::F32(values.collect()), rest)
            }
            Some(Quantization::Float16) => {
                let (stored, rest) = take(2)?;
                (Data::F32(chunks(stored).map(|value| from_half(u16::from_le_bytes(value))).collect()), rest)
            }
            None => match self.dtype {
                DataType::Float32 => {
                    let (stored, rest) = take(4)?;
                    (Data::F32(chunks(stored).map(f32::from_le_bytes).collect()), rest)
                }
                DataType::Int32 => {
                    let (stored, rest) = take(4)?;
                    (Data::I64(chunks(stored).map(|value| i64::from(i32::from_le_bytes(value))).collect()), rest)
                }
                DataType::Bool => {
                    let (stored, rest) = take(1)?;
                    (Data::I64(stored.iter().map(|value| i64::from(*value != 0)).collect()), rest)
                }
            },
        };
        Ok((Tensor { shape: self.shape.clone(), data }, rest))
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// IEEE 754 binary16, exactly.
fn from_half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3ff);
    match bits >> 10 & 0x1f {
        0 => sign * fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        exponent => sign * (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(weights: &str) -> WeightGroup {
        serde_json::from_str(&format!(r#"{{"paths": ["a", "b"], "weights": {weights}}}"#)).unwrap()
    }

    #[test]
    fn every_kind_of_storage_is_read() {
        let groups = [group(
            r#"[{"name": "affine", "shape": [2], "dtype": "float32",
                 "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1, "original_dtype": "float32"}},
                {"name": "wide", "shape": [], "dtype": "float32", "quantization": {"dtype": "uint16", "scale": 2, "min": 1}},
                {"name": "half", "shape": [2, 2], "dtype": "float32", "quantization": {"dtype": "float16"}},
                {"name": "float", "shape": [1], "dtype": "float32"},
                {"name": "int", "shape": [1], "dtype": "int32"}]"#,
        )];
        let mut bytes = vec![0u8, 255, 0x02, 0x01];
        for half in [0x3c00u16, 0xc000, 0x0001, 0x7bff] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(3.25f32.to_le_bytes());
        bytes.extend((-7i32).to_le_bytes());
        // A weight may straddle two shards.
        let decoded = decode(&groups, &[&bytes[..5], &bytes[5..]]).unwrap();
        assert_eq!(decoded["affine"].data, Data::F32(vec![-1.0, 126.5]));
        assert_eq!(decoded["wide"].data, Data::F32(vec![517.0]));
        assert_eq!(decoded["half"].data, Data::F32(vec![1.0, -2.0, 2f32.powi(-24), 65504.0]));
        assert_eq!(decoded["float"].data, Data::F32(vec![3.25]));
        assert_eq!(decoded["int"].data, Data::I64(vec![-7]));
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let one = r#"[{"name": "w", "shape": [2], "dtype": "float32"}]"#;
        for (shards, what) in [
            (vec![&[0u8; 8][..]], "2 shards"),
            (vec![&[0; 4], &[0; 3]], "end before"),
            (vec![&[0; 4], &[0; 5]], "left over"),
        ] {
            let error = decode(&[group(one)], &shards).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        let huge = format!(r#"[{{"name": "w", "shape": [{0}, {0}], "dtype": "float32"}}]"#, usize::MAX);
        assert!(decode(&[group(&huge)], &[&[], &[]]).unwrap_err().to_string().contains("too large"));
    }
}

//! Graph models written by hand: one input `x`, one output `y`.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::test_runtime::Array;
use crate::tfjs::{Conversion, ConvertError, convert};

pub(super) struct Sketch {
    nodes: Vec<Value>,
    weights: Vec<Value>,
    bytes: Vec<u8>,
    pub(super) condition: bool,
}

impl Sketch {
    pub(super) fn new() -> Self {
        let nodes = vec![json!({"name": "x", "op": "Placeholder"})];
        Self { nodes, weights: Vec::new(), bytes: Vec::new(), condition: false }
    }

    pub(super) fn floats(&mut self, name: &str, array: &Array) -> &mut Self {
        self.bytes.extend(array.values.iter().flat_map(|value| value.to_le_bytes()));
        self.constant(name, &array.shape, "float32")
    }

    pub(super) fn integers(&mut self, name: &str, shape: &[usize], values: &[i32]) -> &mut Self {
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.constant(name, shape, "int32")
    }

    fn constant(&mut self, name: &str, shape: &[usize], dtype: &str) -> &mut Self {
        self.weights.push(json!({"name": name, "shape": shape, "dtype": dtype}));
        self.nodes.push(json!({"name": name, "op": "Const"}));
        self
    }

    /// Attributes are given plainly; here they get the envelopes of protobuf's JSON.
    pub(super) fn node(&mut self, name: &str, op: &str, inputs: &[&str], attributes: Value) -> &mut Self {
        let attributes: Map<_, _> =
            attributes.as_object().unwrap().iter().map(|(key, value)| (key.clone(), envelope(key, value))).collect();
        self.nodes.push(json!({"name": name, "op": op, "input": inputs, "attr": attributes}));
        self
    }

    pub(super) fn conversion(&self, channels: usize) -> Conversion {
        let conversion = json!({
            "condition": self.condition,
            "inputs": [{"node": "x", "shape": [1, channels, "height", "width"]}],
            "outputs": [{"node": "y", "name": "y", "shape": [1, "channels", "out_height", "out_width"]}],
        });
        serde_json::from_value(conversion).unwrap()
    }

    pub(super) fn convert(&self, channels: usize) -> Result<Vec<u8>, ConvertError> {
        self.convert_by(&self.conversion(channels))
    }

    pub(super) fn convert_by(&self, conversion: &Conversion) -> Result<Vec<u8>, ConvertError> {
        let graph = json!({
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": ["w.bin"], "weights": self.weights}],
        });
        convert(graph.to_string().as_bytes(), &[&self.bytes], conversion)
    }
}

fn envelope(key: &str, value: &Value) -> Value {
    let bytes = |text: &str| json!(base64::engine::general_purpose::STANDARD.encode(text));
    match value {
        Value::Bool(flag) => json!({"b": flag}),
        Value::Number(number) => json!({"i": number.to_string()}),
        Value::String(text) if key.ends_with('T') => json!({"type": text}),
        Value::String(text) => json!({"s": bytes(text)}),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            json!({"list": {"s": items.iter().map(|item| bytes(item.as_str().unwrap())).collect::<Vec<_>>()}})
        }
        Value::Array(items) => json!({"list": {"i": items.iter().map(Value::to_string).collect::<Vec<_>>()}}),
        Value::Null | Value::Object(_) => panic!("no attribute: {value}"),
    }
}

/// The readable parts of a model's bytes: names of operators and values.
pub(super) fn readable(model: &[u8]) -> String {
    model.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { ' ' }).collect()
}

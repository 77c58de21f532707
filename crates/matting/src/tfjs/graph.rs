//! The graph as it is written: nodes, attributes, references.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value as Json;

use super::ConvertError;
use super::weights::{self, WeightGroup};
use crate::onnx_writer::Tensor;

/// Nodes by name and the values of the constants.
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    constants: HashMap<String, Tensor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawModel {
    model_topology: RawTopology,
    weights_manifest: Vec<WeightGroup>,
}

#[derive(Deserialize)]
struct RawTopology {
    node: Vec<Node>,
}

/// One operation.
#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) op: String,
    #[serde(default)]
    input: Vec<String>,
    #[serde(default)]
    attr: BTreeMap<String, Json>,
}

/// One output of a node, as another node refers to it: `name` or `name:index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub(super) node: &'a str,
    pub(super) output: usize,
}

impl<'a> Reference<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        match text.rsplit_once(':') {
            Some((node, index)) => match index.parse() {
                Ok(output) => Self { node, output },
                Err(_) => Self { node: text, output: 0 },
            },
            None => Self { node: text, output: 0 },
        }
    }
}

impl Graph {
    pub(super) fn parse(graph: &[u8], shards: &[&[u8]]) -> Result<Self, ConvertError> {
        let raw: RawModel = serde_json::from_slice(graph)?;
        let constants = weights::decode(&raw.weights_manifest, shards)?;
        let nodes = raw.model_topology.node.into_iter().map(|node| (node.name.clone(), node)).collect();
        Ok(Self { nodes, constants })
    }

    pub(super) fn node(&self, name: &str) -> Result<&Node, ConvertError> {
        self.nodes.get(name).ok_or_else(|| ConvertError::NoSuchNode(name.to_owned()))
    }

    pub(super) fn constant(&self, node: &Node) -> Result<&Tensor, ConvertError> {
        self.constants.get(&node.name).ok_or_else(|| node.unsupported("a constant without a value in the manifest"))
    }
}

impl Node {
    /// What the node takes, without control dependencies.
    pub(super) fn inputs(&self) -> impl Iterator<Item = Reference<'_>> {
        self.input.iter().filter(|text| !text.starts_with('^')).map(|text| Reference::parse(text))
    }

    pub(super) fn input(&self, index: usize) -> Result<Reference<'_>, ConvertError> {
        self.inputs().nth(index).ok_or_else(|| self.unsupported(format!("has no input {index}")))
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> ConvertError {
        ConvertError::Unsupported { node: self.name.clone(), op: self.op.clone(), what: what.into() }
    }

    /// The value of an attribute inside its envelope, `{"i": …}` or `{"s": …}` and so on.
    fn attribute(&self, name: &str, kind: &str) -> Option<&Json> {
        self.attr.get(name)?.get(kind)
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        integer(self.attribute(name, "i")?)
    }

    pub(super) fn float(&self, name: &str) -> Option<f64> {
        self.attribute(name, "f")?.as_f64()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.attribute(name, "b").and_then(Json::as_bool).unwrap_or(false)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        text(self.attribute(name, "s")?)
    }

    /// A type, as in `DT_FLOAT`. Some writers give its number in TensorFlow's enum instead.
    pub(super) fn is_float_type(&self, name: &str) -> Option<bool> {
        let value = self.attribute(name, "type")?;
        match value.as_str() {
            Some(text) => Some(matches!(text, "DT_FLOAT" | "DT_DOUBLE" | "DT_HALF")),
            None => value.as_i64().map(|number| matches!(number, 1 | 2 | 19)),
        }
    }

    pub(super) fn integers(&self, name: &str) -> Vec<i64> {
        self.list(name, "i", integer)
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.list(name, "s", text)
    }

    fn list<T>(&self, name: &str, kind: &str, read: fn(&Json) -> Option<T>) -> Vec<T> {
        let items = self.attribute(name, "list").and_then(|list| list.get(kind)).and_then(Json::as_array);
        items.map(|items| items.iter().filter_map(read).collect()).unwrap_or_default()
    }

    /// Height and width of a per-axis attribute of a picture `[batch, height, width, channels]`.
    pub(super) fn spatial(&self, name: &str) -> Result<Option<[i64; 2]>, ConvertError> {
        if self.text("data_format").is_some_and(|format| format != "NHWC") {
            return Err(self.unsupported("data_format is not NHWC"));
        }
        match *self.integers(name) {
            [] => Ok(None),
            [1, height, width, 1] if height > 0 && width > 0 => Ok(Some([height, width])),
            _ => Err(self.unsupported(format!("{name} is not [1, height, width, 1]"))),
        }
    }

    pub(super) fn padding(&self) -> Result<Padding, ConvertError> {
        match self.text("padding").as_deref() {
            Some("VALID") => Ok(Padding::Valid),
            Some("SAME") => Ok(Padding::Same),
            Some(_) | None => Err(self.unsupported("padding is neither VALID nor SAME")),
        }
    }
}

/// How a sliding window treats the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    /// The window stays inside.
    Valid,
    /// As many positions as there are pixels, divided by the stride; what is odd goes to the end.
    Same,
}

/// Protobuf's JSON writes 64-bit integers as text.
fn integer(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Protobuf's JSON writes bytes as base64.
fn text(value: &Json) -> Option<String> {
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(value.as_str()?).ok()?).ok()
}

//! Writes ONNX models: a graph builder and the few protobuf messages it needs; changes models that others wrote.
//!
//! Owns: the names of intermediate values, the order of nodes, the bytes.
//! Does not own: what the graph computes (`tfjs`, `tiny`).
//! Invariants: the same calls give the same bytes, whatever the machine, so that a file's SHA-256 can be pinned; what
//! no output depends on is not written.

mod blocked;
mod proto;
mod rewriting;
mod wire;

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

pub(crate) use self::blocked::Multiples;
use self::proto::{FLOAT, INT64};
pub use self::rewriting::{Change, RewriteError, Rewriting, rewrite};

/// Constants of at most this many values are looked for among those written already.
const SHARED_CONSTANT: usize = 16;

/// One side of a tensor's shape.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Always this.
    Fixed(i64),
    /// Free.
    Named(String),
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the shape has, in row-major order.
    pub data: Data,
}

/// The values of a constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// FLOAT
    F32(Vec<f32>),
    /// INT64
    I64(Vec<i64>),
}

impl Tensor {
    /// A list of floats.
    #[must_use]
    pub fn floats(values: &[f32]) -> Self {
        Self { shape: vec![values.len()], data: Data::F32(values.to_vec()) }
    }

    /// A list of integers.
    #[must_use]
    pub fn integers(values: &[i64]) -> Self {
        Self { shape: vec![values.len()], data: Data::I64(values.to_vec()) }
    }

    /// One float, without a shape.
    #[must_use]
    pub fn scalar(value: f32) -> Self {
        Self { shape: Vec::new(), data: Data::F32(vec![value]) }
    }

    fn len(&self) -> usize {
        match &self.data {
            Data::F32(values) => values.len(),
            Data::I64(values) => values.len(),
        }
    }
}

/// An attribute of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// INT
    Int(i64),
    /// FLOAT
    Float(f32),
    /// STRING
    Text(&'static str),
    /// INTS
    Ints(Vec<i64>),
}

/// Attributes by name.
pub type Attributes<'a> = &'a [(&'static str, Attribute)];

/// Builds a graph node by node; values are known by the names that the calls return.
#[derive(Debug, Clone, Default)]
pub struct GraphWriter {
    nodes: Vec<Node>,
    constants: BTreeMap<usize, (String, Tensor)>,
    /// Name, element type, shape.
    inputs: Vec<(String, i64, Vec<Dim>)>,
    outputs: Vec<(String, Vec<Dim>)>,
    /// Shapes of values in between, for a runtime that cannot work them out.
    described: Vec<(String, Vec<Dim>)>,
    named: usize,
}

#[derive(Debug, Clone)]
struct Node {
    op: &'static str,
    inputs: Vec<String>,
    outputs: Vec<String>,
    attributes: Vec<(&'static str, Attribute)>,
}

impl Node {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, attribute)| attribute)
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            Attribute::Int(value) => Some(*value),
            Attribute::Float(_) | Attribute::Text(_) | Attribute::Ints(_) => None,
        }
    }

    fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name)? {
            Attribute::Ints(values) => Some(values),
            Attribute::Int(_) | Attribute::Float(_) | Attribute::Text(_) => None,
        }
    }

    fn text(&self, name: &str) -> Option<&'static str> {
        match self.attribute(name)? {
            Attribute::Text(text) => Some(text),
            Attribute::Int(_) | Attribute::Float(_) | Attribute::Ints(_) => None,
        }
    }
}

impl GraphWriter {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an f32 input; its name is the value's name.
    pub fn input(&mut self, name: &str, shape: &[Dim]) -> String {
        self.inputs.push((name.to_owned(), FLOAT, shape.to_vec()));
        name.to_owned()
    }

    /// Adds an i64 input; its name is the value's name.
    pub fn integer_input(&mut self, name: &str, shape: &[Dim]) -> String {
        self.inputs.push((name.to_owned(), INT64, shape.to_vec()));
        name.to_owned()
    }

    /// Adds a constant; small ones that are there already are shared.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        if tensor.len() <= SHARED_CONSTANT
            && let Some((name, _)) = self.constants.values().find(|(_, known)| same_bits(known, &tensor))
        {
            return name.clone();
        }
        self.named += 1;
        let name = format!("c_{}", self.named);
        self.constants.insert(self.named, (name.clone(), tensor));
        name
    }

    /// Adds a node with one output. An input that is left out is an empty name.
    pub fn node(&mut self, op: &'static str, inputs: &[&str], attributes: Attributes<'_>) -> String {
        self.named += 1;
        let name = format!("{op}_{}", self.named);
        self.push(op, inputs, vec![name.clone()], attributes);
        name
    }

    /// Adds a node with `count` outputs.
    pub fn node_of(
        &mut self,
        op: &'static str,
        count: usize,
        inputs: &[&str],
        attributes: Attributes<'_>,
    ) -> Vec<String> {
        self.named += 1;
        let names: Vec<_> = (0..count).map(|index| format!("{op}_{}_{index}", self.named)).collect();
        self.push(op, inputs, names.clone(), attributes);
        names
    }

    /// Makes `value` an f32 output called `name`.
    pub fn output(&mut self, value: &str, name: &str, shape: &[Dim]) {
        self.push("Identity", &[value], vec![name.to_owned()], &[]);
        self.outputs.push((name.to_owned(), shape.to_vec()));
    }

    fn push(&mut self, op: &'static str, inputs: &[&str], outputs: Vec<String>, attributes: Attributes<'_>) {
        let inputs = inputs.iter().map(|&name| name.to_owned()).collect();
        self.nodes.push(Node { op, inputs, outputs, attributes: attributes.to_vec() });
    }

    /// The model's file.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.prune();
        proto::model(&self)
    }

    /// Drops what no output depends on.
    fn prune(&mut self) {
        let mut wanted: HashSet<String> = self.outputs.iter().map(|(name, _)| name.clone()).collect();
        let mut nodes = Vec::new();
        // A node only takes what was there before it, so one pass from the end finds all that is wanted.
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.outputs.iter().any(|name| wanted.contains(name)) {
                wanted.extend(node.inputs.iter().cloned());
                nodes.push(node);
            }
        }
        nodes.reverse();
        self.nodes = nodes;
        self.constants.retain(|_, (name, _)| wanted.contains(name));
    }
}

/// Equality that keeps 0 and -0 apart, as their bytes are.
fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.shape == b.shape
        && match (&a.data, &b.data) {
            (Data::F32(a), Data::F32(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
            (Data::I64(a), Data::I64(b)) => a == b,
            (Data::F32(_), Data::I64(_)) | (Data::I64(_), Data::F32(_)) => false,
        }
}

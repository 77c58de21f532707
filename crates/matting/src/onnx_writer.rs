//! Writes ONNX models: a graph builder and the few protobuf messages it needs.
//!
//! Owns: the names of intermediate values, the order of nodes, the bytes.
//! Does not own: what the graph computes (`tfjs`, `tiny`).
//! Invariants: the same calls give the same bytes, whatever the machine, so that a file's SHA-256 can be pinned; what
//! no output depends on is not written.

mod wire;

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use self::wire::Message;

/// The operator set that nodes are written for. 17 is the last in which reductions take their axes as attributes.
const OPSET: i64 = 17;
/// Version of the file format that goes with it.
const IR_VERSION: i64 = 8;
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
#[derive(Debug, Default)]
pub struct GraphWriter {
    nodes: Vec<Node>,
    constants: BTreeMap<usize, (String, Tensor)>,
    /// Name, element type, shape.
    inputs: Vec<(String, i64, Vec<Dim>)>,
    outputs: Vec<(String, Vec<Dim>)>,
    named: usize,
}

#[derive(Debug)]
struct Node {
    op: &'static str,
    inputs: Vec<String>,
    outputs: Vec<String>,
    attributes: Vec<(&'static str, Attribute)>,
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
    pub fn finish(self) -> Vec<u8> {
        let mut wanted: HashSet<&str> = self.outputs.iter().map(|(name, _)| name.as_str()).collect();
        let mut nodes = Vec::new();
        // A node only takes what was there before it, so one pass from the end finds all that is wanted.
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().any(|name| wanted.contains(name.as_str())) {
                wanted.extend(node.inputs.iter().map(String::as_str));
                nodes.push(node);
            }
        }
        let mut graph = Message::new();
        for node in nodes.into_iter().rev() {
            graph.message(1, &node.message());
        }
        graph.text(2, "graph");
        for (name, tensor) in self.constants.values() {
            if wanted.contains(name.as_str()) {
                graph.message(5, &tensor.message(name));
            }
        }
        for (name, kind, shape) in &self.inputs {
            graph.message(11, &value_info(name, *kind, shape));
        }
        for (name, shape) in &self.outputs {
            graph.message(12, &value_info(name, FLOAT, shape));
        }
        let mut opset = Message::new();
        opset.text(1, "").int(2, OPSET);
        let mut model = Message::new();
        model.int(1, IR_VERSION).text(2, "rotoless").message(7, &graph).message(8, &opset);
        model.into_bytes()
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

const FLOAT: i64 = 1;
const INT64: i64 = 7;

impl Node {
    /// `NodeProto`
    fn message(&self) -> Message {
        let mut message = Message::new();
        for input in &self.inputs {
            message.text(1, input);
        }
        for output in &self.outputs {
            message.text(2, output);
        }
        if let Some(name) = self.outputs.first() {
            message.text(3, name);
        }
        message.text(4, self.op);
        for (name, attribute) in &self.attributes {
            message.message(5, &attribute.message(name));
        }
        message
    }
}

impl Attribute {
    /// `AttributeProto`
    fn message(&self, name: &str) -> Message {
        let mut message = Message::new();
        message.text(1, name);
        match self {
            Self::Float(value) => message.float(2, *value).int(20, 1),
            Self::Int(value) => message.int(3, *value).int(20, 2),
            Self::Text(value) => message.text(4, value).int(20, 3),
            Self::Ints(values) => {
                for value in values {
                    message.int(8, *value);
                }
                message.int(20, 7)
            }
        };
        message
    }
}

impl Tensor {
    /// `TensorProto`
    fn message(&self, name: &str) -> Message {
        let mut message = Message::new();
        for side in &self.shape {
            message.int(1, i64::try_from(*side).unwrap_or(i64::MAX));
        }
        let (kind, bytes): (i64, Vec<u8>) = match &self.data {
            Data::F32(values) => (FLOAT, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Data::I64(values) => (INT64, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        };
        message.int(2, kind).text(8, name).bytes(9, &bytes);
        message
    }
}

/// `ValueInfoProto` of a tensor.
fn value_info(name: &str, element: i64, shape: &[Dim]) -> Message {
    let mut dims = Message::new();
    for side in shape {
        let mut dim = Message::new();
        match side {
            Dim::Fixed(value) => dim.int(1, *value),
            Dim::Named(name) => dim.text(2, name),
        };
        dims.message(1, &dim);
    }
    let mut tensor = Message::new();
    tensor.int(1, element).message(2, &dims);
    let mut kind = Message::new();
    kind.message(1, &tensor);
    let mut message = Message::new();
    message.text(1, name).message(2, &kind);
    message
}

//! The messages of ONNX's own format: models, nodes, attributes, tensors, descriptions of values.

use super::wire::Message;
use super::{Attribute, Data, Dim, GraphWriter, Node, Tensor};

/// The operator set that nodes are written for. 17 is the last in which reductions take their axes as attributes.
const OPSET: i64 = 17;
/// Version of the file format that goes with it.
const IR_VERSION: i64 = 8;
/// Element types.
pub(super) const FLOAT: i64 = 1;
pub(super) const INT64: i64 = 7;

/// `ModelProto` of a graph in which nothing is superfluous.
pub(super) fn model(writer: &GraphWriter) -> Vec<u8> {
    let mut graph = Message::new();
    for node in &writer.nodes {
        graph.message(1, &node.message());
    }
    graph.text(2, "graph");
    for (name, tensor) in writer.constants.values() {
        graph.message(5, &tensor.message(name));
    }
    for (name, kind, shape) in &writer.inputs {
        graph.message(11, &value_info(name, *kind, shape));
    }
    for (name, shape) in &writer.outputs {
        graph.message(12, &value_info(name, FLOAT, shape));
    }
    for (name, shape) in &writer.described {
        graph.message(13, &value_info(name, FLOAT, shape));
    }
    let mut opset = Message::new();
    opset.text(1, "").int(2, OPSET);
    let mut model = Message::new();
    model.int(1, IR_VERSION).text(2, "rotoless").message(7, &graph).message(8, &opset);
    model.into_bytes()
}

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

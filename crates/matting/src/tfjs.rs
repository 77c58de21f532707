//! placeholder, replaced below
use serde::Deserialize;
/// How a graph becomes a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// The answer taken for every condition that the graph asks at run time.
    #[serde(default)]
    pub condition: bool,
    /// The model's inputs.
    pub inputs: Vec<GraphInput>,
    /// The model's outputs.
    pub outputs: Vec<GraphOutput>,
}

/// A placeholder of the graph that becomes an input.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphInput {
    /// Name of the placeholder.
    pub node: String,
    /// Name of the input; the placeholder's when there is none.
    pub name: Option<String>,
    /// Shape, in ONNX's order of axes.
    pub shape: Vec<Dim>,
}

/// A node of the graph that becomes an output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphOutput {
    /// Name of the node.
    pub node: String,
    /// Name of the output.
    pub name: String,
    /// Shape, in ONNX's order of axes.
    pub shape: Vec<Dim>,
}

/// One side of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Always this.
    Fixed(i64),
    /// Free; sides of the same name are equal.
    Named(String),
}

//! TensorFlow.js graph models → ONNX.
//!
//! Owns: reading `model.json` and its weight shards, the change from NHWC to NCHW, the translation of operators.
//! Does not own: where the files come from (`fetch`), the ONNX format (`onnx_writer`).
//! Invariants: the same input gives the same bytes; what is not understood is an error that names the node, never a
//! guess; nothing recurses on the input's depth.
//!
//! Walkthrough: [`Graph::parse`] types the nodes and decodes the weights; `order` lists what the wanted outputs need,
//! producers first; [`translate`](translate::Translation) turns each node into a [`Value`](value::Value), which knows
//! whether its axes were swapped. Conditions that the graph evaluates at run time are decided here, by
//! [`Conversion::condition`], so the ONNX graph has no branches.

mod constants;
mod convolution;
mod graph;
mod resampling;
mod shapes;
#[cfg(test)]
mod tests;
mod translate;
mod value;
mod weights;

use serde::Deserialize;

use self::graph::Graph;
pub use crate::onnx_writer::Dim;

/// How a graph becomes a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// The answer taken for every condition that the graph asks at run time.
    #[serde(default)]
    pub condition: bool,
    /// Whether it is written for ONNX Runtime's blocked layout. Then it computes the same but for rounding.
    #[serde(default)]
    pub blocked_layout: bool,
    /// The model's inputs.
    pub inputs: Vec<GraphInput>,
    /// The model's outputs.
    pub outputs: Vec<GraphOutput>,
}

/// A placeholder of the graph that becomes an f32 input.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphInput {
    /// Name of the placeholder.
    pub node: String,
    /// Name of the input; the placeholder's when there is none.
    pub name: Option<String>,
    /// Shape in ONNX's order of axes. Four axes are a picture, `[1, channels, height, width]`.
    pub shape: Vec<Dim>,
    /// Of what every named side of its pictures is a multiple, at least 1; none promises nothing. What the graph does
    /// for other sides is left out.
    pub multiple_of: Option<u32>,
    /// Whether the graph itself has its axes in this order already, as graphs have that were ONNX before they were
    /// TensorFlow's.
    #[serde(default)]
    pub as_written: bool,
}

/// A node of the graph that becomes an f32 output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphOutput {
    /// Name of the node; `name:index` when it is not the node's first output.
    pub node: String,
    /// Name of the output.
    pub name: String,
    /// Shape in ONNX's order of axes.
    pub shape: Vec<Dim>,
    /// Whether the graph itself has its axes in this order already.
    #[serde(default)]
    pub as_written: bool,
}

/// A graph that cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The graph is not JSON of a graph model's outline.
    #[error("not a TensorFlow.js graph model")]
    Json(#[from] serde_json::Error),
    /// The weights do not fit the manifest.
    #[error("weights: {0}")]
    Weights(String),
    /// A node, or the conversion, names a node that is not there.
    #[error("there is no node {0:?}")]
    NoSuchNode(String),
    /// The graph is not acyclic: control flow of loops.
    #[error("node {0:?} depends on itself")]
    Cycle(String),
    /// An operator, or a use of one, that the converter does not know.
    #[error("node {node:?} ({op}): {what}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: String,
        /// What is not known.
        what: String,
    },
}

/// Converts a graph model to an ONNX file.
///
/// `graph` is the text of the `.json`; `shards` are the weight files in the order of the graph's manifest.
///
/// # Errors
/// The graph or its weights are malformed, or hold what the converter does not know.
pub fn convert(graph: &[u8], shards: &[&[u8]], conversion: &Conversion) -> Result<Vec<u8>, ConvertError> {
    let graph = Graph::parse(graph, shards)?;
    translate::translate(&graph, conversion)
}

//! What a node's output is in the ONNX graph.

use crate::onnx_writer::Tensor;

/// A value of the graph under translation.
#[derive(Debug, Clone)]
pub(super) enum Value<'g> {
    /// Known now; its axes are TensorFlow's. It is written when a node takes it, in the form that the node needs.
    Constant(&'g Tensor),
    /// Known at run time, by its name in the ONNX graph.
    Computed {
        /// Name in the ONNX graph.
        name: String,
        /// Order of its axes there.
        form: Form,
    },
}

/// The order of a run-time value's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// TensorFlow's `[batch, height, width, channels]`, kept as `[batch, channels, height, width]`.
    Planes,
    /// The same as TensorFlow's. Shape vectors are so, and keep the order of their entries.
    Plain,
}

impl Value<'_> {
    pub(super) fn planes(name: String) -> Self {
        Self::Computed { name, form: Form::Planes }
    }

    pub(super) fn plain(name: String) -> Self {
        Self::Computed { name, form: Form::Plain }
    }
}

//! Crops that cut nothing.
//!
//! A doubling that must fit a picture whose half was rounded up is cropped afterwards. The runtime crops in the plain
//! layout only. Where the sides are multiples of enough nothing is cut, and the crop is left out.

use std::collections::HashSet;

use super::rewrite;
use super::shapes::{Multiples, Shapes};
use crate::onnx_writer::{GraphWriter, Node};

pub(super) fn leave_out(graph: &mut GraphWriter, multiples: &Multiples) {
    let known = Shapes::of(graph, multiples);
    let idle = |node: &Node| {
        let (source, output) = (node.inputs.first()?, node.outputs.first().filter(|_| node.op == "Slice")?);
        (known.picture(source)? == known.picture(output)?).then(|| output.clone())
    };
    let idle: HashSet<_> = graph.nodes.iter().filter_map(idle).collect();
    rewrite(graph, |rewriting, node| {
        let is_idle = node.outputs.first().is_some_and(|output| idle.contains(output));
        if let (true, Some(source)) = (is_idle, node.inputs.first()) {
            rewriting.replace_output(node, source.clone());
        }
        is_idle
    });
}

//! Enlarging of joined channels that are no whole blocks.
//!
//! The runtime joins those in the plain layout, enlarges them there, pixel by pixel and channel by channel, and brings
//! the large picture into the blocked layout for the convolutions behind. The other way round, the small picture is
//! brought in and enlarged a block at a time.

use std::collections::HashMap;

use super::shapes::{Multiples, Shapes};
use super::sums::joined;
use super::{BLOCK, Makers, QUARTER, rewrite};
use crate::onnx_writer::{GraphWriter, Node};

pub(super) fn bring_in(graph: &mut GraphWriter, multiples: &Multiples) {
    let doublings = find(graph, multiples);
    rewrite(graph, |rewriting, node| {
        let (Some(output), [source, rest @ ..]) = (node.outputs.first(), node.inputs.as_slice()) else { return false };
        let Some(channels) = doublings.get(output) else { return false };
        let source = rewriting.brought_in(source, *channels, 1.0);
        let inputs: Vec<_> = std::iter::once(source.as_str()).chain(rest.iter().map(String::as_str)).collect();
        let enlarged = rewriting.node("Resize", &inputs, &node.attributes);
        rewriting.replace_output(node, enlarged);
        true
    });
}

/// Channels by the name of what comes out.
fn find(graph: &GraphWriter, multiples: &Multiples) -> HashMap<String, usize> {
    let (known, makers) = (Shapes::of(graph, multiples), Makers::of(graph));
    let doubling = |node: &Node| {
        let source = node.inputs.first().filter(|_| node.op == "Resize")?;
        let parts = joined(source, &known, &makers)?;
        let channels = known.channels(source).filter(|channels| channels.is_multiple_of(QUARTER))?;
        if parts.iter().all(|(_, channels)| channels.is_multiple_of(BLOCK)) {
            return None;
        }
        Some((node.outputs.first()?.clone(), channels))
    };
    graph.nodes.iter().filter_map(doubling).collect()
}

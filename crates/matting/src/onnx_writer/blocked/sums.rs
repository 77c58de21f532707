//! Convolutions over joined channels whose count is no multiple of 4.
//!
//! The runtime computes those in the plain layout, twice as slow, and everything that is joined is copied out of the
//! blocked layout and into one piece. A convolution is linear: it is the sum of the convolutions of the parts, each of
//! which can be blocked (three channels of a picture are taken as they are). The smallest comes first and has the bias;
//! each further one is added to what is there, which the runtime does within the convolution.

use std::collections::HashMap;
use std::ops::Range;

use super::shapes::{Multiples, Shapes};
use super::{Convolution, Makers, QUARTER, Rewriting, part_of_bias, part_of_weights, rewrite};
use crate::onnx_writer::{Attribute, GraphWriter, Node, Tensor};

/// Joined values: name, and how many channels.
pub(super) type Parts = Vec<(String, usize)>;

pub(super) fn of_parts(graph: &mut GraphWriter, multiples: &Multiples) {
    let sums = find(graph, multiples);
    rewrite(graph, |rewriting, node| {
        let Some(sum) = node.outputs.first().and_then(|output| sums.get(output)) else { return false };
        let name = sum.write(rewriting);
        rewriting.replace_output(node, name);
        true
    });
}

/// By the name of the convolution's output.
fn find(graph: &GraphWriter, multiples: &Multiples) -> HashMap<String, Sum> {
    let (known, makers) = (Shapes::of(graph, multiples), Makers::of(graph));
    let sum = |node: &Node| {
        let convolution = Convolution::read(node, &known)?;
        let parts = joined(convolution.source, &known, &makers)?;
        let channels: usize = parts.iter().map(|(_, channels)| channels).sum();
        if channels.is_multiple_of(QUARTER) {
            return None;
        }
        let filters = 0..convolution.filters();
        Some((node.outputs.first()?.clone(), Sum::of(&convolution, parts, filters)))
    };
    graph.nodes.iter().filter_map(sum).collect()
}

/// The values that were joined to this one by their channels, if it is of such.
pub(super) fn joined(value: &str, known: &Shapes<'_>, makers: &Makers<'_>) -> Option<Parts> {
    let node = makers.get(value, "Concat").filter(|node| node.int("axis") == Some(1) && node.inputs.len() > 1)?;
    node.inputs.iter().map(|part| Some((part.clone(), known.channels(part)?))).collect()
}

/// A convolution of parts, as it will be written.
pub(super) struct Sum {
    attributes: Vec<(&'static str, Attribute)>,
    bias: Option<Tensor>,
    /// A value, by its name in the graph before, and the weights that go with it; those of the fewest channels first.
    parts: Vec<(String, Tensor)>,
}

impl Sum {
    /// Of some of a convolution's filters.
    pub(super) fn of(convolution: &Convolution<'_>, parts: Parts, filters: Range<usize>) -> Self {
        let mut place = 0;
        let mut weighted = Vec::new();
        for (value, channels) in parts {
            weighted.push((value, part_of_weights(convolution.weights, filters.clone(), place..place + channels)));
            place += channels;
        }
        weighted.sort_by_key(|(_, weights)| weights.shape.get(1).copied());
        let bias = convolution.bias.map(|bias| part_of_bias(bias, filters));
        Self { attributes: convolution.node.attributes.clone(), bias, parts: weighted }
    }

    pub(super) fn write(&self, rewriting: &mut Rewriting<'_>) -> String {
        let mut sum: Option<String> = None;
        for (value, weights) in &self.parts {
            let mut inputs = vec![rewriting.now(value), rewriting.graph.constant(weights.clone())];
            if let (Some(bias), None) = (&self.bias, &sum) {
                inputs.push(rewriting.graph.constant(bias.clone()));
            }
            let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
            let part = rewriting.node("Conv", &inputs, &self.attributes);
            sum = Some(match sum {
                Some(sum) => rewriting.node("Add", &[&sum, &part], &[]),
                None => part,
            });
        }
        sum.unwrap_or_default()
    }
}

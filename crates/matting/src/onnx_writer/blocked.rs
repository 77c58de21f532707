//! Writes a graph so that ONNX Runtime computes it in its blocked layout from end to end.
//!
//! On x86-64 the runtime's convolutions keep 8 or 16 channels beside each other (NCHWc), which is twice as fast as the
//! plain layout. A value stays blocked from one operator to the next only through operators that the runtime knows in
//! that layout, if channels are a multiple of 4 (for joining and pooling, of a whole block), and sums and products only
//! if both shapes can be proven equal before the graph runs. At everything else it is copied into the plain layout and
//! back. The passes here say the same in operators that stay blocked; each one's header says where and why.
//!
//! Owns: the passes, their order, the proof that two sides are equal ([`sides`], [`shapes`]).
//! Does not own: what is promised of an input's sides; who feeds the graph must keep that.
//! Invariants: the graph computes the same but for rounding; a pass that does not recognise something leaves it as it
//! is; the same graph gives the same bytes.

mod crops;
mod doublings;
mod recurrent;
mod shapes;
mod sides;
mod sums;
mod swish;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;

pub(crate) use self::shapes::Multiples;
use self::shapes::Shapes;
use super::{Attribute, Data, Dim, GraphWriter, Node, Tensor};

/// Channels of which the runtime makes whole blocks on every processor.
const BLOCK: usize = 16;
/// Channels of a convolution must be a multiple of this to be blocked at all.
const QUARTER: usize = 4;

impl GraphWriter {
    /// Writes the graph for the blocked layout. `multiples` says of named sides of the inputs of what they are
    /// multiples; fed with others the graph fails or is wrong.
    pub(crate) fn for_blocked_layout(&mut self, multiples: &Multiples) {
        self.prune();
        // Crops first: what they hide is no longer the size of anything.
        crops::leave_out(self, multiples);
        swish::write_as_gates(self, multiples);
        recurrent::keep_blocked(self, multiples);
        sums::of_parts(self, multiples);
        doublings::bring_in(self, multiples);
        self.describe(multiples);
    }

    /// Says of every picture in between what its sides are, so that equal ones have equal names.
    fn describe(&mut self, multiples: &Multiples) {
        let known = Shapes::of(self, multiples);
        let dim = |side: &sides::Side| match side {
            sides::Side::Known(value) => Dim::Fixed(*value),
            sides::Side::Of { .. } => Dim::Named(side.to_string()),
        };
        let is_output = |name: &str| self.outputs.iter().any(|(output, _)| output == name);
        let values = self.nodes.iter().flat_map(|node| &node.outputs).filter(|name| !is_output(name));
        let described = values.filter_map(|name| Some((name.clone(), known.picture(name)?.map(dim).to_vec())));
        self.described = described.collect();
    }
}

/// A pass on its way through the nodes, in their order.
struct Rewriting<'g> {
    graph: &'g mut GraphWriter,
    stand_ins: HashMap<String, String>,
}

impl Rewriting<'_> {
    /// From here on `new` is taken for `old`.
    fn replace(&mut self, old: &str, new: String) {
        self.stand_ins.insert(old.to_owned(), new);
    }

    /// From here on `new` is taken for what the node makes.
    fn replace_output(&mut self, node: &Node, new: String) {
        if let Some(output) = node.outputs.first() {
            self.replace(output, new);
        }
    }

    /// What a value of the graph before is called by now.
    fn now(&self, value: &str) -> String {
        self.stand_ins.get(value).map_or(value, String::as_str).to_owned()
    }

    fn node(&mut self, op: &'static str, inputs: &[&str], attributes: &[(&'static str, Attribute)]) -> String {
        self.graph.node(op, inputs, attributes)
    }

    /// Brings a value into the blocked layout, times `factor`: a convolution by channel, of one pixel.
    fn brought_in(&mut self, value: &str, channels: usize, factor: f32) -> String {
        let weights = Tensor { shape: vec![channels, 1, 1, 1], data: Data::F32(vec![factor; channels]) };
        let weights = self.graph.constant(weights);
        let attributes = [("kernel_shape", Attribute::Ints(vec![1, 1])), ("group", Attribute::Int(channels as i64))];
        self.node("Conv", &[value, &weights], &attributes)
    }
}

/// Writes the graph anew. `step` gets the nodes in their order, by the names that their inputs have by now, and says
/// whether it wrote something in a node's stead.
fn rewrite(graph: &mut GraphWriter, mut step: impl FnMut(&mut Rewriting<'_>, &Node) -> bool) {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut rewriting = Rewriting { graph, stand_ins: HashMap::new() };
    for mut node in nodes {
        for input in &mut node.inputs {
            *input = rewriting.now(input);
        }
        if !step(&mut rewriting, &node) {
            rewriting.graph.nodes.push(node);
        }
    }
    graph.prune();
}

/// Who makes which value.
struct Makers<'g>(HashMap<&'g str, &'g Node>);

impl<'g> Makers<'g> {
    fn of(graph: &'g GraphWriter) -> Self {
        Self(graph.nodes.iter().flat_map(|node| node.outputs.iter().map(move |name| (name.as_str(), node))).collect())
    }

    /// The node that makes the value, if it is of that operator.
    fn get(&self, value: &str, op: &str) -> Option<&'g Node> {
        self.0.get(value).copied().filter(|node| node.op == op)
    }
}

/// A convolution of all channels by all, with its weights and its bias.
struct Convolution<'g> {
    node: &'g Node,
    source: &'g str,
    weights: &'g Tensor,
    bias: Option<&'g Tensor>,
}

impl<'g> Convolution<'g> {
    fn read(node: &'g Node, known: &Shapes<'g>) -> Option<Self> {
        let is_plain = node.op == "Conv" && node.int("group").unwrap_or(1) == 1;
        let weights = known.constant(node.inputs.get(1)?)?;
        let bias = match node.inputs.get(2) {
            Some(bias) => Some(known.constant(bias)?),
            None => None,
        };
        let source = node.inputs.first()?;
        (is_plain && weights.shape.len() == 4).then_some(Self { node, source, weights, bias })
    }

    fn filters(&self) -> usize {
        self.weights.shape.first().copied().unwrap_or(0)
    }
}

/// Some filters of a convolution over some of its channels.
fn part_of_weights(weights: &Tensor, filters: Range<usize>, channels: Range<usize>) -> Tensor {
    let (all, Data::F32(values)) = (weights.shape.get(1).copied().unwrap_or(0), &weights.data) else {
        return weights.clone();
    };
    let window: usize = weights.shape.iter().skip(2).product();
    let mut shape = vec![filters.len(), channels.len()];
    shape.extend(weights.shape.iter().skip(2));
    let part = |filter: usize| {
        let start = filter * all * window;
        values.get(start + channels.start * window..start + channels.end * window).unwrap_or_default()
    };
    Tensor { shape, data: Data::F32(filters.flat_map(part).copied().collect()) }
}

fn part_of_bias(bias: &Tensor, filters: Range<usize>) -> Tensor {
    match &bias.data {
        Data::F32(values) => Tensor::floats(values.get(filters).unwrap_or_default()),
        Data::I64(_) => bias.clone(),
    }
}

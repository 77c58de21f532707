//! Convolutional recurrent units (GRU) whose halves are whole blocks.
//!
//! Such a unit splits its channels: one half `a` passes by, the other, `b`, and the state `h` make the next state,
//!
//! ```text
//! r, z = σ(conv(b ‖ h))    c = tanh(conv(b ‖ r·h))    h' = (1 − z)·h + z·c    out = a ‖ h'
//! ```
//!
//! The runtime splits and subtracts only in the plain layout, so all of it is copied to and fro. Here the convolutions
//! before a split are written once for each half; `b ‖ h` becomes a sum (`sums`); the state is brought into the blocked
//! layout once and once negated, so that `h' = h + z·(c − h)` has sums and products only. What joins and enlarges `out`
//! then stays blocked by itself.
//!
//! With halves that are no whole blocks (20, 40) the padding costs more than the copies: they are left as they are.

use std::collections::HashMap;

use super::shapes::{Multiples, Shapes};
use super::sums::{Sum, joined};
use super::{BLOCK, Convolution, Makers, QUARTER, Rewriting, rewrite};
use crate::onnx_writer::{Attribute, Data, GraphWriter, Node, Tensor};

pub(super) fn keep_blocked(graph: &mut GraphWriter, multiples: &Multiples) {
    let units = find(graph, multiples);
    rewrite(graph, |rewriting, node| {
        let Some(unit) = node.outputs.first().and_then(|next| units.get(next)) else { return false };
        let next = unit.write(rewriting);
        rewriting.replace_output(node, next);
        true
    });
}

/// A unit of the graph before, with the names that values have there.
struct Unit {
    /// Of a half.
    channels: usize,
    /// The halves of what comes in.
    halves: [String; 2],
    /// The state as the graph is fed with it, and as large as it is needed.
    fed: String,
    state: String,
    /// `r·h`
    reset: String,
    of_halves: [Sum; 2],
    of_gates: [Sum; 2],
    of_candidate: Sum,
    /// A value in the plain layout whose height and width are the state's.
    as_large: String,
}

/// By the name of the next state.
fn find(graph: &GraphWriter, multiples: &Multiples) -> HashMap<String, Unit> {
    let (known, makers) = (Shapes::of(graph, multiples), Makers::of(graph));
    let unit = |(place, node): (usize, &Node)| {
        let before = graph.nodes.get(..place)?;
        Some((node.outputs.first()?.clone(), Unit::ending_in(node, before, &known, &makers)?))
    };
    graph.nodes.iter().enumerate().filter_map(unit).collect()
}

impl Unit {
    /// The unit whose next state the node makes.
    fn ending_in(node: &Node, before: &[Node], known: &Shapes<'_>, makers: &Makers<'_>) -> Option<Self> {
        // h' = (1 − z)·h + z·c
        let [kept, renewed] = inputs_of(node, "Add")?;
        let [rest, state] = inputs_of(makers.get(kept, "Mul")?, "Mul")?;
        let [update, candidate] = inputs_of(makers.get(renewed, "Mul")?, "Mul")?;
        let [one, complement] = inputs_of(makers.get(rest, "Sub")?, "Sub")?;
        let is_one = matches!(&known.constant(one)?.data, Data::F32(values) if values == &[1.0]);
        if !is_one || complement != update {
            return None;
        }
        // c = tanh(conv(b ‖ r·h))
        let of_candidate = convolved(candidate, "Tanh", known, makers)?;
        let [(second, _), (reset, _)] = <[_; 2]>::try_from(joined(of_candidate.source, known, makers)?).ok()?;
        let [reset_gate, reset_state] = inputs_of(makers.get(&reset, "Mul")?, "Mul")?;
        // r, z = σ(conv(b ‖ h))
        let (gates, [reset_half, update_half]) = halves(reset_gate, makers)?;
        let of_gates = convolved(gates, "Sigmoid", known, makers)?;
        let gate_parts = joined(of_gates.source, known, makers)?;
        // a, b
        let (source, [first, other]) = halves(&second, makers)?;
        let of_halves = convolved(source, "Relu", known, makers)?;
        let parts = joined(of_halves.source, known, makers)?;

        let channels = of_halves.filters() / 2;
        let fits = reset_half == reset_gate
            && update_half == update
            && reset_state == state
            && other == second
            && gate_parts == [(second.clone(), channels), (state.to_owned(), channels)]
            && [of_halves.filters(), of_gates.filters()] == [2 * channels; 2]
            && of_candidate.filters() == channels
            && channels.is_multiple_of(BLOCK);
        if !fits {
            return None;
        }
        let two = |convolution: &Convolution<'_>, parts: &Vec<_>| {
            [0..channels, channels..2 * channels].map(|half| Sum::of(convolution, parts.clone(), half))
        };
        let candidate_parts = vec![(second.clone(), channels), (reset.clone(), channels)];
        Some(Self {
            channels,
            fed: makers.get(state, "Expand")?.inputs.first()?.clone(),
            as_large: as_large(state, before, known)?,
            of_halves: two(&of_halves, &parts),
            of_gates: two(&of_gates, &gate_parts),
            of_candidate: Sum::of(&of_candidate, candidate_parts, 0..channels),
            halves: [first.to_owned(), second],
            state: state.to_owned(),
            reset,
        })
    }

    /// Gives the name of the next state.
    fn write(&self, rewriting: &mut Rewriting<'_>) -> String {
        for (half, sum) in self.halves.iter().zip(&self.of_halves) {
            let sum = sum.write(rewriting);
            let written = rewriting.node("Relu", &[&sum], &[]);
            rewriting.replace(half, written);
        }
        let fed = self.write_fed(rewriting);
        let state = rewriting.brought_in(&fed, self.channels, 1.0);
        rewriting.replace(&self.state, state.clone());
        let [reset, update] = self.of_gates.each_ref().map(|sum| {
            let sum = sum.write(rewriting);
            rewriting.node("Sigmoid", &[&sum], &[])
        });
        let reset = rewriting.node("Mul", &[&reset, &state], &[]);
        rewriting.replace(&self.reset, reset);
        let candidate = self.of_candidate.write(rewriting);
        let candidate = rewriting.node("Tanh", &[&candidate], &[]);
        let negative = rewriting.brought_in(&fed, self.channels, -1.0);
        let change = rewriting.node("Add", &[&candidate, &negative], &[]);
        let change = rewriting.node("Mul", &[&update, &change], &[]);
        rewriting.node("Add", &[&change, &state], &[])
    }

    /// The state as large as it is needed. Its size is not asked of the halves: that would take one out of the blocked
    /// layout.
    fn write_fed(&self, rewriting: &mut Rewriting<'_>) -> String {
        let (as_large, fed) = (rewriting.now(&self.as_large), rewriting.now(&self.fed));
        let sides = rewriting.node("Shape", &[&as_large], &[("start", Attribute::Int(2))]);
        let channels = rewriting.graph.constant(Tensor::integers(&[1, self.channels as i64]));
        let size = rewriting.node("Concat", &[&channels, &sides], &[("axis", Attribute::Int(0))]);
        rewriting.node("Expand", &[&fed, &size], &[])
    }
}

fn inputs_of<'g>(node: &'g Node, op: &str) -> Option<[&'g str; 2]> {
    match node.inputs.as_slice() {
        [first, second] if node.op == op => Some([first, second]),
        _ => None,
    }
}

/// The convolution before an activation.
fn convolved<'g>(value: &str, activation: &str, known: &Shapes<'g>, makers: &Makers<'g>) -> Option<Convolution<'g>> {
    let active = makers.get(value, activation)?;
    Convolution::read(makers.get(active.inputs.first()?, "Conv")?, known)
}

/// What was split in two equal halves of channels, and the halves.
fn halves<'g>(half: &str, makers: &Makers<'g>) -> Option<(&'g str, [&'g str; 2])> {
    let node = makers.get(half, "Split").filter(|node| node.int("axis") == Some(1))?;
    match (node.inputs.as_slice(), node.outputs.as_slice()) {
        ([source], [first, second]) => Some((source, [first, second])),
        _ => None,
    }
}

/// The first picture whose channels are too few to be blocked.
fn as_large(state: &str, before: &[Node], known: &Shapes<'_>) -> Option<String> {
    let [_, _, height, width] = known.picture(state)?;
    let fits = |value: &&String| {
        let same = known
            .picture(value)
            .is_some_and(|[_, _, own_height, own_width]| [own_height, own_width] == [height, width]);
        same && known.channels(value).is_some_and(|channels| !channels.is_multiple_of(QUARTER))
    };
    before.iter().flat_map(|node| &node.outputs).find(fits).cloned()
}

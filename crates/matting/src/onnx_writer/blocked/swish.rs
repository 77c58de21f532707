//! Hard gates (`clip(x + 3, 0, 6)/6`) and products with them (hard swish).
//!
//! Written as sum, clip and product with constants they are computed in the plain layout, four passes over the picture
//! and two copies. A hard sigmoid behind a convolution is part of it in the runtime. Where the value itself is needed as
//! well, the convolution that takes the gate is one by channel, of one pixel and weight 1.

use std::collections::HashMap;

use super::shapes::{Multiples, Shapes};
use super::{Makers, QUARTER, rewrite};
use crate::onnx_writer::{Attribute, Data, GraphWriter, Node};

/// What a hard gate is made of.
struct Gate {
    value: String,
    channels: usize,
    /// The gate is multiplied with the value.
    is_swish: bool,
}

/// The constants of the gate.
const SHIFT: f32 = 3.0;
const TOP: f32 = 6.0;

pub(super) fn write_as_gates(graph: &mut GraphWriter, multiples: &Multiples) {
    let gates = find(graph, multiples);
    let (alpha, beta) = (Attribute::Float(1.0 / TOP), Attribute::Float(SHIFT / TOP));
    let attributes = [("alpha", alpha), ("beta", beta)];
    rewrite(graph, |rewriting, node| {
        let Some(Gate { value, channels, is_swish }) = node.outputs.first().and_then(|output| gates.get(output)) else {
            return false;
        };
        let value = rewriting.now(value);
        let written = if *is_swish {
            let own = rewriting.brought_in(&value, *channels, 1.0);
            let gate = rewriting.node("HardSigmoid", &[&own], &attributes);
            rewriting.node("Mul", &[&value, &gate], &[])
        } else {
            rewriting.node("HardSigmoid", &[&value], &attributes)
        };
        rewriting.replace_output(node, written);
        true
    });
}

/// By the name of what comes out.
fn find(graph: &GraphWriter, multiples: &Multiples) -> HashMap<String, Gate> {
    let (known, makers) = (Shapes::of(graph, multiples), Makers::of(graph));
    let scalar = |value: &str| match known.constant(value)?.data {
        Data::F32(ref values) => match values.as_slice() {
            [value] => Some(*value),
            _ => None,
        },
        Data::I64(_) => None,
    };
    let sixth = |value: &str| scalar(value).is_some_and(|scale| (scale * TOP - 1.0).abs() < 1e-6);
    // clip(x + 3, 0, 6) → x
    let clipped = |value: &str| {
        let [shifted, bottom, top] = makers.get(value, "Clip")?.inputs.as_slice() else { return None };
        let [value, shift] = makers.get(shifted, "Add")?.inputs.as_slice() else { return None };
        let fits = [scalar(bottom)?, scalar(top)?, scalar(shift)?] == [0.0, TOP, SHIFT];
        fits.then_some(value)
    };
    let gate = |node: &Node| {
        let [scaled, clip] = node.inputs.as_slice() else { return None };
        let (value, is_swish) = if node.op != "Mul" {
            return None;
        } else if sixth(scaled) {
            (clipped(clip)?, false)
        } else {
            let [scale, value] = makers.get(scaled, "Mul")?.inputs.as_slice() else { return None };
            (clipped(clip).filter(|clipped| sixth(scale) && *clipped == value)?, true)
        };
        let channels = known.channels(value).filter(|channels| channels.is_multiple_of(QUARTER))?;
        Some((node.outputs.first()?.clone(), Gate { value: value.clone(), channels, is_swish }))
    };
    graph.nodes.iter().filter_map(gate).collect()
}

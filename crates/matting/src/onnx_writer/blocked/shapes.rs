//! The shapes of a graph's values, as far as they follow from its inputs.
//!
//! Nothing is guessed: what an operator makes of a shape is either written here or not known.

use std::collections::HashMap;

use super::sides::Side;
use crate::onnx_writer::{Data, Dim, GraphWriter, Node, Tensor};

/// What is known of a shape's sides.
pub(super) type Shape = Vec<Option<Side>>;

/// What named sides of the inputs are multiples of.
pub(crate) type Multiples = HashMap<String, i64>;

/// What is known of the values of a graph.
pub(super) struct Shapes<'g> {
    constants: HashMap<&'g str, &'g Tensor>,
    shapes: HashMap<&'g str, Shape>,
    /// The entries of lists of sizes.
    lists: HashMap<&'g str, Shape>,
}

impl<'g> Shapes<'g> {
    pub(super) fn of(graph: &'g GraphWriter, multiples: &Multiples) -> Self {
        let constants = graph.constants.values().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut known = Self { constants, shapes: HashMap::new(), lists: HashMap::new() };
        for (name, tensor) in graph.constants.values() {
            known.shapes.insert(name, tensor.shape.iter().map(|side| fixed(*side)).collect());
            if let Data::I64(values) = &tensor.data {
                known.lists.insert(name, values.iter().map(|value| Some(Side::Known(*value))).collect());
            }
        }
        let side = |dim: &Dim| match dim {
            Dim::Fixed(value) => Some(Side::Known(*value)),
            Dim::Named(name) => Some(Side::named(name, multiples.get(name).copied().unwrap_or(1).max(1))),
        };
        for (name, _, dims) in &graph.inputs {
            known.shapes.insert(name, dims.iter().map(side).collect());
        }
        for node in &graph.nodes {
            known.add(node);
        }
        known
    }

    /// The shape of a value whose rank is known.
    pub(super) fn shape(&self, value: &str) -> Option<&Shape> {
        self.shapes.get(value)
    }

    /// The shape of a picture of which all is known.
    pub(super) fn picture(&self, value: &str) -> Option<[&Side; 4]> {
        match self.shape(value)?.as_slice() {
            [Some(batch), Some(channels), Some(height), Some(width)] => Some([batch, channels, height, width]),
            _ => None,
        }
    }

    /// The channels of a picture.
    pub(super) fn channels(&self, value: &str) -> Option<usize> {
        match self.shape(value)?.as_slice() {
            [_, Some(Side::Known(channels)), _, _] => usize::try_from(*channels).ok(),
            _ => None,
        }
    }

    /// The entries of a list of sizes.
    pub(super) fn list(&self, value: &str) -> Option<&Shape> {
        self.lists.get(value)
    }

    pub(super) fn constant(&self, value: &str) -> Option<&'g Tensor> {
        self.constants.get(value).copied()
    }

    fn integers(&self, value: &str) -> Option<&'g [i64]> {
        match &self.constant(value)?.data {
            Data::I64(values) => Some(values),
            Data::F32(_) => None,
        }
    }

    fn add(&mut self, node: &'g Node) {
        if node.op == "Split" {
            for (output, shape) in node.outputs.iter().zip(self.split(node).into_iter().flatten()) {
                self.shapes.insert(output, shape);
            }
            return;
        }
        let [output] = node.outputs.as_slice() else { return };
        if let Some(list) = self.entries(node) {
            self.shapes.insert(output, vec![fixed(list.len())]);
            self.lists.insert(output, list);
        } else if let Some(shape) = self.result(node) {
            self.shapes.insert(output, shape);
        }
    }

    /// The arithmetic of sizes.
    fn entries(&self, node: &Node) -> Option<Shape> {
        let first = node.inputs.first()?;
        match node.op {
            "Shape" => {
                let from = usize::try_from(node.int("start").unwrap_or(0)).ok()?;
                self.shape(first)?.get(from..).map(<[_]>::to_vec)
            }
            "Gather" => {
                let (list, indices) = (self.list(first)?, self.integers(node.inputs.get(1)?)?);
                indices.iter().map(|index| list.get(usize::try_from(*index).ok()?).cloned()).collect()
            }
            "Slice" => {
                let (list, [begin], [end]) =
                    (self.list(first)?, self.integers(node.inputs.get(1)?)?, self.integers(node.inputs.get(2)?)?)
                else {
                    return None;
                };
                let end = usize::try_from(*end).ok()?.min(list.len());
                list.get(usize::try_from(*begin).ok()?..end).map(<[_]>::to_vec)
            }
            // A scalar is a list of one here.
            "Squeeze" | "Unsqueeze" => self.list(first).filter(|list| list.len() == 1).cloned(),
            "Concat" => {
                let lists = node.inputs.iter().map(|input| self.list(input)).collect::<Option<Vec<_>>>()?;
                Some(lists.into_iter().flatten().cloned().collect())
            }
            _ => None,
        }
    }

    fn result(&self, node: &Node) -> Option<Shape> {
        let first = self.shape(node.inputs.first()?)?;
        match node.op {
            "Relu" | "Sigmoid" | "Tanh" | "HardSigmoid" | "LeakyRelu" | "Clip" | "Identity" => Some(first.clone()),
            "Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" => broadcast(first, self.shape(node.inputs.get(1)?)?),
            "Conv" => {
                let filters = fixed(*self.constant(node.inputs.get(1)?)?.shape.first()?);
                windowed(node, first, filters)
            }
            "AveragePool" | "MaxPool" => windowed(node, first, first.get(1)?.clone()),
            "ReduceMean" if node.int("keepdims") == Some(1) => {
                let axes = node.ints("axes")?;
                let side = |(axis, side): (usize, &Option<Side>)| {
                    if axes.contains(&(axis as i64)) { fixed(1) } else { side.clone() }
                };
                Some(first.iter().enumerate().map(side).collect())
            }
            "Concat" if node.int("axis") == Some(1) => self.joined(node),
            "Resize" => self.resized(node, first),
            "Slice" => self.cropped(node, first),
            // Written for TensorFlow's broadcast to a shape, whose result is of that shape.
            "Expand" => self.list(node.inputs.get(1)?).cloned(),
            _ => None,
        }
    }

    fn joined(&self, node: &Node) -> Option<Shape> {
        let mut joined = self.shape(node.inputs.first()?)?.clone();
        let channels = node.inputs.iter().map(|input| self.channels(input)).sum::<Option<usize>>();
        *joined.get_mut(1)? = channels.and_then(fixed);
        Some(joined)
    }

    fn split(&self, node: &Node) -> Option<Vec<Shape>> {
        let source = self.shape(node.inputs.first()?)?;
        if node.int("axis") != Some(1) || source.len() != 4 {
            return None;
        }
        let count = node.outputs.len();
        let sizes: Vec<_> = match node.inputs.get(1) {
            Some(sizes) => self.integers(sizes)?.iter().map(|size| Some(Side::Known(*size))).collect(),
            None => match source.get(1)? {
                Some(Side::Known(channels)) if channels % count as i64 == 0 => {
                    vec![Some(Side::Known(channels / count as i64)); count]
                }
                Some(_) | None => vec![None; count],
            },
        };
        let part = |channels: &Option<Side>| {
            let mut part = source.clone();
            if let Some(side) = part.get_mut(1) {
                side.clone_from(channels);
            }
            part
        };
        Some(sizes.iter().map(part).collect())
    }

    fn resized(&self, node: &Node, source: &Shape) -> Option<Shape> {
        let [_, _, scales] = node.inputs.as_slice() else { return None };
        let Data::F32(scales) = &self.constant(scales)?.data else { return None };
        let whole = |scale: f32| (scale >= 1.0 && scale.fract() == 0.0 && scale < 1024.0).then_some(scale as i64);
        let scaled = |(side, scale): (&Option<Side>, &f32)| side.as_ref()?.times(whole(*scale)?);
        (scales.len() == source.len()).then(|| source.iter().zip(scales).map(scaled).collect())
    }

    /// From the top left corner.
    fn cropped(&self, node: &Node, source: &Shape) -> Option<Shape> {
        let [_, begins, ends, axes] = node.inputs.as_slice() else { return None };
        let (begins, ends, axes) = (self.integers(begins)?, self.list(ends)?, self.integers(axes)?);
        if begins.iter().any(|begin| *begin != 0) || axes.len() != ends.len() {
            return None;
        }
        let mut cropped = source.clone();
        for (axis, end) in axes.iter().zip(ends) {
            let side = cropped.get_mut(usize::try_from(*axis).ok()?)?;
            *side = match (side.as_ref(), end) {
                (Some(side), Some(end)) if side.covers(end) => Some(end.clone()),
                (Some(side), Some(end)) if end.covers(side) => Some(side.clone()),
                (_, _) => None,
            };
        }
        Some(cropped)
    }
}

fn fixed(side: usize) -> Option<Side> {
    i64::try_from(side).ok().map(Side::Known)
}

fn broadcast(a: &Shape, b: &Shape) -> Option<Shape> {
    let (longer, shorter) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let one = Some(Side::Known(1));
    let missing = longer.len() - shorter.len();
    let sides = longer.iter().enumerate().map(|(axis, side)| {
        let other = if axis < missing { &one } else { shorter.get(axis - missing).unwrap_or(&one) };
        match (side, other) {
            (side, other) if side == other || *other == one => side.clone(),
            (side, other) if *side == one => other.clone(),
            (_, _) => None,
        }
    });
    Some(sides.collect())
}

/// What windows make of a picture.
fn windowed(node: &Node, source: &Shape, channels: Option<Side>) -> Option<Shape> {
    let [batch, _, height, width] = source.as_slice() else { return None };
    let [kernel_height, kernel_width] = *node.ints("kernel_shape")? else { return None };
    let [stride_y, stride_x] = *node.ints("strides").unwrap_or(&[1, 1]) else { return None };
    let [step_y, step_x] = *node.ints("dilations").unwrap_or(&[1, 1]) else { return None };
    let [top, left, bottom, right] = *node.ints("pads").unwrap_or(&[0; 4]) else { return None };
    let reach = |kernel: i64, step: i64| (kernel - 1) * step + 1;
    let (height, width) = (height.as_ref(), width.as_ref());
    let (height, width) = if node.text("auto_pad") == Some("SAME_UPPER") {
        (height.and_then(|side| side.steps(stride_y)), width.and_then(|side| side.steps(stride_x)))
    } else {
        (
            height.and_then(|side| side.windows(reach(kernel_height, step_y), stride_y, top + bottom)),
            width.and_then(|side| side.windows(reach(kernel_width, step_x), stride_x, left + right)),
        )
    };
    Some(vec![batch.clone(), channels, height, width])
}

//! From nodes to ONNX nodes: the order, the values, and the operators that work value by value.
//!
//! Convolutions are in `convolution`, resizing, cropping and pooling in `resampling`, shape arithmetic in `shapes`.

use std::collections::{HashMap, HashSet};

use super::graph::{Graph, Node, Reference};
use super::value::{Form, Value};
use super::{Conversion, ConvertError, GraphInput, constants};
use crate::onnx_writer::{Attribute, Dim, GraphWriter, Multiples, Tensor};

pub(super) type Result<T> = std::result::Result<T, ConvertError>;

pub(super) const TO_PLANES: [i64; 4] = [0, 3, 1, 2];
pub(super) const FROM_PLANES: [i64; 4] = [0, 2, 3, 1];

/// The work in progress.
pub(super) struct Translation<'g> {
    pub(super) graph: &'g Graph,
    pub(super) writer: GraphWriter,
    condition: bool,
    inputs: HashMap<&'g str, &'g GraphInput>,
    /// Outputs by node. A node that only means something together with the one after it has none.
    done: HashMap<&'g str, Vec<Value<'g>>>,
}

pub(super) fn translate(graph: &Graph, conversion: &Conversion) -> Result<Vec<u8>> {
    let mut translation = Translation {
        graph,
        writer: GraphWriter::new(),
        condition: conversion.condition,
        inputs: conversion.inputs.iter().map(|input| (input.node.as_str(), input)).collect(),
        done: HashMap::new(),
    };
    for input in &conversion.inputs {
        translation.declare(input)?;
    }
    for node in translation.order(conversion)? {
        let values = translation.node(node)?;
        translation.done.insert(&node.name, values);
    }
    for output in &conversion.outputs {
        let reference = Reference::parse(&output.node);
        let value = translation.value(reference)?;
        let name = translation.named(graph.node(reference.node)?, &value, form(&output.shape, output.as_written))?;
        translation.writer.output(&name, &output.name, &output.shape);
    }
    if conversion.blocked_layout {
        translation.writer.for_blocked_layout(&multiples(conversion));
    }
    Ok(translation.writer.finish())
}

/// What is promised of the named sides of pictures.
fn multiples(conversion: &Conversion) -> Multiples {
    let sides = conversion.inputs.iter().flat_map(|input| {
        let multiple = input.multiple_of.map(i64::from);
        input.shape.iter().skip(2).filter_map(move |side| match side {
            Dim::Named(name) => Some((name.clone(), multiple?)),
            Dim::Fixed(_) => None,
        })
    });
    sides.collect()
}

/// The form of an input or output of that shape.
fn form(shape: &[Dim], as_written: bool) -> Form {
    if shape.len() == 4 && !as_written { Form::Planes } else { Form::Plain }
}

impl<'g> Translation<'g> {
    fn declare(&mut self, input: &'g GraphInput) -> Result<()> {
        let node = self.graph.node(&input.node)?;
        if !matches!(node.op.as_str(), "Placeholder" | "PlaceholderWithDefault") {
            return Err(node.unsupported("is not an input of the graph"));
        }
        let name = self.writer.input(input.name.as_deref().unwrap_or(&input.node), &input.shape);
        let value = Value::Computed { name, form: form(&input.shape, input.as_written) };
        self.done.insert(&input.node, vec![value]);
        Ok(())
    }

    /// All that the outputs need, producers first.
    fn order(&self, conversion: &'g Conversion) -> Result<Vec<&'g Node>> {
        let mut order = Vec::new();
        let (mut open, mut closed) = (HashSet::new(), HashSet::new());
        let mut stack: Vec<&str> =
            conversion.outputs.iter().rev().map(|output| Reference::parse(&output.node).node).collect();
        while let Some(&name) = stack.last() {
            if closed.contains(name) || self.inputs.contains_key(name) {
                stack.pop();
                continue;
            }
            let node = self.graph.node(name)?;
            if !open.insert(name) {
                open.remove(name);
                closed.insert(name);
                order.push(node);
                stack.pop();
                continue;
            }
            for producer in self.producers(node).iter().rev() {
                if open.contains(producer.node) {
                    return Err(ConvertError::Cycle(producer.node.to_owned()));
                }
                stack.push(producer.node);
            }
        }
        Ok(order)
    }

    /// The inputs that a node's translation looks at.
    fn producers(&self, node: &'g Node) -> Vec<Reference<'g>> {
        let inputs = node.inputs();
        match node.op.as_str() {
            // The condition is decided; the paddings of a dilated convolution only make its size come out even.
            "Switch" | "SpaceToBatchND" | "BatchToSpaceND" => inputs.take(1).collect(),
            "Merge" => inputs.skip(self.merged()).take(1).collect(),
            _ => inputs.collect(),
        }
    }

    /// The input of a `Merge` that is alive: first comes the branch of "yes".
    fn merged(&self) -> usize {
        usize::from(!self.condition)
    }

    pub(super) fn value(&self, reference: Reference<'_>) -> Result<Value<'g>> {
        let missing = || ConvertError::NoSuchNode(format!("{}:{}", reference.node, reference.output));
        let values = self.done.get(reference.node).ok_or_else(missing)?;
        if values.is_empty() {
            return Err(self.graph.node(reference.node)?.unsupported("is only known as part of a dilated convolution"));
        }
        values.get(reference.output).cloned().ok_or_else(missing)
    }

    /// The constant that a node takes as its input.
    pub(super) fn literal(&self, node: &'g Node, index: usize) -> Result<&'g Tensor> {
        let mut source = self.graph.node(node.input(index)?.node)?;
        // Optimised graphs hand constants through at most a node or two.
        for _ in 0..8 {
            match source.op.as_str() {
                "Const" => return self.graph.constant(source),
                "Identity" | "Switch" => source = self.graph.node(source.input(0)?.node)?,
                _ => break,
            }
        }
        Err(node.unsupported(format!("input {index} is not constant")))
    }

    /// The integers of the constant that a node takes as its input.
    pub(super) fn literal_integers(&self, node: &'g Node, index: usize) -> Result<&'g [i64]> {
        let integers = constants::integers(self.literal(node, index)?);
        integers.ok_or_else(|| node.unsupported(format!("input {index} is not integers")))
    }

    /// The one integer that a node takes as its input.
    pub(super) fn literal_integer(&self, node: &'g Node, index: usize) -> Result<i64> {
        match *self.literal_integers(node, index)? {
            [value] => Ok(value),
            _ => Err(node.unsupported(format!("input {index} is not one integer"))),
        }
    }

    /// The name of an input of `node`, in the wanted form.
    pub(super) fn input(&mut self, node: &'g Node, index: usize, form: Form) -> Result<String> {
        let value = self.value(node.input(index)?)?;
        self.named(node, &value, form)
    }

    /// The name of a value that `node` uses, in the wanted form.
    pub(super) fn named(&mut self, node: &'g Node, value: &Value<'g>, form: Form) -> Result<String> {
        match (value, form) {
            (Value::Constant(tensor), Form::Plain) => Ok(self.writer.constant((*tensor).clone())),
            (Value::Constant(tensor), Form::Planes) => {
                let tensor = constants::as_planes(tensor).ok_or_else(|| node.unsupported("a constant of five axes"))?;
                Ok(self.writer.constant(tensor))
            }
            (Value::Computed { name, form: own }, _) if *own == form => Ok(name.clone()),
            (Value::Computed { name, .. }, _) => {
                let axes = if form == Form::Planes { TO_PLANES } else { FROM_PLANES };
                Ok(self.writer.node("Transpose", &[name], &[("perm", Attribute::Ints(axes.to_vec()))]))
            }
        }
    }

    fn node(&mut self, node: &'g Node) -> Result<Vec<Value<'g>>> {
        let one = |value| Ok(vec![value]);
        match node.op.as_str() {
            "Const" => one(Value::Constant(self.graph.constant(node)?)),
            "Placeholder" | "PlaceholderWithDefault" => Err(node.unsupported("is no input of the conversion")),
            "Identity" => one(self.value(node.input(0)?)?),
            "Switch" => {
                let value = self.value(node.input(0)?)?;
                Ok(vec![value.clone(), value])
            }
            "Merge" => one(self.value(node.input(self.merged())?)?),
            "SpaceToBatchND" => Ok(Vec::new()),
            "BatchToSpaceND" => self.rearranged_back(node).and_then(one),
            "_FusedConv2D" | "Conv2D" | "FusedDepthwiseConv2dNative" | "DepthwiseConv2dNative" => {
                self.convolution(node).and_then(one)
            }
            "Conv2DBackpropInput" => self.transposed_convolution(node).and_then(one),
            "Add" | "AddV2" | "AddN" | "BiasAdd" => self.fold(node, "Add").and_then(one),
            "Sub" => self.fold(node, "Sub").and_then(one),
            "Mul" => self.fold(node, "Mul").and_then(one),
            "RealDiv" => self.fold(node, "Div").and_then(one),
            "Minimum" => self.fold(node, "Min").and_then(one),
            "Maximum" => self.fold(node, "Max").and_then(one),
            "Relu" => self.map(node, "Relu", &[]).and_then(one),
            "Sigmoid" => self.map(node, "Sigmoid", &[]).and_then(one),
            "Tanh" => self.map(node, "Tanh", &[]).and_then(one),
            "LeakyRelu" => {
                let alpha = node.float("alpha").unwrap_or(0.2) as f32;
                self.map(node, "LeakyRelu", &[("alpha", Attribute::Float(alpha))]).and_then(one)
            }
            "Relu6" => {
                let (name, form) = self.computed(node, 0)?;
                one(Value::Computed { name: self.clip6(&name), form })
            }
            "Square" => {
                let (name, form) = self.computed(node, 0)?;
                one(Value::Computed { name: self.writer.node("Mul", &[&name, &name], &[]), form })
            }
            "AvgPool" => self.pool(node, "AveragePool").and_then(one),
            "MaxPool" => self.pool(node, "MaxPool").and_then(one),
            "Mean" => self.mean(node).and_then(one),
            "Pad" | "PadV2" => self.pad(node).and_then(one),
            "ResizeBilinear" => self.resize(node).and_then(one),
            "Slice" => self.crop(node).and_then(one),
            "BroadcastTo" => self.broadcast(node).and_then(one),
            "ConcatV2" => self.concat(node).and_then(one),
            "Split" | "SplitV" => self.split(node),
            "Transpose" => self.transpose(node).and_then(one),
            "Reshape" => self.reshape(node).and_then(one),
            "Shape" => self.shape(node).and_then(one),
            "StridedSlice" => self.strided_slice(node).and_then(one),
            "Pack" => self.pack(node).and_then(one),
            "Cast" => self.cast(node).and_then(one),
            _ => Err(node.unsupported("the operator is not known")),
        }
    }

    /// An input that is no constant, as it is.
    pub(super) fn computed(&self, node: &'g Node, index: usize) -> Result<(String, Form)> {
        match self.value(node.input(index)?)? {
            Value::Computed { name, form } => Ok((name, form)),
            Value::Constant(_) => Err(node.unsupported(format!("input {index} is constant"))),
        }
    }

    /// A function of one value.
    fn map(&mut self, node: &'g Node, op: &'static str, attributes: &[(&'static str, Attribute)]) -> Result<Value<'g>> {
        let (name, form) = self.computed(node, 0)?;
        Ok(Value::Computed { name: self.writer.node(op, &[&name], attributes), form })
    }

    pub(super) fn clip6(&mut self, name: &str) -> String {
        let (zero, six) = (self.writer.constant(Tensor::scalar(0.0)), self.writer.constant(Tensor::scalar(6.0)));
        self.writer.node("Clip", &[name, &zero, &six], &[])
    }

    /// An operator between two or more values, broadcast.
    fn fold(&mut self, node: &'g Node, op: &'static str) -> Result<Value<'g>> {
        let values = node.inputs().map(|reference| self.value(reference)).collect::<Result<Vec<_>>>()?;
        let form = self.common_form(node, &values)?;
        let mut names = Vec::with_capacity(values.len());
        for value in &values {
            names.push(self.named(node, value, form)?);
        }
        let mut names = names.into_iter();
        let first = names.next().ok_or_else(|| node.unsupported("has no inputs"))?;
        let name = names.fold(first, |left, right| self.writer.node(op, &[&left, &right], &[]));
        Ok(Value::Computed { name, form })
    }

    /// Planes when any value is; a run-time value of the other form beside it would need its rank to be known.
    pub(super) fn common_form(&self, node: &'g Node, values: &[Value<'g>]) -> Result<Form> {
        let has = |wanted| values.iter().any(|value| matches!(value, Value::Computed { form, .. } if *form == wanted));
        match (has(Form::Planes), has(Form::Plain)) {
            (true, true) => Err(node.unsupported("mixes pictures with values of another order of axes")),
            (true, false) => Ok(Form::Planes),
            (false, _) => Ok(Form::Plain),
        }
    }
}

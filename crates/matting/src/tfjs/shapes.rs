//! Axes and shapes: joining, cutting, reordering, and the arithmetic of sizes.

use super::graph::Node;
use super::translate::{FROM_PLANES, Result, TO_PLANES, Translation};
use super::value::{Form, Value};
use crate::onnx_writer::Attribute;

/// Element types of ONNX.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

impl<'g> Translation<'g> {
    /// Where an axis of TensorFlow's lies in the given form.
    pub(super) fn axis(&self, node: &'g Node, axis: i64, form: Form) -> Result<i64> {
        match (form, axis) {
            (Form::Plain, _) => Ok(axis),
            (Form::Planes, 0 | -4) => Ok(0),
            (Form::Planes, 1 | -3) => Ok(2),
            (Form::Planes, 2 | -2) => Ok(3),
            (Form::Planes, 3 | -1) => Ok(1),
            (Form::Planes, _) => Err(node.unsupported(format!("axis {axis} of a picture"))),
        }
    }

    pub(super) fn concat(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let count = node.inputs().count().checked_sub(1).ok_or_else(|| node.unsupported("has no inputs"))?;
        let values = node.inputs().take(count).map(|reference| self.value(reference)).collect::<Result<Vec<_>>>()?;
        let form = self.common_form(node, &values)?;
        let axis = self.axis(node, self.literal_integer(node, count)?, form)?;
        let mut names = Vec::with_capacity(values.len());
        for value in &values {
            names.push(self.named(node, value, form)?);
        }
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Ok(Value::Computed { name: self.writer.node("Concat", &names, &[("axis", Attribute::Int(axis))]), form })
    }

    pub(super) fn split(&mut self, node: &'g Node) -> Result<Vec<Value<'g>>> {
        let sized = node.op == "SplitV";
        let (source, form) = self.computed(node, if sized { 0 } else { 1 })?;
        let axis = self.axis(node, self.literal_integer(node, if sized { 2 } else { 0 })?, form)?;
        let attributes = [("axis", Attribute::Int(axis))];
        let names = if sized {
            let sizes = self.literal_integers(node, 1)?;
            let list = self.integers(sizes);
            self.writer.node_of("Split", sizes.len(), &[&source, &list], &attributes)
        } else {
            let count = node.integer("num_split").and_then(|count| usize::try_from(count).ok());
            let count = count.filter(|count| (1..=1024).contains(count));
            let count = count.ok_or_else(|| node.unsupported("num_split is missing or absurd"))?;
            self.writer.node_of("Split", count, &[&source], &attributes)
        };
        Ok(names.into_iter().map(|name| Value::Computed { name, form }).collect())
    }

    /// A change of axes between TensorFlow's order and ONNX's costs nothing: it only changes what the value is called.
    pub(super) fn transpose(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let (name, form) = self.computed(node, 0)?;
        let axes = self.literal_integers(node, 1)?;
        match form {
            Form::Planes if axes == TO_PLANES => Ok(Value::plain(name)),
            Form::Plain if axes == FROM_PLANES => Ok(Value::planes(name)),
            Form::Planes | Form::Plain => {
                let source = self.input(node, 0, Form::Plain)?;
                let attributes = [("perm", Attribute::Ints(axes.to_vec()))];
                Ok(Value::plain(self.writer.node("Transpose", &[&source], &attributes)))
            }
        }
    }

    pub(super) fn reshape(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let source = self.input(node, 0, Form::Plain)?;
        let shape = self.input(node, 1, Form::Plain)?;
        Ok(Value::plain(self.writer.node("Reshape", &[&source, &shape], &[])))
    }

    /// The shape in TensorFlow's order.
    pub(super) fn shape(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let (source, form) = self.computed(node, 0)?;
        let shape = self.writer.node("Shape", &[&source], &[]);
        match form {
            Form::Plain => Ok(Value::plain(shape)),
            Form::Planes => {
                let order = self.integers(&FROM_PLANES);
                Ok(Value::plain(self.writer.node("Gather", &[&shape, &order], &[("axis", Attribute::Int(0))])))
            }
        }
    }

    /// A stretch, or one entry, of a list.
    pub(super) fn strided_slice(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let mask = |name: &str| node.integer(name).unwrap_or(0);
        let plain = mask("ellipsis_mask") == 0 && mask("new_axis_mask") == 0 && mask("begin_mask") == 0;
        if !plain || mask("end_mask") != 0 || self.literal_integer(node, 3)? != 1 {
            return Err(node.unsupported("is no plain stretch of a list"));
        }
        let (begin, mut end) = (self.literal_integer(node, 1)?, self.literal_integer(node, 2)?);
        let shrink = mask("shrink_axis_mask") != 0;
        if shrink {
            // One entry; the end is not looked at, and after the last entry comes the end of the list, not entry 0.
            end = if begin == -1 { i64::MAX } else { begin + 1 };
        }
        let source = self.list(node, 0)?;
        let (begin, end, zero) = (self.integers(&[begin]), self.integers(&[end]), self.integers(&[0]));
        let mut name = self.writer.node("Slice", &[&source, &begin, &end, &zero], &[]);
        if shrink {
            name = self.writer.node("Squeeze", &[&name, &zero], &[]);
        }
        Ok(Value::plain(name))
    }

    /// An input that is a shape, not a picture.
    fn list(&mut self, node: &'g Node, index: usize) -> Result<String> {
        match self.value(node.input(index)?)? {
            Value::Computed { form: Form::Planes, .. } => Err(node.unsupported("cuts a picture")),
            value @ (Value::Computed { form: Form::Plain, .. } | Value::Constant(_)) => {
                self.named(node, &value, Form::Plain)
            }
        }
    }

    /// A list of its inputs.
    pub(super) fn pack(&mut self, node: &'g Node) -> Result<Value<'g>> {
        if node.integer("axis").unwrap_or(0) != 0 {
            return Err(node.unsupported("packs along another axis than the first"));
        }
        let zero = self.integers(&[0]);
        let mut names = Vec::new();
        for index in 0..node.inputs().count() {
            let name = self.list(node, index)?;
            names.push(self.writer.node("Unsqueeze", &[&name, &zero], &[]));
        }
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Ok(Value::plain(self.writer.node("Concat", &names, &[("axis", Attribute::Int(0))])))
    }

    pub(super) fn cast(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let (source, form) = self.computed(node, 0)?;
        let to = match node.is_float_type("DstT") {
            Some(true) => FLOAT,
            Some(false) => INT64,
            None => return Err(node.unsupported("does not say to what")),
        };
        Ok(Value::Computed { name: self.writer.node("Cast", &[&source], &[("to", Attribute::Int(to))]), form })
    }
}

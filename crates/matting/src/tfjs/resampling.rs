//! What changes the size of a picture: resizing, cropping, padding, pooling, broadcasting.

use super::graph::{Node, Padding};
use super::translate::{Result, TO_PLANES, Translation};
use super::value::{Form, Value};
use crate::onnx_writer::{Attribute, Data, Tensor};

impl<'g> Translation<'g> {
    pub(super) fn resize(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let coordinates = match (node.flag("half_pixel_centers"), node.flag("align_corners")) {
            (true, false) => "half_pixel",
            (false, false) => "asymmetric",
            (false, true) => "align_corners",
            (true, true) => return Err(node.unsupported("half_pixel_centers and align_corners")),
        };
        let attributes =
            [("mode", Attribute::Text("linear")), ("coordinate_transformation_mode", Attribute::Text(coordinates))];
        let source = self.input(node, 0, Form::Planes)?;
        if let Some([height, width]) = self.factor(node)? {
            let scales = self.writer.constant(Tensor::floats(&[1.0, 1.0, height, width]));
            return Ok(Value::planes(self.writer.node("Resize", &[&source, "", &scales], &attributes)));
        }
        let size = self.input(node, 1, Form::Plain)?;
        let shape = self.writer.node("Shape", &[&source], &[]);
        let (zero, two) = (self.integers(&[0]), self.integers(&[2]));
        let batch_and_channels = self.writer.node("Slice", &[&shape, &zero, &two, &zero], &[]);
        let sizes = self.writer.node("Concat", &[&batch_and_channels, &size], &[("axis", Attribute::Int(0))]);
        Ok(Value::planes(self.writer.node("Resize", &[&source, "", "", &sizes], &attributes)))
    }

    /// The factor of a resize to a constant multiple of the picture's own size, which needs no shapes at run time:
    /// `size = shape(picture)[1..3] · constant`.
    fn factor(&self, node: &'g Node) -> Result<Option<[f32; 2]>> {
        let size = self.graph.node(node.input(1)?.node)?;
        if size.op != "Mul" {
            return Ok(None);
        }
        let slice = self.graph.node(size.input(0)?.node)?;
        if slice.op != "StridedSlice" {
            return Ok(None);
        }
        let shape = self.graph.node(slice.input(0)?.node)?;
        let own = shape.op == "Shape" && shape.input(0)? == node.input(0)?;
        let sides = self.literal_integers(slice, 1)? == [1] && self.literal_integers(slice, 2)? == [3];
        match self.literal_integers(size, 1) {
            Ok(&[height, width]) if own && sides => Ok(Some([height as f32, width as f32])),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// `Slice` as it is written for a crop: from the top left corner, all channels, sides known at run time.
    pub(super) fn crop(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let size = self.graph.node(node.input(2)?.node)?;
        let whole = |index| self.literal_integer(size, index).is_ok_and(|side| side == -1);
        if self.literal_integers(node, 1)? != [0; 4] || size.op != "Pack" || !whole(0) || !whole(3) {
            return Err(node.unsupported("is no crop from the top left corner"));
        }
        let source = self.input(node, 0, Form::Planes)?;
        let size = self.input(node, 2, Form::Plain)?;
        let sides = self.integers(&[1, 2]);
        let ends = self.writer.node("Gather", &[&size, &sides], &[("axis", Attribute::Int(0))]);
        let (starts, axes) = (self.integers(&[0, 0]), self.integers(&[2, 3]));
        Ok(Value::planes(self.writer.node("Slice", &[&source, &starts, &ends, &axes], &[])))
    }

    /// `Pad` that no convolution took in.
    pub(super) fn pad(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let (source, form) = self.computed(node, 0)?;
        let pairs: Vec<_> = self.literal_integers(node, 1)?.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        let pairs = match (form, pairs.as_slice()) {
            (Form::Planes, [batch, height, width, channels]) => vec![*batch, *channels, *height, *width],
            (Form::Planes, _) => return Err(node.unsupported("pads a picture of other than four axes")),
            (Form::Plain, _) => pairs,
        };
        let pads: Vec<_> = pairs.iter().map(|pair| pair[0]).chain(pairs.iter().map(|pair| pair[1])).collect();
        let pads = self.integers(&pads);
        let name = if node.op == "PadV2" {
            let value = self.input(node, 2, Form::Plain)?;
            self.writer.node("Pad", &[&source, &pads, &value], &[])
        } else {
            self.writer.node("Pad", &[&source, &pads], &[])
        };
        Ok(Value::Computed { name, form })
    }

    pub(super) fn pool(&mut self, node: &'g Node, op: &'static str) -> Result<Value<'g>> {
        let (Some(kernel), Some(stride)) = (node.spatial("ksize")?, node.spatial("strides")?) else {
            return Err(node.unsupported("has no window"));
        };
        let source = self.input(node, 0, Form::Planes)?;
        let mut attributes =
            vec![("kernel_shape", Attribute::Ints(kernel.to_vec())), ("strides", Attribute::Ints(stride.to_vec()))];
        if node.padding()? == Padding::Same {
            attributes.push(("auto_pad", Attribute::Text("SAME_UPPER")));
        }
        Ok(Value::planes(self.writer.node(op, &[&source], &attributes)))
    }

    pub(super) fn mean(&mut self, node: &'g Node) -> Result<Value<'g>> {
        if !node.flag("keep_dims") {
            return Err(node.unsupported("drops axes"));
        }
        let (source, form) = self.computed(node, 0)?;
        let axes = self.literal_integers(node, 1)?.iter().map(|axis| self.axis(node, *axis, form));
        let mut axes = axes.collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        let attributes = [("axes", Attribute::Ints(axes)), ("keepdims", Attribute::Int(1))];
        Ok(Value::Computed { name: self.writer.node("ReduceMean", &[&source], &attributes), form })
    }

    pub(super) fn broadcast(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let source = self.input(node, 0, Form::Planes)?;
        let shape = self.input(node, 1, Form::Plain)?;
        let order = self.integers(&TO_PLANES);
        let shape = self.writer.node("Gather", &[&shape, &order], &[("axis", Attribute::Int(0))]);
        Ok(Value::planes(self.writer.node("Expand", &[&source, &shape], &[])))
    }

    /// A constant list.
    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        self.writer.constant(Tensor { shape: vec![values.len()], data: Data::I64(values.to_vec()) })
    }
}

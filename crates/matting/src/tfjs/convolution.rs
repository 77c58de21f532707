//! Convolutions, with what is written around them: explicit padding, dilation by rearrangement, fused bias and
//! activation.

use super::constants::transposed;
use super::graph::{Node, Padding, Reference};
use super::translate::{Result, Translation};
use super::value::{Form, Value};
use crate::onnx_writer::{Attribute, Tensor};

/// A convolution before it is written.
struct Window {
    /// Height and width.
    kernel: [i64; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
    /// Pixels of zeros at the top, left, bottom and right; none when the runtime works them out.
    pads: Option<[i64; 4]>,
}

impl<'g> Translation<'g> {
    pub(super) fn convolution(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let depthwise = matches!(node.op.as_str(), "FusedDepthwiseConv2dNative" | "DepthwiseConv2dNative");
        let weights = self.literal(node, 1)?;
        let [height, width, channels, multiplier] = *weights.shape else {
            return Err(node.unsupported("its weights have not four axes"));
        };
        let (source, window) = self.window(node, [height as i64, width as i64])?;
        let weights = if depthwise {
            let shape = vec![channels * multiplier, 1, height, width];
            Tensor { shape, ..transposed(weights, &[2, 3, 0, 1]) }
        } else {
            transposed(weights, &[3, 2, 0, 1])
        };
        let mut attributes = window.attributes();
        if depthwise {
            attributes.push(("group", Attribute::Int(channels as i64)));
        }
        let source = self.value(source)?;
        let mut inputs = vec![self.named(node, &source, Form::Planes)?, self.writer.constant(weights)];
        let fused = node.texts("fused_ops");
        let has_bias = fused.first().is_some_and(|first| first == "BiasAdd");
        if has_bias {
            inputs.push(self.input(node, 2, Form::Plain)?);
        }
        let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
        let mut name = self.writer.node("Conv", &inputs, &attributes);
        for activation in fused.iter().skip(usize::from(has_bias)) {
            name = self.activation(node, activation, &name)?;
        }
        Ok(Value::planes(name))
    }

    fn activation(&mut self, node: &'g Node, activation: &str, name: &str) -> Result<String> {
        match activation {
            "Relu" => Ok(self.writer.node("Relu", &[name], &[])),
            "Relu6" => Ok(self.clip6(name)),
            "Sigmoid" => Ok(self.writer.node("Sigmoid", &[name], &[])),
            "LeakyRelu" => {
                let alpha = node.float("leakyrelu_alpha").unwrap_or(0.2) as f32;
                Ok(self.writer.node("LeakyRelu", &[name], &[("alpha", Attribute::Float(alpha))]))
            }
            other => Err(node.unsupported(format!("fused with {other}"))),
        }
    }

    /// The window, and what it slides over: what is before the padding and the rearrangement that are folded into it.
    fn window(&self, node: &'g Node, kernel: [i64; 2]) -> Result<(Reference<'g>, Window)> {
        let stride = node.spatial("strides")?.unwrap_or([1, 1]);
        let mut dilation = node.spatial("dilations")?.unwrap_or([1, 1]);
        let padding = node.padding()?;
        let mut source = node.input(0)?;
        let mut producer = self.graph.node(source.node)?;
        if producer.op == "SpaceToBatchND" {
            if padding != Padding::Valid || stride != [1, 1] || dilation != [1, 1] {
                return Err(node.unsupported("slides over rearranged pixels in a way that is no dilation"));
            }
            dilation = self.block(producer)?;
            source = producer.input(0)?;
            producer = self.graph.node(source.node)?;
        }
        let mut pads = [0; 4];
        if producer.op == "Pad" && padding == Padding::Valid {
            pads = match *self.literal_integers(producer, 1)? {
                [0, 0, top, bottom, left, right, 0, 0] => [top, left, bottom, right],
                _ => return Err(producer.unsupported("pads other axes than height and width")),
            };
            source = producer.input(0)?;
        }
        let pads = match padding {
            Padding::Valid => Some(pads),
            Padding::Same if stride == [1, 1] => {
                let total = [(kernel[0] - 1) * dilation[0], (kernel[1] - 1) * dilation[1]];
                let before = total.map(|total| total / 2);
                Some([before[0], before[1], total[0] - before[0], total[1] - before[1]])
            }
            Padding::Same => None,
        };
        Ok((source, Window { kernel, stride, dilation, pads }))
    }

    /// The two sides of the block that pixels are rearranged by.
    fn block(&self, node: &'g Node) -> Result<[i64; 2]> {
        match *self.literal_integers(node, 1)? {
            [height, width] if height > 0 && width > 0 => Ok([height, width]),
            _ => Err(node.unsupported("its block has not two sides")),
        }
    }

    /// The end of a dilated convolution: TensorFlow rearranges pixels, convolves and rearranges back. The convolution
    /// in the middle was written with a dilation, so that there is nothing left to do.
    pub(super) fn rearranged_back(&self, node: &'g Node) -> Result<Value<'g>> {
        let convolution = self.graph.node(node.input(0)?.node)?;
        let before = self.graph.node(convolution.input(0)?.node)?;
        let is_dilation = matches!(convolution.op.as_str(), "DepthwiseConv2dNative" | "Conv2D")
            && before.op == "SpaceToBatchND"
            && self.block(before)? == self.block(node)?;
        if !is_dilation {
            return Err(node.unsupported("does not end a dilated convolution"));
        }
        self.value(node.input(0)?)
    }

    /// A transposed convolution whose windows do not overlap.
    pub(super) fn transposed_convolution(&mut self, node: &'g Node) -> Result<Value<'g>> {
        let weights = self.literal(node, 1)?;
        let stride = node.spatial("strides")?.unwrap_or([1, 1]);
        match *weights.shape {
            [height, width, _, _] if [height as i64, width as i64] == stride => {}
            _ => return Err(node.unsupported("its windows overlap")),
        }
        let weights = self.writer.constant(transposed(weights, &[3, 2, 0, 1]));
        let source = self.input(node, 2, Form::Planes)?;
        let attributes =
            [("kernel_shape", Attribute::Ints(stride.to_vec())), ("strides", Attribute::Ints(stride.to_vec()))];
        Ok(Value::planes(self.writer.node("ConvTranspose", &[&source, &weights], &attributes)))
    }
}

impl Window {
    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let edge = match self.pads {
            Some(pads) => ("pads", Attribute::Ints(pads.to_vec())),
            None => ("auto_pad", Attribute::Text("SAME_UPPER")),
        };
        vec![
            ("kernel_shape", Attribute::Ints(self.kernel.to_vec())),
            ("strides", Attribute::Ints(self.stride.to_vec())),
            ("dilations", Attribute::Ints(self.dilation.to_vec())),
            edge,
        ]
    }
}

//! Small graphs, converted and run by the real ONNX Runtime, against the operators' definitions written out.

mod definitions;
mod graphs;

use serde_json::json;

use self::definitions::{Picture, Window};
use self::graphs::{Sketch, readable};
use super::{ConvertError, convert};
use crate::test_runtime::{Array, load, run};

/// Converts the sketch, feeds it noise of the picture's shape, gives the input and the output `y`, both NHWC.
fn apply(sketch: &Sketch, shape: [usize; 4]) -> (Picture, Picture) {
    let [height, width, channels] = [shape[1], shape[2], shape[3]];
    let input = Array::noise(&[1, channels, height, width]);
    let model = sketch.convert(channels).unwrap();
    let output = run(&mut load(&model), &[("x", &input)], &["y"]).remove(0);
    (Picture::from_planes(&input), Picture::from_planes(&output))
}

#[test]
fn a_strided_convolution_takes_in_the_padding_before_it_and_the_activation_after_it() {
    let (weights, bias) = (Array::noise(&[3, 2, 2, 4]), Array::noise(&[4]));
    let mut sketch = Sketch::new();
    sketch.integers("paddings", &[4, 2], &[0, 0, 1, 2, 0, 1, 0, 0]).floats("w", &weights).floats("b", &bias);
    sketch.node("padded", "Pad", &["x", "paddings"], json!({}));
    let attributes = json!({"strides": [1, 2, 1, 1], "padding": "VALID", "fused_ops": ["BiasAdd", "Relu6"]});
    sketch.node("y", "_FusedConv2D", &["padded", "w", "b"], attributes);

    let (input, output) = apply(&sketch, [1, 6, 5, 2]);
    let window = Window { stride: [2, 1], dilation: [1, 1], before: [1, 0], size: [4, 5] };
    let expected =
        input.convolved(&weights, &window).map(|value, channel| (value + bias.values[channel]).clamp(0.0, 6.0));
    assert_eq!(output.shape, [1, 4, 5, 4]);
    assert!(output.max_difference(&expected) < 1e-5, "{output:?} {expected:?}");
    assert!(!readable(&sketch.convert(2).unwrap()).contains("Pad_"), "the padding is part of the convolution");
}

#[test]
fn same_padding_puts_what_is_odd_at_the_end() {
    for (kernel, stride, size, before) in [([2, 4], 1, [5, 6], [0, 1]), ([3, 3], 2, [3, 3], [1, 0])] {
        let weights = Array::noise(&[kernel[0], kernel[1], 2, 3]);
        let mut sketch = Sketch::new();
        sketch.floats("w", &weights);
        sketch.node("y", "Conv2D", &["x", "w"], json!({"strides": [1, stride, stride, 1], "padding": "SAME"}));
        let (input, output) = apply(&sketch, [1, 5, 6, 2]);
        let window = Window { stride: [stride; 2], dilation: [1, 1], before, size };
        assert!(output.max_difference(&input.convolved(&weights, &window)) < 1e-5, "kernel {kernel:?}");
    }
}

#[test]
fn a_depthwise_convolution_between_rearrangements_is_a_dilated_one() {
    let weights = Array::noise(&[3, 3, 2, 1]);
    let mut sketch = Sketch::new();
    sketch.floats("w", &weights).integers("block", &[2], &[2, 2]).integers("rest", &[2, 2], &[0, 0, 0, 0]);
    sketch.node("apart", "SpaceToBatchND", &["x", "block", "rest"], json!({}));
    let attributes = json!({"strides": [1, 1, 1, 1], "padding": "VALID"});
    sketch.node("convolved", "DepthwiseConv2dNative", &["apart", "w"], attributes);
    sketch.node("y", "BatchToSpaceND", &["convolved", "block", "rest"], json!({}));

    let (input, output) = apply(&sketch, [1, 8, 6, 2]);
    let window = Window { stride: [1, 1], dilation: [2, 2], before: [0, 0], size: [4, 2] };
    let expected = input.convolved_by_channel(&weights, &window);
    assert!(output.max_difference(&expected) < 1e-5, "{output:?} {expected:?}");
}

#[test]
fn constants_meet_pictures_at_their_last_axes() {
    let mut sketch = Sketch::new();
    let table = Array::noise(&[4, 3]);
    sketch.floats("list", &Array { shape: vec![3], values: vec![1.0, 2.0, 3.0] }).floats("table", &table);
    sketch.floats("two", &Array { shape: vec![], values: vec![2.0] });
    sketch.node("sum", "AddV2", &["x", "list"], json!({}));
    sketch.node("difference", "Sub", &["two", "sum"], json!({}));
    sketch.node("y", "Mul", &["difference", "table"], json!({}));
    let (input, output) = apply(&sketch, [1, 2, 4, 3]);
    for (index, value) in output.values.iter().enumerate() {
        let expected = (2.0 - (input.values[index] + (index % 3 + 1) as f32)) * table.values[index % 12];
        assert!((value - expected).abs() < 1e-6, "{index}: {value}, not {expected}");
    }
}

#[test]
fn channels_are_split_joined_and_averaged() {
    let mut sketch = Sketch::new();
    sketch.integers("last", &[], &[-1]).integers("three", &[], &[3]).integers("sizes", &[2], &[1, 2]);
    sketch.integers("sides", &[2], &[1, 2]);
    sketch.node("parts", "SplitV", &["x", "sizes", "three"], json!({"num_split": 2}));
    sketch.node("halves", "Split", &["last", "parts:1"], json!({"num_split": 2}));
    sketch.node("mean", "Mean", &["halves:1", "sides"], json!({"keep_dims": true}));
    sketch.node("square", "Square", &["halves"], json!({}));
    sketch.node("scaled", "Mul", &["square", "mean"], json!({}));
    sketch.node("y", "ConcatV2", &["scaled", "parts", "last"], json!({}));
    let (input, output) = apply(&sketch, [1, 3, 2, 3]);
    let mean = input.values.iter().skip(2).step_by(3).sum::<f32>() / 6.0;
    assert_eq!(output.shape, [1, 3, 2, 2]);
    for (pixel, was) in output.values.chunks_exact(2).zip(input.values.chunks_exact(3)) {
        assert!((pixel[0] - was[1] * was[1] * mean).abs() < 1e-6 && pixel[1] == was[0], "{pixel:?} {was:?}");
    }
}

#[test]
fn a_picture_is_doubled_and_cropped_to_anothers_size() {
    let mut sketch = Sketch::new();
    sketch.integers("0", &[1], &[0]).integers("1", &[1], &[1]).integers("2", &[1], &[2]).integers("3", &[1], &[3]);
    sketch.integers("twice", &[2], &[2, 2]).integers("corner", &[4], &[0; 4]).integers("all", &[], &[-1]);
    let pool = json!({"ksize": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"});
    sketch.node("small", "AvgPool", &["x"], pool);
    sketch.node("shape", "Shape", &["small"], json!({}));
    sketch.node("sides", "StridedSlice", &["shape", "1", "3", "1"], json!({}));
    sketch.node("larger", "Mul", &["sides", "twice"], json!({}));
    let linear = json!({"half_pixel_centers": true, "align_corners": false});
    sketch.node("doubled", "ResizeBilinear", &["small", "larger"], linear);
    sketch.node("own", "Shape", &["x"], json!({}));
    sketch.node("height", "StridedSlice", &["own", "1", "2", "1"], json!({"shrink_axis_mask": 1}));
    sketch.node("width", "StridedSlice", &["own", "2", "3", "1"], json!({"shrink_axis_mask": 1}));
    sketch.node("size", "Pack", &["all", "height", "width", "all"], json!({"axis": 0}));
    sketch.node("y", "Slice", &["doubled", "corner", "size"], json!({}));

    let (input, output) = apply(&sketch, [1, 5, 7, 2]);
    let expected = input.halved().resized([6, 8]).cropped([5, 7]);
    assert!(output.max_difference(&expected) < 1e-5, "{output:?} {expected:?}");
}

#[test]
fn a_resize_to_a_size_known_at_run_time_is_the_same() {
    let mut sketch = Sketch::new();
    sketch
        .integers("1", &[1], &[1])
        .integers("3", &[1], &[3])
        .floats("ratio", &Array { shape: vec![1], values: vec![0.6] });
    sketch.node("shape", "Shape", &["x"], json!({}));
    sketch.node("sides", "StridedSlice", &["shape", "1", "3", "1"], json!({}));
    sketch.node("real", "Cast", &["sides"], json!({"DstT": "DT_FLOAT"}));
    sketch.node("scaled", "Mul", &["real", "ratio"], json!({}));
    sketch.node("size", "Cast", &["scaled"], json!({"DstT": "DT_INT32"}));
    sketch.node("y", "ResizeBilinear", &["x", "size"], json!({"half_pixel_centers": true}));
    let (input, output) = apply(&sketch, [1, 9, 6, 1]);
    assert!(output.max_difference(&input.resized([5, 3])) < 1e-5);
}

#[test]
fn conditions_are_decided_by_the_conversion() {
    let mut sketch = Sketch::new();
    sketch.floats("one", &Array { shape: vec![], values: vec![1.0] });
    sketch.node("asked", "Equal", &["x", "one"], json!({}));
    sketch.node("branch", "Switch", &["x", "asked"], json!({}));
    sketch.node("yes", "Identity", &["branch:1"], json!({}));
    sketch.node("no", "AddV2", &["branch", "one"], json!({}));
    sketch.node("y", "Merge", &["yes", "no"], json!({}));
    for condition in [true, false] {
        sketch.condition = condition;
        let (input, output) = apply(&sketch, [1, 2, 2, 1]);
        assert_eq!(output.values[0] - input.values[0] > 0.5, !condition);
    }
}

#[test]
fn a_first_state_of_one_zero_grows_to_the_size_it_is_needed_in() {
    let mut sketch = Sketch::new();
    sketch.floats("seed", &Array { shape: vec![1, 1, 1, 1], values: vec![0.25] });
    sketch.node("shape", "Shape", &["x"], json!({}));
    sketch.node("state", "BroadcastTo", &["seed", "shape"], json!({}));
    sketch.integers("last", &[], &[3]).node("y", "ConcatV2", &["state", "x", "last"], json!({}));
    let (_, output) = apply(&sketch, [1, 3, 2, 2]);
    assert_eq!(output.shape, [1, 3, 2, 4]);
    assert_eq!(output.values[..2], [0.25, 0.25]);
}

#[test]
fn changes_of_axes_that_only_follow_another_convention_vanish() {
    let mut sketch = Sketch::new();
    let weights = Array::noise(&[1, 1, 2, 2]);
    sketch.floats("w", &weights).integers("to", &[4], &[0, 3, 1, 2]).integers("back", &[4], &[0, 2, 3, 1]);
    sketch.node("planes", "Transpose", &["x", "to"], json!({}));
    sketch.node("active", "LeakyRelu", &["planes"], json!({}));
    sketch.node("pixels", "Transpose", &["active", "back"], json!({}));
    sketch.node("y", "Conv2D", &["pixels", "w"], json!({"strides": [1, 1, 1, 1], "padding": "VALID"}));
    assert!(!readable(&sketch.convert(2).unwrap()).contains("Transpose"));
    let (input, output) = apply(&sketch, [1, 3, 4, 2]);
    let window = Window { stride: [1, 1], dilation: [1, 1], before: [0, 0], size: [3, 4] };
    assert!(output.max_difference(&input.convolved(&weights, &window)) < 1e-5);
}

/// Graphs that were ONNX once hand pictures to TensorFlow's operators by a transposition, and take them back by one.
#[test]
fn a_graph_whose_axes_are_onnxs_already_is_taken_as_written() {
    let mut sketch = Sketch::new();
    let weights = Array::noise(&[1, 1, 2, 4]);
    sketch.floats("w", &weights).integers("last", &[4], &[0, 2, 3, 1]).integers("second", &[4], &[0, 3, 1, 2]);
    sketch.integers("sizes", &[2], &[1, 3]).integers("axis", &[], &[1]);
    sketch.node("tf", "Transpose", &["x", "last"], json!({}));
    sketch.node("conv", "Conv2D", &["tf", "w"], json!({"strides": [1, 1, 1, 1], "padding": "VALID"}));
    sketch.node("onnx", "Transpose", &["conv", "second"], json!({}));
    sketch.node("y", "SplitV", &["onnx", "sizes", "axis"], json!({"num_split": 2}));
    let mut conversion = sketch.conversion(2);
    conversion.inputs[0].as_written = true;
    conversion.outputs[0].as_written = true;
    conversion.outputs[0].node = "y:1".to_owned();
    let model = sketch.convert_by(&conversion).unwrap();
    assert!(!readable(&model).contains("Transpose"), "swapped and swapped back");
    let input = Array::noise(&[1, 2, 3, 5]);
    let output = run(&mut load(&model), &[("x", &input)], &["y"]).remove(0);
    assert_eq!(output.shape, [1, 3, 3, 5]);
    let value = |channel: usize, pixel: usize| input.values[channel * 15 + pixel];
    for (channel, pixel) in (0..3).flat_map(|channel| (0..15).map(move |pixel| (channel, pixel))) {
        let weight = |from: usize| weights.values[from * 4 + channel + 1];
        let expected = value(0, pixel) * weight(0) + value(1, pixel) * weight(1);
        assert!((output.values[channel * 15 + pixel] - expected).abs() < 1e-5);
    }
}

#[test]
fn what_is_not_understood_is_named_and_never_guessed() {
    let cases: [(&str, &[&str], serde_json::Value, &str); 5] = [
        ("Erf", &["x"], json!({}), "not known"),
        ("Conv2D", &["x", "x"], json!({"strides": [1, 1, 1, 1], "padding": "VALID"}), "not constant"),
        ("AvgPool", &["x"], json!({"ksize": [1, 2, 2, 1], "padding": "EXPLICIT"}), "no window"),
        ("Mean", &["x", "axes"], json!({}), "drops axes"),
        ("SpaceToBatchND", &["x", "axes", "axes"], json!({}), "part of a dilated convolution"),
    ];
    for (op, inputs, attributes, expected) in cases {
        let mut sketch = Sketch::new();
        sketch.integers("axes", &[2], &[1, 2]).node("y", op, inputs, attributes);
        match sketch.convert(3) {
            Err(ConvertError::Unsupported { node, op: found, what }) => {
                assert!(node == "y" && found == op && what.contains(expected), "{op}: {what}");
            }
            other => panic!("{op}: {:?}", other.map(|bytes| bytes.len())),
        }
    }
}

#[test]
fn malformed_graphs_are_errors() {
    let mut cyclic = Sketch::new();
    cyclic.node("y", "Relu", &["z"], json!({})).node("z", "Relu", &["y"], json!({}));
    assert!(matches!(cyclic.convert(1), Err(ConvertError::Cycle(node)) if node == "y" || node == "z"));
    let mut dangling = Sketch::new();
    dangling.node("y", "Relu", &["nowhere"], json!({}));
    assert!(matches!(dangling.convert(1), Err(ConvertError::NoSuchNode(node)) if node == "nowhere"));
    let mut beyond = Sketch::new();
    beyond.node("y", "Relu", &["x:7"], json!({}));
    assert!(matches!(beyond.convert(1), Err(ConvertError::NoSuchNode(node)) if node == "x:7"));
    let nothing = Sketch::new().conversion(1);
    assert!(matches!(convert(b"{}", &[], &nothing), Err(ConvertError::Json(_))));
    assert!(matches!(convert(b"", &[], &nothing), Err(ConvertError::Json(_))));
}

#[test]
fn a_very_deep_graph_does_not_exhaust_the_stack() {
    let mut sketch = Sketch::new();
    let mut before = "x".to_owned();
    for depth in 0..20_000 {
        let name = format!("n{depth}");
        sketch.node(&name, "Relu", &[&before], json!({}));
        before = name;
    }
    sketch.node("y", "Relu", &[&before], json!({}));
    assert!(sketch.convert(1).is_ok());
}

#[test]
fn the_same_graph_gives_the_same_bytes() {
    let mut sketch = Sketch::new();
    sketch.floats("w", &Array::noise(&[3, 3, 2, 2]));
    sketch.node("y", "Conv2D", &["x", "w"], json!({"strides": [1, 1, 1, 1], "padding": "SAME"}));
    assert_eq!(sketch.convert(2).unwrap(), sketch.convert(2).unwrap());
}

#[test]
fn a_conversion_for_the_blocked_layout_computes_the_same() {
    let (wide, narrow) = (Array::noise(&[3, 3, 3, 4]), Array::noise(&[3, 3, 7, 4]));
    let mut sketch = Sketch::new();
    sketch.floats("wide", &wide).floats("narrow", &narrow).integers("last", &[], &[3]);
    let same = json!({"strides": [1, 1, 1, 1], "padding": "SAME"});
    sketch.node("first", "Conv2D", &["x", "wide"], same.clone());
    sketch.node("both", "ConcatV2", &["first", "x", "last"], json!({}));
    sketch.node("y", "Conv2D", &["both", "narrow"], same);
    let mut conversion = sketch.conversion(3);
    let plain = sketch.convert_by(&conversion).unwrap();
    conversion.blocked_layout = true;
    let blocked = sketch.convert_by(&conversion).unwrap();
    assert!(readable(&plain).contains("Concat_") && !readable(&blocked).contains("Concat_"), "joined no more");
    let input = Array::noise(&[1, 3, 9, 7]);
    let answer = |model| run(&mut load(model), &[("x", &input)], &["y"]).remove(0);
    assert!(answer(&plain).max_difference(&answer(&blocked)) < 1e-4);
}

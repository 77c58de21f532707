//! Small networks, plain and written for the blocked layout, run by the real ONNX Runtime.

use super::*;
use crate::test_runtime::{Array, load, run};

/// A network of the parts that the passes know: hard swish, joined channels, a recurrent unit, doublings with crops.
struct Sketch {
    graph: GraphWriter,
    seed: usize,
}

impl Sketch {
    fn floats(&mut self, shape: &[usize]) -> String {
        self.seed += 7;
        let noise = Array::noise(&[self.seed + shape.iter().product::<usize>()]);
        let values = noise.values[self.seed..].iter().map(|value| (value - 0.5) * 0.4).collect();
        self.graph.constant(Tensor { shape: shape.to_vec(), data: Data::F32(values) })
    }

    fn scalar(&mut self, value: f32) -> String {
        self.graph.constant(Tensor::scalar(value))
    }

    fn integers(&mut self, values: &[i64]) -> String {
        self.graph.constant(Tensor::integers(values))
    }

    fn node(&mut self, op: &'static str, inputs: &[&str]) -> String {
        self.graph.node(op, inputs, &[])
    }

    fn convolved(&mut self, source: &str, channels: [usize; 2], stride: i64) -> String {
        let weights = self.floats(&[channels[1], channels[0], 3, 3]);
        let bias = self.floats(&[channels[1]]);
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![3, 3])),
            ("strides", Attribute::Ints(vec![stride; 2])),
            ("pads", Attribute::Ints(vec![1; 4])),
        ];
        self.graph.node("Conv", &[source, &weights, &bias], &attributes)
    }

    fn joined(&mut self, parts: &[&str]) -> String {
        self.graph.node("Concat", parts, &[("axis", Attribute::Int(1))])
    }

    fn halves(&mut self, source: &str) -> [String; 2] {
        self.graph.node_of("Split", 2, &[source], &[("axis", Attribute::Int(1))]).try_into().unwrap()
    }

    fn halved(&mut self, source: &str) -> String {
        let two = Attribute::Ints(vec![2, 2]);
        let attributes = [("kernel_shape", two.clone()), ("strides", two), ("auto_pad", Attribute::Text("SAME_UPPER"))];
        self.graph.node("AveragePool", &[source], &attributes)
    }

    fn hard_swish(&mut self, value: &str) -> String {
        let [shift, bottom, top, sixth] = [3.0, 0.0, 6.0, 1.0 / 6.0].map(|value| self.scalar(value));
        let shifted = self.node("Add", &[value, &shift]);
        let clipped = self.node("Clip", &[&shifted, &bottom, &top]);
        let scaled = self.node("Mul", &[&sixth, value]);
        self.node("Mul", &[&scaled, &clipped])
    }

    /// Twice as large, cropped to the size of another value.
    fn doubled(&mut self, source: &str, to: &str) -> String {
        let scales = self.graph.constant(Tensor::floats(&[1.0, 1.0, 2.0, 2.0]));
        let attributes =
            [("mode", Attribute::Text("linear")), ("coordinate_transformation_mode", Attribute::Text("half_pixel"))];
        let doubled = self.graph.node("Resize", &[source, "", &scales], &attributes);
        let shape = self.node("Shape", &[to]);
        let [two, four, zero] = [2, 4, 0].map(|value| self.integers(&[value]));
        let ends = self.node("Slice", &[&shape, &two, &four, &zero]);
        let (begins, axes) = (self.integers(&[0, 0]), self.integers(&[2, 3]));
        self.node("Slice", &[&doubled, &begins, &ends, &axes])
    }

    /// What passes by joined with the next state, and the next state.
    fn recurrent(&mut self, source: &str, state: &str, half: usize, kind: Kind) -> [String; 2] {
        let [passing, second] = self.halves(source);
        let shape = self.node("Shape", &[&second]);
        let state = self.node("Expand", &[state, &shape]);
        let both = self.joined(&[&second, &state]);
        let gates = self.convolved(&both, [2 * half; 2], 1);
        let gates = self.node("Sigmoid", &[&gates]);
        let [reset, update] = self.halves(&gates);
        let reset_state = self.node("Mul", &[&reset, &state]);
        let both = self.joined(&[&second, &reset_state]);
        let candidate = self.convolved(&both, [2 * half, half], 1);
        let candidate = self.node("Tanh", &[&candidate]);
        let one = self.scalar(1.0);
        let rest = match kind {
            Kind::Known => self.node("Sub", &[&one, &update]),
            Kind::Other => self.node("Sub", &[&one, &reset]),
        };
        let kept = self.node("Mul", &[&rest, &state]);
        let renewed = self.node("Mul", &[&update, &candidate]);
        let next = self.node("Add", &[&kept, &renewed]);
        [self.joined(&[&passing, &next]), next]
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// The recurrent unit that the passes know.
    Known,
    /// One that looks much like it.
    Other,
}

/// Inputs `x` and `before`, outputs `y` and `after`; the halves of the recurrent unit have `half` channels.
fn network(half: usize, kind: Kind) -> GraphWriter {
    let mut net = Sketch { graph: GraphWriter::new(), seed: 0 };
    let named = |names: [&str; 2], channels| {
        let [height, width] = names.map(|name| Dim::Named(name.to_owned()));
        [Dim::Fixed(1), channels, height, width]
    };
    let picture = net.graph.input("x", &named(["height", "width"], Dim::Fixed(3)));
    let state = net.graph.input("before", &named(["bh", "bw"], Dim::Named("bc".to_owned())));
    let small = net.halved(&picture);
    let fine = net.convolved(&picture, [3, 16], 2);
    let fine = net.hard_swish(&fine);
    let residual = net.convolved(&fine, [16, 16], 1);
    let fine = net.node("Add", &[&residual, &fine]);
    let coarse = net.convolved(&fine, [16, 40], 2);
    let coarse = net.node("Relu", &[&coarse]);
    // As a recurrent unit of other halves leaves it: joined of what are no whole blocks.
    let [first, second] = net.halves(&coarse);
    let coarse = net.joined(&[&second, &first]);
    let coarse = net.doubled(&coarse, &small);
    let both = net.joined(&[&coarse, &fine, &small]);
    let both = net.convolved(&both, [59, 2 * half], 1);
    let both = net.node("Relu", &[&both]);
    let [both, next] = net.recurrent(&both, &state, half, kind);
    let both = net.doubled(&both, &picture);
    let both = net.joined(&[&both, &picture]);
    let matte = net.convolved(&both, [2 * half + 3, 4], 1);
    net.graph.output(&matte, "y", &named(["height", "width"], Dim::Fixed(4)));
    net.graph.output(&next, "after", &named(["ah", "aw"], Dim::Fixed(half as i64)));
    net.graph
}

fn promised(multiple: i64) -> Multiples {
    ["height", "width"].map(|side| (side.to_owned(), multiple)).into()
}

/// The mattes and the states of three pictures.
fn answers(graph: GraphWriter, [height, width]: [usize; 2]) -> Vec<Array> {
    let mut session = load(&graph.finish());
    let mut state = Array::zeros(&[1, 1, 1, 1]);
    let mut answers = Vec::new();
    for time in 1..=3 {
        let mut picture = Array::noise(&[1, 3, height, width]);
        picture.values.rotate_left(5 * time);
        let mut both = run(&mut session, &[("x", &picture), ("before", &state)], &["y", "after"]);
        state = both.pop().unwrap();
        answers.extend([both.remove(0), state.clone()]);
    }
    answers
}

fn count(graph: &GraphWriter, op: &str) -> usize {
    graph.nodes.iter().filter(|node| node.op == op).count()
}

/// Numbers of channels that plain convolutions are over.
fn channels(graph: &GraphWriter, multiples: &Multiples) -> Vec<usize> {
    let known = Shapes::of(graph, multiples);
    graph.nodes.iter().filter_map(|node| Some(Convolution::read(node, &known)?.weights.shape[1])).collect()
}

#[test]
fn what_is_written_for_the_blocked_layout_computes_the_same() {
    for (half, kind) in [(16, Kind::Known), (20, Kind::Known), (16, Kind::Other)] {
        let mut blocked = network(half, kind);
        blocked.for_blocked_layout(&promised(4));
        for size in [[16, 24], [4, 4], [20, 52]] {
            let (expected, found) = (answers(network(half, kind), size), answers(blocked.clone(), size));
            for (expected, found) in expected.iter().zip(&found) {
                assert!(expected.max_difference(found) < 1e-5, "{half} channels at {size:?}");
                assert!(expected.values.iter().any(|value| value.abs() > 0.1));
            }
        }
    }
}

#[test]
fn every_pass_finds_what_it_is_for() {
    let mut plain = network(16, Kind::Known);
    let mut blocked = plain.clone();
    blocked.for_blocked_layout(&promised(4));
    plain.prune();
    assert_eq!([count(&plain, "Slice"), count(&blocked, "Slice")], [4, 0], "no crop is left, and no size of one");
    assert_eq!([count(&plain, "Split"), count(&blocked, "Split")], [3, 1], "the unit splits no more");
    assert_eq!([count(&blocked, "Sub"), count(&blocked, "Clip"), count(&blocked, "HardSigmoid")], [0, 0, 1]);
    let multiples = promised(4);
    assert!([35, 59].iter().all(|joined| channels(&plain, &multiples).contains(joined)));
    assert!(channels(&blocked, &multiples).iter().all(|channels| *channels == 3 || channels % QUARTER == 0));
    assert!(plain.described.is_empty());
    let described = |name: &str| blocked.described.iter().find(|(value, _)| value == name).map(|(_, shape)| shape);
    for node in blocked.nodes.iter().filter(|node| node.op == "Add") {
        let [left, right] = node.inputs.as_slice() else { panic!("{node:?}") };
        assert!(described(left).is_some() && described(left) == described(right), "{node:?}");
    }
}

#[test]
fn halves_that_are_no_whole_blocks_and_units_of_another_kind_stay_as_they_are() {
    for (half, kind) in [(20, Kind::Known), (16, Kind::Other)] {
        let mut graph = network(half, kind);
        graph.for_blocked_layout(&promised(4));
        assert_eq!([count(&graph, "Split"), count(&graph, "Tanh"), count(&graph, "Sub")], [3, 1, 1]);
    }
}

#[test]
fn crops_stay_where_nothing_is_promised_of_the_sides() {
    for (promise, crops) in [(1, 2), (2, 1), (4, 0), (8, 0)] {
        let mut graph = network(16, Kind::Known);
        graph.for_blocked_layout(&promised(promise));
        let cropped = graph.nodes.iter().filter(|node| node.op == "Slice" && node.inputs[0].starts_with("Resize"));
        assert_eq!(cropped.count(), crops, "multiples of {promise}");
        let size = [9 * promise as usize, 5 * promise as usize];
        let (expected, found) = (answers(network(16, Kind::Known), size), answers(graph, size));
        for (expected, found) in expected.iter().zip(&found) {
            assert!(expected.max_difference(found) < 1e-5, "{size:?}");
        }
    }
}

#[test]
fn the_same_graph_is_written_to_the_same_bytes() {
    let written = || {
        let mut graph = network(16, Kind::Known);
        graph.for_blocked_layout(&promised(4));
        graph.finish()
    };
    assert_eq!(written(), written());
}

use super::*;
use crate::device::Compute;
use crate::onnx_writer::{Attribute, Dim, GraphWriter, Tensor as Constant};
use crate::registry::Registry;
use crate::test_runtime::{self, Array, models_dir};

fn hardware() -> Hardware {
    let hardware = Hardware::new(Compute::default(), 1, &models_dir());
    open_device(&Registry::builtin().unwrap(), &models_dir(), &hardware).unwrap();
    hardware
}

/// `out = blurred in + blurred state`, and the next state is `out`: whoever wrote a state where the last one is still
/// being read would change what comes out.
fn memory() -> Vec<u8> {
    let mut graph = GraphWriter::new();
    let shape = || [Dim::Fixed(1), Dim::Fixed(1), Dim::Named("h".to_owned()), Dim::Named("w".to_owned())];
    let (input, state) = (graph.input("in", &shape()), graph.input("state", &shape()));
    let sum = graph.node("Add", &[&input, &state], &[]);
    let weights = Constant { shape: vec![1, 1, 3, 3], ..Constant::floats(&[0.1; 9]) };
    let weights = graph.constant(weights);
    let pads = [("kernel_shape", Attribute::Ints(vec![3, 3])), ("pads", Attribute::Ints(vec![1; 4]))];
    let out = graph.node("Conv", &[&sum, &weights], &pads);
    graph.output(&out, "out", &shape());
    graph.output(&out, "next", &shape());
    graph.finish()
}

/// What frames make of the network by bound runs; `states` are names of inputs and of the outputs fed back into them.
fn bound(network: &mut Network, frames: &[Array], input: &str, states: &[(&str, &str)], read: &str) -> Vec<Vec<f32>> {
    let (ins, outs): (Vec<&str>, Vec<&str>) = states.iter().copied().unzip();
    let mut carried: Vec<_> = ins.iter().map(|_| Carried::zeros(&[1, 1, 1, 1]).unwrap()).collect();
    let mut found = Vec::new();
    for frame in frames {
        let feeds = [Feed { name: input, shape: &frame.shape, values: Numbers::Floats(&frame.values) }];
        let carried_in = ins.iter().copied().zip(carried).collect();
        let run = Run { feeds: &feeds, carried_in, carried_out: &outs, read: &[read] };
        let (values, next) = network.run(run, |answers| answers[0].values.to_vec()).unwrap();
        found.push(values);
        carried = next;
    }
    found
}

/// The same by runs of a session that is given everything and gives everything back.
fn plain(stored: &[u8], frames: &[Array], input: &str, states: &[(&str, &str)], read: &str) -> Vec<Vec<f32>> {
    let mut session = test_runtime::load(stored);
    let mut carried: Vec<_> = states.iter().map(|_| Array::zeros(&[1, 1, 1, 1])).collect();
    let outputs: Vec<&str> = std::iter::once(read).chain(states.iter().map(|(_, output)| *output)).collect();
    let mut found = Vec::new();
    for frame in frames {
        let state = states.iter().zip(&carried).map(|((name, _), value)| (*name, value));
        let inputs: Vec<_> = std::iter::once((input, frame)).chain(state).collect();
        let mut answers = test_runtime::run(&mut session, &inputs, &outputs);
        found.push(answers.remove(0).values);
        carried = answers;
    }
    found
}

fn frames(count: u32, shape: &[usize]) -> Vec<Array> {
    let noise = Array::noise(shape);
    let shifted =
        |by: u32| Array { values: noise.values.iter().map(|x| (x * by as f32).fract()).collect(), ..noise.clone() };
    (1..=count).map(shifted).collect()
}

#[test]
fn a_bound_run_gives_the_bits_of_a_plain_one() {
    let (stored, states) = (memory(), [("state", "next")]);
    let frames = frames(6, &[1, 1, 20, 30]);
    let mut network = Network::load("memory", Stored::Bytes(&stored, None), &hardware()).unwrap();
    let expected = plain(&stored, &frames, "in", &states, "out");
    assert_eq!(bound(&mut network, &frames, "in", &states, "out"), expected);
    assert_ne!(expected[0], expected[1]);
    // Again on the same network, and at another size: nothing of the last clip is left.
    assert_eq!(bound(&mut network, &frames, "in", &states, "out"), expected);
    let small = self::frames(2, &[1, 1, 6, 8]);
    let of_small = plain(&stored, &small, "in", &states, "out");
    assert_eq!(bound(&mut network, &small, "in", &states, "out"), of_small);
}

#[test]
fn real_weights_with_state_give_the_bits_of_a_plain_run() {
    let registry = Registry::builtin().unwrap();
    let entry = registry.by_name("rvm").unwrap();
    let stored = std::fs::read(entry.path(&models_dir())).unwrap();
    let states = [("r1i", "r1o"), ("r2i", "r2o"), ("r3i", "r3o"), ("r4i", "r4o")];
    let frames = frames(3, &[1, 3, 64, 96]);
    let mut network = Network::load("rvm", Stored::File(&entry.path(&models_dir())), &hardware()).unwrap();
    let expected = plain(&stored, &frames, "src", &states, "pha");
    assert_eq!(bound(&mut network, &frames, "src", &states, "pha"), expected);
}

#[test]
fn a_run_that_failed_leaves_nothing_bound() {
    let stored = memory();
    let mut network = Network::load("memory", Stored::Bytes(&stored, None), &hardware()).unwrap();
    let frame = Array::noise(&[1, 1, 4, 4]);
    let feed = |values| [Feed { name: "in", shape: &[1, 1, 4, 4], values: Numbers::Floats(values) }];
    let state = || vec![("state", Carried::zeros(&[1, 1, 1, 1]).unwrap())];
    let feeds = feed(&frame.values[..7]);
    let short = Run { feeds: &feeds, carried_in: state(), carried_out: &[], read: &["out"] };
    assert!(network.run(short, |_| ()).err().unwrap().to_string().contains("do not fill"));
    let feeds = feed(&frame.values);
    let nameless = Run { feeds: &feeds, carried_in: state(), carried_out: &[], read: &["none"] };
    assert!(network.run(nameless, |_| ()).is_err());
    // A state that was left bound by the runs before would be taken.
    let stateless = Run { feeds: &feeds, carried_in: Vec::new(), carried_out: &[], read: &["out"] };
    assert!(network.run(stateless, |_| ()).is_err());
    let whole = Run { feeds: &feeds, carried_in: state(), carried_out: &[], read: &["out"] };
    assert!(network.run(whole, |answers| answers[0].values.len()).is_ok_and(|(count, _)| count == 16));
}

#[test]
fn a_run_that_is_stopped_fails_until_the_network_is_made_ready() {
    let mut network = Network::load("memory", Stored::Bytes(&memory(), None), &hardware()).unwrap();
    let frames = frames(1, &[1, 1, 4, 4]);
    let feeds = [Feed { name: "in", shape: &frames[0].shape, values: Numbers::Floats(&frames[0].values) }];
    let run = || {
        let carried_in = vec![("state", Carried::zeros(&[1, 1, 1, 1]).unwrap())];
        Run { feeds: &feeds, carried_in, carried_out: &["next"], read: &["out"] }
    };
    network.terminator().terminate();
    assert!(network.run(run(), |_| ()).is_err());
    network.make_ready().unwrap();
    assert!(network.run(run(), |_| ()).is_ok());
}

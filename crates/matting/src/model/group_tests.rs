//! Groups of frames, and state that belongs to one clip.

use rotoless_contract::Model;

use super::*;
use crate::device::Compute;
use crate::onnx_writer::{Attribute, Dim, GraphWriter, Tensor};
use crate::test_runtime::{Array, models_dir};
use crate::tiny;

const PICTURE: Size = Size { width: 32, height: 18 };

/// A matter of a model that is made here, with so many pictures at once.
fn matter(model: &[u8], more: &str, batch: usize) -> Box<dyn Matter> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.onnx"), model).unwrap();
    let entry = tiny::registry_entry("own", Some(Model::Original), "own.onnx", model);
    let entry = if more.is_empty() { entry } else { format!("{}{more}", entry.replace("still", "recurrent")) };
    std::fs::write(dir.path().join(crate::registry::REGISTRY_FILE), entry).unwrap();
    let registry = Registry::load(dir.path()).unwrap();
    load_of(&registry, "own", dir.path(), batch)
}

fn load_of(registry: &Registry, name: &str, dir: &Path, batch: usize) -> Box<dyn Matter> {
    let hardware = Hardware::new(Compute { batch, ..Compute::default() }, 2, dir);
    open_device(&Registry::builtin().unwrap(), &models_dir(), &hardware).unwrap();
    load(registry, registry.by_name(name).unwrap(), dir, &hardware, crate::techniques::Techniques::NONE).unwrap()
}

fn frames(count: u32, picture: Size) -> Vec<Frame> {
    let noise = Array::noise(&[3, picture.height, picture.width]).values;
    let frame = |by: u32| {
        let mut frame = Frame::new(Size { width: 16, height: 16 });
        frame.picture = noise.iter().map(|value| (value * by as f32).fract()).collect();
        frame
    };
    (1..=count).map(frame).collect()
}

fn one_by_one(matter: &mut dyn Matter, frames: &mut [Frame], picture: Size) -> Vec<Vec<f32>> {
    matter.begin(None).unwrap();
    for frame in &mut *frames {
        let (sight, matte) = frame.sight_and_matte();
        matter.matte(sight, picture, matte).unwrap();
    }
    frames.iter_mut().map(|frame| std::mem::take(&mut frame.matte)).collect()
}

fn together(matter: &mut dyn Matter, frames: &mut [Frame], picture: Size) -> Vec<Vec<f32>> {
    matter.begin(None).unwrap();
    matter.mattes(frames, picture).unwrap();
    frames.iter_mut().map(|frame| std::mem::take(&mut frame.matte)).collect()
}

#[test]
fn frames_together_get_the_bits_that_each_gets_alone() {
    let model = tiny::luma_threshold_model(0.4, 3.0);
    let mut alone = matter(&model, "", 1);
    let mut grouped = matter(&model, "", 4);
    assert_eq!((alone.group(), grouped.group()), (1, 4));
    // Full groups and one that is not.
    let mut frames = frames(7, PICTURE);
    let expected = one_by_one(&mut *alone, &mut frames, PICTURE);
    assert_eq!(together(&mut *grouped, &mut frames, PICTURE), expected);
    assert_eq!(one_by_one(&mut *grouped, &mut frames, PICTURE), expected);
    assert_eq!(together(&mut *alone, &mut frames, PICTURE), expected);
}

#[test]
fn real_weights_make_of_two_frames_together_what_they_make_of_each() {
    let registry = Registry::builtin().unwrap();
    let mut grouped = load_of(&registry, "u2netp", &models_dir(), 2);
    assert_eq!(grouped.group(), 2);
    let picture = Size { width: 320, height: 320 };
    let mut frames = frames(2, picture);
    let mut alone = load_of(&registry, "u2netp", &models_dir(), 1);
    // But for the last bits: of how many pictures is not known when the runtime plans, and so it plans otherwise.
    let (both, each) = (together(&mut *grouped, &mut frames, picture), one_by_one(&mut *alone, &mut frames, picture));
    for (both, each) in both.iter().zip(&each) {
        assert_eq!(both.len(), picture.pixels());
        assert!(both.iter().zip(each).all(|(both, each)| (both - each).abs() < 1e-4));
    }
}

/// One whose numbers hang on all of the tensor, as a normalisation over the whole picture does.
#[test]
fn a_model_whose_nodes_count_on_one_picture_is_given_one_at_a_time() {
    let mut graph = GraphWriter::new();
    let side = |name: &str| Dim::Named(name.to_owned());
    let input = graph.input(tiny::INPUT, &[Dim::Fixed(1), Dim::Fixed(3), side("h"), side("w")]);
    let axis = [("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(1))];
    let grey = graph.node("ReduceMean", &[&input], &axis);
    let most = graph.node("ReduceMax", &[&grey], &[("keepdims", Attribute::Int(1))]);
    // Of the first picture alone, whatever the others are.
    let place = graph.constant(Tensor::integers(&[0]));
    let first = graph.node("Gather", &[&grey, &place], &[("axis", Attribute::Int(0))]);
    let share = graph.node("Div", &[&first, &most], &[]);
    let zeros = graph.node("Sub", &[&grey, &grey], &[]);
    let counted = graph.node("Add", &[&share, &zeros], &[]);
    graph.output(&counted, tiny::MATTE, &[Dim::Fixed(1), Dim::Fixed(1), side("h"), side("w")]);
    let mut matter = matter(&graph.finish(), "", 4);
    assert_eq!(matter.group(), 1);
    let mut frames = frames(3, PICTURE);
    let mattes = together(&mut *matter, &mut frames, PICTURE);
    assert!(mattes.iter().all(|matte| matte.len() == PICTURE.pixels()));
}

/// The mean of all that it saw in the clip, more or less.
fn recurrent() -> Vec<u8> {
    let mut graph = GraphWriter::new();
    let shape = |count: i64| [Dim::Fixed(1), Dim::Fixed(count), Dim::Named("h".to_owned()), Dim::Named("w".to_owned())];
    let input = graph.input(tiny::INPUT, &shape(3));
    let state =
        graph.input("last", &[Dim::Fixed(1), Dim::Fixed(1), Dim::Named("a".to_owned()), Dim::Named("b".to_owned())]);
    let axis = [("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(1))];
    let mean = graph.node("ReduceMean", &[&input], &axis);
    let sum = graph.node("Add", &[&mean, &state], &[]);
    let half = graph.constant(Tensor::scalar(0.5));
    let out = graph.node("Mul", &[&sum, &half], &[]);
    graph.output(&out, tiny::MATTE, &shape(1));
    graph.output(&out, "next", &shape(1));
    graph.finish()
}

#[test]
fn a_clip_after_another_gets_what_it_gets_from_a_fresh_model() {
    let state = "[[model.state]]\ninput = \"last\"\noutput = \"next\"\n";
    // A batch that was asked for changes nothing where state is carried.
    let mut matter = matter(&recurrent(), state, 4);
    assert_eq!(matter.group(), 1);
    let (mut first, mut second) = (frames(4, PICTURE), frames(3, PICTURE));
    second.reverse();
    let fresh = one_by_one(&mut *self::matter(&recurrent(), state, 1), &mut second, PICTURE);
    one_by_one(&mut *matter, &mut first, PICTURE);
    assert_eq!(together(&mut *matter, &mut second, PICTURE), fresh);
    // Without `begin` it would have gone on.
    matter.mattes(&mut second, PICTURE).unwrap();
    assert_ne!(second[0].matte, fresh[0]);
}

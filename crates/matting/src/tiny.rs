//! Free models: deterministic ones that cost nothing to fetch, load or run.
//!
//! End-to-end tests install one through an operator's `registry.toml` in milliseconds and know what matte to expect;
//! the benchmark measures with one what the pipeline costs without inference. They segment nothing. Beside the mattes
//! there are two finders for the family grounded: a detector of bright and of dark, and one that is told by words.

use crate::onnx_writer::{Attribute, Dim, GraphWriter, Tensor};

/// Name of the input of every model here.
pub const INPUT: &str = "input";
/// Name of the matte of every model here.
pub const MATTE: &str = "alpha";

/// BT.709 luma of R, G, B.
pub const LUMA: [f32; 3] = [0.2126, 0.7152, 0.0722];

/// A still model that takes bright for subject: `alpha = clamp((luma − threshold) · slope, 0, 1)`.
///
/// Input `input` `[1, 3, H, W]` of any size, RGB in 0..1; output `alpha` `[1, 1, H, W]`.
#[must_use]
pub fn luma_threshold_model(threshold: f32, slope: f32) -> Vec<u8> {
    let mut graph = GraphWriter::new();
    let side = |name: &str| Dim::Named(name.to_owned());
    let input = graph.input(INPUT, &[Dim::Fixed(1), Dim::Fixed(3), side("height"), side("width")]);
    // (luma − threshold) · slope is one convolution of one pixel.
    let weights = Tensor { shape: vec![1, 3, 1, 1], ..Tensor::floats(&LUMA.map(|weight| weight * slope)) };
    let weights = graph.constant(weights);
    let bias = graph.constant(Tensor::floats(&[-threshold * slope]));
    let raw = graph.node("Conv", &[&input, &weights, &bias], &[("kernel_shape", Attribute::Ints(vec![1, 1]))]);
    let (zero, one) = (graph.constant(Tensor::scalar(0.0)), graph.constant(Tensor::scalar(1.0)));
    let alpha = graph.node("Clip", &[&raw, &zero, &one], &[]);
    graph.output(&alpha, MATTE, &[Dim::Fixed(1), Dim::Fixed(1), side("height"), side("width")]);
    graph.finish()
}

/// Share of the newest frame in the matte of [`lingering_model`].
pub const NEWEST: f32 = 0.25;

/// A recurrent model: what [`luma_threshold_model`] of 0.5 and 8 says, averaged with what was said before, so that
/// every matte depends on all frames since the beginning. Its state is `before` → `after`, `[1, 1, H, W]`, or one zero.
#[must_use]
pub fn lingering_model() -> Vec<u8> {
    let mut graph = GraphWriter::new();
    let side = |name: &str| Dim::Named(name.to_owned());
    let input = graph.input(INPUT, &[Dim::Fixed(1), Dim::Fixed(3), side("height"), side("width")]);
    let before = graph.input("before", &[Dim::Fixed(1), Dim::Fixed(1), side("state_height"), side("state_width")]);
    let weights = Tensor { shape: vec![1, 3, 1, 1], ..Tensor::floats(&LUMA.map(|weight| weight * 8.0)) };
    let (weights, bias) = (graph.constant(weights), graph.constant(Tensor::floats(&[-4.0])));
    let raw = graph.node("Conv", &[&input, &weights, &bias], &[("kernel_shape", Attribute::Ints(vec![1, 1]))]);
    let (zero, one) = (graph.constant(Tensor::scalar(0.0)), graph.constant(Tensor::scalar(1.0)));
    let now = graph.node("Clip", &[&raw, &zero, &one], &[]);
    let (newest, rest) = (graph.constant(Tensor::scalar(NEWEST)), graph.constant(Tensor::scalar(1.0 - NEWEST)));
    let (now, before) = (graph.node("Mul", &[&now, &newest], &[]), graph.node("Mul", &[&before, &rest], &[]));
    let alpha = graph.node("Add", &[&now, &before], &[]);
    let shape = [Dim::Fixed(1), Dim::Fixed(1), side("height"), side("width")];
    graph.output(&alpha, MATTE, &shape);
    graph.output(&alpha, "after", &shape);
    graph.finish()
}

/// Side of the picture that [`brightness_detector`] and [`brightness_by_word`] are fed, px.
pub const FINDER_SIDE: u32 = 64;
/// Side of a place of [`brightness_detector`]'s grid, px.
const PLACE: i64 = 16;

/// A detector of two nouns, bright (0) and dark (1): each of the 4 × 4 places of the picture is one or the other, and
/// each box reaches one place beyond its middle.
///
/// Input `input` `[1, 3, 64, 64]`, RGB in 0..1; outputs `scores` `[1, 2, 4, 4]`, `sides` `[1, 12, 4, 4]`: stride 16,
/// 3 bins.
#[must_use]
pub fn brightness_detector() -> Vec<u8> {
    let mut graph = GraphWriter::new();
    let side = Dim::Fixed(i64::from(FINDER_SIDE));
    let input = graph.input(INPUT, &[Dim::Fixed(1), Dim::Fixed(3), side.clone(), side]);
    let window = [("kernel_shape", Attribute::Ints(vec![PLACE; 2])), ("strides", Attribute::Ints(vec![PLACE; 2]))];
    let places = graph.node("AveragePool", &[&input], &window);
    let scores = both_kinds(&mut graph, &places);
    // All of the weight on bin 1, whatever the picture.
    let pick = Tensor { shape: vec![12, 2, 1, 1], ..Tensor::floats(&[0.0; 24]) };
    let bias: Vec<f32> = (0..12).map(|plane| if plane % 3 == 1 { 20.0 } else { -20.0 }).collect();
    let (pick, bias) = (graph.constant(pick), graph.constant(Tensor::floats(&bias)));
    let one_by_one = [("kernel_shape", Attribute::Ints(vec![1, 1]))];
    let sides = graph.node("Conv", &[&scores, &pick, &bias], &one_by_one);
    let grid = i64::from(FINDER_SIDE) / PLACE;
    graph.output(&scores, "scores", &[1, 2, grid, grid].map(Dim::Fixed));
    graph.output(&sides, "sides", &[1, 12, grid, grid].map(Dim::Fixed));
    graph.finish()
}

/// A finder by words, of `CLIPSeg`'s interface: the first token says bright (1) or dark (any other).
///
/// Inputs `input` `[1, 3, 64, 64]`, RGB in 0..1, `input_ids` and `attention_mask` `[1, 4]` i64; output `heat`
/// `[1, 64, 64]` in 0..1.
#[must_use]
pub fn brightness_by_word() -> Vec<u8> {
    let mut graph = GraphWriter::new();
    let side = Dim::Fixed(i64::from(FINDER_SIDE));
    let input = graph.input(INPUT, &[Dim::Fixed(1), Dim::Fixed(3), side.clone(), side.clone()]);
    let words = [Dim::Fixed(1), Dim::Fixed(4)];
    let ids = graph.integer_input("input_ids", &words);
    let mask = graph.integer_input("attention_mask", &words);
    let kinds = both_kinds(&mut graph, &input);
    // A token that the mask takes away counts as 0, and so does the second one, which is looked at for nothing else.
    let seen = graph.node("Mul", &[&ids, &mask], &[]);
    let first = graph.constant(Tensor::integers(&[0]));
    let first = graph.node("Gather", &[&seen, &first], &[("axis", Attribute::Int(1))]);
    let one = graph.constant(Tensor::integers(&[1]));
    let is_bright = graph.node("Equal", &[&first, &one], &[]);
    let halves = graph.node_of("Split", 2, &[&kinds], &[("axis", Attribute::Int(1))]);
    let [bright, dark] = halves.as_slice() else { return Vec::new() };
    let heat = graph.node("Where", &[&is_bright, bright, dark], &[]);
    let channel = graph.constant(Tensor::integers(&[1]));
    let heat = graph.node("Squeeze", &[&heat, &channel], &[]);
    graph.output(&heat, "heat", &[Dim::Fixed(1), side.clone(), side]);
    graph.finish()
}

/// How bright and how dark, `[1, 2, height, width]`, of `[1, 3, height, width]`: luma, and what is missing to 1.
fn both_kinds(graph: &mut GraphWriter, picture: &str) -> String {
    let weights: Vec<f32> = LUMA.iter().copied().chain(LUMA.map(|weight| -weight)).collect();
    let weights = graph.constant(Tensor { shape: vec![2, 3, 1, 1], ..Tensor::floats(&weights) });
    let bias = graph.constant(Tensor::floats(&[0.0, 1.0]));
    graph.node("Conv", &[picture, &weights, &bias], &[("kernel_shape", Attribute::Ints(vec![1, 1]))])
}

/// A registry entry, as TOML, for a model of [`luma_threshold_model`]: `file` lies in the models directory and has the
/// given SHA-256; it fills `role` when there is one.
#[must_use]
pub fn registry_entry(name: &str, role: Option<rotoless_contract::Model>, file: &str, model: &[u8]) -> String {
    let role = role.map(|role| format!("role = \"{role}\"\n")).unwrap_or_default();
    let sha256 = crate::registry::Sha256::of(model);
    format!(
        "[[model]]\nname = \"{name}\"\n{role}family = \"still\"\nfile = \"{file}\"\nsha256 = \"{sha256}\"\n\
         licence = \"MIT OR Apache-2.0\"\n[model.input]\nname = \"{INPUT}\"\nlong_side = 256\n\
         [model.output]\nmatte = \"{MATTE}\"\n"
    )
}

/// The same for [`lingering_model`].
#[must_use]
pub fn lingering_entry(name: &str, role: Option<rotoless_contract::Model>, file: &str) -> String {
    let still = registry_entry(name, role, file, &lingering_model());
    let recurrent = still.replace("family = \"still\"", "family = \"recurrent\"");
    format!("{recurrent}[[model.state]]\ninput = \"before\"\noutput = \"after\"\n")
}

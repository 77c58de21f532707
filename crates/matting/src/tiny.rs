//! Free models: deterministic ones that cost nothing to fetch, load or run.
//!
//! End-to-end tests install one through an operator's `registry.toml` in milliseconds and know what matte to expect;
//! the benchmark measures with one what the pipeline costs without inference. They segment nothing.

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

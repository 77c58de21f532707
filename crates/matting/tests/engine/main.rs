//! The engine as its callers see it: real ffmpeg, real ONNX Runtime.
//!
//! Tests of the picture use the real weights; those of the pipeline a free model that takes bright for subject.
//! Weights and runtime are looked for in `ROTOLESS_MODELS`, else in `models` of the repository; tests that do not find
//! them fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod animations;
mod backgrounds;
mod devices;
mod formats;
mod grounded;
mod hostile;
mod hostile_backgrounds;
mod hostile_media;
mod kept;
mod media_rules;
mod memory;
mod outputs;
mod picture;
mod segments;
mod sound;
mod support;
mod teardown;

//! What comes out is the subject, whole and true. Real weights, real ffmpeg.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rotoless_contract::spec::Model;

use crate::support::{Bench, engine, mad, raw, sample, transparent, webm_alpha};

/// Measured MAD·10³ on the first frames, and the bound a little above it.
fn portrait_matte_error(model: Model, frames: u32) -> f64 {
    let bench = Bench::new();
    let started = std::time::Instant::now();
    let (output, finished) = bench.run(engine(), &bench.cut(frames), &transparent(model)).unwrap();
    assert_eq!(finished.output.frames, u64::from(frames));
    let truth = raw(&sample("portrait.alpha.mkv"), &[], &format!("trim=end_frame={frames}"), "gray");
    let error = mad(&webm_alpha(&output), &truth) * 1000.0;
    println!("{model}: MAD*1000 {error:.2} in {:?}", started.elapsed());
    error
}

#[test]
fn the_alpha_of_a_portrait_is_close_to_the_truth_with_human() {
    let error = portrait_matte_error(Model::Human, 12);
    assert!(error < 100.0, "{error}");
}

#[test]
fn the_alpha_of_a_portrait_is_close_to_the_truth_with_light() {
    let error = portrait_matte_error(Model::Light, 5);
    assert!(error < 100.0, "{error}");
}

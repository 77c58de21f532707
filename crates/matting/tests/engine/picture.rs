//! What comes out is the subject, whole and true.

use rotoless_contract::spec::Model;

use crate::support::{Bench, engine, mad, raw, sample, transparent, webm_alpha};

/// MAD·10³ of the first frames' alpha, through encoder and decoder, against the exact matte.
fn portrait_matte_error(model: Model, frames: u32) -> f64 {
    let bench = Bench::new();
    let (output, finished) = bench.run(engine(), &bench.cut(frames), &transparent(model)).unwrap();
    assert_eq!(finished.output.frames, u64::from(frames));
    let truth = raw(&sample("portrait.alpha.mkv"), &[], &format!("trim=end_frame={frames}"), "gray");
    let error = mad(&webm_alpha(&output), &truth) * 1000.0;
    println!("{model}: MAD*1000 {error:.2}");
    error
}

/// Measured 4.7 on these frames.
#[test]
fn the_alpha_of_a_portrait_is_close_to_the_truth_with_human() {
    let error = portrait_matte_error(Model::Human, 10);
    assert!(error < 5.5, "{error}");
}

/// Measured 18.2 on these frames.
#[test]
fn the_alpha_of_a_portrait_is_close_to_the_truth_with_light() {
    let error = portrait_matte_error(Model::Light, 4);
    assert!(error < 20.0, "{error}");
}

#[test]
fn the_alpha_of_a_portrait_is_close_to_the_truth_with_original() {
    let error = portrait_matte_error(Model::Original, 1);
    assert!(error < 100.0, "{error}");
}
